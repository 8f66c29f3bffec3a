"""Several shot counts or seeds on the command line: how they are read, and the tables of a finished sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from likewise.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from likewise.data.records import Dataset
    from likewise.run.sweep import Sweep

Shots = Annotated[
    str,
    typer.Option(help="Train on so many images a class (0: all). Several, like 1,2,4,8,16, make a sweep with curves."),
]
OneSeed = Annotated[int | None, typer.Option("--seed", help="Decides splits, shots, order and captions (default: 0).")]
Seeds = Annotated[
    str,
    typer.Option(
        help="Several seeds, like 0,1,2, make a sweep with intervals over them; the first also draws the splits."
    ),
]


def counts(flag: str, text: str) -> tuple[int, ...]:
    """`1,2,4` as numbers. Raises U06 naming what is not a whole number from 0 up, or stands there twice."""
    from likewise.run.sweep import check_counts

    found = []
    for part in text.split(","):
        try:
            found.append(int(part))
        except ValueError:
            raise UsageError("U06", f"{flag} {text}: «{part.strip()}» is not a whole number. Write numbers with commas, "
                             f"such as {flag} 1,2,4.") from None  # fmt: skip
    return check_counts(flag, found)


def cells(shots: str, seed: int | None, seeds: str) -> dict[str, tuple[int, ...]]:
    """The flags as shot counts and seeds. Raises U06."""
    if seeds and seed is not None:
        raise UsageError("U06", f"--seed {seed} and --seeds {seeds} are both given. Say one: --seeds holds every seed.")
    several = counts("--seeds", seeds) if seeds else (seed or 0,)
    return {"shots": counts("--shots", shots), "seeds": several}


def many(grid: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether this is a sweep, rather than one run."""
    return len(grid["shots"]) * len(grid["seeds"]) > 1


def foreseen(data: Dataset, grid: Mapping[str, tuple[int, ...]], allow_short: bool, index: str) -> dict[str, Dataset]:
    """What a dry run looks at: the one run's pictures, or those of a sweep's fewest and most shots, by their shots.

    Raises D08, and what is wrong with a published choice, as the runs would.
    """
    from likewise.run.adapt import Settings
    from likewise.run.sweep import Plan, check_pictures, of_shots

    each = Settings(allow_short=allow_short, shot_index=index)
    plan = Plan(shots=grid["shots"], seeds=grid["seeds"], each=each)
    check_pictures(data, plan)
    ends = dict.fromkeys((plan.cells[0].shots, plan.cells[-1].shots))
    return {of_shots(k): data.few(k, grid["seeds"][0], allow_short, index) if k else data for k in ends}


def _number(row: Mapping[str, Any] | None) -> str:
    from likewise.metrics import half_width

    if row is None:
        return ""
    if row["interval"] == "few":
        return f"{100 * row['mean']:.1f} ({', '.join(f'{100 * value:.1f}' for value in row['values'])})"
    if row["interval"] == "seeds":
        return f"{100 * row['mean']:.1f} ± {100 * half_width(row['values']):.1f}"
    return f"{100 * row['mean']:.1f} ({100 * row['low']:.1f}-{100 * row['high']:.1f})"


def table(curves: Mapping[str, Any], domain: str) -> Table:
    """Methods x shots on one domain: mean and half-width over seeds; in brackets the numbers of too few seeds for that,
    or one run's interval over pictures.
    """
    from likewise.cli.terminal import listing
    from likewise.run.results import find

    names = {"id": "in distribution", "ood-mean": "OOD mean"}
    rows = [
        [m, *(_number(find(curves["rows"], method=m, shots=k, domain=domain)) for k in curves["shots"])]
        for m in curves["methods"]
    ]
    return listing((names.get(domain, domain), *(str(k) if k else "all" for k in curves["shots"])), rows)


def _over(curves: Mapping[str, Any]) -> str:
    """What stands beside the means of the tables."""
    kinds, seeds = {row["interval"] for row in curves["rows"]}, len(curves["seeds"])
    if seeds == 1:
        return "one seed. In brackets: a run's own 95 % interval over pictures."
    said = f"mean{' and half of the 95 % t-interval' if 'seeds' in kinds else ''} over {seeds} seeds."
    if "few" in kinds:
        few = min(row["n"] for row in curves["rows"] if row["interval"] == "few")
        said += f" In brackets: the number of each of {few} seeds, too few for an interval."
    if "pictures" in kinds:
        said += " In brackets with a dash: a run's own 95 % interval over pictures, where the seeds agree."
    return said


def tell(sweep: Sweep, as_json: bool) -> int:
    """Print a finished sweep; the exit status."""
    from likewise.cli.terminal import out

    curves = sweep.curves
    if as_json:
        print(json.dumps({"rows": curves["rows"], "out": str(sweep.path)}))
        return 0
    for domain in ("id", "ood-mean"):
        if domain in curves["domains"]:
            out.print(table(curves, domain))
            out.print()
    for cell in curves["cells"]:
        for method, why in cell["skipped"].items():
            out.print(f"left out {method} in {cell['folder']}: {why}", markup=False, soft_wrap=True)
    out.print(f"Percent against shots a class; {_over(curves)}", soft_wrap=True)
    out.print("Each method at the alpha chosen on select: as many pictures a class as shots, at most 4 or a tenth, drawn by the seed; all of them at shots 0.",
              soft_wrap=True)  # fmt: skip
    out.print(f"report  {sweep.path}/report.html\ncurves  {sweep.path}/curves.json", soft_wrap=True)
    return 0
