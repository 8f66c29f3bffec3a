"""The named methods, each with its paper. Adding a method is one line here.

Rates are for CLIPs of ViT-B size and up (`get` multiplies them by an encoder's `rate_scale`), lengths for a few thousand pictures.
Departs: Kim et al. train every method at 5e-4, at which full fine-tuning collapses; here LayerNorm tuning has a lower rate.
"""

from __future__ import annotations

from likewise.errors import UsageError, near
from likewise.heads import Linear, Neighbours, Text
from likewise.losses import Contrastive, CrossEntropy
from likewise.recipe import AdamW, Lbfgs, Recipe, one, rescaled, then, wise

RADFORD = "Radford et al. 2021, arXiv:2103.00020"
KUMAR = "Kumar et al. 2022, arXiv:2202.10054"
GOYAL = "Goyal et al. 2023, arXiv:2212.00638"
KIM = "Kim et al. 2021, How to Adapt Your Large-Scale Vision-and-Language Model"

_all_norms = ("image.*norm*", "text.*norm*")
_towers = ("image", "text", "scale")

zero_shot = one("zero-shot", RADFORD, head=Text())
knn = one("kNN", "Caron et al. 2021, arXiv:2104.14294", head=Neighbours())
linear = one("linear probe", RADFORD, trains=("head",), head=Linear(start="text"), fit=Lbfgs())
ln = one("LayerNorm tuning", KIM, trains=_all_norms, head=Text(), fit=AdamW(lr=1e-4, decay=0.0))
full = one(
    "full fine-tuning",
    "Wortsman et al. 2022, arXiv:2109.01903",
    trains=("image", "head"),
    head=Linear(start="text"),
    fit=AdamW(lr=1e-5),
)
l2_sp = one(
    "L2-SP",
    "Li et al. 2018, arXiv:1802.01483",
    trains=("image", "head"),
    head=Linear(start="text"),
    loss=CrossEntropy(l2_sp=0.01),
    fit=AdamW(lr=1e-5, decay=0.0),
)
lp_ft = then(linear, full, "LP-FT", KUMAR)
flyp = one("FLYP", GOYAL, trains=_towers, head=Text(), loss=Contrastive(), fit=AdamW(lr=1e-5))
flyp_mask = one(
    "FLYP, collisions masked",
    GOYAL,
    trains=_towers,
    head=Text(),
    loss=Contrastive(collisions="mask"),
    fit=AdamW(lr=1e-5),
)
flyp_soft = one(
    "FLYP, collisions soft", GOYAL, trains=_towers, head=Text(), loss=Contrastive(collisions="soft"), fit=AdamW(lr=1e-5)
)
flyp_ce = one("FLYP-CE", f"{GOYAL}, ablation", trains=_towers, head=Text(), loss=CrossEntropy(), fit=AdamW(lr=1e-5))
flyp_published = one(
    "FLYP as published",
    GOYAL,
    trains=_towers,
    head=Text(),
    loss=Contrastive(clamp=False),
    fit=AdamW(lr=1e-5, epochs=20, batch=256, warmup=0.1, decay=0.2, decay_all=True, clip=0.0, sampling="pairs"),
)
flyp_wise = wise(flyp, 0.5, "FLYP + WiSE-FT")
ft_wise = wise(full, 0.5, "WiSE-FT")

RECIPES: dict[str, Recipe] = {
    "zero-shot": zero_shot,
    "knn": knn,
    "linear": linear,
    "ln": ln,
    "ft": full,
    "l2-sp": l2_sp,
    "lp-ft": lp_ft,
    "flyp": flyp,
    "flyp-mask": flyp_mask,
    "flyp-soft": flyp_soft,
    "flyp-ce": flyp_ce,
    "flyp-published": flyp_published,
    "flyp-wise": flyp_wise,
    "ft-wise": ft_wise,
}

LADDERS: dict[str, tuple[str, ...]] = {
    "quick": ("zero-shot", "knn", "linear"),
    "standard": ("zero-shot", "knn", "linear", "ln", "lp-ft", "flyp"),
    "thorough": ("zero-shot", "knn", "linear", "ln", "ft", "l2-sp", "lp-ft", "flyp", "flyp-soft", "flyp-ce"),
}
"""What `adapt` climbs at each effort, cheap first."""


AS_PUBLISHED = ("flyp-published",)
"""Recipes whose rates no encoder changes."""


def get(name: str, rate_scale: float = 1.0) -> Recipe:
    """The recipe of that name, at the rates of the encoder that it is for. Raises `UsageError` with the near miss."""
    if name not in RECIPES:
        raise UsageError("C01", f"no recipe «{name}».{near(name, RECIPES)} Recipes: {', '.join(RECIPES)}.")
    return RECIPES[name] if name in AS_PUBLISHED else rescaled(RECIPES[name], rate_scale)
