"""What a named set of pictures with captions is: a place like a named dataset's, and texts for classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from likewise.data.captions import PairOptions, Pairs
from likewise.data.records import Record, Split
from likewise.datasets.named import Named
from likewise.errors import UsageError


@dataclass(frozen=True)
class Captioned:
    """A set of captions under a name. Calling it opens it; nothing is read before, and pictures only when needed.

    `place` says where it is looked for, what it must amount to (`pairs` and `held`), licence, paper and notes. Of the
    options `seed`, `pairs` and `max_bad` count; `held` only whether it is 0, where a published test is held.
    """

    place: Named
    read: Callable[[Path, PairOptions], Pairs]

    def __call__(self, options: PairOptions | None = None) -> Pairs:
        """Raises `DataError` D12 where it is not here, D13 to D15 for damaged files, D17 for what is not whole."""
        options, folder = options or PairOptions(), self.place.here()
        found = self.read(folder, options)
        self.place.check(found.audit, (), folder)
        found = found if options.held else holding(found, (), ())
        return found.subset(options.pairs, options.seed) if options.pairs else found

    @property
    def name(self) -> str:
        return self.place.name

    def card(self) -> str:
        """The data card, as Markdown."""
        return self.place.card()


def captions_of(name: str, title: str, **about: Any) -> Named:
    """The place of a set of captions, with more fields of `Named`'s. Opened as a dataset it raises `UsageError` U03."""
    return Named(name, title, partial(_no_classes, name), **about)


def _no_classes(name: str, _: Path) -> NoReturn:
    raise UsageError("U03", f"{name} has captions and no classes. Train on it with likewise caption {name}.")


def holding(pairs: Pairs, held: Iterable[Record], captions: Iterable[tuple[str, ...]]) -> Pairs:
    """The pairs with these pictures held."""
    split = Split("held", "report", tuple(held))
    pairs.audit.counts = {"pairs": {"": len(pairs)}, "held": {"": len(split)}}
    return Pairs(pairs.name, pairs.split, pairs.captions, pairs.kin, split, tuple(captions), pairs.audit)
