"""Where data lies: how much there is of it, and how far it is from what the encoder was pretrained on."""

# C classes, M pictures asked about, N reference pictures, W feature width.

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from likewise.data.prompts import fill
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import UsageError
from likewise.heads import text_head
from likewise.judge import nearest
from likewise.metrics import Estimate, accuracy
from likewise.predict import features, head_logits

KIM_LOW, KIM_HIGH = 16, 256
"""Pictures a class up to which data is few, and from which it is many (Kim et al. 2021, section 4.1)."""
MIDDLE = 64
"""Ours, for what lies between: the geometric mean of theirs."""
KIM_SIMILAR = 0.55
"""Zero-shot accuracy from which data is similar (Kim et al. 2021, section 4.1)."""
FAR = 1.07
"""Ours: so many times as far from the reference pictures as these are from each other is dissimilar. With icon-clip
IconShift is at 0.99, Fashion-MNIST and digits at 1.14 (150 select pictures each): three data sets, no more."""
K = 10
"""The neighbour whose distance is taken: deep nearest neighbours find what is out of distribution (Sun et al. 2022,
arXiv:2204.06507, section 3)."""

Amount = Literal["few", "many"]
Likeness = Literal["similar", "dissimilar"]


def amount_of(per_class: float) -> Amount:
    """Few or many pictures a class, by `MIDDLE`."""
    return "few" if per_class < MIDDLE else "many"


class Regime(NamedTuple):
    """A place on the plane of amount and similarity.

    `per_class` is the median of training pictures a class. `zero_shot` is of the select split, None where the encoder
    has no text tower; `above_chance` is the same with chance at 0 and all right at 1. `distance` is None where no
    pictures stand for the pretraining. `namesakes` classes have a name that another has too.
    """

    pictures: int
    classes: int
    per_class: float
    zero_shot: Estimate | None
    distance: float | None
    namesakes: int = 0

    @property
    def doubt(self) -> str:
        """Why zero-shot accuracy says less of the pictures than it seems to; "" where nothing is known against it."""
        if self.zero_shot is None or not self.namesakes:
            return ""
        return f"{self.namesakes} classes share a name, by which no text tells them apart: --classes gives them others."

    @property
    def above_chance(self) -> float | None:
        if self.zero_shot is None:
            return None
        return (self.zero_shot.value - 1 / self.classes) / (1 - 1 / self.classes)

    @property
    def kim_amount(self) -> Amount | None:
        """By Kim et al.'s thresholds; None between them."""
        return "few" if self.per_class <= KIM_LOW else "many" if self.per_class >= KIM_HIGH else None

    @property
    def kim_likeness(self) -> Likeness | None:
        if self.zero_shot is None:
            return None
        return "similar" if self.zero_shot.value >= KIM_SIMILAR else "dissimilar"

    @property
    def amount(self) -> Amount:
        """Ours: theirs without a gap."""
        return amount_of(self.per_class)

    @property
    def likeness(self) -> Likeness | None:
        """Ours: by accuracy above chance where there is one, so that two classes are not similar by being two; by the
        distance where there is none.
        """
        if self.above_chance is not None:
            return "similar" if self.above_chance >= KIM_SIMILAR else "dissimilar"
        return None if self.distance is None else "similar" if self.distance < FAR else "dissimilar"

    def tree(self) -> dict[str, Any]:
        """Plain data, with both readings."""
        return {
            "pictures": self.pictures, "classes": self.classes, "per_class": self.per_class,
            "zero_shot": None if self.zero_shot is None else self.zero_shot._asdict(),
            "above_chance": self.above_chance, "distance": self.distance,
            "kim": {"amount": self.kim_amount, "similarity": self.kim_likeness},
            "ours": {"amount": self.amount, "similarity": self.likeness}, "doubt": self.doubt,
        }  # fmt: skip


def regime(encoder: Encoder, data: Dataset, reference_NW: Tensor | None, **reading: Any) -> Regime:
    """The regime of `data` for this encoder; `reference_NW`: its features of pictures that stand for the pretraining.

    Reads the training and select pictures, never a report split. `reading` is what `predict.features` takes.
    """
    counts = list(data.train.counts(data.classes).values())
    zero_shot = None
    if encoder.has("text"):
        head = text_head(encoder, fill(data.templates, data.classes.names))
        said = head_logits(head, features(encoder, data.select, head.config.reads, **reading), data.select)
        zero_shot = accuracy(said.logits_NC, said.labels_N)
    far = None
    if reference_NW is not None:
        kind = "pooled" if reference_NW.shape[1] == encoder.pooled_width else "shared"
        far = distance(features(encoder, data.select, kind, **reading), reference_NW)  # type: ignore[arg-type]
    namesakes = sum(n for n in Counter(data.classes.names).values() if n > 1)
    return Regime(len(data.train), len(data.classes), float(statistics.median(counts)), zero_shot, far, namesakes)


def distance(query_MW: Tensor, reference_NW: Tensor, k: int = K) -> float:
    """How far pictures are from the reference: mean distance (1 - cosine) to the k-th nearest of it, over the same of
    the reference's own pictures to the others. 1: as far as these are from each other. Labels are not asked.

    Raises `UsageError` for a reference of fewer than two pictures.
    """
    if len(reference_NW) < 2:
        raise UsageError("U02", "a reference needs two pictures at least, whose distance to each other is the measure.")
    k = min(k, len(reference_NW) - 1)
    query_MK, _ = nearest(query_MW, reference_NW, k)
    own_NK, _ = nearest(reference_NW, reference_NW, k + 1)  # the nearest of each is itself
    far, own = (1 - query_MK[:, -1]).mean(), (1 - own_NK[:, -1]).mean()
    return float(far / own.clamp_min(torch.finfo(torch.float32).eps))
