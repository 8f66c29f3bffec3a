"""Learned words and learned tokens: CoOp, CoCoOp, VPT, MaPLe, at the rates of their authors' configurations.

Departs: CoOp trains 200 epochs (50 at one picture a class, 100 at two and four), here 50; its pictures are cropped at
random, here they are those of the evaluation view, so that the image tower runs once; the epoch of warm-up rises
linearly, theirs is constant at 1e-5. VPT's rate and length are those of MaPLe's code for CLIP; Jia et al. search a grid for each task.
"""

from __future__ import annotations

from likewise.adapters import Maple, Prompt, VisualPrompt
from likewise.heads import Conditional, Text
from likewise.recipe import Recipe, Sgd, one

ZHOU = "Zhou et al. 2022, CoOp, arXiv:2109.01134"
JIA = "Jia et al. 2022, VPT, arXiv:2203.12119"

_coop = Sgd(lr=2e-3, epochs=50, batch=32, warmup=0.02, decay=5e-4, decay_all=True, clip=0.0, sampling="features")
_vpt = Sgd(lr=2.5e-3, epochs=5, batch=4, warmup=0.0, decay=5e-4, decay_all=True, clip=0.0)

RECIPES: dict[str, Recipe] = {
    "coop": one("CoOp", ZHOU, adapters=(Prompt(length=16, text="{}."),), trains=("adapters",), head=Text(), fit=_coop),
    "coop-words": one(
        "CoOp from words", ZHOU, adapters=(Prompt(length=4, start="a photo of a", text="{}."),), trains=("adapters",), head=Text(), fit=_coop
    ),
    "coop-classes": one(
        "CoOp, a context a class", ZHOU, adapters=(Prompt(length=16, per_class=True, text="{}."),), trains=("adapters",), head=Text(), fit=_coop
    ),
    "cocoop": one(
        "CoCoOp", "Zhou et al. 2022, arXiv:2203.05557", adapters=(Prompt(length=4, start="a photo of a", text="{}."),),
        trains=("adapters", "head"), head=Conditional(), fit=_coop.model_copy(update={"epochs": 10, "batch": 1, "warmup": 0.1}),
    ),
    "vpt-shallow": one("VPT-shallow", JIA, adapters=(VisualPrompt(depth=1),), trains=("adapters",), head=Text(), fit=_vpt),
    "vpt-deep": one("VPT-deep", JIA, adapters=(VisualPrompt(),), trains=("adapters",), head=Text(), fit=_vpt),
    "maple": one(
        "MaPLe", "Khattak et al. 2023, arXiv:2210.03117", adapters=(Maple(),), trains=("adapters",), head=Text(),
        fit=_vpt.model_copy(update={"lr": 3.5e-3}),
    ),
}  # fmt: skip
