"""What an image tower is worth with text thrown away: its features judged on labelled data, at points of a path."""

# D feature width, N pictures.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from likewise.data.records import Dataset, Split
from likewise.judge import KS, Labelled, Probe, linear, scored
from likewise.predict import features
from likewise.run.results import row
from likewise.run.stage import Job

CHOOSES = "knn@20"
"""The metric by which alpha is chosen: DINO's authors found 20 neighbours the best."""


def labelled(job: Job, split: Split) -> Labelled:
    """A split's features before any projection, of the job's encoder as it now is."""
    return Labelled(features(job.encoder, split, "pooled", **job.reading), split.labels_N)


class Judge:
    """One labelled data set: its training pictures vote and fit the probe, whose strength its select pictures choose.

    The probes are kept between the two readings, by the point of the path they are for.
    """

    def __init__(self, name: str, data: Dataset, first: bool) -> None:
        self.name, self.data, self.first = name, data, first
        self._probes: dict[Any, Probe] = {}

    @property
    def cut(self) -> str:
        """What to say of votes that ask more neighbours than there are training pictures; "" where none does."""
        n = len(self.data.train)
        more = [f"knn@{k}" for k in KS if k > n]
        return f"{self.name}: {', '.join(more)} are votes of all its {n} training pictures" if more else ""

    def domain(self, split: str) -> str:
        """What a split is called in the results: the first judge's go by their own names."""
        return split if self.first else f"{self.name}:{split}"

    def rows(
        self, job: Job, method: str, alpha: float | None, splits: Mapping[str, Split], role: str
    ) -> list[dict[str, Any]]:
        """Every metric on these splits, of the encoder as it now is, as results rows."""
        classes = len(self.data.classes)
        bank = labelled(job, self.data.train)
        point = (method, alpha) if alpha else None  # at 0 every method is the pretrained encoder
        if point not in self._probes:
            self._probes[point] = linear(bank, labelled(job, self.data.select), classes)
        out = []
        for name, split in splits.items():
            found = scored(bank, self._probes[point], labelled(job, split), classes)
            out += [row(method, alpha, role, self.domain(name), metric, e) for metric, e in found.items()]
        return out
