"""Token replay against its formula by hand, at its three ends: at the first step, at no weight, at a huge one."""

# B pictures, L tokens, W width.

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.fit import Training
from likewise.fit.replay import Rehearsal
from likewise.recipe import Recipe
from likewise.recipes import RECIPES
from likewise.run.method import fit_method
from likewise.run.planning import planned
from likewise.run.stage import Job
from likewise.run.tuned import standing
from tiny import make_job, shrunk
from works import work_of

RECIPE = shrunk(RECIPES["caption-token-replay"])
PLAIN = shrunk(RECIPES["caption-bottleneck"])


@pytest.fixture
def job(fresh: Callable[[str], Encoder], data: Dataset) -> Job:
    return make_job(fresh("with-vit"), data)


def weighing(weight: float, *edits: str) -> Recipe:
    return RECIPE.edited(f"stages.1.replay.weight={weight}", *edits)


def begun(job: Job, recipe: Recipe, replayed: Any = None) -> tuple[Training, Encoder]:
    """The last stage about to train, and the encoder as it was pretrained."""
    frozen = copy.deepcopy(job.encoder)
    work = work_of(job, recipe)
    work.frozen, work.replayed = frozen, replayed
    return Training(work), frozen


def batch_of(training: Training) -> Any:
    return next(training._batches())


def terms(training: Training, step: int = 0) -> float:
    """The replay term of the first batch, as the loop computes it."""
    replay = training.work.stage.replay
    assert replay is not None
    rehearsal = Rehearsal(training.work, replay, 0, training.total)
    batch = batch_of(training)
    with rehearsal.watching() as seen:
        training.work.encoder.image(batch.pixels_BCHW)
    return float(rehearsal.term(batch, seen, step).detach())


def test_it_is_exactly_zero_at_the_first_step(job: Job) -> None:
    training, _ = begun(job, RECIPE)
    assert terms(training) == 0.0


def stir(encoder: Encoder, size: float) -> None:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in encoder.grafts.parameters_by_name().values():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def test_it_is_the_mean_squared_difference_of_normed_tokens_by_hand(job: Job) -> None:
    training, frozen = begun(job, weighing(2.5, "stages.1.replay.tokens=0"))
    stir(job.encoder, 0.3)
    pixels_BCHW = batch_of(training).pixels_BCHW
    upstream, before = job.encoder.vision._model, frozen.vision._model  # type: ignore[attr-defined]

    def tokens(model: Any) -> np.ndarray:
        """Through timm's own blocks by hand, the final norm left out."""
        with torch.no_grad():
            x_BLW = model._pos_embed(model.patch_embed(pixels_BCHW))
            x_BLW = model.norm_pre(x_BLW)
            for block in model.blocks:
                x_BLW = block(x_BLW)
        x = x_BLW.double().numpy()
        x = x - x.mean(-1, keepdims=True)
        return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5))

    want = 2.5 * ((tokens(upstream) - tokens(before)) ** 2).mean()
    assert want > 0.01
    assert terms(training) == pytest.approx(want, rel=1e-4)


def test_some_tokens_are_the_class_token_and_others_drawn_by_key(job: Job) -> None:
    training, _ = begun(job, weighing(1.0, "stages.1.replay.tokens=5"))
    replay = training.work.stage.replay
    assert replay is not None
    rehearsal = Rehearsal(training.work, replay, 0, training.total)
    drawn = [rehearsal._chosen(17, step, True).tolist() for step in range(40)]
    assert all(chosen[0] == 0 and len(set(chosen)) == 6 and max(chosen) < 17 for chosen in drawn)
    assert {token for chosen in drawn for token in chosen} == set(range(17))
    assert drawn[3] == rehearsal._chosen(17, 3, True).tolist()
    assert rehearsal._chosen(6, 3, True).tolist() == list(range(6))


@pytest.mark.parametrize(("kind", "shape", "always"), [("vit", 17, True), ("resnet", 64, False), ("icon", 16, False)])
def test_where_there_is_no_class_token_all_are_drawn_alike(
    fresh: Callable[[str], Encoder], data: Dataset, monkeypatch: pytest.MonkeyPatch, kind: str, shape: int, always: bool
) -> None:
    """A convolution's positions, and a tower that averages its tokens: no corner is rehearsed at each step."""
    encoder = fresh("icon" if kind == "icon" else f"with-{kind}")
    place = "image.*norm*" if kind == "resnet" else "image.-1.block"
    recipe = shrunk(RECIPES["caption-film-channels"]).edited(f"stages.1.replay={{at: ['{place}'], tokens: 5}}")
    training, _ = begun(make_job(encoder, data), recipe)
    drawn: list[list[int]] = []
    plain = Rehearsal._chosen

    def spy(self: Rehearsal, *args: Any) -> torch.Tensor:
        chosen = plain(self, *args)
        if args[0] == shape:
            drawn.append(chosen.tolist())
        return chosen

    monkeypatch.setattr(Rehearsal, "_chosen", spy)
    for step in range(12):
        terms(training, step)
    assert len({tuple(chosen) for chosen in drawn}) > 5
    assert all(0 in chosen for chosen in drawn) == always
    assert {len(chosen) for chosen in drawn} == {5 + always}


