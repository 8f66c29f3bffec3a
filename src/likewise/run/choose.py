"""Which model: the one-standard-error rule on the select split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from likewise.metrics import standard_error


class Contender(NamedTuple):
    """A point of a path, how many numbers it trained or keeps, and its accuracy (a fraction) on n select pictures."""

    method: str
    alpha: float | None
    kept: int
    accuracy: float
    n: int


class Choice(NamedTuple):
    """What was chosen, and the sentence that says why."""

    method: str
    alpha: float | None
    why: str


def name_of(method: str, alpha: float | None) -> str:
    """A method and, where it has one, its alpha."""
    return method if alpha is None else f"{method} at alpha {alpha:g}"


def choose(contenders: Sequence[Contender]) -> Choice:
    """Of those within one standard error of the best, the one that adds fewest numbers, at the smallest alpha.

    Breiman et al. 1984 (CART, section 3.4.3): what selection data cannot tell apart is decided for the simpler one,
    here the one that changes least. The standard error is the best one's, kept above zero (`metrics.standard_error`).
    """
    best = max(contenders, key=lambda c: c.accuracy)
    error = standard_error(best.accuracy, best.n)
    close = [c for c in contenders if c.accuracy >= best.accuracy - error]
    chosen = min(close, key=lambda c: (c.kept, 1.0 if c.alpha is None else c.alpha))
    top = f"{100 * best.accuracy:.1f} % on the {best.n} select pictures ({name_of(best.method, best.alpha)})"
    if chosen is best:
        why = f"best with {top}, and nothing smaller comes within one standard error ({100 * error:.1f})."
    else:
        why = (
            f"{100 * chosen.accuracy:.1f} % on the select pictures is within one standard error ({100 * error:.1f}) of "
            f"the best, {top}; of those that close it adds fewest numbers, at the smallest alpha."
        )
    return Choice(chosen.method, chosen.alpha, why)
