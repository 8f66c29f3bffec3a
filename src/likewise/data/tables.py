"""Tables as sources: CSV and TSV with a path a row, parquet with paths or with the pictures themselves."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from likewise.data.audit import Finding
from likewise.data.decode import picture_column
from likewise.data.records import Role
from likewise.data.sources import Found, Source, SourceOptions, part
from likewise.errors import DataError, near, some

_IMAGE = ("filepath", "path", "image", "file", "filename")
_LABEL = ("label", "class", "title", "category", "species")
_LOOK = 200  # folders in which a missing picture is looked for
_MANIFEST = {"key", "path", "row", "label", "class", "split", "role", "domain", "group"}


@dataclass
class Table:
    """Columns of text by name, how many rows they have, and the column of encoded pictures if there is one."""

    path: Path
    names: list[str]
    columns: dict[str, list[str]]
    rows: int
    pictures: str | None = None

    def pick(self, wanted: str, words: Sequence[str], what: str, flag: str) -> str:
        """The column that was asked for, else the first by a usual name. Raises `DataError` D05."""
        lower = {name.lower(): name for name in reversed(self.names)}
        choice = (
            (wanted if wanted in self.names else None)
            if wanted
            else next((lower[w] for w in words if w in lower), None)
        )
        if choice is None:
            named = f"«{wanted}»" if wanted else f"for the {what} (by the names {', '.join(words)})"
            # of names nobody typed only a very near one is worth a word
            close = [m for word in words for m in get_close_matches(word, lower, 1, 0.8)] if not wanted else []
            hint = f" Did you mean {lower[close[0]]}?" if close else near(wanted, self.names, 1)
            raise DataError(
                "D05", f"{self.path} has no column {named}.{hint} Columns: {some(self.names, 20)}. Use {flag} NAME."
            )
        return choice

    def column(self, name: str) -> list[str]:
        """The column, or blanks where there is none of this name."""
        if name in self.names and name not in self.columns:
            raise DataError("D05", f"column «{name}» of {self.path} holds no text or numbers. Choose another.")
        return self.columns.get(name, [""] * self.rows)

    def filled(self, name: str, flag: str) -> list[str]:
        """The column, every cell filled. Raises `DataError` D05: a blank must not become the class «nan»."""
        values = self.column(name)
        blank = [i for i, value in enumerate(values) if not value]
        if blank:
            raise DataError(
                "D05",
                f"{len(blank):,} of {len(values):,} rows of {self.path} have nothing in «{name}»; first: row "
                f"{blank[0] + 1}. Fill or remove them, or use {flag} NAME for another column.",
            )
        return values


def read_table(path: Path, options: SourceOptions) -> Source:
    """The rows of a table, or of a manifest of ours.

    Columns are found by name; `split` (train, val, test, by any usual name), `domain` and `group` count if there. With
    `split`, test rows of a domain that train does not have are out of distribution; without it, all rows of
    other domains than the largest are. Paths are relative to `image_root`, or to the table. Raises `DataError` D05 for
    columns and cells, D06 for paths that are not there.
    """
    table = open_table(path)
    manifest = set(table.names) >= _MANIFEST
    label = table.pick(options.label_col, _LABEL, "class", "--label-col")
    folders = table.filled(label, "--label-col")
    keys, paths, rows = places(table, options, manifest)
    groups = table.column(table.pick(options.group_col, (), "group", "--group-col") if options.group_col else "group")
    parts = _parts(table)
    domains, notices = _domains(table, parts)
    found: dict[str, Found] = {}
    repeats = 0
    for i, folder in enumerate(folders):
        key = keys[i]
        if key in found and found[key].folder != folder:
            key = f"{key}@{folder}"  # one picture under two labels: the audit says so, by both names
        if key in found:
            repeats += 1
            continue
        role: Role | Literal[""] = "report" if domains[i] else parts[i]
        found[key] = Found(key, paths[i], folder, role, domains[i], rows[i], groups[i])
    if repeats:
        notices.append(Finding("D12", f"{repeats} rows of {path} repeat an earlier one and were left out."))
    names = dict(zip(folders, table.column("class"), strict=True)) if manifest else {}
    return Source(list(found.values()), names, notices)


def open_table(path: Path) -> Table:
    """The table in a CSV, TSV or parquet file. Raises `DataError` D05 for one that cannot be read."""
    return _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)


def places(table: Table, options: SourceOptions, manifest: bool = False) -> tuple[list[str], list[Path], list[int]]:
    """Key, file and row of every picture. Raises `DataError` D05 for the column, D06 for files that are not there."""
    if table.pictures and options.image_col in ("", table.pictures):
        n = table.rows
        return [f"{table.path.name}#{i}" for i in range(n)], [table.path] * n, list(range(n))
    image = "path" if manifest else table.pick(options.image_col, _IMAGE, "image", "--image-col")
    written = table.filled(image, "--image-col")
    root = Path(options.image_root) if options.image_root else table.path.parent
    paths = [root / p for p in written]
    check_there(table.path, written, paths, options)
    if manifest:
        return table.filled("key", "--image-col"), paths, [int(r) for r in table.filled("row", "--image-col")]
    return [Path(p).as_posix() for p in written], paths, [-1] * len(paths)


def check_there(source: Path, written: Sequence[str], paths: Sequence[Path], options: SourceOptions) -> None:
    """Raises `DataError` D06 when more of the files a source names are missing than may be skipped."""
    gone = [i for i, p in enumerate(paths) if not os.path.exists(p)]
    # a few may be skipped like other unreadable ones; many are a wrong root
    if len(gone) > (options.max_bad if options.on_bad_image == "skip" else 0) * len(paths):
        relative = f"relative to {'--image-root' if options.image_root else f'the folder of {source.name}'}"
        raise DataError(
            "D06",
            f"{len(gone):,} of {len(paths):,} image paths in {source} do not exist; first: "
            f"{some((written[i] for i in gone), 3)} (tried {paths[gone[0]].absolute()}, {relative}). "
            f"Use --image-root DIR{_elsewhere(source, written[gone[0]])}.",
        )


def _elsewhere(source: Path, name: str) -> str:
    """Where a missing picture would be found: a folder beside the source, or beside the source's folder."""
    beside = [p for top in (source.absolute().parent, source.absolute().parent.parent) for p in (top, *top.glob("*/"))]
    found = next((folder for folder in beside[:_LOOK] if os.path.isfile(folder / name)), None)
    return f"; it is in {found}" if found else ""


