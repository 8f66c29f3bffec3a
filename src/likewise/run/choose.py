"""Which model: the one-standard-error rule on the select split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Contender(NamedTuple):
    """A point of a path, how many numbers it trained or keeps, and its accuracy, or the select split's own measure (a
    fraction) with its standard error (`metrics.error_of`), on n select pictures.
    """

    method: str
    alpha: float | None
    kept: int
    accuracy: float
    n: int
    error: float


class Choice(NamedTuple):
    """What was chosen, and the sentence that says why."""

    method: str
    alpha: float | None
    why: str


def name_of(method: str, alpha: float | None) -> str:
    """A method and, where it has one, its alpha."""
    return method if alpha is None else f"{method} at alpha {alpha:g}"


def choose(contenders: Sequence[Contender], measure: str = "") -> Choice:
    """Of those within one standard error of the best, the one that adds fewest numbers, at the smallest alpha.

    Breiman et al. 1984 (CART, section 3.4.3): what selection data cannot tell apart is decided for the simpler one,
    here the one that changes least. The standard error is the best one's. `measure` is what the numbers are, where the
    sentence has to say it.
    """
    best = max(contenders, key=lambda c: c.accuracy)
    error = best.error
    close = [c for c in contenders if c.accuracy >= best.accuracy - error]
    chosen = min(close, key=lambda c: (c.kept, 1.0 if c.alpha is None else c.alpha))
    unit = f"% {measure}".strip()
    top = f"{100 * best.accuracy:.1f} {unit} on the {best.n} select pictures ({name_of(best.method, best.alpha)})"
    if chosen is best and chosen.kept:
        why = f"best with {top}, and nothing smaller comes within one standard error ({100 * error:.1f})."
    elif chosen is best:
        why = f"best with {top}: nothing that adds to it does better."
    else:
        smallest = "" if chosen.alpha is None else ", at the smallest alpha"
        adds = f"of those that close it adds fewest numbers{smallest}" if chosen.kept else "it adds nothing"
        why = (
            f"{100 * chosen.accuracy:.1f} {unit} on the select pictures is within one standard error "
            f"({100 * error:.1f}) of the best, {top}; {adds}."
        )
    return Choice(chosen.method, chosen.alpha, why)
