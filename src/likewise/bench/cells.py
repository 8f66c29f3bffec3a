"""One cell of a suite: what state its folder is in, and how it is run."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import format_exc
from typing import Any, Literal, NamedTuple

import torch

from likewise import files
from likewise.bench.episodic import answer, answered, check
from likewise.data.indices import GET, file_of
from likewise.data.records import Dataset
from likewise.datasets import DATASETS
from likewise.datasets.corruptions import corrupting
from likewise.datasets.named import roots
from likewise.encoder import Encoder
from likewise.encoders import load, rate_scale
from likewise.errors import ConfigError, DataError, Interrupted, LikewiseError, MachineError, UsageError, near, some
from likewise.recipe import Experiment, Machine, Recipe
from likewise.run.adapt import Settings, adapt
from likewise.run.device import on
from likewise.run.watch import Watch
from likewise.suites import Cell, Method

FAILED = "failed.json"
ASKED = "cell.json"
"""What a finished cell was asked, beside its numbers: it has come of this question, and of no other."""
FIELDS = ("encoder", "dataset", "method", "shots", "seed")
"""By which `--only` picks cells."""


class State(NamedTuple):
    """How a cell stands: `done`, `failed`, `no data` or `other` (with the reason), `begun`, or `to do`.

    `other`: its folder holds numbers of another question, which are neither scored nor lost.
    """

    kind: Literal["done", "failed", "no data", "other", "begun", "to do"]
    why: str = ""


class How(NamedTuple):
    """How cells run. `threads` are torch's: sums of floats depend on them, so every engine takes as many. Without
    `keep` the trained weights of a cell are removed once its numbers stand.
    """

    machine: Machine = Machine()
    threads: int = 1
    keep: bool = False


def state(cell: Cell, out: Path) -> State:
    """Of a cell's folder, and of the data that it needs. Nothing is opened: whether pictures changed is not seen."""
    folder = out / cell.folder
    if (folder / FAILED).exists():
        failed = files.read_json(folder / FAILED)
        if failed.get("question") == question(cell):
            return State("failed", failed["reason"])
    elif why := _differs(cell, folder):
        return State("other", why)
    elif (folder / ASKED).exists() and (folder / "results.json").exists() and answered(cell, folder):
        return State("done")
    lost = (missing(cell.dataset), unchosen(cell), missing(cell.episodes.of) if cell.episodes else "")
    if why := "; ".join(filter(None, lost)):
        return State("no data", why)
    return State("begun" if (folder / "STATUS").exists() else "to do")


def question(cell: Cell) -> dict[str, Any]:
    """What a cell's run depends on; not what is read off it or asked of it when it is done (`alpha`, `episodes`)."""
    block = cell.block
    draw = {"allow_short": block.allow_short, "shot_index": cell.shot_index} if cell.shots else {}
    return {
        "encoder": cell.encoder, "dataset": cell.dataset, "most": block.most, "shots": cell.shots, "seed": cell.seed,
        "alphas": list(block.alphas), **draw, "recipe": _unnamed(_recipe(cell)),
    }  # fmt: skip


def _held(cell: Cell, folder: Path) -> dict[str, Any]:
    """The question of the run in a folder, as far as it is known; of one that has not ended, what its run says."""
    if (folder / ASKED).exists():
        found: dict[str, Any] = files.read_json(folder / ASKED)
        return found
    try:
        begun = Experiment.read(folder / "config.yaml")
    except (OSError, ConfigError):
        return {}
    recipe = begun.recipes.get(cell.method.called)
    known = {"shots": begun.shots, "seed": begun.seed, "alphas": list(begun.alphas)}
    return {**known, "recipe": recipe and _unnamed(recipe)}


def _unnamed(recipe: Recipe) -> dict[str, Any]:
    """A recipe without the words about it."""
    return {name: value for name, value in recipe.tree().items() if name not in ("title", "paper")}


def _recipe(cell: Cell) -> Recipe:
    return _resolved(cell.method, rate_scale(cell.encoder), cell.block.epochs, cell.block.batch)


@functools.cache
def _resolved(method: Method, scale: float, epochs: int, batch: int) -> Recipe:
    return method.recipe(scale, epochs, batch)


def _differs(cell: Cell, folder: Path) -> str:
    """What makes the question of a folder's run another than the one that is asked now; "" where nothing does."""
    if not (held := _held(cell, folder)):
        return ""
    asked = question(cell)
    if not (differ := [*_changes(held, {name: asked.get(name) for name in held}, "")]):
        return ""
    return f"it was run with {some(differ, 3)}. Use -o with another folder, or remove {folder}."


