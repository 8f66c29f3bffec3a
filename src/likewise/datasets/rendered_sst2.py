"""Rendered SST2: sentences of film reviews drawn as pictures (Radford et al. 2021, arXiv:2103.00020)."""

from __future__ import annotations

from pathlib import Path

from likewise.data.records import Dataset
from likewise.datasets.listed import first
from likewise.datasets.named import Named, made, three, tree

NAMES = ("negative", "positive")


def read(folder: Path) -> Dataset:
    """Sentences drawn as pictures, in class folders; the archive calls its second split valid, FLYP val."""
    places = (folder / "train", first(folder, ("valid", "val")), folder / "test")
    splits = three(*(tree(place, NAMES) for place in places))
    return made("rendered-sst2", NAMES, splits, ("a {} review of a movie.",))


ENTRIES = (
    Named(
        "rendered-sst2",
        "Rendered SST2: sentences of film reviews drawn as pictures, negative or positive.",
        read,
        folders=("rendered-sst2", "sst2"),
        needs=("train/negative", "test/negative"),
        get="https://openaipublic.azureedge.net/clip/data/rendered-sst2.tgz, or torchvision's RenderedSST2",
        licence="not verified",
        paper="Radford et al. 2021, arXiv:2103.00020; sentences: Socher et al. 2013, EMNLP",
        counts={"train": 6_920, "select": 872, "id": 1_821},
        classes="414d8f8b517d4dbc",
        notes="FLYP trains on 4, 16 and 32 pictures a class, drawn without a seed 50 times over, and selects on as "
        "many.",
    ),
)
