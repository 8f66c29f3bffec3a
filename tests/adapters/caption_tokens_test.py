"""Captions as tokens: a block by hand, what is told to whom, and that nothing of a text is left when it is used."""

# B images, L tokens, P caption tokens, W width.

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from likewise.adapters import CaptionTokens, add
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.fit import Training
from likewise.losses import Masked
from likewise.recipes import RECIPES
from likewise.run.choose import Choice
from likewise.run.method import fit_method
from likewise.run.planning import plans
from likewise.run.tower import load_tower, save_tower
from likewise.run.tuned import Tuned, standing
from tiny import make_job, pixels, shrunk
from works import work_of

RECIPE = shrunk(RECIPES["caption-tokens"])


@torch.no_grad()
def stir(encoder: Encoder) -> None:
    generator = torch.Generator().manual_seed(3)
    for parameter in encoder.grafts.parameters_by_name().values():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def told_of(encoder: Encoder) -> Tensor:
    """One row for each of three pictures; of the last nothing is said."""
    rows_BD = torch.randn(3, encoder.shared_width, generator=torch.Generator().manual_seed(5))
    rows_BD[2] = 0
    return rows_BD


@torch.no_grad()
def by_hand(encoder: Encoder, numbers: dict[str, Tensor], told_BD: Tensor | None) -> Tensor:
    """timm's blocks one after the other, with tokens beside the picture's own; the pooled features."""
    model = encoder.vision._model  # type: ignore[attr-defined]
    own = {name.removeprefix("adapters.caption-tokens.image."): value for name, value in numbers.items()}
    x_BLW = model.norm_pre(model._pos_embed(model.patch_embed(pixels(encoder))))
    tokens_BPW = own["told.null"].repeat(len(x_BLW), 1, 1)
    if told_BD is not None:
        for b in range(len(told_BD)):
            if told_BD[b].any():
                small_R = own["told.down.weight"] @ told_BD[b] + own["told.down.bias"]
                made = own["told.up.weight"] @ small_R + own["told.up.bias"]
                tokens_BPW[b] += made.reshape(tokens_BPW[b].shape)
    for index, block in enumerate(model.blocks):
        plain_BLW = block(x_BLW)
        with_BLW = block(torch.cat([tokens_BPW, x_BLW], 1))[:, tokens_BPW.shape[1] :]  # in front: order does not matter
        gate = own[f"{index}.gate"]
        x_BLW = (1 - gate) * plain_BLW + gate * with_BLW
    return torch.as_tensor(model.norm(x_BLW)[:, 0])


@pytest.mark.parametrize("kind", ["with-vit", "with-dinov2"])
@pytest.mark.parametrize("told", [True, False])
def test_features_are_those_of_a_forward_by_hand(fresh: Callable[[str], Encoder], kind: str, told: bool) -> None:
    encoder = fresh(kind)
    rows_BD = told_of(encoder) if told else None
    with torch.no_grad():
        before = encoder.image(pixels(encoder)).pooled_BW
        add(encoder, [CaptionTokens(length=3)], 0)
        assert torch.equal(encoder.image(pixels(encoder)).pooled_BW, before)  # type: ignore[arg-type]
        stir(encoder)
        numbers = encoder.grafts.parameters_by_name()
        if rows_BD is not None:
            with encoder.telling(rows_BD):
                found = encoder.image(pixels(encoder)).pooled_BW
        else:
            found = encoder.image(pixels(encoder)).pooled_BW
        encoder.grafts.remove()
        want = by_hand(encoder, numbers, rows_BD)
    assert before is not None
    assert found is not None
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, before, rtol=1e-2, atol=1e-2)


def test_a_picture_of_which_nothing_is_said_sees_the_null_tokens(fresh: Callable[[str], Encoder]) -> None:
    encoder = fresh("with-vit")
    add(encoder, [CaptionTokens()], 0)
    stir(encoder)
    with torch.no_grad():
        silent = encoder.image(pixels(encoder)).pooled_BW
        with encoder.telling(told_of(encoder)):
            told = encoder.image(pixels(encoder)).pooled_BW
        again = encoder.image(pixels(encoder)).pooled_BW
    assert silent is not None
    assert told is not None
    assert again is not None
    torch.testing.assert_close(told[2], silent[2])
    assert not torch.allclose(told[:2], silent[:2], rtol=1e-3, atol=1e-3)
    assert torch.equal(again, silent)  # what was said is forgotten
    assert encoder.told is None


def test_alpha_times_the_gates_is_the_way_back(fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path) -> None:
    encoder = fresh("with-vit")
    tuned = fit_method("x", RECIPE, make_job(encoder, data), tmp_path)
    with torch.no_grad():
        plain = encoder.image(pixels(encoder)).pooled_BW
        with standing(tuned, encoder, 0.0):
            assert torch.equal(encoder.image(pixels(encoder)).pooled_BW, plain)  # type: ignore[arg-type]
        with standing(tuned, encoder, 0.5):
            gates = {n: v for n, v in encoder.parameters_by_name().items() if n.endswith(".gate")}
            assert gates
            assert all(torch.equal(v, 0.5 * tuned.values[n]) for n, v in gates.items())


