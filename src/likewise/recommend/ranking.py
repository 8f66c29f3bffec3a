"""Which methods lead in a regime: our own evidence first, what papers found where that cannot tell, then size."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from likewise.recommend.evidence import Evidence, Finding, Priority, Score, near, nearest, pooled
from likewise.recommend.regime import Likeness, amount_of


class Question(NamedTuple):
    """What methods are ranked by: training pictures a class, how like the pretraining they are, and what counts."""

    per_class: float
    likeness: Likeness
    priority: Priority


class Ranking(NamedTuple):
    """The methods that can be told apart from the best by nothing of ours (`close`), the recommended one first; then
    the others (`behind`) from the best to the worst. `scores` are shares right by the priority; `findings` what papers
    say of this regime; `slow` those of `close` that come last because they are `inert`.
    """

    close: tuple[str, ...]
    behind: tuple[str, ...]
    scores: Mapping[str, Score]
    evidence: tuple[Evidence, ...]
    findings: tuple[Finding, ...]
    slow: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """From the recommended one on."""
        return self.close + self.behind


def rank(
    asked: Question, evidence: Sequence[Evidence], findings: Sequence[Finding], sizes: Mapping[str, int],
    slow: Collection[str] = (),
) -> Ranking:  # fmt: skip
    """Rank the methods that `sizes` names with how many numbers each trains; `slow` ones do not lead (`inert`).

    Ours is the evidence of data as like the pretraining, of the number of pictures nearest to what is asked, however
    far that is (`NEAR`). Where there is none as like, papers alone decide: what was measured on other data misled
    (`docs/held-out-advice.md`).
    """
    own = nearest([one for one in evidence if one.likeness == asked.likeness], asked.per_class)
    return ordered(asked, own, pooled(own, asked.priority), findings, sizes, slow)


def ordered(
    asked: Question, own: tuple[Evidence, ...], found: Mapping[str, Score], findings: Sequence[Finding],
    sizes: Mapping[str, int], slow: Collection[str] = (),
) -> Ranking:  # fmt: skip
    """Methods by what was `found` of them in evidence of ours: the best and all within one standard error of it are
    close, as `run.choose` takes it (Breiman et al. 1984, CART, section 3.4.3).

    Of these the first in a paper's order for this regime leads; where papers are silent, and under the priority
    `robust` always, the one that trains fewest numbers. Where nothing was found, all are close.
    """
    amount = amount_of(asked.per_class)
    told = tuple(
        finding for finding in findings
        if asked.priority in finding.priorities
        and finding.amount in (None, amount)
        and finding.likeness in (None, asked.likeness)
    )  # fmt: skip
    scores = {method: score for method, score in found.items() if method in sizes}
    methods = [method for method in sizes if method in scores or not scores]
    best = max(scores.values(), default=Score(0.0, 0.0))
    close = [method for method in methods if not scores or scores[method].value >= best.value - best.error]
    by_paper = [method for finding in told if finding.decides for method in finding.methods]

    def simple(method: str) -> tuple[bool, int, int]:
        known = asked.priority != "robust" and method in by_paper
        return method in slow, by_paper.index(method) if known else len(by_paper), sizes[method]

    behind = sorted(set(methods) - set(close), key=lambda method: (-scores[method].value, sizes[method]))
    close.sort(key=simple)
    return Ranking(tuple(close), tuple(behind), scores, own, told, tuple(name for name in close if name in slow))


def inert(evidence: Sequence[Evidence], per_class: float) -> set[str]:
    """Methods that train and in distribution gained on zero-shot nowhere by more than their standard error: too slow a
    recipe for the encoder of the evidence.

    Asked is the evidence of each data set with about so many pictures a class (`near`), as like the asked data or not:
    where there is nothing to gain no recipe looks slow or quick. So where no method gained at all, none is named.
    """
    gained: dict[str, bool] = {}
    for one in near(evidence, per_class):
        scores = one.scores("in-distribution")
        for method, score in scores.items():
            gained[method] = gained.get(method, False) or score.value > scores["zero-shot"].value + score.error
    none = {method for method, any_ in gained.items() if not any_ and method != "zero-shot"}
    return none if any(gained.values()) else set()
