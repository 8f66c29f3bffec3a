"""PatchCamelyon from made-up HDF5 files: exact pictures, once written; where h5py is missing, a stand-in reads them."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType

import numpy as np
import pytest

from likewise.datasets.pcam import ENTRIES
from likewise.errors import DataError, MachineError

REAL = importlib.util.find_spec("h5py") is not None
(FULL,) = ENTRIES
ENTRY = replace(FULL, counts={})
SIZES = {"train": 7, "valid": 3, "test": 5}


class StandIn:
    """As much of `h5py.File` as is used, over a file of `numpy.save`."""

    def __init__(self, path: Path, mode: str) -> None:
        try:
            self.array = np.load(path)
        except ValueError as error:  # h5py raises this
            raise OSError(str(error)) from None
        self.key = path.stem[-1]

    def __getitem__(self, key: str) -> np.ndarray:
        return {self.key: self.array}[key]

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


@pytest.fixture(autouse=True)
def h5py(monkeypatch: pytest.MonkeyPatch) -> None:
    if not REAL:
        module = ModuleType("h5py")
        module.File = StandIn  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "h5py", module)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if REAL:
        import h5py

        with h5py.File(path, "w") as file:
            file[path.stem[-1]] = array
    else:
        with open(path, "wb") as file:
            np.save(file, array)


@pytest.fixture
def copy(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in SIZES.items():
        pixels = rng.integers(0, 256, (n, 6, 6, 3), dtype=np.uint8)
        labels = rng.integers(0, 2, (n, 1, 1, 1), dtype=np.uint8)
        stem = f"camelyonpatch_level_2_split_{part}"
        save(root / "patchcamelyon" / f"{stem}_x.h5", pixels)
        save(root / "patchcamelyon" / f"{stem}_y.h5", labels)
        arrays[part] = pixels, labels.reshape(-1)
    return arrays


Copy = dict[str, tuple[np.ndarray, np.ndarray]]


def test_pictures_are_exact_and_in_order(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.datasets.pcam.STEP", 2)  # several batches
    data = ENTRY()
    assert data.classes.names == ("lymph node", "lymph node containing metastatic tumor tissue")
    report = data.read_report("test")
    for split, part in ((data.train, "train"), (data.select, "valid"), (report["id"], "test")):
        pixels, labels = copy[part]
        assert split.labels_N.tolist() == labels.tolist()
        for i in range(len(split)):
            assert np.array_equal(np.asarray(split.open(i)), pixels[i])
    with pytest.raises(DataError, match="train has 7 pictures instead of 262,144"):
        FULL()


def test_it_is_written_once_and_again_when_its_files_change(
    copy: Copy, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ENTRY().train.records[0].path
    monkeypatch.setitem(sys.modules, "h5py", None)  # importing it now fails
    assert ENTRY().train.records[0].path == first
    source = root / "patchcamelyon" / "camelyonpatch_level_2_split_train_y.h5"
    os.utime(source, ns=(1, 1))
    with pytest.raises(MachineError, match="pip install h5py") as caught:
        ENTRY()
    assert caught.value.code == "E03"
    assert not list(first.parent.parent.glob(".*"))  # nothing half written stays


def test_a_damaged_copy_is_refused(copy: Copy, root: Path) -> None:
    place = root / "patchcamelyon"
    save(place / "camelyonpatch_level_2_split_valid_y.h5", np.zeros((2, 1, 1, 1), dtype=np.uint8))
    with pytest.raises(DataError, match="has 2 labels for 3 pictures"):
        ENTRY()
    save(place / "camelyonpatch_level_2_split_valid_y.h5", np.full((3, 1, 1, 1), 2, dtype=np.uint8))
    with pytest.raises(DataError, match=r"has labels other than 0 and 1 \(2\)"):
        ENTRY()
    (place / "camelyonpatch_level_2_split_valid_y.h5").write_bytes(b"not HDF5")
    with pytest.raises(DataError, match="cannot be read"):
        ENTRY()
    (place / "camelyonpatch_level_2_split_test_x.h5").unlink()
    with pytest.raises(DataError, match=r"test_x.h5 is not there"):
        ENTRY()
