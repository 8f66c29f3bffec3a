"""Norms and biases: LayerNorm tuning in its placements, and BitFit. Nothing is added."""

from __future__ import annotations

from likewise.heads import Text
from likewise.recipe import AdamW, Recipe, one

KIM = "Kim et al. 2021, How to Adapt Your Large-Scale Vision-and-Language Model"
ZAKEN = "Ben Zaken et al. 2022, BitFit, arXiv:2106.10199"

_fit = AdamW(lr=1e-4, decay=0.0)
_parts = ("qkv", "out", "up", "down")


def ln_last(blocks: int) -> Recipe:
    """LayerNorm tuning in the last so many blocks of both towers, with the final norms (Kim et al., Figure 7)."""
    own = [f"{tower}.-{k}.norm*" for tower in ("image", "text") for k in range(1, blocks + 1)]
    names = (*own, "image.norm_post", "text.norm_post")
    return one(f"LayerNorm tuning, last {blocks} blocks", f"{KIM}, Figure 7", trains=names, head=Text(), fit=_fit)


RECIPES: dict[str, Recipe] = {
    "ln": one("LayerNorm tuning", KIM, trains=("image.*norm*", "text.*norm*"), head=Text(), fit=_fit),
    "ln-image": one("LayerNorm tuning, image tower", KIM, trains=("image.*norm*",), head=Text(), fit=_fit),
    "ln-text": one("LayerNorm tuning, text tower", KIM, trains=("text.*norm*",), head=Text(), fit=_fit),
    "ln-blocks": one(
        "LayerNorm tuning, blocks only", KIM, trains=("image.*.norm[12].*", "text.*.norm[12].*"), head=Text(), fit=_fit
    ),
    "ln-last-2": ln_last(2),
    "bitfit": one("BitFit", ZAKEN, trains=("image.*bias", "text.*bias"), head=Text(), fit=_fit),
    "bitfit-no-norm": one(
        "BitFit without the norms' biases", ZAKEN, trains=tuple(f"{t}.*.{p}.bias" for t in ("image", "text") for p in _parts),
        head=Text(), fit=_fit,
    ),
}  # fmt: skip
