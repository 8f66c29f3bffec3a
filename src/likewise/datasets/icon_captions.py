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
from likewise.datasets.captioned import Captioned, captions_of

FOLDER = Path(__file__).parent.parent / "assets" / "icon-captions"


def read(_: Path, options: PairOptions) -> Pairs:
    """The shipped pairs; of `options` only `seed` and `held` count. Opening reads the table, no picture."""
    path = FOLDER / "images.parquet"
    rows = pq.read_table(path, columns=["captions", "set", "name"]).to_pylist()
    records = [Record(f"{row['set']}:{row['name']}", 0, path, number) for number, row in enumerate(rows)]
    audit = Audit(about="icon-captions")
    audit.note("D00", "audited when it was built: every picture opens, and no two are near copies")
    return from_records("icon-captions", records, [tuple(row["captions"]) for row in rows], audit, options)


ENTRIES = (
    Captioned(
        captions_of(
            "icon-captions",
            "icon-captions: 10,000 icons with their full names as captions; it ships with the package.",
            licence="permissive ones, set by set: see the card",
            text=lambda: (FOLDER / "card.md").read_text(),
        ),
        read,
    ),
)
