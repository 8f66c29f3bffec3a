"""The pairs in a run folder: what was trained on and what was held, and how well held pictures and captions meet."""

# M captions, N pictures, D shared width.

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from likewise.data.captions import Pairs
from likewise.data.records import Record, Split
from likewise.errors import DataError, some
from likewise.judge import retrieval
from likewise.predict import features, text_rows
from likewise.run.folder import CAPTIONS
from likewise.run.protocol import write_table
from likewise.run.results import row
from likewise.run.stage import Job

FILE = "pairs.parquet"


class Held(NamedTuple):
    """Pictures that were never trained on, and the captions of each."""

    split: Split
    captions: Sequence[Sequence[str]]


def held_of(pairs: Pairs) -> Held:
    """What the pairs hold."""
    return Held(pairs.held, pairs.held_captions)


def write_pairs(folder: Path, pairs: Pairs) -> None:
    """Every picture with its captions, in one table."""
    rows = [
        {"key": r.key, "path": r.path.absolute().as_posix(), "row": r.row, "captions": list(texts), "held": held}
        for split, captions, held in ((pairs.split, pairs.captions, False), (pairs.held, pairs.held_captions, True))
        for r, texts in zip(split.records, captions, strict=True)
    ]
    write_table(folder / FILE, pa.Table.from_pylist(rows))


def read_held(folder: Path) -> Held:
    """What `write_pairs` wrote of held pairs. Raises `DataError` D06 for pictures that have gone."""
    rows = [row for row in pq.read_table(folder / FILE).to_pylist() if row["held"]]
    records = tuple(Record(row["key"], i, Path(row["path"]), row["row"]) for i, row in enumerate(rows))
    if gone := sorted({str(r.path) for r in records if not r.path.exists()}):
        raise DataError(
            "D06", f"{len(gone)} held pictures of {folder.parent} are no longer where they were: {some(gone, 3)}."
        )
    return Held(Split("held", "report", records), [row["captions"] for row in rows])


def recall(job: Job, held: Held, method: str, alpha: float | None) -> list[dict[str, Any]]:
    """How often a held picture finds its caption and a caption its picture, of the encoder as it now is."""
    if not len(held.split):
        return []
    image_ND = features(job.encoder, held.split, "shared", **job.reading)
    texts = [text for own in held.captions for text in own]
    owner_M = [i for i, own in enumerate(held.captions) for _ in own]
    found = retrieval(image_ND, text_rows(job.encoder, texts), owner_M, texts=texts)
    return [row(method, alpha, "report", CAPTIONS, metric, e) for metric, e in found.items()]
