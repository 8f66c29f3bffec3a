"""What advice is worth: on data that it does not know, and beside always taking one recipe."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from likewise.recommend.evidence import Evidence, Priority, Score, offline, papers
from likewise.recommend.ranking import Question, inert, rank

Rule = Callable[[Question, Sequence[Evidence], Mapping[str, int]], str]
"""The method for a question, by evidence and how many numbers each method trains."""


class Judged(NamedTuple):
    """A method that was advised, and the shares right of all methods where it was asked, which advice had not seen."""

    where: str
    method: str
    scores: Mapping[str, Score]

    @property
    def best(self) -> str:
        """The best method there."""
        return max(self.scores, key=lambda name: self.scores[name].value)

    def behind(self, method: str = "") -> float:
        """How many percentage points a method ("": the advised one) is behind the best there."""
        return 100 * (self.scores[self.best].value - self.scores[method or self.method].value)

    def close(self, method: str = "") -> bool:
        """Whether it is within one standard error of the best there."""
        return self.behind(method) <= 100 * self.scores[self.best].error


def advised(asked: Question, evidence: Sequence[Evidence], sizes: Mapping[str, int]) -> str:
    """Our rule: what `rank` puts first, for the encoder of the evidence."""
    return rank(asked, evidence, papers(), sizes, inert(evidence, asked.per_class)).order[0]


def held_out(evidence: Sequence[Evidence], priority: Priority, rule: Rule = advised) -> tuple[Judged, ...]:
    """Each data set, at each number of pictures, advised from the other data sets alone."""
    return tuple(
        Judged(
            held.label,
            rule(
                Question(held.per_class, held.likeness, priority),
                [one for one in evidence if one.data != held.data],
                held.sizes,
            ),
            held.scores(priority),
        )
        for held in evidence
    )


def lost(judged: Sequence[Judged], method: str = "") -> float:
    """Points behind the best, mean; of always taking one method, or ("") of the advice."""
    return statistics.fmean(one.behind(method) for one in judged)


def constants(judged: Sequence[Judged]) -> dict[str, float]:
    """`lost` of always taking one method, the best first: which that is, is hindsight."""
    shared = [method for method in judged[0].scores if all(method in one.scores for one in judged)]
    return dict(sorted(((method, lost(judged, method)) for method in shared), key=lambda item: item[1]))


@functools.cache
def caution(priority: Priority) -> str:
    """What is said with every recommendation, of the evidence that ships."""
    known = offline()
    judged = held_out(known.evidence, priority)
    best, least = next(iter(constants(judged).items()))
    number = len({one.data for one in known.evidence})
    return (
        f"Advice is where to start: asked of each of our {number} data sets by the others alone ({known.encoder}, "
        f"{priority}), it was {lost(judged):.1f} points behind the best recipe on average; always {best}, the best "
        f"single recipe in hindsight, {least:.1f}."
    )
