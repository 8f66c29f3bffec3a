"""The laws that every recipe inherits. They run over `RECIPES` itself, so none can stay away."""

# B images, C classes, D shared width.

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from likewise.encoder import Encoder
from likewise.heads import LinearHead, text_head
from likewise.names import select
from likewise.predict import predict
from likewise.recipe import Recipe
from likewise.recipes import RECIPES
from likewise.run.method import points
from tiny import MODELS, pixels

ALL = [(kind, name) for kind in ("plain", "icon") for name in RECIPES]
"""Every recipe on open_clip's own tower and on timm's."""
STILL = [*ALL, *(("resnet", name) for name in ("ln", "ft", "flyp"))]
"""And where there are running statistics to disturb."""
Get = Callable[[str, str], Any]


def named(recipe: Recipe, encoder: Encoder) -> set[str]:
    """What the recipe's stages name, head included."""
    names = [*encoder.sites, "head.weight", "head.bias"]
    return {name for stage in recipe.stages if stage.trains for name in select(stage.trains, names)}


def test_every_recipe_is_under_the_laws() -> None:
    assert {name for _, name in ALL} == set(RECIPES)
    assert {kind for kind, _ in STILL} <= set(MODELS)


@pytest.mark.parametrize(("kind", "name"), STILL)
def test_held(trained: Get, kind: str, name: str) -> None:
    run = trained(kind, name)
    ours = named(run.recipe, run.job.encoder)
    held = [up for up in run.before if run.upstream.get(up) not in ours]
    assert len(held) + len(ours - {"head.weight", "head.bias"}) == len(run.before)
    for up in held:  # parameters that were not named, and all buffers, at the last step
        assert torch.equal(run.during[up], run.before[up]), up
    assert list(run.after) == list(run.before)
    for up in run.before:  # and the encoder is handed back as it came
        assert torch.equal(run.after[up], run.before[up]), up
    assert not run.job.encoder.module.training
    assert not any(p.requires_grad for p in run.job.encoder.module.parameters())


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_moved(trained: Get, kind: str, name: str) -> None:
    run = trained(kind, name)
    ours = named(run.recipe, run.job.encoder)
    places = {ours_: up for up, ours_ in run.upstream.items()}
    assert set(run.tuned.values) == {n for n in ours if not n.startswith("head.")}
    for n, value in run.tuned.values.items():
        assert not torch.equal(value, run.before[places[n]]), n
        assert torch.equal(value, run.during[places[n]]), n  # what is kept is what the last step left
    if "head.weight" in ours:
        start = text_head(run.job.encoder, run.job.prompts)
        assert isinstance(run.tuned.head, LinearHead)
        assert not torch.equal(run.tuned.head.weight, start.weight)
        assert not torch.equal(run.tuned.head.bias, start.bias)


def block(width: int) -> int:
    """qkv, out, up, down with biases, and two norms."""
    return (3 * width * width + 3 * width) + (width * width + width) + (8 * width * width + 5 * width) + 4 * width


