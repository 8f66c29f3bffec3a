"""Take what `likewise recommend` cites from an offline run: src/likewise/recommend/offline.json.

    likewise bench offline -o runs/bench-offline
    python tools/build_evidence.py runs/bench-offline

Every cell of the suite must be done. Amount is as the suite means it, few shots or all pictures that ship (IconShift's
are 13 a class); similarity is `regime`'s of the data with all pictures.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer

from likewise import files
from likewise.bench.cells import state
from likewise.datasets import DATASETS
from likewise.encoders import load
from likewise.errors import UsageError
from likewise.recommend import regime
from likewise.recommend.evidence import HERE, Evidence, Table, Trial
from likewise.run.results import find
from likewise.suites import Cell
from likewise.suites import load as suite_of


def trial(cell: Cell, results: dict[str, Any]) -> tuple[Trial, int, int]:
    """The cell's shares right, and how many pictures they are of: in and out of distribution."""
    method = cell.method.called
    alpha = results["methods"][method]["alpha"]
    half = 0.5 if 0.5 in results["methods"][method]["alphas"] else alpha
    rows = [row for row in results["rows"] if row["split"] == "report" and row["method"] == method]
    found = [find(rows, domain=domain, metric="accuracy", alpha=at)
             for domain, at in (("id", alpha), ("ood-mean", alpha), ("ood-mean", half))]  # fmt: skip
    shares = [row["value"] for row in found]
    return (
        Trial(method=method, seed=cell.seed, id=shares[0], ood=shares[1], ood_half=shares[2]),
        found[0]["n"],
        found[1]["n"],
    )


def per_class(folder: Path) -> list[int]:
    """How many pictures of each class a cell trained on."""
    manifest = pq.read_table(folder / "data/split.parquet", columns=["label", "role"]).to_pylist()
    return list(Counter(row["label"] for row in manifest if row["role"] == "train").values())


def main(out: Annotated[Path, typer.Argument(help="The folder of likewise bench offline.")]) -> None:
    """Write the evidence."""
    _, suite = suite_of("offline")
    encoder = load("icon-clip")
    near: dict[str, str | None] = {}
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in suite.cells:
        if (now := state(cell, out)).kind != "done":
            raise UsageError("R01", f"{cell}: {now.kind} {now.why}. Run likewise bench offline -o {out} to its end.")
        groups.setdefault((cell.dataset, cell.shots), []).append(cell)
    evidence = []
    for (dataset, shots), cells in groups.items():
        plain = dataset.partition("+")[0]
        if plain not in near:
            near[plain] = regime(encoder, DATASETS[plain](), None).likeness
        found = [trial(cell, files.read_json(out / cell.folder / "results.json")) for cell in cells]
        counts = per_class(out / cells[0].folder)
        evidence.append(
            Evidence.parse(
                {
                    "data": dataset, "amount": "few" if shots else "many", "likeness": near[plain],
                    "per_class": statistics.median(counts), "pictures": sum(counts), "epochs": cells[0].block.epochs,
                    "batch": cells[0].block.batch, "n_id": found[0][1], "n_ood": found[0][2],
                    "trials": [one[0].tree() for one in found],
                },
                str(out),
            )
        )  # fmt: skip
    table = Table(encoder=encoder.spec.name, command="likewise bench offline", evidence=tuple(evidence))
    files.write_text(HERE / "offline.json", json.dumps(table.tree(), indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
