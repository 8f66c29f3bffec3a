"""Lines to the pretrained model and means of several trainings, each by another road."""

# I columns, O rows, R rank of a product.

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from likewise.adapters import Lora, grafted
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.heads import Linear, LinearHead, Neighbours, NeighboursHead, text_head
from likewise.keys import key_rng
from likewise.merging import depths, lerp, lines, mean
from likewise.predict import placed, predict
from likewise.recipe import Descent, Lbfgs, Recipe, joint, one, soup
from likewise.recipe import lines as with_lines
from likewise.recipes import RECIPES
from likewise.run.method import fit_method
from likewise.run.soup import greedy, member, stir
from likewise.run.stage import Job
from likewise.run.tuned import Tuned, point, points
from tiny import make_job, pixels, shrunk


def drawn(*key: int | str, shape: tuple[int, ...] = (3, 4)) -> torch.Tensor:
    return torch.from_numpy(key_rng("merging", *key).standard_normal(shape)).float()


# -- lines ------------------------------------------------------------------------------------------------------


def test_lerp_is_the_line_and_bitwise_its_ends() -> None:
    zero = {"a": drawn("a"), "b": drawn("b"), "held": drawn("held")}
    tuned = {"a": 1e4 * drawn("c"), "b": drawn("d") * 1e-6}
    assert list(lerp(zero, tuned, 0.3)) == ["a", "b"]  # what trained, and nothing else
    for name, end in tuned.items():
        assert torch.equal(lerp(zero, tuned, 0.0)[name], zero[name])
        assert torch.equal(lerp(zero, tuned, 1.0)[name], end)
        for alpha in (0.2, 0.5, 0.9):
            want = (1 - alpha) * zero[name].double().numpy() + alpha * end.double().numpy()
            np.testing.assert_allclose(lerp(zero, tuned, alpha)[name].numpy(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["plain", "icon", "resnet"])
def test_depths_go_from_the_first_block_to_the_last(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    count = {"image": {"plain": 2, "icon": 6, "resnet": 0}[kind], "text": 2}
    found = depths(list(encoder.sites), count)
    assert list(found) == list(encoder.sites)
    for name, depth in found.items():
        tower, *rest = name.split(".")
        if tower not in count or not count[tower]:
            want = 1.0  # no blocks, no slope
        elif rest[0].isdigit():
            want = int(rest[0]) / (count[tower] - 1)
        else:
            want = 0.0 if rest[0] in ("patch", "class", "positions", "tokens", "norm_pre") else 1.0
        assert depth == pytest.approx(want), name
    assert {found[n] for n in ("text.tokens", "text.positions", "text.0.up.bias")} == {0.0}
    assert {found[n] for n in ("text.1.up.bias", "text.norm_post.bias", "text.projection", "scale")} == {1.0}


def test_depths_of_adapters_go_by_the_tower_that_they_are_on() -> None:
    asked = {
        "adapters.lora.image.2.qkv.q.up": 0.5, "adapters.film.text.1.norm1.gain": 1.0, "head.weight": 1.0,
        "adapters.film.image.patch.gain": 0.0, "adapters.maple.both.0.words": 1.0, "image.0.up": 0.0,
    }  # fmt: skip
    assert depths(list(asked), {"image": 5, "text": 2}) == asked
    assert set(depths(list(asked), {"image": 1, "text": 1}).values()) == {1.0}  # a single block is the last


def test_lines_go_their_share_of_the_way(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("icon")
    names = [
        "image.patch.0.conv.weight",
        "image.0.up.bias",
        "image.3.up.bias",
        "image.5.up.bias",
        "image.norm_post.bias",
    ]
    names[0] = next(n for n in encoder.sites if n.startswith("image.patch"))
    zero = encoder.state(names)
    tuned = {name: value + drawn(name, shape=tuple(value.shape)) for name, value in zero.items()}
    shares = dict(zip(names, (0.0, 0.0, 0.6, 1.0, 1.0), strict=True))
    for alpha, first in ((0.5, 0.0), (1.0, 0.0), (0.8, 0.25)):
        found = lines(zero, tuned, alpha, first, {"image": 6, "text": 2})
        for name, share in shares.items():
            way = alpha * (first + (1 - first) * share)  # equation 4: alpha to beta, in even steps
            want = zero[name].double() + way * (tuned[name].double() - zero[name].double())
            torch.testing.assert_close(found[name].double(), want, rtol=1e-5, atol=1e-6, msg=name)
    assert torch.equal(lines(zero, tuned, 1.0, 0.0, {"image": 6})["image.5.up.bias"], tuned["image.5.up.bias"])
    straight = lines(zero, tuned, 0.4, 1.0, {"image": 6})
    assert all(torch.equal(value, straight[name]) for name, value in lerp(zero, tuned, 0.4).items())


# -- a method's path --------------------------------------------------------------------------------------------


def tuned_of(recipe: Recipe, encoder: Encoder, names: tuple[str, ...] = ()) -> Tuned:
    """What a training might have left: pretrained `names` and all added numbers, moved by a draw."""
    with grafted(encoder, recipe.adapters, 0):
        start = encoder.state([*names, *encoder.grafts.parameters_by_name()])
    values = {name: value + 0.1 * drawn(name, shape=tuple(value.shape)) for name, value in start.items()}
    return Tuned(recipe, values, None, sum(v.numel() for v in values.values()), 0.0, {})


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_wise_of_a_lora_is_the_base_and_alpha_times_the_product(
    encoder_of: Callable[[str], Encoder], data: Dataset, alpha: float
) -> None:
    encoder = encoder_of("plain")
    lora = Lora(at=("image.*.qkv.weight", "text.1.up.weight"), parts=("q", "v"), rank=3, alpha=6.0)
    norms = ("image.0.norm1.weight", "text.norm_post.bias")
    trained = one(adapters=(lora,), trains=("adapters", *norms), fit=RECIPES["lora"].stages[0].fit)
    tuned = tuned_of(trained, encoder, norms)
    found = point(tuned, make_job(encoder, data), alpha)
    assert (found.adapters, found.added) == ((), {})  # all of it folds
    weights = {"image.0.qkv.weight", "image.1.qkv.weight", "text.1.up.weight"}
    assert set(found.values) == {*weights, *norms}
    number = {name: value.double().numpy() for name, value in tuned.values.items()}
    for name in weights:
        want_OI = encoder.state([name])[name].double().numpy()
        place = f"adapters.lora.{name.removesuffix('.weight')}"
        for part, row in (("q", 0), ("v", 64)) if "qkv" in name else (("", 0),):
            own = f"{place}.{part}" if part else place
            product_OI = number[f"{own}.up"] @ number[f"{own}.down"]
            want_OI[row : row + len(product_OI)] += alpha * (6.0 / 3) * product_OI
        np.testing.assert_allclose(found.values[name].numpy(), want_OI, rtol=1e-5, atol=1e-6, err_msg=name)
    for name in norms:
        want = (1 - alpha) * encoder.state([name])[name].double().numpy() + alpha * number[name]
        np.testing.assert_allclose(found.values[name].numpy(), want, rtol=1e-5, atol=1e-6)
    # its head is that of the text tower which stands there
    before = encoder.state(list(found.values))
    encoder.put(found.values)
    torch.testing.assert_close(
        found.head.state_dict(), text_head(encoder, make_job(encoder, data).prompts).state_dict()
    )
    encoder.put(before)


def test_lines_of_a_lora_scale_the_product_by_its_depth(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = encoder_of("plain")
    recipe = with_lines(one(adapters=(Lora(),), trains=("adapters",), fit=RECIPES["lora"].stages[0].fit), 0.25)
    tuned = tuned_of(recipe, encoder)
    found = point(tuned, make_job(encoder, data), 0.8)
    for tower, width in (("image", 32), ("text", 16)):
        for block, way in ((0, 0.8 * 0.25), (1, 0.8)):
            name = f"{tower}.{block}.qkv.weight"
            base_OI = encoder.state([name])[name].double()
            up_OR, down_RI = (tuned.values[f"adapters.lora.{tower}.{block}.qkv.k.{p}"].double() for p in ("up", "down"))
            want_OI = base_OI[width : 2 * width] + way * up_OR @ down_RI
            torch.testing.assert_close(found.values[name][width : 2 * width].double(), want_OI, rtol=1e-5, atol=1e-6)


def test_what_does_not_fold_is_carried_with_its_line_scaled(
    encoder_of: Callable[[str], Encoder], data: Dataset
) -> None:
    encoder, job = encoder_of("plain"), make_job(encoder_of("plain"), data)
    recipe = joint(RECIPES["houlsby"], RECIPES["film"])
    tuned = tuned_of(recipe, encoder)
    found = point(tuned, job, 0.25)
    assert [adapter.kind for adapter in found.adapters] == ["bottleneck"]  # FiLM on norms folds
    assert set(found.added) == {n for n in tuned.values if n.startswith("adapters.bottleneck")}
    for name, value in found.added.items():
        line = name.endswith((".up.weight", ".up.bias"))
        torch.testing.assert_close(value, (0.25 if line else 1.0) * tuned.values[name])
        assert line or torch.equal(value, tuned.values[name])
    gain = tuned.values["adapters.film.image.0.norm1.gain"]
    want = (1 + 0.25 * gain) * encoder.state(["image.0.norm1.weight"])["image.0.norm1.weight"]
    torch.testing.assert_close(found.values["image.0.norm1.weight"], want)
    # pictures need the image tower alone; the model on disk needs both
    asked = found.candidate()
    assert {name.split(".")[2] for name in asked.values if name.startswith("adapters")} == {"image", "text"}
    zero, one_ = (point(tuned, job, alpha).candidate() for alpha in (0.0, 1.0))
    with torch.no_grad():
        start_BD = encoder.image(pixels(encoder)).shared_BD
        with placed(encoder, zero):
            assert torch.equal(encoder.image(pixels(encoder)).shared_BD, start_BD)
        with placed(encoder, one_):
            assert not torch.allclose(encoder.image(pixels(encoder)).shared_BD, start_BD)


def test_an_adapter_of_the_text_tower_alone_moves_no_picture(
    encoder_of: Callable[[str], Encoder], data: Dataset
) -> None:
    encoder = encoder_of("plain")
    found = point(tuned_of(RECIPES["kim-adapter"], encoder), make_job(encoder, data), 1.0)
    assert found.added
    asked = found.candidate()
    assert (asked.values, asked.adapters, asked.moves_images) == ({}, (), False)


# -- soups ------------------------------------------------------------------------------------------------------


def test_the_mean_is_the_mean() -> None:
    members = [{"a": drawn(i, "a"), "b": drawn(i, "b", shape=(5,))} for i in range(3)]
    for name, value in mean(members).items():
        np.testing.assert_allclose(value.numpy(), np.mean([m[name].numpy() for m in members], axis=0), rtol=1e-6)
    assert torch.equal(mean(members[:1])["a"], members[0]["a"])
    assert mean([{"a": torch.ones(2, dtype=torch.bfloat16)}] * 2)["a"].dtype == torch.float32


def tuned_at(weight: float, head: LinearHead | None = None) -> Tuned:
    return Tuned(RECIPES["ft-soup"], {"w": torch.tensor([weight])}, head, 1, 2.0, {})


def value(tuned: Tuned) -> float:
    return float(tuned.values["w"])


def test_a_greedy_soup_keeps_what_does_not_hurt() -> None:
    asked: list[float] = []

    def score(tuned: Tuned) -> float:
        asked.append(value(tuned))
        return -abs(value(tuned) - 3)

    # from the best: 3.5 (-0.5); 2 (-1) makes 2.75 (-0.25), kept; 6 makes 3.83 (-0.83), not; 0 makes 1.83, not
    kept = greedy([tuned_at(w) for w in (6.0, 2.0, 0.0, 3.5)], score)
    assert [value(t) for t in kept] == [3.5, 2.0]
    assert asked[-3:] == pytest.approx([2.75, 11.5 / 3, 5.5 / 3])  # tried in the order of their own scores
    # of those that change nothing, all are kept; nothing is kept for being there first
    flat = greedy([tuned_at(w) for w in (-9.0, 3.0, 3.5, 2.5)], lambda t: float(abs(value(t) - 3) <= 0.5))
    assert sorted(value(t) for t in flat) == [2.5, 3.0, 3.5]
    assert [value(t) for t in greedy([tuned_at(1.0), tuned_at(9.0)], lambda t: float(value(t) > 5.5))] == [9.0]


def test_stirring_takes_the_mean_of_heads_too() -> None:
    config = Linear(start="zeros", features="pooled", bias=False)
    heads = [LinearHead(drawn(i), None, config) for i in range(2)]
    both = stir([tuned_at(1.0, heads[0]), tuned_at(2.0, heads[1])])
    assert (value(both), both.trained) == (1.5, 1)
    assert isinstance(both.head, LinearHead)
    assert (both.head.config, both.head.bias) == (config, None)
    torch.testing.assert_close(both.head.weight.detach(), (drawn(0) + drawn(1)) / 2)
    assert torch.equal(heads[0].weight.detach(), drawn(0))
    assert stir([tuned_at(1.0), tuned_at(3.0)]).head is None


def test_a_member_has_its_own_rate_and_no_soup() -> None:
    whole = soup(RECIPES["lp-ft"], "uniform", (0.1, 10.0))
    ours = member(whole, 10.0)
    assert ours.soup is None
    assert isinstance(ours.stages[0].fit, Lbfgs)
    assert ours.stages[0] == whole.stages[0]
    assert isinstance(ours.stages[1].fit, Descent)
    assert ours.stages[1].fit.lr == pytest.approx(1e-4)
    assert (ours.merge, ours.stages[1].trains) == (whole.merge, whole.stages[1].trains)


def test_a_soup_is_the_mean_of_its_members_trained_alone(
    encoder_of: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    encoder = encoder_of("plain")
    job = make_job(encoder, data)
    recipe = soup(shrunk(RECIPES["ft"], "stages.0.trains=[image.*norm*, head]"), "uniform", (100.0, 1000.0))
    found = fit_method("soup", recipe, job, tmp_path / "uniform")
    alone = []
    for i, rate in enumerate((100.0, 1000.0)):
        job.seed = i
        alone.append(fit_method("one", member(recipe, rate), job, tmp_path / str(i)))
    job.seed = 0
    assert not torch.equal(alone[0].values["image.0.norm1.bias"], alone[1].values["image.0.norm1.bias"])
    assert found.notes == {"members": 2.0, "kept": 2.0}
    assert found.recipe == recipe
    assert _same(stir(alone), found)
    (said,) = points(found, job, [1.0]).values()
    assert torch.equal(said.head.state_dict()["weight"], found.head.state_dict()["weight"])  # type: ignore[union-attr]
    # a greedy one of the same members, which are read and not trained again
    shutil.copytree(tmp_path / "uniform" / "members", tmp_path / "greedy" / "members")
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("greedy/members/**/*")}
    picked = fit_method("soup", recipe.edited("soup.kind=greedy"), job, tmp_path / "greedy")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("greedy/members/**/*")} == stamps
    shares = [_select(one, job) for one in (*alone, stir(alone))]
    want = stir(alone) if shares[2] >= max(shares[:2]) else alone[shares.index(max(shares[:2]))]
    assert _same(want, picked)
    assert picked.notes == {"members": 2.0, "kept": 2.0 if shares[2] >= max(shares[:2]) else 1.0}


def _select(tuned: Tuned, job: Job) -> float:
    """Accuracy on the select split at alpha 1."""
    (candidate,) = points(tuned, job, [1.0]).values()
    (said,) = predict(job.encoder, [candidate], job.data.select)
    return float((said.logits_NC.argmax(1) == said.labels_N).mean())


def _same(a: Tuned, b: Tuned) -> bool:
    heads = [t.head.state_dict() for t in (a, b) if t.head is not None]
    return all(torch.equal(v, b.values[n]) for n, v in a.values.items()) and all(
        torch.equal(v, heads[1][n]) for n, v in heads[0].items()
    )


def test_heads_that_keep_pictures_are_kept_in_numbers() -> None:
    head = NeighboursHead(drawn("bank"), torch.tensor([0, 1, 1]), 2, Neighbours())
    assert Tuned(RECIPES["knn"], {}, head, 0, 0.0, {}).kept == 12
    assert tuned_at(1.0).kept == 1