def closed_form(kind: str, pattern: str) -> int:
    """How many numbers a pattern names on a tiny encoder, from its configuration."""
    depth, width, shared = (2, 32, 16) if kind == "plain" else (6, 192, 16)
    stem, last = 0, 3
    for channels in (24, 48, 48, 96, 96, 192):
        stem, last = stem + 9 * last * channels + channels, channels
    begins = 3 * 8 * 8 * 32 + 32 + 5 * 32 + 2 * 32 if kind == "plain" else stem + 16 * 192
    return {
        "image": begins + depth * block(width) + 2 * width + width * shared,
        "text": 49408 * 16 + 16 * 16 + 2 * block(16) + 2 * 16 + 16 * shared,
        "scale": 1,
        "head": 3 * (shared + 1),
        "image.*norm*": 2 * width * (2 * depth + (2 if kind == "plain" else 1)),
        "text.*norm*": 2 * 16 * (2 * 2 + 1),
    }[pattern]  # a recipe with another pattern writes its closed form here


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_counted(trained: Get, kind: str, name: str) -> None:
    run = trained(kind, name)
    patterns = {pattern for stage in run.recipe.stages for pattern in stage.trains}
    assert run.tuned.trained == sum(closed_form(kind, pattern) for pattern in patterns)
    plans = [json.loads(path.read_text()) for path in sorted(run.folder.glob("plan-*.json"))]
    assert len(plans) == sum(stage.fit is not None for stage in run.recipe.stages)
    for plan, stage in zip(plans, [s for s in run.recipe.stages if s.fit], strict=True):
        assert sum(plan["counts"]) == sum(closed_form(kind, pattern) for pattern in stage.trains)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_repeated(trained: Get, train: Callable[[str, str, str], Any], kind: str, name: str) -> None:
    first, again = trained(kind, name), train(kind, name, "again")
    journals = [run.folder / "journal.jsonl" for run in (first, again)]
    assert journals[0].exists() == any(stage.fit for stage in first.recipe.stages)
    if journals[0].exists():
        assert journals[0].read_bytes() == journals[1].read_bytes()
    assert list(first.tuned.values) == list(again.tuned.values)
    assert all(torch.equal(value, again.tuned.values[n]) for n, value in first.tuned.values.items())
    heads = [run.tuned.head.state_dict() if run.tuned.head is not None else {} for run in (first, again)]
    assert all(torch.equal(value, heads[1][n]) for n, value in heads[0].items())


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_finished_method_is_read_and_not_trained_again(trained: Get, kind: str, name: str) -> None:
    from likewise.run.method import fit_method

    run = trained(kind, name)
    stamps = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    read = fit_method(name, run.recipe, run.job, run.folder)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == stamps
    assert (read.trained, read.notes, read.seconds) == (run.tuned.trained, run.tuned.notes, run.tuned.seconds)
    assert {n: v.tolist() for n, v in read.values.items() if v.numel() < 99} == {
        n: v.tolist() for n, v in run.tuned.values.items() if v.numel() < 99
    }
    x_BD = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    assert (read.head is None) == (run.tuned.head is None)
    if read.head is not None:
        assert torch.equal(read.head(x_BD), run.tuned.head(x_BD))


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_wise_path_ends_at_the_pretrained_and_at_the_tuned_model(
    trained: Get, fresh: Callable[[str], Encoder], kind: str, name: str
) -> None:
    run = trained(kind, name)
    job, tuned = run.job, run.tuned
    path = points(tuned, job, [0.0, 0.5, 1.0])
    if run.recipe.merge is None:
        assert list(path) == [None]
        assert run.recipe.no_merge or not tuned.trained
        return
    zero, half, one = predict(job.encoder, list(path.values()), job.data.select)
    other = fresh(kind)  # both ends by hand, on another copy
    with torch.no_grad():
        views_BCHW = pixels(other)
        shared_BD = other.image(views_BCHW).shared_BD
        want_zero = text_head(other, job.prompts)(shared_BD)
        other.put(tuned.values)
        want_one = (tuned.head or text_head(other, job.prompts))(other.image(views_BCHW).shared_BD)
        for alpha, want in ((0.0, want_zero), (1.0, want_one)):
            before = job.encoder.state()
            job.encoder.put(path[alpha].values)
            assert torch.equal(path[alpha].head(job.encoder.image(views_BCHW).shared_BD), want), alpha
            job.encoder.put(before)
    assert np.abs(zero.logits_NC - one.logits_NC).max() > 1e-5
    assert np.abs(half.logits_NC - one.logits_NC).max() > 1e-6
    for n in path[0.5].values:  # the middle is the mean
        mean = (tuned.values[n].double() + job.encoder.state([n])[n].double()) / 2
        torch.testing.assert_close(path[0.5].values[n].double(), mean, rtol=1e-5, atol=1e-7)


def test_zero_shot_is_where_every_path_begins(trained: Get) -> None:
    run = trained("plain", "zero-shot")
    (alone,) = predict(run.job.encoder, list(points(run.tuned, run.job, []).values()), run.job.data.select)
    for name, recipe in RECIPES.items():
        if recipe.merge is not None:
            other = trained("plain", name)
            (zero,) = predict(other.job.encoder, [points(other.tuned, other.job, [0.0])[0.0]], other.job.data.select)
            np.testing.assert_array_equal(zero.logits_NC, alone.logits_NC)


def test_a_folder_of_another_experiment_is_refused(trained: Get, tmp_path: Path) -> None:
    from likewise.errors import UsageError
    from likewise.run.method import fit_method

    run = trained("plain", "ln")
    with pytest.raises(UsageError, match="another experiment") as caught:
        fit_method("ln", run.recipe.edited("stages.0.fit.lr=1e-5"), run.job, run.folder)
    assert caught.value.code == "R01"
