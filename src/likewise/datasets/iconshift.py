"""IconShift: everyday concepts drawn by independent designers, in seven styles; it ships with the package.

Train, select and `id` are outline drawings, split by designer family; `solid`, `colour`, `pixel`, `hand-drawn`, `emoji`
and `engraved` are reported only. Top-1 accuracy. Licences: see the card. Built by `tools/build_iconshift.py`.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from likewise.data.audit import Audit
from likewise.data.records import ClassTable, Dataset, Record, Split
from likewise.datasets.named import Named, three

FOLDER = Path(__file__).parent.parent / "assets" / "iconshift"
STYLES = ("solid", "colour", "pixel", "hand-drawn", "emoji", "engraved")
TEMPLATES = ("{}", "{} icon", "an icon of a {}", "a drawing of a {}", "a picture of a {}", "a simple drawing of a {}")


def read(_: Path) -> Dataset:
    """The shipped benchmark. Its pictures were audited when it was built, so opening it reads the table only."""
    path = FOLDER / "images.parquet"
    table = pq.read_table(path, columns=["concept", "domain", "side", "set", "name", "family"]).to_pylist()
    classes = ClassTable.of(sorted({row["concept"] for row in table}))
    place = {concept: i for i, concept in enumerate(classes.folders)}
    splits: dict[str, list[Record]] = {name: [] for name in ("train", "select", "id", *STYLES)}
    for number, row in enumerate(table):
        part = {"ood": row["domain"], "report": "id"}.get(row["side"], row["side"])
        splits[part].append(Record(f"{row['set']}:{row['name']}", place[row["concept"]], path, number, row["family"]))
    train, select, identity = three(splits["train"], splits["select"], splits["id"])
    report = [identity, *(Split(name, "report", tuple(splits[name])) for name in STYLES)]
    audit = Audit("iconshift", counts={s.name: s.counts(classes) for s in (train, select, *report)})
    audit.note(
        "D00", "audited when it was built: every picture opens; designer families and near-duplicates are on one side"
    )
    return Dataset("iconshift", classes, train, select, report, TEMPLATES, audit)


ENTRIES = (
    Named(
        "iconshift",
        "IconShift: everyday concepts drawn by independent designers, in seven styles; it ships with the package.",
        read,
        licence="permissive ones, set by set: see the card",
        text=lambda: (FOLDER / "card.md").read_text(),
    ),
)
