"""LoRA: a low-rank sum on a weight (Hu et al. 2021, arXiv:2106.09685; CLIP-LoRA: Zanella et al., arXiv:2405.18541)."""

# R rank, O rows and I columns of a weight.

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from likewise.adapters.adapter import AdapterConfig
from likewise.adapters.places import choose
from likewise.encoder import Encoder, Grafts
from likewise.errors import ConfigError
from likewise.keys import kaiming
from likewise.names import tower_of

PARTS = {"q": 0, "k": 1, "v": 2}


class Lora(AdapterConfig):
    """W + (alpha / rank) B A for each chosen weight; rank (rows + columns) numbers each.

    Of a packed query, key and value weight each of `parts` has its own A and B. `rooted` divides alpha by the root of
    the rank instead (Kalajdzievski 2023, arXiv:2312.03732), as CLIP-LoRA's code does. B starts at zero.
    On CLIP ViT-B/16 with rank 2, q, k, v, both towers: 184,320.

    Departs: no dropout on the way into A. The sum is made on the weight, where a token's own mask cannot be.
    """

    kind: Literal["lora"] = "lora"
    at: tuple[str, ...] = Field(default=("image.*.qkv.weight", "text.*.qkv.weight"), min_length=1)
    parts: tuple[Literal["q", "k", "v"], ...] = ("q", "k", "v")
    rank: int = Field(4, ge=1)
    alpha: float = Field(4.0, gt=0)
    rooted: bool = False
    scales: ClassVar[tuple[str, ...] | None] = (".up",)

    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        factor = self.alpha / (math.sqrt(self.rank) if self.rooted else self.rank)
        for name in choose(encoder, "LoRA", self.at, list(encoder.sites)):
            site = encoder.sites[name]
            weight_OI: Tensor = site.value
            if weight_OI.ndim != 2 or tower_of(name) not in ("image", "text"):
                raise ConfigError(
                    f"LoRA cannot stand at {name}, which is {tuple(weight_OI.shape)}: it adds two matrices' product to "
                    "a layer's matrix. Choose qkv, out, up or down weights with `at`."
                )
            place = name.removesuffix(".weight")
            rows = weight_OI.shape[0]
            third = rows // 3
            parts = [(p, third * PARTS[p], third) for p in self.parts] if place.endswith(".qkv") else [("", 0, rows)]
            for part, first, count in parts:
                own = ".".join(filter(None, ("lora", place, part)))
                down_RI = kaiming((self.rank, weight_OI.shape[1]), seed, own)
                grafts.weight(own, site, _Sum(down_RI.to(weight_OI.device), first, count, factor))


class _Sum(nn.Module):
    """The weight with a product added to `count` of its rows, from row `first`."""

    def __init__(self, down_RI: Tensor, first: int, count: int, factor: float) -> None:
        super().__init__()
        self.down = nn.Parameter(down_RI)
        self.up = nn.Parameter(torch.zeros(count, len(down_RI), device=down_RI.device))
        self.first, self.factor = first, factor

    def forward(self, weight_OI: Tensor) -> Tensor:
        product_OI = self.factor * self.up @ self.down
        if len(product_OI) != len(weight_OI):
            below = len(weight_OI) - self.first - len(product_OI)
            product_OI = nn.functional.pad(product_OI, (0, 0, self.first, below))
        return weight_OI + product_OI
