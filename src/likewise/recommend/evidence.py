"""What is known of methods in each regime: our own table, `offline.json`, and what papers found, `papers.yaml`."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from likewise import files
from likewise.config import Config
from likewise.recommend.regime import Amount, Likeness

HERE = Path(__file__).parent

Priority = Literal["balanced", "in-distribution", "robust"]
PRIORITIES: tuple[Priority, ...] = ("balanced", "in-distribution", "robust")

NEAR = 5.0
"""Ours: numbers of pictures a class within this factor of each other are near. The least at which every number from the
smallest to the largest of digits, 4 and 100, is near one of them.
"""


class Score(NamedTuple):
    """A share right and its standard error."""

    value: float
    error: float


class Trial(Config):
    """One method on one data set with one seed: the share right of the report pictures that counts by each priority.

    `in-distribution` and `balanced` (the mean of that and of the shifts' mean) are at the `alpha` that the run chose on
    select; `robust` is the shifts' mean at alpha 0.5. For methods without a path `alpha` is None, and all are of the
    one model. Errors are of the pictures, as `tools/build_evidence.py` says.
    """

    method: str
    seed: int
    alpha: float | None
    scores: dict[Priority, Score]


class Evidence(Config):
    """Every method on one data set with so many pictures, of an offline run: which, how long, how many numbers."""

    data: str
    shots: int
    """Training pictures a class, as the run asked; 0: all."""
    likeness: Likeness
    per_class: float
    """Training pictures a class, median."""
    pictures: int
    epochs: int
    batch: int
    sizes: dict[str, int]
    """How many numbers each method trained."""
    trials: tuple[Trial, ...]

    @property
    def steps(self) -> int:
        """Of each stage that trains by steps."""
        return self.epochs * math.ceil(self.pictures / self.batch)

    @property
    def label(self) -> str:
        """As reasons name it."""
        return f"{self.data.partition('+')[0]}, {self.per_class:g} pictures a class"

    @property
    def stayed(self) -> set[str]:
        """Methods that are the pretrained model itself here: with every seed select asked for alpha 0."""
        return set(self.sizes) - {trial.method for trial in self.trials if trial.alpha != 0}

    def scores(self, priority: Priority) -> dict[str, Score]:
        """Of each method, its mean over seeds. The error is that of the pictures, which are the same for every seed,
        and that of the seeds, together.
        """
        found = {}
        for method in self.sizes:
            each = [trial.scores[priority] for trial in self.trials if trial.method == method]
            shares = [score.value for score in each]
            spread = statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
            error = statistics.fmean(score.error for score in each)
            found[method] = Score(statistics.fmean(shares), math.hypot(error, spread))
        return found


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
    path = HERE / "offline.json"
    return Table.parse(files.read_json(path), str(path))


@functools.cache
def papers() -> tuple[Finding, ...]:
    """What papers found, where it was read in the paper."""
    return Papers.read(HERE / "papers.yaml").findings


def groups(evidence: Sequence[Evidence]) -> list[tuple[Evidence, ...]]:
    """The evidence of one regime each: of as many shots, and as like the pretraining."""
    found: dict[tuple[int, Likeness], list[Evidence]] = {}
    for one in evidence:
        found.setdefault((one.shots, one.likeness), []).append(one)
    return [tuple(group) for group in found.values()]


def size_of(group: Sequence[Evidence]) -> float:
    """Training pictures a class, the geometric mean over data sets."""
    return statistics.geometric_mean(one.per_class for one in group)


def apart(one: float, other: float) -> float:
    """How many times the larger of two numbers of pictures a class is the smaller; medians of empty classes are 1."""
    small, large = sorted((max(one, 1), max(other, 1)))
    return large / small


def nearest(evidence: Sequence[Evidence], per_class: float) -> tuple[Evidence, ...]:
    """The group whose pictures a class are nearest to so many by their ratio, however far; () of no evidence."""
    return min(groups(evidence), key=lambda group: apart(size_of(group), per_class), default=())


def near(evidence: Sequence[Evidence], per_class: float) -> list[Evidence]:
    """Of each data set, the evidence whose pictures a class are nearest to so many, where they are within `NEAR`."""
    found: dict[str, Evidence] = {}
    for one in sorted(evidence, key=lambda one: apart(one.per_class, per_class)):
        found.setdefault(one.data, one)
    return [one for one in found.values() if apart(one.per_class, per_class) <= NEAR]


def pooled(evidence: Sequence[Evidence], priority: Priority) -> dict[str, Score]:
    """The mean over data sets, of the methods that all of them have."""
    each = [one.scores(priority) for one in evidence]
    shared = [method for method in each[0] if all(method in scores for scores in each)] if each else []
    return {
        method: Score(
            statistics.fmean(scores[method].value for scores in each),
            math.hypot(*(scores[method].error for scores in each)) / len(each),
        )
        for method in shared
    }
