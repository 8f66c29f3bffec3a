"""Names and tables that datasets come with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from likewise.errors import DataError


def names_in(text: str) -> tuple[str, ...]:
    """The names in a text, between semicolons, wherever its lines break."""
    return tuple(" ".join(part.split()) for part in text.split(";"))


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
