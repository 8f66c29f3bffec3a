"""Digits: 1,797 handwritten digits of 8 x 8 pixels, as scikit-learn carries them.

The test part of Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits (UCI, CC BY 4.0). Train 1,000,
select 297, in-distribution report 500, drawn by key. Writers are not recorded, so splits may share them.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from likewise.data.records import Dataset
from likewise.datasets.arrays import Arrays, dataset_of, table_of
from likewise.datasets.named import Named
from likewise.errors import MachineError
from likewise.keys import key_rng

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("{}", "the number {}", "a handwritten digit, {}", "a drawing of the digit {}")


def read(_: Path) -> Dataset:
    """The digits, ink dark on white. Raises `MachineError` E03 where scikit-learn is not installed."""
    try:
        carried = version("scikit-learn")
    except PackageNotFoundError:
        raise MachineError(
            "E03", "digits come with scikit-learn, which is not installed: pip install scikit-learn."
        ) from None
    return dataset_of("digits", table_of("digits", ["scikit-learn", carried], _parts), NAMES, TEMPLATES)


def _parts() -> dict[str, Arrays]:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels_NHW = 255 - np.round(found.images * 255 / 16)
    order = key_rng("digits", "split").permutation(len(pixels_NHW))
    cuts = {"train": order[:1000], "select": order[1000:1297], "id": order[1297:]}
    return {name: (pixels_NHW[rows], found.target[rows]) for name, rows in cuts.items()}


ENTRIES = (
    Named(
        "digits",
        "Digits: 1,797 handwritten digits of 8 x 8 pixels, as scikit-learn carries them.",
        read,
        licence="CC BY 4.0",
        paper="Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI",
        counts={"train": 1000, "select": 297, "id": 500},
        notes="The test part of the original. Splits are drawn by key; writers are unknown, so they may share some.",
    ),
)
