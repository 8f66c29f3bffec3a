"""Named datasets, one file per family: splits, classes, templates, licence, citation, where to get it."""

from __future__ import annotations

from collections.abc import Callable

from likewise.data.records import Dataset
from likewise.datasets import iconshift

DATASETS: dict[str, Callable[[], Dataset]] = {"iconshift": iconshift.dataset}
"""Name to a function that opens it. A path of the same name on disk wins nothing: names come first."""


def about(name: str) -> str:
    """The dataset's data card, as Markdown."""
    return {"iconshift": iconshift.card}[name]()
