"""Whole towers and plain heads: zero-shot, kNN, linear probe, fine-tuning, L2-SP, LP-FT, FLYP, with WiSE, LiNeS and soups."""

from __future__ import annotations

from likewise.heads import Linear, Neighbours, Text
from likewise.losses import Contrastive, CrossEntropy
from likewise.recipe import AdamW, Lbfgs, Recipe, lines, one, soup, then, wise

RADFORD = "Radford et al. 2021, arXiv:2103.00020"
WORTSMAN = "Wortsman et al. 2022, arXiv:2109.01903"
SOUPS = "Wortsman et al. 2022, arXiv:2203.05482"
KUMAR = "Kumar et al. 2022, arXiv:2202.10054"
GOYAL = "Goyal et al. 2023, arXiv:2212.00638"

_towers = ("image", "text", "scale")
_flyp = AdamW(lr=1e-5)

zero_shot = one("zero-shot", RADFORD, head=Text())
knn = one("kNN", "Caron et al. 2021, arXiv:2104.14294", head=Neighbours())
linear = one("linear probe", RADFORD, trains=("head",), head=Linear(start="text"), fit=Lbfgs())
pooled = one(
    "linear probe before the projection",
    RADFORD,
    trains=("head",),
    head=Linear(start="zeros", features="pooled"),
    fit=Lbfgs(),
)
full = one("full fine-tuning", WORTSMAN, trains=("image", "head"), head=Linear(start="text"), fit=AdamW(lr=1e-5))
l2_sp = one(
    "L2-SP", "Li et al. 2018, arXiv:1802.01483", trains=("image", "head"), head=Linear(start="text"),
    loss=CrossEntropy(l2_sp=0.01), fit=AdamW(lr=1e-5, decay=0.0),
)  # fmt: skip
lp_ft = then(linear, full, "LP-FT", KUMAR)
flyp = one("FLYP", GOYAL, trains=_towers, head=Text(), loss=Contrastive(), fit=_flyp)
flyp_published = one(
    "FLYP as published", GOYAL, trains=_towers, head=Text(), loss=Contrastive(clamp=False),
    fit=AdamW(lr=1e-5, epochs=20, batch=256, warmup=0.1, decay=0.2, decay_all=True, clip=0.0, sampling="pairs"),
)  # fmt: skip

RECIPES: dict[str, Recipe] = {
    "zero-shot": zero_shot,
    "knn": knn,
    "linear": linear,
    "linear-pooled": pooled,
    "ft": full,
    "l2-sp": l2_sp,
    "lp-ft": lp_ft,
    "flyp": flyp,
    "flyp-mask": one(
        "FLYP, collisions masked", GOYAL, trains=_towers, head=Text(), loss=Contrastive(collisions="mask"), fit=_flyp
    ),
    "flyp-soft": one(
        "FLYP, collisions soft", GOYAL, trains=_towers, head=Text(), loss=Contrastive(collisions="soft"), fit=_flyp
    ),
    "flyp-ce": one("FLYP-CE", f"{GOYAL}, ablation", trains=_towers, head=Text(), loss=CrossEntropy(), fit=_flyp),
    "flyp-published": flyp_published,
    "flyp-wise": wise(flyp, 0.5, "FLYP + WiSE-FT"),
    "ft-wise": wise(full, 0.5, "WiSE-FT"),
    "ft-lines": lines(full, 0.0, "LiNeS").model_copy(update={"paper": "Wang et al. 2024, arXiv:2410.17146"}),
    "ft-soup": soup(full, "uniform", title="uniform soup").model_copy(update={"paper": SOUPS}),
    "ft-soup-greedy": soup(full, "greedy", title="greedy soup").model_copy(update={"paper": SOUPS}),
}
