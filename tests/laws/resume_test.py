"""Resumed: stopped after any step and taken up by fresh objects, a training ends where the undisturbed one ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.fit import Training
from likewise.recipe import Descent, Recipe, Sgd
from likewise.recipes import RECIPES
from tiny import make_job, shrunk
from works import work_of


def beginning(recipe: Recipe, index: int) -> Recipe:
    """The recipe up to a stage: what decides how that stage trains."""
    return Recipe(stages=recipe.stages[: index + 1])


EVERY = {
    (name, index): beginning(recipe, index)
    for name, recipe in RECIPES.items()
    for index, stage in enumerate(recipe.stages)
    if isinstance(stage.fit, Descent)
}
"""Each stage of each recipe that trains by steps, with the stages before it."""
STAGES = [at for i, at in enumerate(EVERY) if EVERY[at] not in list(EVERY.values())[:i]]
"""The same, each once: FLYP and FLYP + WiSE train alike."""


@pytest.fixture(scope="module", params=["plain", "icon"])
def two(
    request: pytest.FixtureRequest, fresh: Callable[[str], Encoder]
) -> tuple[Encoder, Encoder, dict[str, torch.Tensor]]:
    """Two newly loaded encoders, and what is in them."""
    first, second = fresh(request.param), fresh(request.param)
    return first, second, first.state()


def begin(encoder: Encoder, start: dict[str, torch.Tensor], data: Dataset, name: str, index: int) -> Training:
    """A stage about to train: newly grafted, with a newly built head."""
    encoder.grafts.remove()
    encoder.put(start)
    recipe = shrunk(RECIPES[name], f"stages.{index}.fit.epochs=2")
    return Training(work_of(make_job(encoder, data), recipe, index))


def copied(training: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in training.tensors().items()}


def test_every_recipe_that_steps_is_here() -> None:
    assert {n for n, _ in EVERY} == {n for n, r in RECIPES.items() if any(isinstance(s.fit, Descent) for s in r.stages)}
    assert all(any(EVERY[at] == recipe for at in STAGES) for recipe in EVERY.values())
    assert {EVERY[at].stages[-1].fit.kind for at in STAGES} == {"adamw", "sgd"}  # type: ignore[union-attr]
    kinds = {adapter.kind for recipe in RECIPES.values() for adapter in recipe.adapters}
    assert {adapter.kind for at in STAGES for adapter in EVERY[at].adapters} == kinds
    assert any(index and EVERY[name, index].stages[0].fit for name, index in STAGES)


AT = {"plain": (0, 1, 4, 5, 6), "icon": (1, 5)}
"""Steps after which a training is taken up: the first and the last, in an epoch and at its end. On timm's tower, whose
steps cost six times as much, one in the first epoch and one in the second."""


@pytest.mark.parametrize(("name", "index"), STAGES)
def test_resumed(two: tuple[Encoder, Encoder, dict[str, torch.Tensor]], data: Dataset, name: str, index: int) -> None:
    one, other, start = two
    whole = begin(one, start, data, name, index)
    states, steps = [copied(whole)], []
    for step in whole.run():
        steps.append(step)
        states.append(copied(whole))
    assert whole.total == len(steps) == 6
    momenta = {"momentum_buffer"} if isinstance(whole.fit, Sgd) else {"step", "exp_avg", "exp_avg_sq"}
    pulled = {"start"} if whole.start else set()
    assert {key.split("/")[0] for key in states[-1]} == {"weight", *momenta, *pulled}
    for k in AT["icon" if one.blocks("image") == 6 else "plain"]:
        part = begin(other, start, data, name, index)
        part.restore(states[k], k)
        assert list(part.run()) == steps[k:], k
        end = copied(part)
        assert set(end) == set(states[-1])
        assert all(torch.equal(value, states[-1][key]) for key, value in end.items()), k


@pytest.mark.parametrize("name", ["ln", "coop"])
def test_a_restored_state_is_a_copy(
    two: tuple[Encoder, Encoder, dict[str, torch.Tensor]], data: Dataset, name: str
) -> None:
    one, other, start = two
    first = begin(one, start, data, name, 0)
    for _ in zip(range(2), first.run()):
        pass
    saved = copied(first)
    second = begin(other, start, data, name, 0)
    second.restore(saved, 2)
    untouched = {key: value.clone() for key, value in saved.items()}
    list(second.run())
    assert all(torch.equal(saved[key], value) for key, value in untouched.items())
