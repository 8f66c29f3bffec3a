"""Few-shot sweeps: one question at several shot counts and seeds, each cell an ordinary run folder, and their curves.

    OUT/sweep.yaml          the question, whole           OUT/shots-4/seed-0/   a run folder, as `adapt` makes it
    OUT/curves.json         accuracy against shots        OUT/report.html       written by the report room

The report pictures are the same in every cell; training and select pictures are drawn by the cell's seed.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from likewise import files
from likewise.config import Config
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError, Interrupted, UsageError
from likewise.metrics import FEWEST, Estimate, over_seeds
from likewise.recipe import Experiment, Machine, Recipe
from likewise.recipes import RECIPES
from likewise.run.adapt import BASELINE, Run, Settings, adapt, make_experiment
from likewise.run.before import foresee
from likewise.run.folder import LOCK, OURS, QUESTION, same, status
from likewise.run.results import find
from likewise.run.watch import Watch

CURVES = "curves.json"
WRITTEN = (QUESTION, CURVES, "report.html", "report.md")
"""What a sweep writes beside its cells."""


class Cell(NamedTuple):
    """One run of a sweep. `shots` 0 means all training pictures."""

    shots: int
    seed: int

    @property
    def folder(self) -> Path:
        return Path(f"shots-{self.shots or 'all'}") / f"seed-{self.seed}"

    def __str__(self) -> str:
        return f"{of_shots(self.shots)}, seed {self.seed}"


class Plan(Config):
    """Which cells, and how each goes on; the seed and shots of `each` give way to the cell's.

    The time limit of `each` holds for a cell, not for the sweep.
    """

    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    each: Settings = Settings()

    @property
    def cells(self) -> list[Cell]:
        """Few shots first, all pictures last. Raises U06 as `check_counts` does."""
        shots, seeds = check_counts("--shots", self.shots), check_counts("--seeds", self.seeds)
        return [Cell(k, seed) for k in sorted(shots, key=lambda k: k or math.inf) for seed in seeds]


class Question(Config):
    """What sweep.yaml holds: the experiment on all pictures, and the cells. The experiment's own seed is no cell's."""

    experiment: Experiment
    shots: tuple[int, ...]
    seeds: tuple[int, ...]


@dataclass
class Sweep:
    """A finished sweep: `curves` as in curves.json."""

    path: Path
    curves: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> Sweep:
        """Raises `UsageError` for a folder without curves."""
        if not (path / CURVES).exists():
            raise UsageError("R01", f"{path} holds no finished sweep. Finish it with its command and --resume.")
        return cls(path, files.read_json(path / CURVES))

    def run(self, shots: int, seed: int) -> Run:
        """The run of one cell. Raises `UsageError` where it is not among them."""
        return Run.load(self.path / Cell(shots, seed).folder)


def of_shots(shots: int) -> str:
    """`1 shot`, `4 shots`, `all pictures`."""
    return "all pictures" if not shots else "1 shot" if shots == 1 else f"{shots} shots"


def check_counts(flag: str, counts: Sequence[int]) -> tuple[int, ...]:
    """The counts as they are. Raises `UsageError` U06 naming one that is negative or stands there twice."""
    said = f"{flag} {','.join(str(c) for c in counts)}"
    wrong = next((c for c in counts if c < 0), None)
    if wrong is not None:
        raise UsageError("U06", f"{said}: {wrong} is below 0. Write whole numbers with commas, such as {flag} 1,2,4.")
    twice = next((c for c, n in Counter(counts).items() if n > 1), None)
    if twice is not None:
        raise UsageError("U06", f"{said}: {twice} stands there twice; one run would count as two. Say it once.")
    if not counts:
        raise UsageError("U06", f"{flag} names nothing to run. Write whole numbers with commas, such as {flag} 1,2,4.")
    return tuple(counts)


def check_pictures(data: Dataset, plan: Plan) -> None:
    """Raises D08 where a class has too few pictures for the largest count; others need no more than that.

    Where the choice is published, each cell has its own: raises what `Dataset.few` does of any, U06 for one file.
    """
    few = sorted(cell for cell in plan.cells if cell.shots)
    index = plan.each.shot_index
    if len(few) > 1 and Path(index).is_file():
        raise UsageError("U06", f"--shot-index {index} says which pictures one run takes, and {len(few)} are asked. "
                         "Give the folder that has a file for each.")  # fmt: skip
    for cell in (few or plan.cells[:1]) if index else few[-1:]:
        data.few(cell.shots, cell.seed, plan.each.allow_short, index)


def sweep(
    encoder: Encoder,
    data: Dataset,
    recipes: Mapping[str, Recipe],
    out: Path,
    plan: Plan,
    machine: Machine | None = None,
    watch: Watch | None = None,
) -> Iterator[Run]:
    """Run every cell that is missing or unfinished, yield each cell's run in turn, and write the curves at the end.

    A resumed sweep may ask for other cells than before: the curves are over those asked for now. Raises D08 and what
    `before.foresee` raises before anything is written, R01 for a folder that holds something else, `Interrupted` as
    `adapt` does.
    """
    watch, cells = watch or Watch(), plan.cells
    check_pictures(data, plan)
    everything = {BASELINE: RECIPES[BASELINE], **recipes}
    foresee(encoder, data, everything, tuple(recipes))  # each cell says its own findings
    experiment = make_experiment(encoder, data, everything, alphas=plan.each.alphas)
    question = Question(experiment=experiment, shots=plan.shots, seeds=plan.seeds)
    with files.lock(out / LOCK):
        _open(out, question, resume=plan.each.resume, overwrite=plan.each.overwrite)
        for number, cell in enumerate(cells, 1):
            finished = ", finished before" if status(out / cell.folder) == "done" else ""
            watch.part(f"cell {number} of {len(cells)}: {cell}{finished}")
            how = {"seed": cell.seed, "shots": cell.shots, "resume": True, "overwrite": False,
                   "shot_index": plan.each.shot_index if cell.shots else ""}  # fmt: skip
            mine = copy.copy(data)
            mine.audit = copy.deepcopy(data.audit)  # what a run finds is that run's
            try:
                settings = plan.each.model_copy(update=how)
                yield adapt(encoder, mine, recipes, out / cell.folder, settings=settings, machine=machine, watch=watch)
            except Interrupted as stop:
                where = f"It was cell {number} of {len(cells)} of the sweep in {out}: its own command with --resume"
                raise Interrupted(stop.code, f"{stop} {where} goes on there.") from None
        files.write_json(out / CURVES, curves(out, cells))


def _open(out: Path, question: Question, *, resume: bool, overwrite: bool) -> None:
    """Make or enter the sweep's folder. Raises R01 where something would be lost or mixed."""
    if resume and overwrite:
        raise UsageError("R01", "--resume keeps what is there and --overwrite replaces it; say one of them.")
    if any(path.name != LOCK for path in out.iterdir()):
        try:
            old = Question.read(out / QUESTION)
        except (OSError, ConfigError):
            what = "holds one run, not a sweep" if (out / "config.yaml").exists() else "is not empty and is not a sweep"
            raise UsageError("R01", f"{out} {what} of ours. Use -o with another folder.") from None
        if overwrite:
            _clear(out)
        elif not resume:
            kind = "a finished sweep" if (out / CURVES).exists() else "an unfinished sweep"
            raise UsageError("R01", f"{out} already holds {kind}. Use -o with another folder, --resume (runs the cells "
                             "that are missing or unfinished), or --overwrite.")  # fmt: skip
        else:
            same(old.experiment, question.experiment, out)
            for left in (*(out / name for name in WRITTEN[1:]), *out.glob(".*.tmp-*")):
                files.remove(left)  # curves and report are made again from the cells
    files.write_text(out / QUESTION, question.yaml())


