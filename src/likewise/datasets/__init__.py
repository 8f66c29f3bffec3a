"""Named datasets, one file per family: splits, classes, templates, licence, citation, where to get it.

A module here has `ENTRIES`; adding a dataset is one of them, and a new family one word below.
"""

from __future__ import annotations

from collections.abc import Callable

from likewise.datasets import (
    breeds,
    caltech,
    cars,
    cifar,
    coop,
    cub,
    digits,
    domainnet,
    dtd,
    eurosat,
    fashion_mnist,
    flowers,
    food,
    icon_captions,
    iconshift,
    imagenet,
    mini_imagenet,
    mnist,
    pcam,
    rendered_sst2,
    retrieval,
    vtab,
    wilds,
)
from likewise.datasets.captioned import Captioned
from likewise.datasets.named import Named

__all__ = ["CAPTIONS", "CARDS", "DATASETS", "Named", "about"]

FAMILIES = (
    iconshift,
    digits,
    fashion_mnist,
    mnist,
    imagenet,
    mini_imagenet,
    cub,
    coop,
    food,
    dtd,
    eurosat,
    caltech,
    cars,
    flowers,
    rendered_sst2,
    pcam,
    breeds,
    wilds,
    domainnet,
    cifar,
    vtab,
)
DATASETS: dict[str, Named] = {entry.name: entry for family in FAMILIES for entry in family.ENTRIES}
"""By name; calling one opens it. A path of the same name on disk wins nothing: names come first."""

CAPTIONS: dict[str, Captioned] = {
    entry.name: entry for family in (icon_captions, retrieval) for entry in family.ENTRIES
}
"""The same, for pictures with captions instead of classes."""

CARDS: dict[str, Callable[[], str]] = {name: entry.card for name, entry in (DATASETS | CAPTIONS).items()}


def about(name: str) -> str:
    """The data card of one of them, as Markdown."""
    return CARDS[name]()
