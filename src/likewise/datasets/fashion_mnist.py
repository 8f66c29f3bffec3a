"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28 (Xiao et al. 2017, arXiv:1708.07747; MIT licence).

Train 55,000 and select 5,000 of the 60,000 training pictures, drawn by key; in-distribution report the 10,000 test
pictures.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from likewise.data.records import Dataset
from likewise.datasets.made import Arrays, dataset_of, table_of
from likewise.datasets.named import Named
from likewise.errors import DataError
from likewise.keys import key_rng

NAMES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
TEMPLATES = ("{}", "a picture of a {}", "a piece of clothing, {}", "a grey photo of a {}")
FILES = {"train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
         "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")}  # fmt: skip


def read(folder: Path) -> Dataset:
    """The dataset of the four files in a folder."""
    return dataset_of("fashion-mnist", table_of("fashion-mnist", lambda: _parts(folder)), NAMES, TEMPLATES)


def _parts(folder: Path) -> dict[str, Arrays]:
    pixels_NHW, labels_N = (_idx(folder / name) for name in FILES["train"])
    order = key_rng("fashion-mnist", "split").permutation(len(pixels_NHW))
    train, select = order[:55_000], order[55_000:]
    test = tuple(_idx(folder / name) for name in FILES["test"])
    return {"train": (pixels_NHW[train], labels_N[train]), "select": (pixels_NHW[select], labels_N[select]), "id": test}  # type: ignore[dict-item]


def _idx(path: Path) -> np.ndarray:
    """An array of unsigned bytes in the IDX format: two zeros, type 8, rank, big-endian sizes, data."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise DataError("D12", f"{path} is not an IDX file of bytes; download it again.")
    rank = data[3]
    sizes = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, -1, 4 + 4 * rank).reshape(sizes)


ENTRIES = (
    Named(
        "fashion-mnist",
        "Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28.",
        read,
        folders=("fashion-mnist", "FashionMNIST/raw"),
        needs=tuple(name for pair in FILES.values() for name in pair),
        get="apt install dataset-fashion-mnist, or torchvision.datasets.FashionMNIST('data', download=True)",
        licence="MIT",
        paper="Xiao et al. 2017, arXiv:1708.07747",
        counts={"train": 55_000, "select": 5_000, "id": 10_000},
        notes="Methods choose on 5,000 of the 60,000 training pictures, drawn by key.",
    ),
)
