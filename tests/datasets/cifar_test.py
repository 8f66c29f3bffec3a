"""CIFAR and its shifts from made-up files of each format: pixels, labels, shared classes, and what is never opened."""

# H height, N pictures, W width.

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import STL10

from likewise.data.records import Split
from likewise.datasets.cifar import CIFAR_10, CIFAR_100, ENTRIES, TEMPLATES
from likewise.errors import DataError
from likewise.predict import of_split

ENTRY = {entry.name: replace(entry, counts={}) for entry in ENTRIES}
RNG = np.random.default_rng(3)
PIXELS_NHWC = RNG.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
LABELS_N = RNG.permutation(np.arange(60) % 10).astype(np.uint8)
MEMBERS = {"data_batch_1": range(0, 20), "data_batch_2": range(20, 40), "test_batch": range(40, 60)}


@pytest.fixture(autouse=True)
def _few_to_select(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.datasets.cifar.SELECT", 10)


def binary(i: int, *labels: int) -> bytes:
    """A row of the binary version: labels, then the red, the green and the blue plane, each by rows of pixels."""
    return bytes(labels) + b"".join(PIXELS_NHWC[i, :, :, channel].tobytes() for channel in range(3))


def write_binary(place: Path) -> None:
    place.mkdir(parents=True)
    for name, rows in MEMBERS.items():
        (place / f"{name}.bin").write_bytes(b"".join(binary(i, LABELS_N[i]) for i in rows))


def write_parquet(path: Path, rows: range, image: str, label: str) -> None:
    def png(i: int) -> bytes:
        out = io.BytesIO()
        Image.fromarray(PIXELS_NHWC[i]).save(out, "PNG")
        return out.getvalue()

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({image: [{"bytes": png(i), "path": None} for i in rows], label: LABELS_N[rows].astype(int),
                      "coarse_label": [0] * len(rows)})  # fmt: skip
    pq.write_table(table, path)


def same(split: Split, rows: list[int]) -> bool:
    return split.labels_N.tolist() == LABELS_N[rows].tolist() and all(
        np.array_equal(np.asarray(split.open(place)), PIXELS_NHWC[i]) for place, i in enumerate(rows)
    )


def numbers(split: Split) -> list[int]:
    return [int(record.key.split(":")[1]) for record in split.records]


def test_both_formats_give_the_same_splits(root: Path) -> None:
    write_binary(root / "cifar-10-batches-bin")
    first = ENTRY["cifar-10"]()
    (root / "cifar-10-batches-bin").rename(root / "cifar-10-old")
    place = root / "cifar10" / "plain_text"
    write_parquet(place / "train-00000-of-00002.parquet", range(20), "img", "label")
    write_parquet(place / "train-00001-of-00002.parquet", range(20, 40), "img", "label")
    write_parquet(place / "test-00000-of-00001.parquet", range(40, 60), "img", "label")
    second = ENTRY["cifar-10"]()
    assert ENTRY["cifar-10"].found() == place
    assert first.classes.names == CIFAR_10
    assert (len(set(TEMPLATES)), TEMPLATES[8], first.templates) == (18, "a photo of a big {}.", TEMPLATES)
    assert numbers(first.train) == numbers(second.train)
    for data in (first, second):
        (identity,) = data.read_report("test").values()
        assert (len(data.train), len(data.select)) == (30, 10)
        assert sorted(numbers(data.train) + numbers(data.select)) == [*range(40)]
        assert same(data.train, numbers(data.train))
        assert same(data.select, numbers(data.select))
        assert same(identity, [*range(40, 60)])


def test_another_copy_is_read_anew(root: Path) -> None:
    write_binary(root / "cifar-10-batches-bin")
    ENTRY["cifar-10"]()
    path = root / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(binary(0, LABELS_N[0]) + binary(1, LABELS_N[1]))
    (identity,) = ENTRY["cifar-10"]().read_report("test").values()
    assert same(identity, [0, 1])


def test_cifar_100_is_by_its_fine_labels(root: Path) -> None:
    place = root / "cifar-100-binary"
    place.mkdir()
    for name, rows in (("train", range(40)), ("test", range(40, 60))):
        (place / f"{name}.bin").write_bytes(b"".join(binary(i, 7, LABELS_N[i]) for i in rows))
    data = ENTRY["cifar-100"]()
    assert same(data.read_report("test")["id"], [*range(40, 60)])
    assert data.classes.names == CIFAR_100
    assert list(CIFAR_100) == sorted(CIFAR_100)  # as the originals' are, and how they are numbered
    for path in place.iterdir():
        path.unlink()
    for name, rows in (("train", range(40)), ("test", range(40, 60))):
        write_parquet(root / "cifar100" / "cifar100" / f"{name}-00000-of-00001.parquet", rows, "img", "fine_label")
    assert same(ENTRY["cifar-100"]().read_report("test")["id"], [*range(40, 60)])


def test_the_shifts_are_found_beside_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_binary(root / "cifar-10-batches-bin")
    place = root / "CIFAR-10.1" / "datasets"
    place.mkdir(parents=True)
    np.save(place / "cifar10.1_v6_data.npy", PIXELS_NHWC[:7])
    np.save(place / "cifar10.1_v6_labels.npy", LABELS_N[:7].astype(np.int32))
    write_parquet(root / "cifar10_2" / "data" / "test-00000-of-00001.parquet", range(7, 19), "image", "label")
    write_parquet(root / "cifar10_2" / "data" / "train-00000-of-00001.parquet", range(30), "image", "label")
    stl = root / "stl10_binary"
    stl.mkdir()
    large_N3WH = np.random.default_rng(4).integers(0, 256, (12, 3, 96, 96), dtype=np.uint8)
    theirs_N = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 8, 2], np.uint8)
    (stl / "test_X.bin").write_bytes(large_N3WH.tobytes())
    (stl / "test_y.bin").write_bytes(theirs_N.tobytes())
    report = ENTRY["cifar-10"]().read_report("test")
    assert [*report] == ["id", "v10.1", "v10.2", "stl-10"]
    assert same(report["v10.1"], [*range(7)])
    assert same(report["v10.2"], [*range(7, 19)])
    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    loaded = STL10(root, split="test")
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    split, known = report["stl-10"], [i for i in range(12) if names[loaded[i][1]] != "monkey"]
    assert len(split) == len(known) == 10
    for place_in, i in enumerate(known):
        picture, label = loaded[i]
        assert CIFAR_10[split.labels_N[place_in]] == names[label].replace("car", "automobile")
        assert np.array_equal(np.asarray(split.open(place_in)), np.asarray(picture))
    logits_NC = torch.zeros(10, 10)
    logits_NC[:, CIFAR_10.index("frog")] = 9
    logits_NC[:, CIFAR_10.index("ship")] = 1
    assert set(of_split(logits_NC, split).logits_NC.argmax(1).tolist()) == {8}


def test_what_is_pickled_or_cut_short_is_refused(root: Path) -> None:
    place = root / "cifar10"
    place.mkdir()
    (place / "test_batch").write_bytes(b"\x80\x04}q\x00.")  # the version for Python
    with pytest.raises(DataError, match="pickled, which can run code, and is never opened") as caught:
        ENTRY["cifar-10"]()
    assert caught.value.code == "D17"
    (place / "test_batch").unlink()
    write_binary(root / "cifar-10-batches-bin")
    with pytest.raises(DataError, match=r"train has 30 pictures instead of 45,000.*id has 20 pictures"):
        ENTRIES[0]()
    shift = root / "CIFAR-10.1"
    shift.mkdir()
    np.save(shift / "cifar10.1_v6_data.npy", np.array([{}], object), allow_pickle=True)
    np.save(shift / "cifar10.1_v6_labels.npy", np.zeros(1))
    with pytest.raises(DataError, match=r"v6_data\.npy is not an array of numbers"):
        ENTRY["cifar-10"]()
    path = root / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"test_batch\.bin has 61,455 bytes, which are not pictures of 3,073"):
        ENTRY["cifar-10"]()
