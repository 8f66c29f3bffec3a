"""Which methods lead in a regime: our own evidence first, what papers found where that cannot tell, then size."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from likewise.recommend.evidence import Evidence, Finding, Priority, Score, pooled
from likewise.recommend.regime import Amount, Likeness


class Ranking(NamedTuple):
    """The methods that can be told apart from the best by nothing of ours (`close`), the recommended one first; then
    the others (`behind`) from the best to the worst. `scores` are shares right by the priority; `findings` what papers
    say of this regime.
    """

    close: tuple[str, ...]
    behind: tuple[str, ...]
    scores: Mapping[str, Score]
    evidence: tuple[Evidence, ...]
    findings: tuple[Finding, ...]

    @property
    def order(self) -> tuple[str, ...]:
        """From the recommended one on."""
        return self.close + self.behind


def rank(
    place: tuple[Amount, Likeness], priority: Priority, evidence: Sequence[Evidence], findings: Sequence[Finding],
    sizes: Mapping[str, int], inert: Collection[str] = (),
) -> Ranking:  # fmt: skip
    """Rank the methods that `sizes` names with how many numbers each trains.

    The best of ours in this regime and all within one standard error of it are close, as `run.choose` takes it
    (Breiman et al. 1984, CART, section 3.4.3). Of these the first in a paper's order for this regime leads; where
    papers are silent, and under the priority `robust` always, the one that trains fewest numbers. Without evidence
    of ours for the regime, all are close.
    """
    own = tuple(one for one in evidence if (one.amount, one.likeness) == place)
    told = tuple(
        finding for finding in findings
        if priority in finding.priorities
        and finding.amount in (None, place[0])
        and finding.likeness in (None, place[1])
    )  # fmt: skip
    scores = {method: score for method, score in pooled(own, priority).items() if method in sizes}
    asked = [method for method in sizes if method in scores or not scores]
    best = max(scores.values(), default=Score(0.0, 0.0))
    close = [method for method in asked if not scores or scores[method].value >= best.value - best.error]
    by_paper = [method for finding in told if finding.decides for method in finding.methods]

    def simple(method: str) -> tuple[bool, int, int]:
        known = priority != "robust" and method in by_paper
        return method in inert, by_paper.index(method) if known else len(by_paper), sizes[method]

    behind = sorted(set(asked) - set(close), key=lambda method: (-scores[method].value, sizes[method]))
    return Ranking(tuple(sorted(close, key=simple)), tuple(behind), scores, own, told)


def inert(evidence: Sequence[Evidence], amount: Amount) -> set[str]:
    """Methods that train and, with so much data, gained on zero-shot nowhere by more than their standard error: too
    slow a recipe for the encoder of the evidence, which a regime where there is nothing to gain would hide.
    """
    gained: dict[str, bool] = {}
    for one in (one for one in evidence if one.amount == amount):
        scores = one.scores("in-distribution")
        for method, score in scores.items():
            gained[method] = gained.get(method, False) or score.value > scores["zero-shot"].value + score.error
    return {method for method, any_ in gained.items() if not any_ and method != "zero-shot"}
