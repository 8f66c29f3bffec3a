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


class Last(Watch):
    """Keeps a copy of everything in the encoder as of the last step that was reported."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.seen = encoder, everything(encoder)

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        self.seen = everything(self.encoder)


@dataclass
class Trained:
    """A recipe and what its training did: the encoder's content before, at the last step, and afterwards."""

    name: str
    recipe: Recipe
    job: Job
    tuned: Tuned
    folder: Path
    before: dict[str, torch.Tensor]
    during: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def train(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, str], Trained]:
    """Train a recipe, shrunk, on a newly loaded tiny encoder, in a folder of its own."""

    def go(kind: str, name: str, folder: str) -> Trained:
        encoder = fresh(kind)
        job = make_job(encoder, data)
        job.watch = last = Last(encoder)
        before = everything(encoder)
        place = tmp_path_factory.getbasetemp() / "laws" / folder / kind / name
        recipe = shrunk(RECIPES[name])
        tuned = fit_method(name, recipe, job, place)
        return Trained(name, recipe, job, tuned, place, before, last.seen, everything(encoder))

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
