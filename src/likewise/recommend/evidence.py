"""What is known of methods in each regime: our own table, `offline.json`, and what papers found, `papers.yaml`."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from likewise.config import Config
from likewise.metrics import standard_error
from likewise.recommend.regime import Amount, Likeness

HERE = Path(__file__).parent

Priority = Literal["balanced", "in-distribution", "robust"]
PRIORITIES: tuple[Priority, ...] = ("balanced", "in-distribution", "robust")


class Trial(Config):
    """One method on one data set with one seed: shares right of the report pictures.

    `id` and `ood` (the mean of the shifts) at the alpha that the run chose on select; `ood_half` at alpha 0.5, or the
    same as `ood` for methods without a path.
    """

    method: str
    seed: int
    id: float
    ood: float
    ood_half: float

    def share(self, priority: Priority) -> float:
        """What counts under a priority."""
        if priority == "balanced":
            return (self.id + self.ood) / 2
        return self.id if priority == "in-distribution" else self.ood_half


class Evidence(Config):
    """Every method on one data set in one regime, of an offline run: which, how long, on how many report pictures."""

    data: str
    amount: Amount
    likeness: Likeness
    per_class: float
    """Training pictures a class, median."""
    pictures: int
    epochs: int
    batch: int
    n_id: int
    n_ood: int
    trials: tuple[Trial, ...]

    @property
    def steps(self) -> int:
        """Of each stage that trains by steps."""
        return self.epochs * math.ceil(self.pictures / self.batch)

    @property
    def label(self) -> str:
        """As reasons name it."""
        return f"{self.data.partition('+')[0]}, {self.per_class:g} pictures a class"

    def scores(self, priority: Priority) -> dict[str, Score]:
        """Of each method, its mean over seeds; the error is that of the pictures and that of the seeds together."""
        n = {"in-distribution": self.n_id, "robust": self.n_ood, "balanced": self.n_id + self.n_ood}[priority]
        found = {}
        for method in dict.fromkeys(trial.method for trial in self.trials):
            shares = [trial.share(priority) for trial in self.trials if trial.method == method]
            spread = statistics.variance(shares) / len(shares) if len(shares) > 1 else 0.0
            mean = statistics.fmean(shares)
            found[method] = Score(mean, math.sqrt(standard_error(mean, n) ** 2 + spread))
        return found


class Score(NamedTuple):
    """A share right and its standard error."""

    value: float
    error: float


class Table(Config):
    """An offline run as it ships: with which encoder, made when by which command."""

    encoder: str
    command: str
    evidence: tuple[Evidence, ...]


class Finding(Config):
    """What a paper found: of which data, and the methods that it names, the best first.

    `amount` and `likeness` None: of any. `decides`: the order breaks ties of ours; else it is told and no more.
    """

    source: str
    says: str
    amount: Amount | None = None
    likeness: Likeness | None = None
    priorities: tuple[Priority, ...] = PRIORITIES
    methods: tuple[str, ...]
    decides: bool = True


class Papers(Config):
    """The findings that ship."""

    findings: tuple[Finding, ...]


@functools.cache
def offline() -> Table:
    """Our own evidence, made by `tools/build_evidence.py` from `likewise bench offline`."""
    return Table.read(HERE / "offline.json")


@functools.cache
def papers() -> tuple[Finding, ...]:
    """What papers found, where it was read in the paper."""
    return Papers.read(HERE / "papers.yaml").findings


def pooled(evidence: Sequence[Evidence], priority: Priority) -> dict[str, Score]:
    """The mean over data sets, of the methods that all of them have."""
    each = [one.scores(priority) for one in evidence]
    shared = [method for method in each[0] if all(method in scores for scores in each)] if each else []
    return {
        method: Score(
            statistics.fmean(scores[method].value for scores in each),
            math.sqrt(sum(scores[method].error ** 2 for scores in each)) / len(each),
        )
        for method in shared
    }
