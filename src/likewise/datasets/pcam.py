"""PatchCamelyon: patches of lymph nodes, from its HDF5 files (Veeling et al. 2018, arXiv:1806.03962).

A picture in HDF5 can be read by h5py alone and never by two processes at once, so all are written once, as PNG, into
Arrow files in the cache, which are mapped and not loaded.
"""

# H height, W width, N pictures.

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from likewise import files
from likewise.config import fingerprint
from likewise.data.records import Dataset, Record, Role, Split
from likewise.datasets.arrays import png, state_of
from likewise.datasets.named import Named, made
from likewise.errors import DataError, MachineError, some

NAMES = ("lymph node", "lymph node containing metastatic tumor tissue")
TEMPLATES = ("this is a photo of {}",)
PARTS: dict[str, tuple[str, Role]] = {
    "train": ("train", "train"), "valid": ("select", "select"), "test": ("id", "report"),
}  # fmt: skip
"""PatchCamelyon's word for a split, ours, and what it is for."""
STEP = 1024
"""Pictures read and written at a time."""
SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.int64())])


def read(folder: Path) -> Dataset:
    """The official splits. Raises `MachineError` E03 where h5py is missing, `DataError` D17 for a damaged copy."""
    place = kept(folder)
    splits = []
    for part, (called, role) in PARTS.items():
        path = place / f"{part}.arrow"
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            labels_N = stream.read_all().column("label").to_pylist()
        records = tuple(Record(f"{part}:{i}", label, path, i) for i, label in enumerate(labels_N))
        splits.append(Split(called, role, records))
    return made("pcam", NAMES, splits, TEMPLATES, ("0", "1"))


def kept(folder: Path) -> Path:
    """The cache's folder of the pictures of these HDF5 files, written if it is not there."""
    sources = [path for part in PARTS for path in _sources(folder, part)]
    place = files.cache_folder() / "datasets" / f"pcam-{fingerprint([1, state_of(sources)])}"

    def fill(fresh: Path) -> None:
        for part in PARTS:
            with pa.OSFile(str(fresh / f"{part}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as stream:
                for batch in _batches(folder, part):
                    stream.write_batch(batch)

    # 6.5 GB, renamed into place when written: its sums are not looked at again each time
    return files.once(place, fill, lambda place: (place / files.MANIFEST).is_file())


def _sources(folder: Path, part: str) -> list[Path]:
    paths = [folder / f"camelyonpatch_level_2_split_{part}_{kind}.h5" for kind in ("x", "y")]
    for path in paths:
        if not path.is_file():
            raise DataError("D17", f"{path} is not there (unpack it, if it is a .gz). Is the copy whole?")
    return paths


def _batches(folder: Path, part: str) -> Iterator[pa.RecordBatch]:
    h5py = _h5py()
    pictures, labels = _sources(folder, part)
    try:
        with h5py.File(pictures, "r") as of_x, h5py.File(labels, "r") as of_y:
            pixels_NHW, labels_N = of_x["x"], np.asarray(of_y["y"]).reshape(-1)  # pixels with their three colours
            if len(pixels_NHW) != len(labels_N):
                raise DataError("D17", f"{labels} has {len(labels_N):,} labels for {len(pixels_NHW):,} pictures. Get "
                                "both again.")  # fmt: skip
            if strange := set(np.unique(labels_N).tolist()) - {0, 1}:
                raise DataError(
                    "D17", f"{labels} has labels other than 0 and 1 ({some(map(str, strange))}). Get it again."
                )
            for start in range(0, len(labels_N), STEP):
                images = [png(pixels_HW) for pixels_HW in pixels_NHW[start : start + STEP]]
                yield pa.record_batch([images, [int(y) for y in labels_N[start : start + STEP]]], schema=SCHEMA)
    except (OSError, KeyError) as error:
        raise DataError("D17", f"{pictures} or {labels.name} cannot be read ({error}). Get them again.") from None


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise MachineError(
            "E03", "PatchCamelyon is kept in HDF5, which h5py reads, and that is not installed: pip install h5py."
        ) from None


ENTRIES = (
    Named(
        "pcam",
        "PatchCamelyon: 327,680 patches (96 x 96) of lymph node sections, with tumour tissue in the middle or without.",
        read,
        folders=("patchcamelyon", "pcam"),
        needs=("camelyonpatch_level_2_split_train_x.h5",),
        get="the six camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5 of github.com/basveeling/pcam, unpacked, "
        "or torchvision's PCAM; reading them takes h5py (pip install h5py)",
        licence="CC0",
        paper="Veeling et al. 2018, arXiv:1806.03962; in FLYP: Goyal et al. 2023, arXiv:2212.00638",
        counts={"train": 262_144, "select": 32_768, "id": 32_768},
        classes="99903509a82fd73f",
        notes="Opened for the first time, it is written into the cache as PNG (some 7 GB). FLYP's copies were JPEGs of "
        "Pillow's default quality, which loses detail; these are exact. Names and template are FLYP's. FLYP trains on "
        "4, 16 and 32 pictures a class, drawn without a seed 50 times over, and selects on as many.",
    ),
)