def _clear(out: Path) -> None:
    """Take away what sweeps and their runs wrote here, and nothing else."""
    for place in out.glob("shots-*/seed-*"):
        try:
            Experiment.read(place / "config.yaml")
        except (OSError, ConfigError):
            continue
        for name in OURS:
            files.remove(place / name)
        with contextlib.suppress(OSError):  # not empty: a person keeps something there
            place.rmdir()
            place.parent.rmdir()
    for name in WRITTEN:
        files.remove(out / name)


def curves(out: Path, cells: Sequence[Cell]) -> dict[str, Any]:
    """Accuracy on the report splits against shots, over seeds, from the cells' results; plain data for curves.json.

    A method stands at the alpha that each cell chose for it on its select split. Raises `UsageError` for a cell that
    has not finished.
    """
    found = {cell: Run.load(out / cell.folder).results for cell in cells}
    results = list(found.values())
    about = {name: method for r in results for name, method in r["methods"].items()}
    methods = {name: {key: method[key] for key in ("title", "paper")} for name, method in about.items()}
    domains = list(dict.fromkeys(row["domain"] for r in results for row in r["rows"] if row["split"] == "report"))
    shots = list(dict.fromkeys(cell.shots for cell in cells))
    rows = []
    for method in methods:
        for k in shots:
            there = {c.seed: r for c, r in found.items() if c.shots == k and method in r["methods"]}
            rows += [{"method": method, "shots": k, **_row(method, d, there)} for d in domains if there]
    question = Question.read(out / QUESTION)
    return {
        "rows": rows, "methods": methods, "baseline": BASELINE, "domains": domains, "shots": shots,
        "seeds": list(dict.fromkeys(cell.seed for cell in cells)),
        "sizes": [{"shots": k, **_sizes(out / next(c for c in cells if c.shots == k).folder)} for k in shots],
        "cells": [{**cell._asdict(), "folder": cell.folder.as_posix(), "chosen": r["chosen"]["method"],
                   "alpha": r["chosen"]["alpha"], "skipped": r["skipped"], "seconds": r["seconds"]}
                  for cell, r in found.items()],
        "encoder": question.experiment.encoder, "data": question.experiment.data,
    }  # fmt: skip


