"""`bench`: the table of a suite, cell by cell."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli.data import Json
from likewise.cli.jobs import Device, Workers, machine_for
from likewise.errors import UsageError, near

if TYPE_CHECKING:
    from likewise.suites import Cell, Suite

SuiteName = Annotated[
    str,
    typer.Argument(metavar="SUITE|FILE", help="A suite that ships (likewise ls suites), or a YAML file of your own."),
]
Only = Annotated[
    list[str] | None,
    typer.Option(help="FIELD=VALUE,VALUE with FIELD encoder, dataset, method, shots or seed. May be repeated."),
]


def bench(
    suite: SuiteName,
    output: Annotated[str, typer.Option("-o", "--output", help="Folder of the cells (default: runs/bench-SUITE); what is done in it stays done.")] = "",
    only: Only = None,
    shard: Annotated[str, typer.Option(help="I/N: every N-th cell, for N machines that share the folder.")] = "",
    engine: Annotated[str, typer.Option(help="local, or ray: a task for each cell on the cluster of RAY_ADDRESS, or on one started here.")] = "local",
    jobs: Annotated[int, typer.Option(min=0, help="Cells at a time on this machine (0: one, of Ray one a core).")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="torch's threads in each cell. Numbers depend on it in the last bit.")] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed cells anew.")] = False,
    keep: Annotated[bool, typer.Option("--keep-models", help="Keep trained weights and adapted models of every cell.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 also where one cell has no numbers, or a published number is missed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells, and what data is missing; then stop.")] = False,
    json_: Json = False, device: Device = "auto", workers: Workers = 0,
) -> int:  # fmt: skip
    """Run a suite's missing cells and print its table, beside the numbers that papers have."""
    import os

    from likewise import bench as room
    from likewise.bench.cells import How
    from likewise.cli.terminal import Bars
    from likewise.cli.terminal import out as screen
    from likewise.suites import load

    if engine not in room.ENGINES:
        raise UsageError(
            "U01", f"no engine «{engine}».{near(engine, room.ENGINES)} Engines: {', '.join(room.ENGINES)}."
        )
    name, found = load(suite)
    out = Path(output or f"runs/bench-{name}")
    if out.exists() and not out.is_dir():
        raise UsageError("R01", f"{out} is a file. Use -o with another folder.")
    mine = room.pick(found.cells, only or [])
    if shard:
        mine = room.shard(mine, shard)
    if dry_run:
        rows = [
            {"cell": str(cell), "folder": str(out / cell.folder), **room.state(cell, out)._asdict()} for cell in mine
        ]
        if json_:
            print(json.dumps(rows))
        else:
            screen.print(_listed(mine, out), markup=False, soft_wrap=True)
        return 0
    wanted = ("to do", "begun", "failed") if retry else ("to do", "begun")
    asked = [cell for cell in mine if room.state(cell, out).kind in wanted]
    how = How(machine_for(device, workers), threads, keep)
    with Bars(quiet=json_) as watch:
        watch.say(f"{name}: {len(mine)} cells, {len(asked)} to run, into {out}")
        many = jobs or (1 if engine == "local" else os.cpu_count() or 1)
        for _ in room.bench(engine, asked, out, how, many, watch):
            _write(found, out)
    _write(found, out)
    found_checks = room.checks(found, mine, out)
    states = [room.state(cell, out) for cell in mine]
    if json_:
        print(json.dumps({
            "lines": [line._asdict() for line in room.lines(mine, out)], "out": str(out),
            "published": [{**c.expected.tree(), "verdict": c.verdict, "difference": None if c.line is None else c.difference}
                          for c in found_checks],
            "cells": [{"cell": str(c), **s._asdict()} for c, s in zip(mine, states, strict=True)],
        }))  # fmt: skip
    else:
        print(room.markdown(found, mine, out))
        screen.print(f"table   {out}/table.md", soft_wrap=True)
    missed = [c for c in found_checks if c.expected.verified and not c.within]
    kinds = {s.kind for s in states}
    return 1 if kinds and ("done" not in kinds or (strict and (missed or kinds != {"done"}))) else 0


def _write(suite: Suite, out: Path) -> None:
    """table.md and table.json, of all cells that are done by now, asked for in this call or not."""
    from likewise import bench as room
    from likewise import files

    files.write_text(out / "table.md", room.markdown(suite, suite.cells, out))
    files.write_json(out / "table.json", [line._asdict() for line in room.lines(suite.cells, out)])


def _listed(cells: Sequence[Cell], out: Path) -> str:
    from likewise.bench import state

    states = {cell.key: state(cell, out) for cell in cells}
    rows = [f"{states[cell.key].kind:8} {cell}" for cell in cells]
    missing = dict.fromkeys(s.why for s in states.values() if s.why)
    counts = ", ".join(f"{n} {kind}" for kind, n in Counter(s.kind for s in states.values()).items())
    return "\n".join([*rows, *missing, f"{len(cells)} cells: {counts}; into {out}"])


COMMANDS = (bench,)
