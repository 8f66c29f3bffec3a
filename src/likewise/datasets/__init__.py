"""Named datasets, one file per family: splits, classes, templates, licence, citation, where to get it."""

from __future__ import annotations

from collections.abc import Callable

from likewise.data.captions import PairOptions, Pairs
from likewise.data.records import Dataset
from likewise.datasets import digits, fashion_mnist, icon_captions, iconshift

DATASETS: dict[str, Callable[[], Dataset]] = {
    "iconshift": iconshift.dataset, "digits": digits.dataset, "fashion-mnist": fashion_mnist.dataset,
}  # fmt: skip
"""Name to a function that opens it. A path of the same name on disk wins nothing: names come first."""

CAPTIONS: dict[str, Callable[[PairOptions | None], Pairs]] = {"icon-captions": icon_captions.pairs}
"""The same, for pictures with captions instead of classes."""

CARDS: dict[str, Callable[[], str]] = {
    "iconshift": iconshift.card, "digits": digits.card, "fashion-mnist": fashion_mnist.card,
    "icon-captions": icon_captions.card,
}  # fmt: skip


def about(name: str) -> str:
    """The data card of one of them, as Markdown."""
    return CARDS[name]()
