"""icon-captions: 10,000 icons with their full names as captions, for tuning a vision encoder by words; it ships along.

From designers that IconShift does not use. A caption is an icon's name, style words included; a few icons have further
names. Licences: see the card. Built by `tools/build_icon_captions.py`.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from likewise.data.audit import Audit
from likewise.data.captions import PairOptions, Pairs, from_records
from likewise.data.records import Record

FOLDER = Path(__file__).parent.parent / "assets" / "icon-captions"


def pairs(options: PairOptions | None = None) -> Pairs:
    """The shipped pairs; of `options` only `seed`, `held` and `pairs` count. Opening reads the table, no picture."""
    options, path = options or PairOptions(), FOLDER / "images.parquet"
    rows = pq.read_table(path, columns=["captions", "set", "name"]).to_pylist()
    records = [Record(f"{row['set']}:{row['name']}", 0, path, number) for number, row in enumerate(rows)]
    audit = Audit(about="icon-captions")
    audit.note("D00", "audited when it was built: every picture opens, and no two are near copies")
    found = from_records("icon-captions", records, [tuple(row["captions"]) for row in rows], audit, options)
    return found.subset(options.pairs, options.seed) if options.pairs else found


def card() -> str:
    """The data card, as Markdown."""
    return (FOLDER / "card.md").read_text()
