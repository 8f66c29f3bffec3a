"""The report: one page that a run folder becomes, for reading on a screen, a phone or paper.

    write_report([Path("runs/photos-01")], Path("runs/photos-01/report.html"))

Only files of the run folder are read. The page carries its styles, drawings and pictures inside, needs no script and
no network, and is accompanied by `report.md` with the verdict and the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from likewise import files
from likewise.errors import UsageError
from likewise.report import captions, curves, page, tables
from likewise.report.read import read_run
from likewise.run.folder import is_captions

__all__ = ["table_markdown", "write_report"]


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the page of one run, of several compared, or of one sweep, and `report.md` beside it; returns its path.

    `out` is the HTML file, or a folder to hold `report.html`. Raises `DataError` for a folder without results.
    """
    if not runs:
        raise UsageError("R03", "No run to report on. Name at least one run folder.")
    target = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
    sweeps = [folder for folder in runs if curves.is_sweep(Path(folder))]
    if sweeps and len(runs) > 1:
        raise UsageError(
            "R03", f"{sweeps[0]} is a sweep, which has a report of its own. Compare runs: those inside it."
        )
    if sweeps:
        found = curves.read_curves(Path(sweeps[0]))
        files.write_text(target, curves.render(found, target))
        files.write_text(target.with_suffix(".md"), curves.summary(found))
        return target
    tuned = [folder for folder in runs if is_captions(Path(folder))]
    if tuned and len(runs) > 1:
        raise UsageError("R03", f"{tuned[0]} was tuned on captions and has a report of its own; name it alone.")
    if tuned:
        told = captions.read_captions(Path(tuned[0]))
        files.write_text(target, captions.render(told))
        files.write_text(target.with_suffix(".md"), captions.summary(told))
        return target
    read = [read_run(Path(folder)) for folder in runs]
    files.write_text(target, page.render(read))
    files.write_text(target.with_suffix(".md"), "\n".join(page.summary(run) for run in read))
    return target


def table_markdown(run: Path) -> str:
    """The comparison of methods in a run folder as a Markdown table."""
    return tables.markdown(read_run(Path(run)))
