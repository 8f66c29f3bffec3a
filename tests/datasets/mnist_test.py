"""MNIST from a made-up copy: plain and packed files, the pictures and labels of the originals, what is refused."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from likewise.datasets import mnist
from likewise.datasets.idx import FILES, read_idx
from likewise.datasets.named import order_of
from likewise.errors import DataError

(MNIST,) = mnist.ENTRIES
N = {"train": 40, "test": 12}


@pytest.fixture
def copy(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Torchvision's folder, its training files packed and its test files not, as downloads leave them."""
    monkeypatch.setattr("likewise.datasets.idx.TRAIN", 30)
    place, rng, arrays = root / "MNIST" / "raw", np.random.default_rng(0), {}
    place.mkdir(parents=True)
    for part, names in FILES.items():
        arrays[part] = (
            rng.integers(0, 256, (N[part], 5, 4), dtype=np.uint8),
            rng.integers(0, 10, N[part], dtype=np.uint8),
        )
        for name, array in zip(names, arrays[part], strict=True):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            data = header + array.tobytes()
            (place / f"{name}.gz").write_bytes(gzip.compress(data)) if part == "train" else (place / name).write_bytes(
                data
            )
    return arrays


def test_pictures_and_labels_are_the_originals(copy: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    data = replace(MNIST, counts={})()
    (identity,) = data.read_report("test").values()
    assert (len(data.train), len(data.select), len(identity)) == (30, 10, 12)
    assert data.classes.names == tuple("0123456789")
    assert order_of(data.classes.names) == MNIST.classes
    assert data.templates == ('a photo of the number: "{}".',)
    for i in range(12):
        assert np.array_equal(np.asarray(identity.open(i))[..., 1], copy["test"][0][i])
    assert identity.labels_N.tolist() == copy["test"][1].tolist()
    both = [(np.asarray(s.open(i))[..., 0].tobytes(), int(s.labels_N[i]))
            for s in (data.train, data.select) for i in range(len(s))]  # fmt: skip
    assert Counter(both) == Counter((x.tobytes(), int(y)) for x, y in zip(*copy["train"], strict=True))


def test_what_is_no_idx_file_is_refused(copy: object, root: Path) -> None:
    with pytest.raises(DataError, match=r"train has 30 pictures instead of 55,000"):
        MNIST()
    place = root / "MNIST" / "raw"
    for damaged in (b"\0\0\x09\x01", b"\0\0\x08\x01\0\0\0\x05ab", b""):
        (place / "t10k-labels-idx1-ubyte").write_bytes(damaged)
        with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is not an IDX file"):
            read_idx(place, "t10k-labels-idx1-ubyte")
    (place / "train-labels-idx1-ubyte.gz").write_bytes(b"not packed")
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz is not an IDX file"):
        read_idx(place, "train-labels-idx1-ubyte")
    for path in place.glob("t10k*"):
        path.unlink()
    assert MNIST.found() is None
    with pytest.raises(DataError, match=r"torchvision\.datasets\.MNIST"):
        MNIST()
