"""On features: what changes the head or the last projection alone, so that pictures are read once.

Departs: the papers draw augmented features anew; ours are those of the evaluation view. Settings of ProLIP's optimiser
(Adam's epsilon) are not kept. The cross-modal probe brings its rows to unit length and trains 100 epochs, not
12,800 steps with a search. 2SFS: 300 steps for each picture of a
class, six tenths of them on the norms of the blocks; decay pulls our classifier to the texts, theirs to zero.
"""

from __future__ import annotations

from typing import Literal

from likewise.heads import ClipAdapter, Cosine, LpPlus, Text, Tip
from likewise.losses import CrossEntropy
from likewise.recipe import AdamW, Majorize, Recipe, Sgd, one, then

TIP = "Zhang et al. 2022, Tip-Adapter, arXiv:2207.09519"

WHOLE = 1_000_000
"""A batch that holds every picture: full-batch steps."""


def _two_stage(steps: int, sampling: Literal["images", "features"]) -> AdamW:
    """2SFS's setting, for so many steps for each picture of a class."""
    return AdamW(lr=2e-4, batch=32, per_shot=steps, warmup=0.0, decay=0.01, decay_all=True, clip=0.0, sampling=sampling)


_fit = AdamW(lr=1e-3, epochs=100, batch=256, warmup=0.0, decay=0.0, clip=0.0, sampling="features")

cosine = one(
    "cosine classifier from the texts",
    "Silva-Rodriguez et al. 2024, ZS-LP, arXiv:2312.12730",
    trains=("head",),
    head=Cosine(),
    fit=_fit,
)

RECIPES: dict[str, Recipe] = {
    "cosine": cosine,
    "clip-adapter": one("CLIP-Adapter", "Gao et al. 2021, arXiv:2110.04544", trains=("head",), head=ClipAdapter(), fit=_fit),
    "tip-adapter": one("Tip-Adapter", TIP, head=Tip()),
    "tip-adapter-f": one(
        "Tip-Adapter-F", TIP, trains=("head",), head=Tip(tuned=True), fit=_fit.model_copy(update={"epochs": 20})
    ),
    "taskres": one(
        "TaskRes", "Yu et al. 2023, arXiv:2211.10277", trains=("head",), head=Cosine(step=0.5), fit=_fit.model_copy(update={"lr": 2e-3, "decay": 5e-4})
    ),
    "clap": one(
        "CLAP", "Silva-Rodriguez et al. 2024, arXiv:2312.12730", trains=("head",), head=Cosine(anchor="clap"),
        fit=Sgd(lr=0.1, epochs=300, batch=256, warmup=0.0, decay=0.0, clip=0.0, sampling="features"),
    ),
    "lp++": one("LP++", "Huang et al. 2024, arXiv:2404.02285", trains=("head",), head=LpPlus(), fit=Majorize()),
    "cross-modal": one(
        "cross-modal probe", "Lin et al. 2023, arXiv:2301.06267", trains=("head",), head=Cosine(), loss=CrossEntropy(texts=True),
        fit=_fit.model_copy(update={"batch": 8, "decay": 0.01}),
    ),
    "prolip": one(
        "ProLIP", "Fahes et al. 2024, arXiv:2410.05270", trains=("image.projection",), head=Text(), loss=CrossEntropy(l2_sp="1/shots"),
        fit=_fit.model_copy(update={"lr": 1e-4, "epochs": 300, "batch": WHOLE}),
    ),
    "2sfs": then(
        one(trains=("image.*.norm[12].*", "text.*.norm[12].*"), head=Text(), fit=_two_stage(180, "images")),
        one(trains=("head",), head=Cosine(), fit=_two_stage(120, "features")), "2SFS", "Farina et al. 2025, arXiv:2503.11609",
    ),
}  # fmt: skip
