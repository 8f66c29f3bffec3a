"""What a dataset's own lists name: text files, tables, MATLAB files, and the records of pictures that are there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv

from likewise.data.records import Record
from likewise.errors import DataError, some


def listed(place: Path, items: Iterable[tuple[str, int]]) -> tuple[Record, ...]:
    """A record for each (path below `place`, label), in that order and under that path as key.

    Raises `DataError` D17 naming pictures that are not there.
    """
    records = tuple(Record(path, label, place / path) for path, label in items)
    there: dict[Path, set[str]] = {}  # one look into each folder: a look at each picture takes minutes on a network
    for parent in {record.path.parent for record in records}:
        there[parent] = set(os.listdir(parent)) if parent.is_dir() else set()
    missing = [str(r.path) for r in records if r.path.name not in there[r.path.parent]]
    if missing:
        raise DataError(
            "D17", f"{len(missing):,} of {len(records):,} pictures that the dataset lists are not there: "
            f"{some(missing, 3)}. Scores on the rest are no other copy's. Is the copy whole?"
        )  # fmt: skip
    return records


def lines(path: Path) -> list[str]:
    """The lines of a list that are not empty. Raises `DataError` D17 for a file that is not there."""
    return [line.strip() for line in _there(path).read_text().splitlines() if line.strip()]


def by_class(path: Path, folders: Sequence[str], suffix: str = "") -> list[tuple[str, int]]:
    """The pictures of a list of class/picture lines. Raises `DataError` D17 for a class that is not in `folders`."""
    found = lines(path)
    strange = sorted({line.split("/")[0] for line in found} - set(folders))
    if strange:
        raise DataError("D17", f"{path} has classes that the dataset has not: {some(strange, 3)}. Get it again.")
    return [(line + suffix, folders.index(line.split("/")[0])) for line in found]


def rows(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """These columns of a CSV as text, row by row. Raises `DataError` D17 for a file that is not such a table."""
    # as text throughout: Camelyon17's patients are «004», and an empty region is no number
    wanted = csv.ConvertOptions(include_columns=list(columns), column_types=dict.fromkeys(columns, pa.string()))
    try:
        table = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=wanted)
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise DataError(
            "D17", f"{path} is not the table by which the dataset is read ({error}); it needs {', '.join(columns)}. "
            "Get the archive again."
        ) from None  # fmt: skip
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def mat(path: Path, field: str) -> Any:
    """One array of a MATLAB file, of one axis at least. Raises `DataError` D17 where it is not there or unreadable."""
    import numpy as np
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return np.atleast_1d(loadmat(_there(path), squeeze_me=True, variable_names=[field])[field])
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError) as error:
        raise DataError("D17", f"{path} cannot be read for «{field}» ({error}). Get it again.") from None


def first(folder: Path, names: Iterable[str]) -> Path:
    """The first of these folders that is there. Raises `DataError` D17 naming them."""
    names = list(names)
    found = next((folder / name for name in names if (folder / name).is_dir()), None)
    if found is None:
        raise DataError("D17", f"{folder} has no folder {' or '.join(names)}, where its pictures belong.")
    return found


def _there(path: Path) -> Path:
    if not path.is_file():
        raise DataError("D17", f"{path} is not there, which the dataset is read by. Is the copy whole?")
    return path


def names_in(text: str) -> tuple[str, ...]:
    """The names in a text, between semicolons, wherever its lines break."""
    return tuple(" ".join(part.split()) for part in text.split(";"))
