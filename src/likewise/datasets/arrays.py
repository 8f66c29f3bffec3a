"""Datasets whose originals are arrays: written once as a parquet of PNGs into the cache, then read as any table."""

# H height, W width, N pictures.

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from likewise import files
from likewise.config import fingerprint
from likewise.data.audit import Audit
from likewise.data.records import ClassTable, Dataset, Record
from likewise.datasets.named import three

Arrays = tuple[np.ndarray, np.ndarray]
"""Grey pictures_NHW (uint8) and labels_N."""


FORMAT = 1
"""Version of how tables are made; a change of meaning raises it, and old ones are never read again."""


def table_of(name: str, source: Any, parts: Callable[[], Mapping[str, Arrays]]) -> Path:
    """The parquet of these parts in the cache; `parts` is asked only where it is not there yet.

    `source` says what they are made of, as plain data (`state_of` files, a package's version): other files, or another
    way of making them, have a table of their own.
    """
    folder = files.cache_folder() / "datasets" / f"{name}-{fingerprint([FORMAT, source])}"

    def fill(fresh: Path) -> None:
        rows = [
            {"split": split, "label": int(label), "number": number, "image": png(pixels_HW)}
            for split, (pixels_NHW, labels_N) in parts().items()
            for number, (pixels_HW, label) in enumerate(zip(pixels_NHW, labels_N, strict=True))
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        files.write_bytes(fresh / "images.parquet", sink.getvalue().to_pybytes())

    return files.once(folder, fill) / "images.parquet"


def state_of(paths: Sequence[Path]) -> list[Any]:
    """The files as they are now: names, sizes, times of change."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def dataset_of(name: str, path: Path, names: Sequence[str], templates: tuple[str, ...]) -> Dataset:
    """The dataset of such a parquet, with parts train, select and id."""
    classes = ClassTable.of(list(names))
    splits: dict[str, list[Record]] = {"train": [], "select": [], "id": []}
    table = pq.read_table(path, columns=["split", "label", "number"]).to_pylist()
    for place, row in enumerate(table):
        record = Record(f"{row['split']}:{row['number']}", row["label"], path, place)
        splits[row["split"]].append(record)
    train, select, identity = three(splits["train"], splits["select"], splits["id"])
    audit = Audit(name, counts={s.name: s.counts(classes) for s in (train, select, identity)})
    audit.note("D00", f"{name} is read from arrays: every picture opens, and the splits share none")
    return Dataset(name, classes, train, select, [identity], templates, audit)


def png(pixels_HW: np.ndarray) -> bytes:
    """A picture of bytes, grey or (with a third axis) in colours, as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels_HW.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
