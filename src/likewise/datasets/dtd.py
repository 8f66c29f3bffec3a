"""Describable Textures (DTD), the first of the official splits (Cimpoi et al. 2014); CoOp's own is coop-dtd."""

from __future__ import annotations

from pathlib import Path

from likewise.data.records import Dataset
from likewise.datasets.listed import by_class, lines, listed
from likewise.datasets.named import Named, made, three

TEMPLATES = tuple(f"a photo of {article} {{}} {kind}." for article in ("a", "the")
                  for kind in ("texture", "pattern", "thing", "object"))  # fmt: skip
"""OpenAI's for CLIP (Radford et al. 2021, arXiv:2103.00020)."""


def read(folder: Path) -> Dataset:
    """The first of the ten official splits."""
    labels = folder / "labels"
    folders = sorted({line.split("/")[0] for line in lines(labels / "train1.txt")})
    train, select, test = (
        listed(folder / "images", by_class(labels / f"{part}1.txt", folders)) for part in ("train", "val", "test")
    )
    return made("dtd", folders, three(train, select, test), TEMPLATES)


ENTRIES = (
    Named(
        "dtd",
        "Describable Textures: 47 classes; the first of the ten official splits.",
        read,
        folders=("dtd", "dtd/dtd"),
        needs=("labels/train1.txt", "images"),
        get="https://www.robots.ox.ac.uk/~vgg/data/dtd, or torchvision's DTD",
        licence="not verified",
        paper="Cimpoi et al. 2014, arXiv:1311.3618",
        counts={"train": 1_880, "select": 1_880, "id": 1_880},
        classes="830b9f149466303e",
        notes="CoOp's split, by half as large again to train on, is coop-dtd. A few pictures show several textures and "
        "count for one.",
    ),
)
