"""Take what `likewise recommend` cites from an offline run: src/likewise/recommend/offline.json.

    likewise bench offline -o runs/bench-offline
    python tools/build_evidence.py runs/bench-offline

Every cell of the suite must be done. How many pictures is the number of each class that was trained on; similarity is
`regime`'s of the data with all pictures.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer

from likewise import files
from likewise.bench.cells import state
from likewise.datasets import DATASETS
from likewise.encoders import load
from likewise.errors import UsageError
from likewise.metrics import half_of_mean, standard_error
from likewise.recommend import regime
from likewise.recommend.evidence import HERE, Evidence, Table, Trial
from likewise.suites import Cell
from likewise.suites import load as suite_of

Told = tuple[float, float]
"""A share and its standard error."""


def trial(method: str, seed: int, results: Mapping[str, Any], same: bool) -> Trial:
    """What counts by each priority, of a cell's results.

    Errors are of the pictures: each domain's from its own number, and those of means by `half_of_mean`. `same`: the
    shifts are of the same pictures as the rest, as corruptions are, so that errors may go together.
    """
    alpha = results["methods"][method]["alpha"]
    half = 0.5 if 0.5 in results["methods"][method]["alphas"] else alpha
    rows = [row for row in results["rows"]
            if (row["split"], row["method"], row["metric"]) == ("report", method, "accuracy")]  # fmt: skip

    def shares(at: float | None) -> tuple[Told, list[Told]]:
        found = {row["domain"]: (row["value"], standard_error(row["value"], row["n"]))
                 for row in rows if row["alpha"] == at and row["domain"] != "ood-mean"}  # fmt: skip
        return found.pop("id"), list(found.values())

    def mean(parts: Sequence[Told]) -> Told:
        return statistics.fmean(p for p, _ in parts), half_of_mean([e for _, e in parts], [same] * len(parts))

    inside, shifts = shares(alpha)
    scores = {"balanced": mean([inside, mean(shifts)]), "in-distribution": inside, "robust": mean(shares(half)[1])}
    rounded = {priority: [round(number, 6) for number in score] for priority, score in scores.items()}
    return Trial.parse({"method": method, "seed": seed, "alpha": alpha, "scores": rounded})


def per_class(folder: Path) -> list[int]:
    """How many pictures of each class a cell trained on."""
    manifest = pq.read_table(folder / "data/split.parquet", columns=["label", "role"]).to_pylist()
    return list(Counter(row["label"] for row in manifest if row["role"] == "train").values())


def evidence(cells: Sequence[Cell], out: Path, likeness: str | None) -> Evidence:
    """Of one data set at one number of shots."""
    first, counts = cells[0], per_class(out / cells[0].folder)
    trials, sizes = [], {}
    for cell in cells:
        method, results = cell.method.called, files.read_json(out / cell.folder / "results.json")
        trials.append(trial(method, cell.seed, results, "+" in cell.dataset).tree())
        sizes[method] = results["methods"][method]["trained"]
    return Evidence.parse(
        {
            "data": first.dataset, "shots": first.shots, "likeness": likeness, "per_class": statistics.median(counts),
            "pictures": sum(counts), "epochs": first.block.epochs, "batch": first.block.batch, "sizes": sizes,
            "trials": trials,
        },
        str(out),
    )  # fmt: skip


def write(cells: Sequence[Cell], out: Path, target: Path) -> None:
    """The evidence of all cells, to one file; a share and its error on one line."""
    encoder = load("icon-clip")
    near: dict[str, str | None] = {}
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.dataset, cell.shots), []).append(cell)
    found = []
    for (dataset, _), group in groups.items():
        plain = dataset.partition("+")[0]
        if plain not in near:
            near[plain] = regime(encoder, DATASETS[plain](), None).likeness
        found.append(evidence(group, out, near[plain]))
    table = Table(encoder=encoder.spec.name, command="likewise bench offline", evidence=tuple(found))
    text = re.sub(r"\[\s+([\d.]+),\s+([\d.]+)\s+\]", r"[\1, \2]", json.dumps(table.tree(), indent=1))
    files.write_text(target, text + "\n")


def main(out: Annotated[Path, typer.Argument(help="The folder of likewise bench offline.")]) -> None:
    """Write the evidence."""
    _, suite = suite_of("offline")
    for cell in suite.cells:
        if (now := state(cell, out)).kind != "done":
            raise UsageError("R01", f"{cell}: {now.kind} {now.why}. Run likewise bench offline -o {out} to its end.")
    write(suite.cells, out, HERE / "offline.json")


if __name__ == "__main__":
    typer.run(main)
