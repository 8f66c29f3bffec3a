"""Datasets made from arrays: the pictures are the originals', the splits share none, and what is missing is said."""

from __future__ import annotations

import dataclasses
import gzip
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from likewise.datasets import CAPTIONS, CARDS, DATASETS, about
from likewise.datasets.idx import FILES
from likewise.errors import DataError, MachineError


def test_digits_are_scikit_learns() -> None:
    data = DATASETS["digits"]()
    (identity,) = data.read_report("test").values()
    splits = [data.train, data.select, identity]
    assert [len(split) for split in splits] == [1000, 297, 500]
    found = load_digits()
    want = sorted((int(y), (255 - np.round(x * 255 / 16)).astype(np.uint8).tobytes())
                  for x, y in zip(found.images, found.target, strict=True))  # fmt: skip
    have = sorted((int(split.labels_N[i]), np.asarray(split.open(i))[..., 0].tobytes())
                  for split in splits for i in range(len(split)))  # fmt: skip
    assert have == want
    assert data.classes.names[3] == "three"
    assert min(data.train.counts(data.classes).values()) > 80


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_fashion_mnist_from_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIKEWISE_DATA", str(tmp_path))
    (tmp_path / "fashion-mnist").mkdir()
    sizes = {"train": 60_000, "test": 40}
    arrays = {}
    for part, (images, labels) in FILES.items():
        pixels_NHW = rng.integers(0, 256, (sizes[part], 2, 3), dtype=np.uint8)
        labels_N = (np.arange(sizes[part]) % 10).astype(np.uint8)
        arrays[part] = pixels_NHW, labels_N
        write_idx(tmp_path / "fashion-mnist" / f"{images}.gz", pixels_NHW)
        write_idx(tmp_path / "fashion-mnist" / f"{labels}.gz", labels_N)
    with pytest.raises(DataError, match=r"id has 40 pictures instead of 10,000"):
        DATASETS["fashion-mnist"]()
    data = dataclasses.replace(DATASETS["fashion-mnist"], counts={})()
    (identity,) = data.read_report("test").values()
    assert (len(data.train), len(data.select), len(identity)) == (55_000, 5_000, 40)
    for i in (0, 39):  # the test part keeps its order
        assert np.array_equal(np.asarray(identity.open(i))[..., 0], arrays["test"][0][i])
        assert identity.labels_N[i] == arrays["test"][1][i]
    counts = np.bincount(np.concatenate([data.train.labels_N, data.select.labels_N]), minlength=10)
    assert counts.tolist() == [6000] * 10  # nothing lost, nothing twice
    thin = data.thinned({"train": 50, "select": 20, "id": 7}, "word")
    assert {s.name: len(s) for s in (thin.train, thin.select, *thin.read_report("test").values())} == {
        "train": 50, "select": 20, "id": 7
    }  # fmt: skip
    assert set(thin.train.records) < set(data.train.records)
    assert {name: sum(of.values()) for name, of in thin.audit.counts.items()} == {"train": 50, "select": 20, "id": 7}
    assert thin.train == data.thinned({"train": 50, "select": 20, "id": 7}, "word").train
    assert thin.train != data.thinned({"train": 50, "select": 20, "id": 7}, "other").train
    assert thin.few(1, 0, allow_short=True).select.counts(data.classes)["bag"] <= 1


def test_another_copy_is_another_table_and_the_same_copy_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("likewise.datasets.idx.TRAIN", 6)
    rng, pixels = np.random.default_rng(0), {}
    for copy in ("one", "two"):
        (tmp_path / copy / "fashion-mnist").mkdir(parents=True)
        for part, (images, labels) in FILES.items():
            pixels[copy, part] = rng.integers(0, 256, (10, 2, 3), dtype=np.uint8)
            write_idx(tmp_path / copy / "fashion-mnist" / f"{images}.gz", pixels[copy, part])
            write_idx(tmp_path / copy / "fashion-mnist" / f"{labels}.gz", np.arange(10, dtype=np.uint8))
    entry, tables = dataclasses.replace(DATASETS["fashion-mnist"], counts={}), []
    for copy in ("one", "two", "one"):
        monkeypatch.setattr("likewise.datasets.named.roots", lambda copy=copy: [tmp_path / copy])
        data = entry()
        (identity,) = data.read_report("test").values()
        assert np.array_equal(np.asarray(identity.open(3))[..., 0], pixels[copy, "test"][3])
        tables.append((identity.records[0].path, data.digest))
    assert tables[0] == tables[2] != tables[1]
    monkeypatch.setattr("likewise.datasets.idx.TRAIN", 5)  # made otherwise of the same files
    assert len(entry().train) == 5


def test_digits_of_another_scikit_learn_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path))
    first = DATASETS["digits"]().train.records[0].path
    assert DATASETS["digits"]().train.records[0].path == first
    monkeypatch.setattr("likewise.datasets.digits.version", lambda name: f"{name} 0.0")
    assert DATASETS["digits"]().train.records[0].path != first

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("likewise.datasets.digits.version", absent)
    with pytest.raises(MachineError, match="pip install scikit-learn"):
        DATASETS["digits"]()


def test_fashion_mnist_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("likewise.datasets.named.roots", lambda: [tmp_path / "nowhere"])
    with pytest.raises(DataError, match="dataset-fashion-mnist") as caught:
        DATASETS["fashion-mnist"]()
    assert caught.value.code == "D12"
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_every_dataset_has_a_card() -> None:
    assert set(CARDS) == set(DATASETS) | set(CAPTIONS)
    assert all(about(name).startswith("# ") for name in CARDS)
