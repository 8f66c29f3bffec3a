"""Where pictures with captions come from, and the tables among it; reading only lists."""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from likewise.config import Config
from likewise.data.audit import Audit, Finding, missing
from likewise.data.records import Progress
from likewise.data.sources import TABLES, Found, SourceOptions, natural
from likewise.data.tables import Table, open_table, places
from likewise.encoder import LEARNED
from likewise.errors import DataError, some

HUB = "hf-datasets:"
CAPTION = ("caption", "captions", "title", "text", "texts", "sentence", "sentences", "description")
"""Usual names of a caption's column; `title` is open_clip's."""
_MOST_FILES = 100_000  # that a pattern may stand for


class PairOptions(Config):
    """How to read captions. Empty names are found by the usual words; `max_bad` and `held` are fractions.

    `held` is the share kept for retrieval and never trained on: at least 50 pictures, but at most a fifth of all, and
    at most 5,000; 0 keeps none. `pairs` is how many to train on (0: all), drawn by key.
    """

    image_col: str = ""
    caption_col: str = ""
    image_root: str = ""
    classes_file: str = ""
    templates: tuple[str, ...] = ()
    on_bad_image: Literal["error", "skip"] = "skip"
    max_bad: float = Field(default=0.01, ge=0, le=1)
    seed: int = 0
    held: float = Field(default=0.05, ge=0, le=0.2)
    pairs: int = Field(default=0, ge=0)

    @property
    def source(self) -> SourceOptions:
        """The same, for what reads classes too."""
        shared = {name: getattr(self, name) for name in SourceOptions.model_fields if name in PairOptions.model_fields}
        return SourceOptions(**shared)


@dataclass
class Listing:
    """What a source lists, one entry a row, sample or annotation: a picture may come again, its texts may be blank."""

    found: list[Found]
    texts: list[Sequence[str]]
    unit: str = "rows"  # what the source calls its entries
    fix: str = "Fill or remove them, or use --caption-col NAME for another column"  # for blank captions
    notices: list[Finding] = field(default_factory=list)


def read_pairs(source: str, options: PairOptions, progress: Progress | None) -> Listing | None:
    """The pictures and captions at a place, or None for a folder that can only be one of class folders.

    Raises `DataError` D01 where nothing is, D05 for tables, D06 for missing pictures, D13 to D15 as the readers say.
    """
    from likewise.data import coco, hub, shards

    if source.startswith(HUB):
        return hub.read_hub(source.removeprefix(HUB), options)
    path = Path(source)
    if path.is_dir() and hub.is_saved(path):
        return hub.read_saved(path, options)
    listed = _files(source)
    if path.is_dir() and not listed:
        return None
    endings = {file.suffix.lower() for file in listed}
    if endings == {".tar"}:
        return shards.read_shards(listed, options, progress)
    if endings == {".json"} and len(listed) == 1:
        return coco.read_coco(listed[0], options)
    if endings <= set(TABLES):
        return _joined([read_captions(file, options) for file in listed])
    raise DataError(
        "D01",
        f"{source} holds no captions that are read: tables ({', '.join(TABLES)}), COCO captions (.json), shards (.tar, "
        f"not compressed), a folder of class folders, or {HUB}NAME. Unpack or convert it.",
    )


def _files(source: str) -> list[Path]:
    """The file, the shards in a folder, or what a pattern such as `cc3m/{00000..00331}.tar` stands for."""
    path = Path(source)
    if path.is_dir():
        inside = sorted(path.iterdir(), key=lambda p: natural(p.name))
        tars = [p for p in inside if p.suffix.lower() == ".tar" and p.is_file()]
        tables = [p for p in inside if p.suffix.lower() == ".parquet" and p.is_file()]
        return tars or ([] if any(p.is_dir() for p in inside) else tables)
    if path.exists():
        return [path]
    names = list(islice(_braces(source), _MOST_FILES + 1))
    if len(names) > _MOST_FILES:
        raise DataError("D01", f"{source} stands for more than {_MOST_FILES:,} files. Correct the range in braces.")
    if any(mark in source for mark in "*?["):
        names = [found for name in names for found in sorted(glob.glob(name), key=natural)]
    gone = [name for name in names if not Path(name).is_file()]
    if names and len(gone) < len(names) and gone:
        raise DataError(
            "D01", f"{len(gone):,} of the {len(names):,} files of {source} are not there: {some(gone, 3)}. Correct "
            "the range in braces, or fetch them.",
        )  # fmt: skip
    if gone or not names:
        raise missing(path)
    return [Path(name) for name in names]


