"""From bytes to an upright RGB picture, or an error that names the file. Nothing is ever substituted.

Pillow's global state is left alone. Only a list of plain formats is read: some of Pillow's others start programs.
"""

# H height, W width.

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps, UnidentifiedImageError

from likewise.errors import DataError

MAX_PIXELS = 64_000_000  # by the header, before anything is decoded
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2",
    ".avif", ".mpo",
})  # fmt: skip
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "MPO")
_PICTURE_COLUMNS = ("image", "img", "picture", "bytes")
_KEPT_TABLES = 4
_MAX_MEMBER = 256_000_000  # bytes of a picture in a tar


def picture(path: Path, row: int = -1) -> Image.Image:
    """The RGB picture in a file, in a row of a parquet or Arrow file's picture column, or at a byte of a tar.

    EXIF orientation is applied; transparency lies on white; 16-bit grey is scaled to 8 bits; of an animation, the
    first frame. Raises `DataError` D07 with the file and the reason.
    """
    image, reason = attempt(path, row)
    if image is None:
        where = str(path) if row < 0 else f"{path}#{row}"
        raise DataError(
            "D07",
            f"{where} cannot be read as a picture ({reason}). Another in its place would falsify training and scores. "
            "Repair or remove it; `likewise check` lists every such file.",
        )
    return image


def attempt(path: Path, row: int = -1) -> tuple[Image.Image | None, str]:
    """The picture, or why there is none."""
    try:
        with _source(path, row) as source, Image.open(source, formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                return None, f"{image.width} x {image.height} pixels, over {MAX_PIXELS / 1e6:.0f} million"
            return rgb(ImageOps.exif_transpose(image)), ""
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return None, "not a picture in a format that is read"
    except OSError as error:
        return None, error.strerror or str(error)
    except Exception as error:  # format readers raise almost anything on damaged input
        return None, str(error) or type(error).__name__


def rgb(image: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB. Raises `ValueError` for numbers without a stated range (32-bit and float)."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey_HW = np.asarray(image).astype(np.int64)
        if grey_HW.min() < 0 or grey_HW.max() > 65535:
            raise ValueError("32-bit grey has no agreed white; save it with 8 or 16 bits")
        return Image.fromarray(((grey_HW + 128) // 257).astype(np.uint8)).convert("RGB")  # 65535 = 257 * 255
    if image.mode == "F":
        raise ValueError("floating-point grey has no agreed white; save it with 8 or 16 bits")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
    return image.convert("RGB")  # always a loaded copy, so the file may be closed


@contextlib.contextmanager
def _source(path: Path, row: int) -> Iterator[BinaryIO]:
    if row >= 0:
        yield io.BytesIO(encoded(path, row))
        return
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        yield file


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


# -- pictures in tables and tars -------------------------------------------------------------------------------


def picture_column(schema: pa.Schema) -> str | None:
    """The column of encoded pictures: bytes, or a struct with a field `bytes`; usual names go first."""
    names = [f.name for f in schema if _is_bytes(f.type) or (pa.types.is_struct(f.type) and _has_bytes(f.type))]
    return next((n for n in _PICTURE_COLUMNS if n in names), names[0] if names else None)


def encoded(path: Path, row: int) -> bytes:
    """The bytes of one picture. The column is read once in a process, and again when the file has changed.

    In a `.tar`, `row` is the place of the header right before the picture's bytes, so nothing else need be read.
    """
    if path.suffix.lower() == ".tar":
        return _member(path, row)
    state = os.stat(path)
    column = _column(path, state.st_mtime_ns, state.st_size)
    if row >= len(column):
        raise IndexError(f"the file has {len(column)} rows")
    value = column[row].as_py()
    if isinstance(value, dict):
        value = value["bytes"]
    if not value:
        raise ValueError("the row holds no bytes")
    return bytes(value)


@functools.lru_cache(maxsize=_KEPT_TABLES)
def _column(path: Path, mtime_ns: int, size: int) -> pa.ChunkedArray:
    if path.suffix.lower() == ".arrow":  # as Hugging Face's `datasets` keeps its tables: mapped, not read
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source, options=options) as stream:
            table = stream.read_all()
        return table.column(picture_column(table.schema))
    with pq.ParquetFile(path) as file:
        name = picture_column(file.schema_arrow)
        if name is None:
            raise ValueError("no column of picture bytes")
        # without threads, since a forked worker has none of its parent's
        return file.read(columns=[name], use_threads=False).column(name)


def _member(path: Path, place: int) -> bytes:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        file.seek(place)
        # the checksum in the header finds a tar that has changed since it was listed
        info = tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        if not info.isreg() or info.size > _MAX_MEMBER:
            raise ValueError(f"not a file, or of more than {_MAX_MEMBER / 1e6:.0f} MB")
        return file.read(info.size)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_bytes(kind: pa.StructType) -> bool:
    return any(kind.field(i).name == "bytes" and _is_bytes(kind.field(i).type) for i in range(kind.num_fields))