def _row(method: str, domain: str, there: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """One number of a curve: its `interval` is over "seeds"; or "few", there are too few of them for one; or the run's
    own, over "pictures", where seeds give nothing to spread.
    """
    alphas = [r["methods"][method]["alpha"] for r in there.values()]
    want = {"method": method, "split": "report", "domain": domain, "metric": "accuracy"}
    read = [dict(find(r["rows"], alpha=a, **want) or {}) for a, r in zip(alphas, there.values(), strict=True)]
    values = [float(row["value"]) for row in read]
    mean, kind, own = over_seeds(values), "seeds", read[0]
    if len(set(values)) == 1 or not math.isfinite(mean.low):
        # one seed, or all agree to the last picture, as they do where nothing is trained
        mean, kind = Estimate(mean.value, float(own["low"]), float(own["high"]), mean.n), "pictures"
    elif len(values) < FEWEST:
        kind = "few"
    low, high = (None, None) if kind == "few" else (mean.low, mean.high)
    return {
        "domain": domain, "metric": "accuracy", "mean": mean.value, "low": low, "high": high, "n": mean.n,
        "interval": kind, "seeds": list(there), "values": values, "alphas": alphas, "pictures": int(own["n"]),
    }  # fmt: skip


def _sizes(run: Path) -> dict[str, Any]:
    """How many pictures a run trained and chose on, and how many of a class, from its own manifest."""
    folders = files.read_json(run / "data" / "classes.json")["folders"]
    table = pq.read_table(run / "data" / "split.parquet", columns=["role", "label"]).to_pydict()
    held = Counter(zip(table["role"], table["label"], strict=True))
    out = {}
    for role in ("train", "select"):
        counts = [held[role, folder] for folder in folders]
        out[role] = {"pictures": sum(counts), "fewest": min(counts), "most": max(counts)}
    return out
