"""One cell of a suite: what state its folder is in, and how it is run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from likewise import files
from likewise.bench.episodic import answer, answered, check
from likewise.data.indices import GET, file_of
from likewise.data.records import Dataset
from likewise.datasets import DATASETS
from likewise.datasets.corruptions import corrupting
from likewise.datasets.named import roots
from likewise.encoder import Encoder
from likewise.encoders import load
from likewise.errors import DataError, Interrupted, LikewiseError, UsageError, near
from likewise.recipe import Machine
from likewise.run.adapt import Settings, adapt
from likewise.run.device import on
from likewise.run.watch import Watch
from likewise.suites import Cell

FAILED = "failed.json"
FIELDS = ("encoder", "dataset", "method", "shots", "seed")
"""By which `--only` picks cells."""


class State(NamedTuple):
    """How a cell stands: `done`, `failed` or `no data` (with the reason), `begun`, or `to do`."""

    kind: Literal["done", "failed", "no data", "begun", "to do"]
    why: str = ""


class How(NamedTuple):
    """How cells run. `threads` are torch's: sums of floats depend on them, so every engine takes as many. Without
    `keep` the trained weights of a cell are removed once its numbers stand.
    """

    machine: Machine = Machine()
    threads: int = 1
    keep: bool = False


def state(cell: Cell, out: Path) -> State:
    """Of a cell's folder, and of the data that it needs. Nothing is opened."""
    folder = out / cell.folder
    if (folder / FAILED).exists():
        return State("failed", files.read_json(folder / FAILED)["reason"])
    if (folder / "results.json").exists() and answered(cell, folder):
        return State("done")
    lost = (missing(cell.dataset), unchosen(cell), missing(cell.episodes.of) if cell.episodes else "")
    if why := "; ".join(filter(None, lost)):
        return State("no data", why)
    return State("begun" if (folder / "STATUS").exists() else "to do")


def missing(dataset: str) -> str:
    """Why a data set cannot be opened; "" where its files are there."""
    dataset, _ = corrupting(dataset)
    if dataset in DATASETS:
        return "" if DATASETS[dataset].found() else DATASETS[dataset].absent
    if Path(dataset).exists():
        return ""
    return f"«{dataset}» is neither a built-in data set nor a path.{near(dataset, DATASETS)}"


def unchosen(cell: Cell) -> str:
    """Why the published choice of a cell's pictures cannot be read; "" where it is there, or none is asked."""
    try:
        _index(cell)
    except DataError as error:
        return str(error)
    return ""


def _index(cell: Cell) -> str:
    """The file with the published choice of a cell's pictures; "" where it draws them. Raises `DataError` D12, D14."""
    if not cell.shot_index:
        return ""
    places = [Path(cell.shot_index), *(root / cell.shot_index for root in roots())]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise DataError(
            "D12", f"the published shots of {cell.dataset} are not here (looked in {', '.join(map(str, places))}; "
            f"LIKEWISE_DATA names other roots). Get them: {GET}"
        )  # fmt: skip
    return str(file_of(found, cell.shots, cell.seed))


def pick(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells that agree with every `field=value,value`. Raises `UsageError` for what names no cell."""
    for text in only:
        field, equals, values = text.partition("=")
        if not equals or field not in FIELDS:
            raise UsageError(
                "U01", f"--only {text}: write FIELD=VALUE, FIELD one of {', '.join(FIELDS)}.{near(field, FIELDS)}"
            )
        wanted = values.split(",")
        there = list(dict.fromkeys(_field(cell, field) for cell in cells))
        if lost := [value for value in wanted if value not in there]:
            raise UsageError(
                "U01",
                f"--only {text}: no cell has {field} «{lost[0]}».{near(lost[0], there)} There are {', '.join(there)}.",
            )
        cells = [cell for cell in cells if _field(cell, field) in wanted]
    return list(cells)


def _field(cell: Cell, field: str) -> str:
    return cell.method.called if field == "method" else str(getattr(cell, field))


def shard(cells: Sequence[Cell], text: str) -> list[Cell]:
    """Part i of n, of `i/n` with i from 1: every n-th cell. Raises `UsageError`."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise UsageError("U01", f"--shard {text}: write I/N with I from 1 to N, such as 2/8.")
    return list(cells[int(first) - 1 :: int(last)])


def run_cell(cell: Cell, out: Path, how: How, watch: Watch | None = None) -> str:
    """Run a cell; one that was interrupted goes on. Returns "" or why it has no numbers.

    A failure is written into the folder; a folder that another process holds, or that answers another question, is left
    alone. Raises `Interrupted`.
    """
    folder = out / cell.folder
    torch.set_num_threads(how.threads)
    try:
        reason = _run(cell, folder, how.machine, watch or Watch())
    except Interrupted:
        raise
    except LikewiseError as error:
        if error.code == "R01":
            return f"left alone: {error}"
        reason = str(error)
    if reason:
        files.write_json(folder / FAILED, {"reason": reason})
    elif not how.keep:
        thin(folder)
    return reason


def _run(cell: Cell, folder: Path, machine: Machine, watch: Watch) -> str:
    """The cell's run, and then its episodes. Returns "" or why its method was left out. Raises `LikewiseError`."""
    encoder, data, asked = _encoder(cell.encoder), _data(cell.dataset), cell.episodes
    on(encoder, machine)
    if cell.block.most:
        data = data.thinned({name: n for name, n in cell.block.most.items() if name in _splits(data)}, "bench")
    novel = check(asked, _data(asked.of), data.classes) if asked else None
    recipe = cell.method.recipe(encoder.rate_scale, cell.block.epochs, cell.block.batch)
    settings = Settings(
        seed=cell.seed, shots=cell.shots, allow_short=cell.block.allow_short, shot_index=_index(cell),
        alphas=cell.block.alphas, resume=(folder / "STATUS").exists(), command=f"likewise bench: {cell}",
    )  # fmt: skip
    run = adapt(encoder, data, {cell.method.called: recipe}, folder, settings=settings, machine=machine, watch=watch)
    reason = str(run.results["skipped"].get(cell.method.called, ""))
    if novel and not reason and not answered(cell, folder):
        answer(cell, folder, encoder, novel, machine, watch)
    return reason


def _splits(data: Dataset) -> set[str]:
    return {"train", "select", *data.domains}


def thin(folder: Path) -> None:
    """Without the adapted model and what trained: the numbers, predictions and the question stay."""
    files.remove(folder / "model")
    for tuned in (folder / "methods").glob("*/tuned"):
        files.remove(tuned)


@functools.lru_cache(maxsize=1)
def _encoder(name: str) -> Encoder:
    """The last one used: a run hands it back as it was."""
    return load(name)


@functools.lru_cache(maxsize=2)  # what cells train on, and their episodes' new classes
def _data(name: str) -> Dataset:
    base, finish = corrupting(name)
    return finish(DATASETS[base]() if base in DATASETS else Dataset.open(Path(base)))