def _braces(pattern: str) -> Iterable[str]:
    """`{07..11}` and `{a,b}` written out, in order, the first brace slowest; ranges keep their zeros."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices: list[Iterable[str]] = []
    for i, part in enumerate(parts):
        numbers = re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", part) if i % 2 else None
        if numbers:
            first, last = numbers.groups()
            span = range(int(first), min(int(last), int(first) + _MOST_FILES) + 1)
            choices.append([str(n).zfill(len(first)) for n in span])
        elif i % 2:
            choices.append(part.split(",") if "," in part else ["{" + part + "}"])
        else:
            choices.append([part])
    if math.prod(len(list(c)) for c in choices) > _MOST_FILES:
        return [""] * (_MOST_FILES + 1)
    return ("".join(pieces) for pieces in product(*choices))


def _joined(listings: list[Listing]) -> Listing:
    first, *others = listings
    for other in others:
        first.found += other.found
        first.texts += other.texts
        first.notices += other.notices
    return first


def settle(
    listing: Listing, source: str, options: PairOptions, audit: Audit
) -> tuple[list[Found], list[tuple[str, ...]]]:
    """Every picture once, with its different captions, white space made single.

    Raises `DataError` D13 when more captions are blank than may be left out, D15 when there is no picture.
    """
    if not listing.found:
        raise DataError("D15", f"{source} holds no pictures. Each caption needs one; see --image-col and --image-root.")
    texts = [[t for t in map(_plain, of_one) if t] for of_one in listing.texts]
    blank = [i for i, of_one in enumerate(texts) if not of_one]
    if blank:
        said = (
            f"{len(blank):,} of {len(texts):,} {listing.unit} of {source} have no caption; first: "
            f"number {blank[0] + 1} ({listing.found[blank[0]].key})"
        )
        share = len(blank) / len(texts)
        if share > options.source.allowed:
            more = f", or leave them out with {options.source.leaving_out(share)}" if share < 1 else ""
            raise DataError("D13", f"{said}. A picture without words teaches nothing here. {listing.fix}{more}.")
        audit.note("D13", f"{said}. They were left out.")
    merged: dict[str, tuple[Found, dict[str, None]]] = {}
    for found, of_one in zip(listing.found, texts, strict=True):
        if of_one:
            merged.setdefault(found.key, (found, {}))[1].update(dict.fromkeys(of_one))
    return [found for found, _ in merged.values()], [tuple(known) for _, known in merged.values()]


def _plain(text: str) -> str:
    """The text in single spaces, without Unicode's private planes: encoders read those as learned words."""
    if text and ord(max(text)) >= LEARNED:
        text = "".join(c for c in text if ord(c) < LEARNED)
    return " ".join(text.split())


def check_captions(texts: Sequence[str], lengths: Sequence[int], limit: int) -> list[Finding]:
    """A D11 finding when captions are longer than the text tower reads; an empty list when all fit.

    `lengths` are token counts, start and end tokens included, one for each text, by the tokenizer that will be used.
    Raises `DataError` D11 when every caption would be cut.
    """
    long = [(n, text) for n, text in zip(lengths, texts, strict=True) if n > limit]
    if not long:
        return []
    longest, text = max(long)
    said = (
        f"{len(long):,} of {len(texts):,} different captions exceed the {limit} tokens the text tower reads; the "
        f"longest has {longest:,}: «{text[:80]}{'…' * (len(text) > 80)}». What is over is cut"
    )
    if len(long) == len(texts):
        raise DataError(
            "D11", f"{said}, and none is read whole. Shorten them, or use --text with a tower that reads more."
        )
    return [Finding("D11", f"{said}, the rest stays. Shorten them if the end says what is to be seen.")]


# -- tables ----------------------------------------------------------------------------------------------------


def read_captions(path: Path, options: PairOptions) -> Listing:
    """A CSV, TSV or parquet file: a picture (a path, or the picture itself) and a caption in each row.

    Several rows of one path are several captions of it; in parquet a cell may hold a list of captions. Raises
    `DataError` D05 for columns and cells, D06 for paths that are not there.
    """
    table = open_table(path)
    column = table.pick(options.caption_col, CAPTION, "caption", "--caption-col")
    keys, paths, rows = places(table, options.source)
    found = [Found(key, p, "", row=row) for key, p, row in zip(keys, paths, rows, strict=True)]
    return Listing(found, _texts(table, column))


def _texts(table: Table, column: str) -> list[Sequence[str]]:
    if column in table.columns or table.path.suffix.lower() not in (".parquet", ".pq"):
        return [(text,) for text in table.column(column)]
    data = pq.read_table(table.path, columns=[column]).column(column)
    return caption_lists(data, column, table.path)


def caption_lists(data: pa.ChunkedArray, column: str, source: Path | str) -> list[Sequence[str]]:
    """The texts in each cell of a column of texts or of lists of texts. Raises `DataError` D05 for another column."""
    kind = data.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    inner = kind.value_type if lists else kind
    if not (pa.types.is_string(inner) or pa.types.is_large_string(inner)):
        raise DataError("D05", f"column «{column}» of {source} holds no text. Use --caption-col NAME for another.")
    return [[t for t in (cell if lists else [cell]) if t] if cell else [] for cell in data.to_pylist()]
