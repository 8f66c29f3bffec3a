"""What training and judging a recipe would take on this machine, measured on three batches."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from likewise.data.prompts import fill
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.predict import features
from likewise.recipe import Descent, Machine, Recipe
from likewise.run.method import fit_method
from likewise.run.stage import Job
from likewise.run.watch import Stop, Watch

BATCHES = 3
"""That are measured; one before them warms up."""
POINTS = 5
"""Of a path that select pictures are asked about, beside the pretrained model's: `Settings.alphas`."""


class Cost(NamedTuple):
    """Seconds: of one picture read and embedded, of one step of each stage that trains, and in all."""

    picture: float
    step: tuple[float, ...]
    steps: int
    training: float
    judging: float

    @property
    def seconds(self) -> float:
        return self.training + self.judging


class _Clock(Watch):
    """Notes how long each unit of each stage of one method took. All its stages' bars have its name; each ends where
    `done` is `total`. Bars of other names are no stages.
    """

    def __init__(self, method: str) -> None:
        self.stages: list[list[float]] = []
        self._method, self._ended, self._last = method, True, time.perf_counter()

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        if name != self._method:
            return
        now = time.perf_counter()
        if self._ended:
            self.stages.append([])
        self.stages[-1].append(now - self._last)
        self._ended, self._last = done == total, now


def measure(name: str, recipe: Recipe, encoder: Encoder, data: Dataset, machine: Machine, seed: int = 0) -> Cost:
    """Train the recipe, no soup, on a few batches in a folder that is thrown away, and scale what that took.

    Reads training and select pictures, no report split; the encoder is left as it was. A stage that steps takes the
    median of three steps after the first; a solver's time, features included, grows with the pictures. Judging is
    every point of a path on the select pictures and one on the report pictures, whose number alone is asked.
    """
    batch = max((s.fit.batch for s in recipe.stages if isinstance(s.fit, Descent)), default=machine.eval_batch)
    few = data.thinned(dict.fromkeys(("train", "select"), (BATCHES + 1) * batch), "cost")
    machine = machine.model_copy(update={"eval_batch": batch})
    picture = _picture(encoder, few, machine)
    clock = _Clock(name)
    with tempfile.TemporaryDirectory() as folder, Stop() as stop:
        job = Job(encoder, few, fill(data.templates, data.classes.names), seed, machine, clock, stop)
        fit_method(name, _short(recipe, len(few.train)), job, Path(folder) / "cost")
    pictures, classes = len(data.train), len(data.classes)
    training, each, steps = 0.0, [], 0
    fitted = [stage.fit for stage in recipe.stages if stage.fit is not None]
    for fit, took in zip(fitted, clock.stages, strict=True):
        if isinstance(fit, Descent):
            once = statistics.median(took[1:] or took)
            count = fit.steps(pictures, classes)
            training += once * count + (picture * pictures if fit.sampling == "features" else 0)
            each.append(once)
            steps += count
        else:
            training += sum(took) * pictures / len(few.train)
    asked = len(data.select) * (POINTS if recipe.merge else 1) + sum(data.sizes.values())
    return Cost(picture, tuple(each), steps, training, picture * asked)


def _picture(encoder: Encoder, few: Dataset, machine: Machine) -> float:
    """Seconds to read and embed one, the first batch apart."""
    ends = [time.perf_counter()]
    features(
        encoder, few.train, "shared", batch=machine.eval_batch, workers=machine.workers,
        progress=lambda done, total: ends.append(time.perf_counter()),
    )  # fmt: skip
    took = [after - before for before, after in itertools.pairwise(ends)]
    return statistics.median(took[1:-1] or took) / min(machine.eval_batch, len(few.train))


def _short(recipe: Recipe, pictures: int) -> Recipe:
    """The recipe with so many epochs that four batches are seen."""
    edits = []
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage.fit, Descent):
            per_epoch = -(-pictures // stage.fit.batch)
            edits += [f"stages.{index}.fit.epochs={-(-(BATCHES + 1) // per_epoch)}", f"stages.{index}.fit.per_shot=0"]
    return recipe.edited(*edits)