def ended(job: Job, recipe: Recipe, folder: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What training leaves, and how far the last block's answers have moved."""
    tuned = fit_method("x", recipe, job, folder)
    return tuned.values, torch.cat([v.flatten() for n, v in tuned.values.items() if n.endswith(".up.weight")])


def test_at_weight_zero_it_is_the_plain_adapter(job: Job, tmp_path: Path) -> None:
    """Bit for bit, the journal too."""
    with_it, _ = ended(job, weighing(0.0), tmp_path / "zero")
    without, _ = ended(job, PLAIN, tmp_path / "plain")
    assert list(with_it) == list(without)
    assert all(torch.equal(value, without[name]) for name, value in with_it.items())
    journals = [(tmp_path / name / "journal.jsonl").read_text() for name in ("zero", "plain")]
    assert journals[0] == journals[1]


def test_the_heavier_the_nearer_and_at_a_huge_weight_the_features_stay(job: Job, tmp_path: Path) -> None:
    longer = ("stages.1.fit.epochs=12", "stages.1.fit.lr=0.01", "stages.1.replay.tokens=0")
    moved = []
    pixels_BCHW = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before_BW = job.encoder.image(pixels_BCHW).pooled_BW
    for weight in (0.0, 10.0, 1e6):
        tuned = fit_method("x", weighing(weight, *longer), job, tmp_path / str(weight))
        with torch.no_grad(), standing(tuned, job.encoder, 1.0):
            after_BW = job.encoder.image(pixels_BCHW).pooled_BW
        assert before_BW is not None
        assert after_BW is not None
        moved.append(float((after_BW - before_BW).norm() / before_BW.norm()))
    assert moved[0] > moved[1] > moved[2]
    assert moved[2] < 0.02 * moved[0]


def test_other_pictures_may_be_rehearsed(job: Job, data: Dataset, tmp_path: Path) -> None:
    """The term is of those pictures: on the training pictures' own it is another number; one a step, by key."""
    training, _ = begun(job, weighing(1.0, "stages.1.replay.tokens=0"), replayed=data.select)
    stir(job.encoder, 0.3)
    replay = training.work.stage.replay
    assert replay is not None
    rehearsal = Rehearsal(training.work, replay, 0, training.total)
    assert rehearsal.others is not None
    first = next(rehearsal.others)
    assert sorted(first.index_B.tolist()) != list(range(8))  # in an order of its own
    assert len(first.index_B) == 8
    training.work.replayed = None
    own = terms(training)
    training.work.replayed = data.select
    assert terms(training) != pytest.approx(own, rel=1e-3)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "resnet"])
def test_the_terms_places_may_be_any_of_the_encoders(fresh: Callable[[str], Encoder], data: Dataset, kind: str) -> None:
    """Several blocks of a ViT, a norm of a convolutional network: axes are found, and nothing is left hooked."""
    encoder = fresh(f"with-{kind}")
    place = "image.*norm*" if kind == "resnet" else "image.*.block"
    recipe = shrunk(RECIPES["caption-film-channels"]).edited(f"stages.1.replay={{at: ['{place}']}}")
    training, _ = begun(make_job(encoder, data), recipe)
    assert terms(training) == 0.0
    stir(encoder, 0.2)
    assert terms(training) > 1e-4
    assert not any(site.value._forward_hooks for name, site in encoder.children.items() if name.endswith("block"))


def test_what_cannot_be_replayed_is_said(job: Job) -> None:
    with pytest.raises(ConfigError, match="replay compares a picture's tokens"):
        RECIPES["caption-token-replay"].edited("stages.0.replay={}")
    training, _ = begun(job, weighing(1.0, "stages.1.replay.at=['image.7.block']"))
    with pytest.raises(ConfigError, match=r"replay\.at: .*no place «image\.7\.block"):
        next(training.run())
    job.encoder.grafts.remove()
    # a text has blocks, and no picture goes through them
    with pytest.raises(
        ConfigError, match=r"no place «text\.0\.block».* Blocks there: image\.0\.block, image\.1\.block\."
    ):
        planned({"x": weighing(1.0, "stages.1.replay.at=['text.0.block']")}, job.encoder, 3, 18)