def _parts(table: Table) -> list[Role | Literal[""]]:
    if "split" not in table.names:
        return [""] * table.rows
    words = table.filled("split", "another file and --image-col")
    unknown = sorted({w for w in words if part(w) is None})
    if unknown:
        raise DataError(
            "D05",
            f"column «split» of {table.path} says {some(f'«{w}»' for w in unknown)}; known are train, val and test. "
            "Change the words, or rename the column to have the data split for you.",
        )
    return [part(w) or "" for w in words]


def _domains(table: Table, parts: Sequence[Role | Literal[""]]) -> tuple[list[str], list[Finding]]:
    """The out-of-distribution domain of every row, blank for those in distribution."""
    domains = table.column("domain")
    if any(parts):
        known = {d for d, role in zip(domains, parts, strict=True) if role != "report"} | {"", "id"}
        return ["" if role != "report" or d in known else d for d, role in zip(domains, parts, strict=True)], []
    if len(set(domains)) < 2:
        return [""] * len(domains), []
    largest = min(Counter(domains).items(), key=lambda item: (-item[1], item[0]))[0]
    said = f"{table.path} has no split column: training on its largest domain, «{largest}»; the others are reported."
    return ["" if d in (largest, "") else d for d in domains], [Finding("D12", said)]


# -- file formats ----------------------------------------------------------------------------------------------


def _csv(path: Path) -> Table:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            mark = next((m for m in "\t;" if m in first and "," not in first), ",")
            mark = "\t" if path.suffix.lower() == ".tsv" else mark
            lines = [line for line in csv.reader(file, delimiter=mark) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("D05", f"{path} is not a UTF-8 table ({error}). Save it as «CSV UTF-8».") from None
    header, body = [name.strip() for name in lines[0]] if lines else [], lines[1:]
    if not body or len(set(header)) != len(header):
        raise DataError("D05", f"{path} needs a header of different names and a row an image; header: {some(header)}.")
    ragged = next((i for i, line in enumerate(body) if len(line) != len(header)), None)
    if ragged is not None:
        raise DataError(
            "D05",
            f"row {ragged + 1} of {path} has {len(body[ragged])} cells where the header has {len(header)}. Put names "
            "with a comma in quotes.",
        )
    columns = {name: [line[i].strip() for line in body] for i, name in enumerate(header)}
    return Table(path, header, columns, len(body))


def _parquet(path: Path) -> Table:
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            simple = [f.name for f in schema if _is_simple(f.type)]
            data = file.read(columns=simple)
    except (pa.ArrowException, OSError) as error:
        raise DataError("D05", f"{path} is not a readable parquet file ({error}). Write it again.") from None
    if not rows:
        raise DataError("D05", f"{path} has no rows, and columns {some(schema.names, 20)}. It needs an image in each.")
    words = _class_labels(schema)
    columns = {}
    for name in simple:
        values = [_text(v) for v in data.column(name).to_pylist()]
        table = dict(enumerate(words.get(name, [])))
        columns[name] = [table.get(int(v), v) if v.isdigit() else v for v in values] if table else values
    return Table(path, list(schema.names), columns, rows, picture_column(schema))


def _is_simple(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
    )
    return any(test(inner) for test in tests)


def _text(value: Any) -> str:
    if value is None or value != value:  # not a number
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _class_labels(schema: pa.Schema) -> dict[str, list[str]]:
    """Names behind integer labels, where the Hugging Face `datasets` library wrote them into the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {column: about["names"] for column, about in features.items() if about.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}
