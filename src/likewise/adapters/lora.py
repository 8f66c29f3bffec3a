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
from likewise.names import packed, tower_of

PARTS = {"q": 0, "k": 1, "v": 2}


class Lora(AdapterConfig):
    """W + (alpha / rank) B A for each chosen weight; rank (rows + columns) numbers each.

    Of query, key and value, packed in one weight or apart, each of `parts` has its own A and B; their names, hence
    their start, are the same either way (`adapters.lora.image.3.qkv.q`). `rooted` divides alpha by the root of
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
        for place, (name, first, count) in self.stands(encoder).items():
            site = encoder.sites[name]
            down_RI = kaiming((self.rank, site.value.shape[1]), seed, f"lora.{place}")
            grafts.weight(f"lora.{place}", site, _Sum(down_RI.to(site.value.device), first, count, factor))

    def stands(self, encoder: Encoder) -> dict[str, tuple[str, int, int]]:
        """Its places (`image.3.out`, `image.3.qkv.q`): the weight there, the first of its rows that change, how many.

        Raises `ConfigError` as `graft` does.
        """
        out: dict[str, tuple[str, int, int]] = {}
        matrices = [n for n, site in encoder.sites.items() if n.endswith(".weight") and site.value.ndim == 2]
        for name in choose(encoder, "LoRA", self.at, list(encoder.sites), matrices):
            out |= self._of(name, encoder.sites[name].value)
        used = [name for name, _, _ in out.values()]
        for pattern in self.at:  # of query, key and value apart, one may be named that `parts` leaves out
            if not set(used) & set(choose(encoder, "LoRA", (pattern,), list(encoder.sites))):
                raise ConfigError(
                    f"LoRA's pattern «{pattern}» chooses only what `parts` leaves out, and parts are "
                    f"{', '.join(self.parts)}. Leave out the pattern, or name the part."
                )
        return out

    def _of(self, name: str, weight_OI: Tensor) -> dict[str, tuple[str, int, int]]:
        if weight_OI.ndim != 2 or tower_of(name) not in ("image", "text"):
            raise ConfigError(
                f"LoRA cannot stand at {name}, which is {tuple(weight_OI.shape)}: it adds two matrices' product to "
                "a layer's matrix. Choose qkv, out, up or down weights with `at`."
            )
        place, rows = packed(name).removesuffix(".weight"), len(weight_OI)
        if packed(name) != name:
            part = name.split(".")[2][0]  # query, key, value
            return {f"{place}.{part}": (name, 0, rows)} if part in self.parts else {}
        if place.endswith(".qkv"):
            third = rows // 3
            return {f"{place}.{part}": (name, third * PARTS[part], third) for part in self.parts}
        return {place: (name, 0, rows)}


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
