"""Published numbers: which of a suite's cells each is of, and whether these can answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import Field, model_validator

from likewise.config import Config
from likewise.errors import near
from likewise.metrics import NAMED
from likewise.suites.matrix import Cell, instead


class Expect(Config):
    """A published number and where it is from: of one line of the table, or the mean of several.

    `dataset`, `domain` and `shots` may each be one or a list (`datasets`, `domains`). The mean is over what the suite
    has of these: every data set at every one of the counts at which a cell of it stands, each domain alike.
    A source that begins with «memory» is nobody's reading, or is of a setting that nobody knows: it is shown as
    unverified and never decides.
    """

    value: float
    """In percent, as papers print it."""
    source: str
    method: str
    datasets: tuple[str, ...] = Field(min_length=1)
    encoder: str = ""
    domains: tuple[str, ...] = Field(("id",), min_length=1)
    metric: str = "accuracy"
    shots: tuple[int, ...] = Field((0,), min_length=1)
    alpha: float | None = None
    """The point of the path that it is of; None: the one that the table reads."""
    tolerance: float = 1.0
    """Points to either side."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, tree: Any) -> Any:
        """One of a list may be given as itself."""
        if not isinstance(tree, dict):
            return tree
        for one, several in (("dataset", "datasets"), ("domain", "domains")):
            if one in tree and several in tree:
                raise ValueError(f"{one} and {several} are both given; say one of them")
            tree = {several if key == one else key: value for key, value in tree.items()}
        lists = ("datasets", "domains", "shots")
        return {k: (v,) if k in lists and isinstance(v, str | int) else v for k, v in tree.items()}

    def among(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells whose number, or mean of numbers, it is."""
        return [
            cell
            for cell in cells
            if cell.method.called == self.method
            and cell.dataset in self.datasets
            and cell.shots in self.shots
            and self.encoder in ("", cell.encoder)
        ]

    @property
    def verified(self) -> bool:
        """Whether the number was read in its source."""
        return not self.source.lower().startswith("memory")


def unanswerable(expected: Expect, cells: Sequence[Cell]) -> str:
    """Why no cells of a suite can answer what is expected; "" where they can."""
    about = expected.among(cells)
    parts: dict[str, tuple[Iterable[object], Callable[[Cell], object]]] = {
        "method": ((expected.method,), lambda cell: cell.method.called),
        "encoder": (filter(None, (expected.encoder,)), lambda cell: cell.encoder),
        "data set": (expected.datasets, lambda cell: cell.dataset),
        "shots": (expected.shots, lambda cell: cell.shots),
    }
    for word, (asked, of) in parts.items():
        there, here = ({of(cell): None for cell in some} for some in (cells, about))
        for one in asked:
            if one not in there:
                return f"with {word} «{one}», which is not in the suite.{near(str(one), map(str, there))}"
            if about and one not in here:
                return f"with {word} «{one}», where it has no cell"
    if not about:
        return "where it has no cell: its data, shots and encoder are nowhere together"
    return next(filter(None, (_unmeasured(expected, cell) for cell in about)), "")


def _unmeasured(expected: Expect, cell: Cell) -> str:
    """Why a cell of the right method and data has no such number; "" where it may."""
    episodes, most = cell.episodes, cell.block.most
    known = [*NAMED, *(map(episodes.called, episodes.shots) if episodes else ())]
    if expected.metric not in known:
        return f"by «{expected.metric}», which nothing is measured by.{near(expected.metric, known)}"
    beside = {"ood-mean", episodes.of if episodes else ""}
    if most and (left := [domain for domain in expected.domains if domain not in {*most} | beside]):
        return f"of {left[0]}, and most leaves its pictures out; name it there"
    if expected.alpha is not None and expected.alpha not in (grid := cell.block.grid(cell.method)):
        return f"at alpha {expected.alpha:g}, and {instead(grid)}"
    return ""
