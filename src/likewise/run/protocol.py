"""What every kind of run does alike: its status, what it writes of its data, and training each method in turn."""

from __future__ import annotations

import contextlib
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from likewise import files
from likewise.data.records import Dataset
from likewise.errors import Interrupted
from likewise.fit import DivergenceError
from likewise.recipe import Recipe
from likewise.run.method import beginning, fit_method
from likewise.run.planning import planned
from likewise.run.stage import Job, TooSlow
from likewise.run.tuned import Tuned


@contextlib.contextmanager
def ending(out: Path) -> Iterator[None]:
    """Whatever ends what is inside, STATUS says so: `interrupted` (and how to go on), or `failed`."""
    try:
        yield
    except Interrupted as interrupted:
        files.write_text(out / "STATUS", "interrupted\n")
        raise Interrupted(interrupted.code, f"{interrupted} Everything so far is in {out}; --resume goes on.") from None
    except KeyboardInterrupt:
        files.write_text(out / "STATUS", "interrupted\n")
        raise
    except BaseException:
        files.write_text(out / "STATUS", "failed\n")
        raise


def environment() -> dict[str, Any]:
    """Versions and machine, for the run folder and `likewise doctor`."""
    packages = ("likewise", "torch", "torchvision", "open_clip_torch", "timm", "numpy", "scipy")
    return {
        "python": platform.python_version(), "platform": platform.platform(), "machine": platform.machine(),
        "threads": torch.get_num_threads(), **{name: version(name) for name in packages},
    }  # fmt: skip


def describe(out: Path, data: Mapping[str, Dataset], command: str) -> None:
    """The run's machine, its command, and its data sets: each in a folder of `data/`, by name; "" is `data/` itself."""
    files.write_json(out / "environment.json", environment())
    files.write_text(out / "command.txt", command + "\n")
    for name, each in data.items():
        _describe(out / "data" / name, each)


def _describe(folder: Path, data: Dataset) -> None:
    """The data's audit, classes, templates and manifest, from which `run.again` opens the same splits."""
    files.write_json(folder / "audit.json", data.audit.tree())
    files.write_json(folder / "classes.json", {**data.classes.tree(), "digest": data.classes.digest})
    files.write_json(folder / "templates.json", list(data.templates))
    if data.ways:
        files.write_json(folder / "ways.json", data.ways)
    write_table(folder / "split.parquet", data.manifest())


def write_table(path: Path, table: pa.Table) -> None:
    """A parquet file, whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    files.write_bytes(path, sink.getvalue().to_pybytes())


def shared_starts(recipes: Mapping[str, Recipe], seed: int) -> frozenset[str]:
    """The first stages with which several of the recipes begin."""
    starts = Counter(beginning(recipe, seed) for recipe in recipes.values())
    return frozenset(start for start, count in starts.items() if count > 1)


def fit_all(recipes: Mapping[str, Recipe], job: Job, out: Path) -> tuple[dict[str, Tuned], dict[str, str]]:
    """Every method trained, by name; and those left out, with the reason (time, divergence, memory)."""
    tuned: dict[str, Tuned] = {}
    skipped: dict[str, str] = {}
    found = planned(recipes, job.encoder, len(job.prompts), len(job.data.train))
    for name, recipe in recipes.items():
        for plan in found[name]:
            job.watch.say(f"{name}: {plan.text()}")
        try:
            tuned[name] = fit_method(name, recipe, job, out / "methods" / name)
        except (TooSlow, DivergenceError) as error:
            skipped[name] = str(error)
        except (torch.OutOfMemoryError, MemoryError):
            skipped[name] = "memory ran out (R02); try a smaller batch: ... stages.0.fit.batch=32"
        if name in skipped:
            job.watch.say(f"left out {name}: {skipped[name]}")
    return tuned, skipped
