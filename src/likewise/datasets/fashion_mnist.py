"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 (Xiao et al. 2017, arXiv:1708.07747; MIT licence).

Train 55,000 and select 5,000 of the 60,000 training pictures, drawn by key; in-distribution report the 10,000 test
pictures. Looked for in `$FASHION_MNIST`, Debian's package `dataset-fashion-mnist`, and torchvision's folder.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np

from likewise.data.records import Dataset
from likewise.datasets.made import Arrays, dataset_of, table_of
from likewise.errors import DataError
from likewise.keys import key_rng

NAMES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
TEMPLATES = ("{}", "a picture of a {}", "a piece of clothing, {}", "a grey photo of a {}")
FILES = {"train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
         "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")}  # fmt: skip


def places() -> list[Path]:
    """Where the four files are looked for, in order."""
    own = os.environ.get("FASHION_MNIST")
    usual = [
        Path("/usr/share/datasets/fashion-mnist"),
        Path("data/FashionMNIST/raw"),
        Path.home() / "data/FashionMNIST/raw",
    ]
    return [*([Path(own)] if own else []), *usual]


def dataset() -> Dataset:
    """The dataset. Raises `DataError` D12 saying where it was looked for and how to get it."""
    return dataset_of("fashion-mnist", table_of("fashion-mnist", _parts), NAMES, TEMPLATES)


def _parts() -> dict[str, Arrays]:
    names = [name for pair in FILES.values() for name in pair]
    found = next((place for place in places() if all((place / name).exists() for name in names)), None)
    if found is None:
        looked = ", ".join(str(place) for place in places())
        raise DataError(
            "D12", f"Fashion-MNIST is not here (looked in {looked}). Get it with apt install dataset-fashion-mnist or "
            "torchvision.datasets.FashionMNIST('data', download=True), or put its four .gz files in $FASHION_MNIST."
        )  # fmt: skip
    pixels_NHW, labels_N = (_idx(found / name) for name in FILES["train"])
    order = key_rng("fashion-mnist", "split").permutation(len(pixels_NHW))
    train, select = order[:55_000], order[55_000:]
    test = tuple(_idx(found / name) for name in FILES["test"])
    return {"train": (pixels_NHW[train], labels_N[train]), "select": (pixels_NHW[select], labels_N[select]), "id": test}  # type: ignore[dict-item]


def _idx(path: Path) -> np.ndarray:
    """An array of unsigned bytes in the IDX format: two zeros, type 8, rank, big-endian sizes, data."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise DataError("D12", f"{path} is not an IDX file of bytes; download it again.")
    rank = data[3]
    sizes = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, -1, 4 + 4 * rank).reshape(sizes)


def card() -> str:
    """The data card."""
    return f"# fashion-mnist\n\n{__doc__}"
