"""How a stage is fitted: gradient methods, and the solvers of heads on constant features."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from likewise.config import Config

MOST_SHOTS = 16
"""`per_shot` counts at most so many pictures a class: the published few-shot budgets end there."""


class Descent(Config):
    """What gradient methods share: linear warm-up, then cosine to zero; matrices decay, vectors only with `decay_all`.

    `lr` has no default: it decides the answer. `warmup` is a fraction of all steps, `clip` the largest gradient norm
    (0: none). `sampling` "images": each picture once an epoch, the last batch short; "pairs": rows are (picture,
    template) pairs, as FLYP's code draws them; "features": as images, but in the evaluation view, whose features are
    computed once (the image tower up to its projection must be held). `per_shot`: steps for each picture that a class
    has, up to 16, instead of epochs.
    """

    lr: float = Field(gt=0)
    epochs: int = Field(10, ge=1)
    batch: int = Field(128, ge=1)
    warmup: float = Field(0.1, ge=0, le=1)
    decay: float = Field(0.1, ge=0)
    decay_all: bool = False
    clip: float = Field(1.0, ge=0)
    sampling: Literal["images", "pairs", "features"] = "images"
    per_shot: int = Field(0, ge=0)

    def steps(self, pictures: int, classes: int) -> int:
        """How many optimiser steps on so many training pictures of so many classes."""
        if self.per_shot:
            return self.per_shot * max(1, min(MOST_SHOTS, round(pictures / max(1, classes))))
        return self.epochs * math.ceil(pictures / self.batch)


class AdamW(Descent):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), betas 0.9 and 0.999."""

    kind: Literal["adamw"] = "adamw"


class Sgd(Descent):
    """Stochastic gradient descent with momentum 0.9, as the prompt papers train."""

    kind: Literal["sgd"] = "sgd"


class Lbfgs(Config):
    """The exact solution of a linear head on constant features, along a path of L2 strengths.

    Minimises mean cross-entropy + |weight|^2 / (2 C N) for each C of `path`, each started from the last; the C with the
    best select accuracy is kept, the smaller of equals. `path` holds C as scikit-learn's LogisticRegression names it.
    """

    kind: Literal["lbfgs"] = "lbfgs"
    path: tuple[PositiveFloat, ...] = Field(
        default=(1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0), min_length=1
    )
    tolerance: float = 1e-6
    iterations: int = 500


class Majorize(Config):
    """LP++'s solver on constant features (`heads.lpp`): full-batch steps whose sizes the data give.

    The epoch with the best select accuracy is kept, looked at every tenth one.
    """

    kind: Literal["majorize"] = "majorize"
    epochs: int = Field(300, ge=1)


Fit = Annotated[AdamW | Sgd | Lbfgs | Majorize, Field(discriminator="kind")]
