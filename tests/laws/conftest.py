"""Every recipe trained once a session, with all that the laws ask about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.recipe import Recipe
from likewise.recipes import RECIPES
from likewise.run.method import fit_method
from likewise.run.stage import Job
from likewise.run.tuned import Tuned
from likewise.run.watch import Watch
from tiny import everything, make_job, shrunk

Content = dict[str, torch.Tensor]


class Last(Watch):
    """Keeps a copy of everything in the encoder as of the last step that was reported."""

    def __init__(self, encoder: Encoder, before: Content) -> None:
        self.encoder, self.before, self.seen = encoder, before, before

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        self.seen = thrifty(everything(self.encoder), self.before)


def thrifty(content: Content, before: Content) -> Content:
    """The same, holding once what has not changed: a session keeps what hundreds of trainings left."""
    return {n: before[n] if n in before and torch.equal(value, before[n]) else value for n, value in content.items()}


@dataclass
class Trained:
    """A recipe and what its training did: the encoder's content before, at the last step, and afterwards."""

    name: str
    recipe: Recipe
    job: Job
    tuned: Tuned
    folder: Path
    before: Content
    during: Content
    after: Content


@pytest.fixture(scope="session")
def train(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, str], Trained]:
    """Train a recipe, shrunk, in a folder of its own: the first time on an encoder that all recipes hand on as they got
    it, again on a newly loaded one."""
    handed: dict[str, tuple[Encoder, Content]] = {}

    def go(kind: str, name: str, folder: str) -> Trained:
        encoder = fresh(kind) if folder != "first" or kind not in handed else handed[kind][0]
        before = handed[kind][1] if kind in handed else everything(encoder)
        if folder == "first":
            handed[kind] = encoder, before
        job = make_job(encoder, data)
        job.watch = last = Last(encoder, before)
        place = tmp_path_factory.getbasetemp() / "laws" / folder / kind / name
        recipe = shrunk(RECIPES[name])
        tuned = fit_method(name, recipe, job, place)
        after = thrifty(everything(encoder), before)
        return Trained(name, recipe, job, tuned, place, before, last.seen, after)

    return go


@pytest.fixture(scope="session")
def trained(train: Callable[[str, str, str], Trained]) -> Callable[[str, str], Trained]:
    """The same, once for all laws."""
    done: dict[tuple[str, str], Trained] = {}

    def get(kind: str, name: str) -> Trained:
        if (kind, name) not in done:
            done[kind, name] = train(kind, name, "first")
        return done[kind, name]

    return get