def _changes(held: Any, asked: Any, path: str) -> Iterator[str]:
    """Every value that differs between two trees, by its path."""
    if isinstance(held, dict) and isinstance(asked, dict):
        for name in {**held, **asked}:
            yield from _changes(held.get(name), asked.get(name), f"{path}.{name}".lstrip("."))
    elif isinstance(held, list) and isinstance(asked, list) and len(held) == len(asked):
        for i, pair in enumerate(zip(held, asked, strict=True)):
            yield from _changes(*pair, f"{path}.{i}")
    elif held != asked:
        yield f"{path} {held}, not {asked}"


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
        there = list(dict.fromkeys(_field(cell, field) for cell in cells))
        wanted = _listed(values, there)
        if lost := [value for value in wanted if value not in there]:
            raise UsageError(
                "U01",
                f"--only {text}: no cell has {field} «{lost[0]}».{near(lost[0], there)} There are {', '.join(there)}.",
            )
        cells = [cell for cell in cells if _field(cell, field) in wanted]
    return list(cells)


def _listed(text: str, known: Sequence[str]) -> list[str]:
    """Values behind commas, of which some have commas of their own, as `digits+fog,jpeg-3` has."""
    parts, found = text.split(","), []
    while parts:
        ends = range(len(parts), 0, -1)
        end = next((end for end in ends if ",".join(parts[:end]) in known), 1)
        found.append(",".join(parts[:end]))
        parts = parts[end:]
    return found


def _field(cell: Cell, field: str) -> str:
    return cell.method.called if field == "method" else str(getattr(cell, field))


def shard(cells: Sequence[Cell], text: str) -> list[Cell]:
    """Part i of n, of `i/n` with i from 1: every n-th cell. Raises `UsageError`."""
    first, slash, last = text.partition("/")
    if not (slash and first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last)):
        raise UsageError("U01", f"--shard {text}: write I/N with I from 1 to N, such as 2/8.")
    return list(cells[int(first) - 1 :: int(last)])


def run_cell(cell: Cell, out: Path, how: How, watch: Watch | None = None) -> str:
    """Run a cell; one that was interrupted goes on, one that failed begins anew. Returns "" or why it has no numbers.

    A failure of the cell's, foreseen or not, is written into the folder. What lies with the machine, and a folder that
    another process holds or that answers another question, is said and left as it is. Raises `Interrupted`.
    """
    folder = out / cell.folder
    torch.set_num_threads(how.threads)
    if (folder / FAILED).exists():  # what is trained stays where only episodes were left
        files.remove(folder / FAILED if (folder / ASKED).exists() else folder)
    trace = ""
    try:
        reason = _run(cell, folder, how.machine, watch or Watch())
    except Interrupted:
        raise
    except LikewiseError as error:
        if error.code == "R01" or isinstance(error, MachineError):
            return f"left alone: {error}"
        reason = str(error)
    except Exception as error:  # one cell's bug, or its lack of memory, is not the others'
        reason, trace = f"{type(error).__name__}: {error} (the traceback is in {folder / FAILED})", format_exc()
    if reason:
        about = {"reason": reason, "question": question(cell), **({"traceback": trace} if trace else {})}
        files.write_json(folder / FAILED, about)
    elif not how.keep:
        thin(folder)
    return reason


def _run(cell: Cell, folder: Path, machine: Machine, watch: Watch) -> str:
    """The cell's run, and then its episodes. Returns "" or why its method was left out. Raises `LikewiseError`."""
    encoder, data, asked = _encoder(cell.encoder), _data(cell.dataset), cell.episodes
    on(encoder, machine)
    if cell.block.most:
        named = data.domains
        data = data.thinned({n: k for n, k in cell.block.most.items() if n in ("train", "select", *named)}, "bench")
        if not data.domains:
            raise UsageError("U02", f"most names no report split of {cell.dataset}, which has {', '.join(named)}.")
    novel = check(asked, _data(asked.of), data.classes) if asked else None
    settings = Settings(
        seed=cell.seed, shots=cell.shots, allow_short=cell.block.allow_short, shot_index=_index(cell),
        alphas=cell.block.alphas, resume=(folder / "STATUS").exists(), command=f"likewise bench: {cell}",
    )  # fmt: skip
    asks = {cell.method.called: _recipe(cell)}
    run = adapt(encoder, data, asks, folder, settings=settings, machine=machine, watch=watch)
    reason = str(run.results["skipped"].get(cell.method.called, ""))
    if not reason:
        files.write_json(folder / ASKED, question(cell))
    if novel and not reason and not answered(cell, folder):
        answer(cell, folder, encoder, novel, machine, watch)
    return reason


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
