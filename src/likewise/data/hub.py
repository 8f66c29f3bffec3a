"""Hugging Face datasets with pictures and captions: saved to disk, or by name, through the `datasets` library.

The library keeps a table as Arrow files; pictures are read from those in place, by file and row.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from likewise.data.caption_sources import CAPTION, HUB, Listing, PairOptions, caption_lists
from likewise.data.decode import picture_column
from likewise.data.sources import Found
from likewise.data.tables import Table
from likewise.errors import DataError, MachineError, some


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or ((path / "state.json").is_file() and any(path.glob("*.arrow")))


def read_saved(path: Path, options: PairOptions) -> Listing:
    """A folder written by `save_to_disk`: its `train` split where it has several. Raises `DataError` D14, D15, D05."""
    library = _library()
    try:
        data = library.load_from_disk(str(path), keep_in_memory=False)
    except Exception as error:  # the library raises almost anything on damaged input
        raise DataError("D14", f"{path} cannot be read as a Hugging Face dataset ({error}). Save it again.") from None
    return _listing(data, path.name, str(path), options)


def read_hub(name: str, options: PairOptions) -> Listing:
    """`NAME` or `NAME:CONFIG` on the hub, its `train` split. Raises `DataError` D01 where the library finds none."""
    library = _library()
    repository, _, config = name.partition(":")
    try:
        data = library.load_dataset(repository, config or None)
    except Exception as error:
        raise DataError("D01", f"{HUB}{name}: {error}") from None
    return _listing(data, repository.rpartition("/")[2], f"{HUB}{name}", options)


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise MachineError(
            "E03", "Hugging Face datasets are read by the library `datasets`, which is not installed: "
            "pip install 'likewise[hf]'.",
        ) from None  # fmt: skip


def _listing(data: Any, name: str, source: str, options: PairOptions) -> Listing:
    if isinstance(data, dict):
        if "train" not in data and len(data) != 1:
            raise DataError("D14", f"{source} has the splits {some(data)} and none called train. Save one of them.")
        data = data["train"] if "train" in data else next(iter(data.values()))
    table: pa.Table = data.data.table
    column = Table(Path(name), table.column_names, {}, table.num_rows).pick(
        options.caption_col, CAPTION, "caption", "--caption-col"
    )
    pictures = picture_column(table.schema)
    if pictures is None or options.image_col not in ("", pictures):
        raise DataError(
            "D15",
            f"{source} has no column of pictures{f' «{options.image_col}»' if options.image_col else ''} that is read"
            f"{f' (it has «{pictures}»)' if pictures else ''}. Columns: {some(table.column_names, 20)}. Cast it with "
            "datasets.Image() and save it.",
        )
    texts = caption_lists(table.column(column), column, source)
    found: list[Found] = []
    for place, row in _places(data, source):
        found.append(Found(f"{name}#{len(found)}", place, "", row=row))
    if pa.types.is_struct(table.schema.field(pictures).type) and "path" in _fields(table, pictures):
        # a picture may be a path instead of bytes
        outside = pc.is_null(pc.struct_field(table.column(pictures), "bytes")).to_pylist()
        for i in (i for i, path_only in enumerate(outside) if path_only):
            path = table.column(pictures)[i].as_py()
            if path and path["path"]:
                found[i] = Found(found[i].key, Path(path["path"]), "")
    return Listing(found, texts)


def _fields(table: pa.Table, column: str) -> list[str]:
    kind = table.schema.field(column).type
    return [kind.field(i).name for i in range(kind.num_fields)]


def _places(data: Any, source: str) -> list[tuple[Path, int]]:
    """The Arrow file and the row in it of every row. Raises `DataError` D14 where rows do not lie in files in order."""
    places: list[tuple[Path, int]] = []
    for entry in data.cache_files:
        path = Path(entry["filename"])
        with pa.memory_map(str(path)) as mapped, pa.ipc.open_stream(mapped) as stream:
            table = stream.read_all()
        places += [(path, row) for row in range(table.num_rows if picture_column(table.schema) else 0)]
    if len(places) != len(data):
        raise DataError("D14", f"{source} is not on disk as it is read. Save it with save_to_disk and pass the folder.")
    return places
