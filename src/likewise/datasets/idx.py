"""Arrays in the IDX format, in which MNIST and those made after it are published."""

# H height, N pictures, W width.

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.data.records import Dataset
from likewise.datasets.arrays import Arrays, dataset_of, state_of, table_of
from likewise.errors import DataError
from likewise.keys import key_rng

FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
         "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}  # fmt: skip
"""Pictures and labels of both parts; each file may have `.gz` behind it."""
NEEDS = tuple(f"{name}*" for pair in FILES.values() for name in pair)
TRAIN = 55_000


def source(folder: Path) -> list[Any]:
    """What `parts` depends on: the four files as they are now, and how many are trained on."""
    return [TRAIN, state_of([_file(folder, name) for pair in FILES.values() for name in pair])]


def parts(folder: Path, word: str) -> Mapping[str, Arrays]:
    """The four files as train (55,000 of the training pictures, by key), select (the rest) and id (the test part)."""
    pixels_NHW, labels_N = (read_idx(folder, name) for name in FILES["train"])
    order = key_rng(word, "split").permutation(len(pixels_NHW))
    train, select = order[:TRAIN], order[TRAIN:]
    pictures, labels = (read_idx(folder, name) for name in FILES["test"])
    return {
        "train": (pixels_NHW[train], labels_N[train]), "select": (pixels_NHW[select], labels_N[select]),
        "id": (pictures, labels),
    }  # fmt: skip


def reader(name: str, classes: Sequence[str], templates: tuple[str, ...]) -> Callable[[Path], Dataset]:
    """What reads the four files in a folder as the dataset of that name."""

    def read(folder: Path) -> Dataset:
        path = table_of(name, source(folder), lambda: parts(folder, name))
        return dataset_of(name, path, classes, templates)

    return read


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.gz" if (folder / f"{name}.gz").exists() else folder / name


def read_idx(folder: Path, name: str) -> np.ndarray:
    """An array of unsigned bytes: two zeros, type 8, rank, big-endian sizes, data. Raises `DataError` D12."""
    path = _file(folder, name)
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if data[:3] != b"\0\0\x08":
            raise ValueError("it does not begin as one")
        rank = data[3]
        sizes = np.frombuffer(data, ">i4", rank, 4)
        return np.frombuffer(data, np.uint8, -1, 4 + 4 * rank).reshape(sizes)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError("D12", f"{path} is not an IDX file of bytes ({error}); download it again.") from None
