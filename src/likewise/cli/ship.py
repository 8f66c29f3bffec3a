"""The command that takes a model out of a run: `export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from likewise.cli.data import Json
from likewise.errors import UsageError, near

FORMATS = ("delta", "peft", "merged")


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="New folder to write.")],
    format_: Annotated[str, typer.Option("--format", help="merged: the whole model, for open_clip. delta: what trained, for likewise. peft: LoRA and LayerNorms, for Hugging Face.")] = "merged",
    method: Annotated[str, typer.Option(help="One of the run's methods (default: the chosen one).")] = "",
    alpha: Annotated[float | None, typer.Option(help="0 pretrained to 1 tuned (default: as chosen for the method).")] = None,
    json_: Json = False,
) -> int:  # fmt: skip
    """Write a method of a run in a form that travels: a whole model, a small delta on its base, or PEFT's files."""
    from likewise.cli.terminal import out as screen

    if format_ not in FORMATS:
        raise UsageError(
            "U01", f"--format {format_}: no such format.{near(format_, FORMATS)} Formats: {', '.join(FORMATS)}."
        )
    from likewise.export import FORMATS as WRITERS
    from likewise.run.choose import name_of

    done = WRITERS[format_](run, output, method or None, alpha)
    held = {p.name: p.stat().st_size for p in sorted(output.iterdir()) if p.is_file()}
    if json_:
        print(json.dumps({"out": str(output), "format": format_, "method": done.method, "alpha": done.alpha,
                          "load": done.load, "note": done.note, "files": held}))  # fmt: skip
        return 0
    note = f" ({done.note})" if done.note else ""
    screen.print(f"written {output}: {name_of(done.method, done.alpha)}{note}", markup=False, soft_wrap=True)
    for name, size in held.items():
        screen.print(f"        {name:28} {size:>13,} bytes", markup=False)
    screen.print(f"load    {done.load}", markup=False, soft_wrap=True)
    return 0


COMMANDS = (export,)
