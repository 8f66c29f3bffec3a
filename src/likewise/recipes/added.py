"""Numbers added to the towers: LoRA, bottleneck adapters, Compacter, FiLM and SSF.

Departs: ten epochs where a paper's length belongs to its own data (SSF 100, Houlsby and Compacter 20 on text); CLIP-LoRA's
cosine ends at 1e-6, ours at zero. Vectors do not decay, unless the recipe says that all do.
"""

from __future__ import annotations

from likewise.adapters import Bottleneck, Compacter, Film, Lora
from likewise.heads import Text
from likewise.recipe import AdamW, Recipe, one

ZANELLA = "Zanella and Ben Ayed 2024, CLIP-LoRA, arXiv:2405.18541"
HOULSBY = "Houlsby et al. 2019, arXiv:1902.00751"
MAHABADI = "Karimi Mahabadi et al. 2021, arXiv:2106.04647"

_both = ("image.*.{}", "text.*.{}")
_fit = AdamW(lr=5e-4, decay=0.01)
_small = AdamW(lr=3e-3, decay=0.01)


def _at(*parts: str) -> tuple[str, ...]:
    return tuple(pattern.format(part) for part in parts for pattern in _both)


RECIPES: dict[str, Recipe] = {
    "lora": one("LoRA", "Hu et al. 2021, arXiv:2106.09685", adapters=(Lora(),), trains=("adapters",), head=Text(), fit=_fit),
    "clip-lora": one(
        "CLIP-LoRA as published", ZANELLA, adapters=(Lora(rank=2, alpha=1.0, rooted=True),), trains=("adapters",),
        head=Text(templates=("a photo of a {}",)),
        fit=AdamW(lr=2e-4, decay=0.01, decay_all=True, batch=32, per_shot=500, warmup=0.0, clip=0.0),
    ),
    "houlsby": one("Houlsby adapters", HOULSBY, adapters=(Bottleneck(at=_at("attention", "mlp")),), trains=("adapters",), head=Text(), fit=_fit),
    "pfeiffer": one(
        "Pfeiffer adapters", "Pfeiffer et al. 2021, arXiv:2005.00247", adapters=(Bottleneck(at=_at("block")),), trains=("adapters",), head=Text(), fit=_fit
    ),
    "parallel": one(
        "parallel adapters", "He et al. 2022, arXiv:2110.04366", adapters=(Bottleneck(at=_at("mlp"), where="parallel", factor=4.0),),
        trains=("adapters",), head=Text(), fit=_fit,
    ),
    "compacter": one("Compacter", MAHABADI, adapters=(Compacter(at=_at("attention", "mlp")),), trains=("adapters",), head=Text(), fit=_small),
    "compacter++": one("Compacter++", MAHABADI, adapters=(Compacter(at=_at("mlp")),), trains=("adapters",), head=Text(), fit=_small),
    "film": one("FiLM after the image norms", "Perez et al. 2018, arXiv:1709.07871", adapters=(Film(),), trains=("adapters",), head=Text(), fit=_small),
    "film-blocks": one(
        "FiLM on the image blocks", "Perez et al. 2018, arXiv:1709.07871", adapters=(Film(at=("image.*.block",)),), trains=("adapters",), head=Text(), fit=_small
    ),
    "ssf": one(
        "SSF", "Lian et al. 2022, arXiv:2210.08823", trains=("adapters",), head=Text(), fit=AdamW(lr=1e-3, decay=0.05, decay_all=True),
        adapters=(Film(at=("image.patch*", "image.*norm*", "image.*.qkv", "image.*.out", "image.*.up", "image.*.down")),),
    ),
}  # fmt: skip