def test_half_way_is_a_forward_by_hand_with_half_of_each_gate(fresh: Callable[[str], Encoder]) -> None:
    encoder = fresh("with-vit")
    add(encoder, [CaptionTokens(length=3)], 0)
    stir(encoder)
    end = {name: value.detach().clone() for name, value in encoder.grafts.parameters_by_name().items()}
    encoder.grafts.remove()
    tuned = Tuned(RECIPE.edited("stages.1.adapters.0.length=3"), end, None, len(end), 0.0, {})
    half = {name: 0.5 * value if name.endswith(".gate") else value for name, value in end.items()}
    with torch.no_grad():
        with standing(tuned, encoder, 0.5):
            found = encoder.image(pixels(encoder)).pooled_BW
        want, ends = by_hand(encoder, half, None), by_hand(encoder, end, None)
    assert found is not None
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, ends, rtol=1e-2, atol=1e-2)


def test_the_loss_is_one_minus_the_cosine_to_the_whole_picture(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    """By hand, with holes and silences read off what the encoder was shown."""
    encoder = fresh("with-vit")
    job = make_job(encoder, data)
    frozen = copy.deepcopy(encoder)
    recipe = RECIPE.edited("stages.1.loss.squares=4", "stages.1.loss.share=0.25")
    training = Training(work_of(job, recipe))
    stir(encoder)
    batch = next(training._batches())
    shown: list[Tensor] = []
    said: list[Tensor] = []
    image = encoder.image

    def look(pixels_BCHW: Tensor) -> object:
        shown.append(pixels_BCHW)
        assert encoder.told is not None
        said.append(encoder.told)
        return image(pixels_BCHW)

    encoder.image = look  # type: ignore[method-assign, assignment]
    with torch.no_grad():
        found = float(training._loss(batch, 0))
        (holed_BCHW,), (told_BD,) = shown, said
        with encoder.telling(told_BD):
            guess = image(holed_BCHW).pooled_BW
        whole = frozen.image(batch.pixels_BCHW).pooled_BW
    assert guess is not None
    assert whole is not None
    a, b = guess.double().numpy(), whole.double().numpy()
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert found == pytest.approx(1 - cosine.mean(), rel=1e-4)
    holes_BSS = (holed_BCHW == 0).all(1)[:, ::4, ::4]
    assert holes_BSS.sum((1, 2)).tolist() == [4] * len(holes_BSS)  # a quarter of 4 x 4 squares of each picture
    assert len({tuple(hole.flatten().tolist()) for hole in holes_BSS}) > 1
    filled = torch.where(holed_BCHW == 0, batch.pixels_BCHW, holed_BCHW)
    assert torch.equal(filled, batch.pixels_BCHW)
    norms = told_BD.norm(dim=1)
    assert set(norms.round(decimals=4).tolist()) == {0.0, 1.0}  # of some nothing is said, of others a text's unit row


def test_the_share_of_silent_pictures_is_as_asked(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    for silent in (0.2, 0.9):
        encoder = fresh("with-vit")
        training = Training(work_of(make_job(encoder, data), RECIPE.edited(f"stages.1.loss.silent={silent}")))
        assert training.guessing is not None
        batch = next(training._batches())
        drawn = np.concatenate([training.guessing._said(batch, (0, step)) for step in range(300)])
        assert 1 - drawn.mean() == pytest.approx(silent, abs=0.03)


def test_the_kept_tower_needs_no_text(fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path) -> None:
    encoder = fresh("with-vit")
    tuned = fit_method("x", RECIPE, make_job(encoder, data), tmp_path / "x")
    save_tower(tmp_path / "model", encoder, Choice("x", 1.0, "by hand"), tuned)
    kept = load_tower(tmp_path / "model")
    assert not kept.has("text")
    names = list(kept.grafts.parameters_by_name())
    assert names == [f"adapters.caption-tokens.image.{n}" for n in ("told.null", "0.gate", "1.gate")]
    with torch.no_grad(), standing(tuned, encoder, 1.0):
        want = encoder.image(pixels(encoder)).pooled_BW
        found = kept.image(pixels(encoder)).pooled_BW
    torch.testing.assert_close(found, want)


def test_the_leak_is_guarded(fresh: Callable[[str], Encoder]) -> None:
    for loss in ("contrastive", "sigmoid", "cross-entropy"):
        with pytest.raises(ConfigError, match="repeat the answer"):
            RECIPES["caption-tokens"].edited(f"stages.1.loss={{kind: {loss}}}")
    with pytest.raises(ConfigError, match="leave replay out"):
        RECIPES["caption-tokens"].edited("stages.1.replay={}")
    with pytest.raises(ConfigError, match="holes in pictures"):
        RECIPES["caption-tokens"].edited("stages.1.fit.sampling=features")
    with pytest.raises(ConfigError, match="asks no head"):
        RECIPES["caption-tokens"].edited("stages.1.head={kind: linear}")
    for name in ("scale", "image.projection", "text"):
        recipe = RECIPES["caption-tokens"].edited(f"stages.1.trains=[adapters, {name}]")
        encoder = fresh("with-vit")
        with pytest.raises(ConfigError, match="would stay as they are"):
            plans(recipe, encoder, 3, 18)
    assert isinstance(RECIPES["caption-tokens"].stages[1].loss, Masked)
