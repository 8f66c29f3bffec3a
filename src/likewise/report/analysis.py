"""What the stored predictions of a run say: change against the baseline, calibration, classes, mistakes."""

# N pictures, C classes.

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from likewise.metrics import Estimate, Z, correct, half_of_mean, probabilities
from likewise.report.read import ID, MEAN, SELECT, Predictions, Run


@dataclass(frozen=True)
class ClassRow:
    """One class: pictures trained on, found and shown in and out of distribution, and its commonest mistake."""

    label: int
    train: int
    id_hits: int
    id_n: int
    ood_hits: int
    ood_n: int
    mistaken: int | None
    mistakes: int

    @property
    def recall(self) -> float:
        return (self.id_hits + self.ood_hits) / max(1, self.id_n + self.ood_n)


@dataclass(frozen=True)
class Confusion:
    """`n` of `of` pictures of class `true` were read as `read`; `where` holds (domain, row number) of each."""

    true: int
    read: int
    n: int
    of: int
    where: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Offender:
    """A picture whose label the model finds hard to believe: probabilities of the answer and of the label."""

    index: int
    label: int
    answer: int
    p_answer: float
    p_label: float


def change(run: Run, domain: str) -> Estimate:
    """Accuracy of the chosen model less the baseline's, a fraction; `n` is the number of pictures.

    Where both answered the same pictures the interval is of paired differences, which is much narrower than two
    separate intervals suggest. Without stored answers it is NaN.
    """
    new, old = run.final(run.chosen, domain), run.final(run.baseline, domain)
    value = new.value - old.value
    if domain == MEAN:
        parts = [change(run, name) for name in run.ood]
        half = half_of_mean([p.high - p.value for p in parts], [name in run.changed for name in run.ood])
        return Estimate(value, value - half, value + half, new.n)
    ours, theirs = run.predictions(run.chosen, domain), run.predictions(run.baseline, domain)
    if ours is None or theirs is None or not np.array_equal(np.sort(ours.index), np.sort(theirs.index)):
        return Estimate(value, math.nan, math.nan, new.n)
    hits = [correct(p.logits, p.labels)[np.argsort(p.index)].astype(float) for p in (ours, theirs)]
    difference_N = hits[0] - hits[1]
    half = Z * float(difference_N.std()) / math.sqrt(len(difference_N))
    return Estimate(value, value - half, value + half, len(difference_N))


def joined(parts: Sequence[Predictions]) -> Predictions | None:
    """Several domains as one; the row numbers then mean nothing."""
    if not parts:
        return None
    return Predictions(*(np.concatenate([getattr(p, f) for p in parts]) for f in ("logits", "labels", "index")))


def overconfidence(predictions: Predictions) -> float:
    """Mean confidence less accuracy, a fraction; above zero the model promises more than it keeps."""
    confidence_N = probabilities(predictions.logits).max(1)
    return float(confidence_N.mean() - correct(predictions.logits, predictions.labels).mean())


def reported(run: Run) -> dict[str, Predictions]:
    """The chosen model's answers by domain, as far as they were kept."""
    found = {domain: run.predictions(run.chosen, domain) for domain in run.domains}
    return {domain: p for domain, p in found.items() if p is not None}


def train_counts(run: Run) -> list[int]:
    """Pictures to train on, by class id."""
    by_folder = Counter(
        label
        for label, role in zip(run.manifest.get("label", ()), run.manifest.get("role", ()), strict=True)
        if role == "train"
    )
    return [by_folder[folder] or by_folder[name] for folder, name in zip(run.folders, run.names, strict=True)]


def class_rows(run: Run, answers: dict[str, Predictions]) -> list[ClassRow]:
    """A row for each class with a reported picture, the lowest recall first."""
    train = train_counts(run)
    hits, shown, mistaken = Counter[tuple[bool, int]](), Counter[tuple[bool, int]](), Counter[tuple[int, int]]()
    for domain, p in answers.items():
        for label, answer in zip(p.labels.tolist(), p.logits.argmax(1).tolist(), strict=True):
            shown[domain == ID, label] += 1
            hits[domain == ID, label] += label == answer
            mistaken[label, answer] += label != answer
    worst: dict[int, tuple[int, int]] = {}
    for (label, answer), n in mistaken.items():
        if n > worst.get(label, (0, 0))[0]:
            worst[label] = (n, answer)
    rows = []
    for label in sorted({label for _, label in shown}):
        n, answer = worst.get(label, (0, -1))
        counts = (hits[True, label], shown[True, label], hits[False, label], shown[False, label])
        rows.append(ClassRow(label, train[label], *counts, answer if n else None, n))
    return sorted(rows, key=lambda row: (row.recall, -row.id_n - row.ood_n, row.label))


def confusions(answers: dict[str, Predictions], n: int = 9) -> list[Confusion]:
    """The commonest pairs of label and wrong answer over all domains, by count, then by share of the class."""
    where: dict[tuple[int, int], list[tuple[str, int]]] = {}
    total = Counter[int]()
    for domain, p in answers.items():
        for label, answer, index in zip(*(x.tolist() for x in (p.labels, p.logits.argmax(1), p.index)), strict=True):
            total[label] += 1
            if label != answer:
                where.setdefault((label, answer), []).append((domain, index))
    found = [Confusion(*pair, len(places), total[pair[0]], places) for pair, places in where.items()]
    return sorted(found, key=lambda c: (-c.n, c.of, c.true, c.read))[:n]


def offenders(run: Run, n: int = 18) -> list[Offender]:
    """The pictures of the select split with the highest cross-entropy under the chosen model, wrong ones only."""
    p = run.predictions(run.chosen, SELECT)
    if p is None:
        return []
    prob_NC = probabilities(p.logits)
    own_N, answer_N = prob_NC[np.arange(len(p.labels)), p.labels], p.logits.argmax(1)
    order = [i for i in np.argsort(own_N, kind="stable") if answer_N[i] != p.labels[i]][:n]
    return [
        Offender(int(p.index[i]), int(p.labels[i]), int(answer_N[i]), float(prob_NC[i, answer_N[i]]), float(own_N[i]))
        for i in order
    ]
