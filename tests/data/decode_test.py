from __future__ import annotations

import io
import os
import pickle
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likewise.data.decode import MAX_PIXELS, picture
from likewise.data.records import Record, Split
from likewise.errors import DataError


def colour(path: Path, at: tuple[int, int] = (0, 0)) -> tuple[int, ...]:
    image = picture(path)
    assert image.mode == "RGB"
    value = image.getpixel(at)
    assert isinstance(value, tuple)
    return value


def test_transparent_pixels_are_white_whatever_colour_lies_under_them(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    rgba.putpixel((1, 0), (0, 0, 200, 255))
    rgba.save(tmp_path / "rgba.png")
    rgba.convert("LA").save(tmp_path / "la.png")
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([255, 0, 0, 0, 0, 200])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "plain.png")
    for name in ("rgba", "la", "p"):
        assert colour(tmp_path / f"{name}.png") == (255, 255, 255), name
    assert colour(tmp_path / "p.png", (1, 0)) == colour(tmp_path / "rgba.png", (1, 0)) == (0, 0, 200)
    assert colour(tmp_path / "plain.png") == (255, 0, 0)
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 51))  # a fifth of black on white
    half.save(tmp_path / "half.png")
    assert colour(tmp_path / "half.png") == (204, 204, 204)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    Image.fromarray(levels).save(tmp_path / "deep.tif")
    for name in ("deep.png", "deep.tif"):
        assert np.asarray(picture(tmp_path / name))[0, :, 0].tolist() == [0, 100, 255]
    Image.fromarray(np.array([[0.5]], dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="no agreed white"):
        picture(tmp_path / "float.tif")


def test_orientation_is_applied_and_cmyk_and_animations_are_read(tmp_path: Path) -> None:
    wide = Image.new("RGB", (8, 4), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated
    wide.save(tmp_path / "turned.jpg", exif=exif)
    assert picture(tmp_path / "turned.jpg").size == (4, 8)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "ink.jpg", quality=95)
    red, green, blue = colour(tmp_path / "ink.jpg")
    assert red > 240
    assert max(green, blue) < 15
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert colour(tmp_path / "moving.gif") == (255, 0, 0)


def test_what_is_not_a_whole_picture_is_an_error_with_its_name(
    tmp_path: Path, draw: Callable[..., Image.Image]
) -> None:
    whole = io.BytesIO()
    draw(1, 64).save(whole, "JPEG")
    body = whole.getvalue()
    damaged = {
        "empty.jpg": b"",
        "tenth.jpg": body[: len(body) // 10],
        "half.jpg": body[: len(body) // 2],
        "page.jpg": b"<html><body>404</body></html>",
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name) as caught:
            picture(tmp_path / name)
        assert caught.value.code == "D07"
    draw(1).save(tmp_path / "rare.png", "PCX")  # Pillow would read it; we read only the plain formats
    with pytest.raises(DataError, match="format that is read"):
        picture(tmp_path / "rare.png")
    with pytest.raises(DataError, match="No such file"):
        picture(tmp_path / "gone.jpg")


def test_a_huge_header_is_refused_before_decoding(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = int(MAX_PIXELS**0.5) + 1  # under Pillow's own limit, over ours; there is no picture behind the header
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "huge.png").write_bytes(data)
    with pytest.raises(DataError, match="over 64 million"):
        picture(tmp_path / "huge.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    told: list[str] = []

    def read() -> None:
        with pytest.raises(DataError, match="not a regular file") as caught:
            picture(tmp_path / "pipe.jpg")
        told.append(caught.value.code)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert told == ["D07"]


@pytest.mark.parametrize("struct_column", [False, True])
def test_rows_of_a_parquet_file_are_pictures_and_travel_with_a_pickled_split(
    tmp_path: Path, draw: Callable[..., Image.Image], struct_column: bool
) -> None:
    encoded = []
    for i in range(3):
        buffer = io.BytesIO()
        draw(i).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    column = [{"bytes": e, "path": None} for e in encoded] if struct_column else encoded
    path = tmp_path / "pictures.parquet"
    pq.write_table(pa.table({"note": ["a", "b", "c"], "image": column}), path)
    split = Split("train", "train", tuple(Record(f"pictures.parquet#{i}", 0, path, i) for i in range(3)))
    copy = pickle.loads(pickle.dumps(split))
    for i in range(3):
        assert copy.open(i).tobytes() == draw(i).tobytes()
    # another file under the same name is read anew
    pq.write_table(pa.table({"image": encoded[::-1]}), path)
    os.utime(path, ns=(1, 1))
    assert split.open(0).tobytes() == draw(2).tobytes()
    with pytest.raises(DataError, match="#7"):
        picture(path, 7)
