"""Resumed: stopped after any step and taken up by fresh objects, a training ends where the undisturbed one ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.fit import Training, Work
from likewise.heads import Text, text_head
from likewise.recipe import AdamW
from likewise.recipes import RECIPES
from tiny import make_job, shrunk

STAGES = [
    (name, index)
    for name, recipe in RECIPES.items()
    for index, stage in enumerate(recipe.stages)
    if isinstance(stage.fit, AdamW)
]


def begin(encoder: Encoder, data: Dataset, name: str, index: int) -> Training:
    job = make_job(encoder, data)
    stage = shrunk(RECIPES[name], f"stages.{index}.fit.epochs=2").stages[index]
    head = None if isinstance(stage.head, Text) else text_head(encoder, job.prompts)
    return Training(Work(stage, encoder, head, data.train, job.tokens_CTL(), job.prompts, job.seed))


def copied(training: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in training.tensors().items()}


def test_every_recipe_that_steps_is_here() -> None:
    stepping = {n for n, r in RECIPES.items() if any(s.fit is not None and s.fit.kind == "adamw" for s in r.stages)}
    assert {name for name, _ in STAGES} == stepping != set()


@pytest.mark.parametrize(("name", "index"), STAGES)
def test_resumed(fresh: Callable[[str], Encoder], data: Dataset, name: str, index: int) -> None:
    whole = begin(fresh("plain"), data, name, index)
    states, steps = [copied(whole)], []
    for step in whole.run():
        steps.append(step)
        states.append(copied(whole))
    assert whole.total == len(steps) == 6
    other = fresh("plain")
    start = other.state()
    for k in (0, 1, 4, 5, 6):  # the first and the last, in an epoch and at its end
        other.put(start)
        part = begin(other, data, name, index)
        part.restore(states[k], k)
        assert list(part.run()) == steps[k:], k
        end = copied(part)
        assert set(end) == set(states[-1])
        assert all(torch.equal(value, states[-1][key]) for key, value in end.items()), k


def test_a_restored_state_is_a_copy(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    first = begin(fresh("plain"), data, "ln", 0)
    for _ in zip(range(2), first.run()):
        pass
    saved = copied(first)
    second = begin(fresh("plain"), data, "ln", 0)
    second.restore(saved, 2)
    untouched = {name: value.clone() for name, value in saved.items()}
    list(second.run())
    assert all(torch.equal(saved[name], value) for name, value in untouched.items())
