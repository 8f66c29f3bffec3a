"""The neighbours head: a vote of the nearest training pictures (Caron et al. 2021, DINO, arXiv:2104.14294, app. E)."""

# B images, C classes, D feature width, K neighbours, N training pictures.

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from likewise.encoder import Encoder
from likewise.heads.head import Given, HeadConfig, HeadModule, unit


def vote(near_BK: Tensor, labels_BK: Tensor, classes: int, temperature: float) -> Tensor:
    """logits_BC: log of each class's share of the neighbours' weights exp(near / temperature).

    A class without a neighbour gets the log of the smallest positive float. A softmax gives the shares of the same vote
    without overflow at any temperature.
    """
    weight_BK = torch.softmax(near_BK / temperature, dim=1)
    share_BC = weight_BK.new_zeros(len(near_BK), classes).scatter_add_(1, labels_BK, weight_BK)
    return share_BC.clamp_min(torch.finfo(share_BC.dtype).tiny).log()


class Neighbours(HeadConfig):
    """Weighted vote of the k nearest training pictures; weights exp(cosine / temperature), after Wu et al. 2018.

    Departs: k never exceeds the number of training pictures.
    """

    kind: Literal["neighbours"] = "neighbours"
    k: int = Field(20, ge=1)
    temperature: float = Field(0.07, gt=0)
    refuses: ClassVar[str] = "a neighbours head keeps its training features and has no weights to interpolate"
    no_mean: ClassVar[str] = (
        "a neighbours head keeps pictures' features and lets the nearest vote, so means of features are means of no "
        "votes"
    )
    kept: ClassVar[bool] = True

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        return {}

    def build(self, given: Given) -> HeadModule:
        return NeighboursHead(unit(given.features("shared")), given.labels_N, len(given.prompts), self)

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        return NeighboursHead(tensors["bank_ND"], tensors["labels_N"], classes, self)


class NeighboursHead(HeadModule):
    """logits_BC of `vote`. `bank_ND` has unit rows already."""

    bank_ND: Tensor
    labels_N: Tensor

    def __init__(self, bank_ND: Tensor, labels_N: Tensor, classes: int, config: Neighbours) -> None:
        super().__init__(config)
        self.register_buffer("bank_ND", bank_ND)
        self.register_buffer("labels_N", labels_N.long())
        self.classes, self.k, self.temperature = classes, config.k, config.temperature

    @property
    def keeps(self) -> int:
        return self.bank_ND.numel()

    def forward(self, shared_BD: Tensor) -> Tensor:
        k = min(self.k, len(self.bank_ND))
        near_BK, index_BK = (unit(shared_BD) @ self.bank_ND.T).topk(k, dim=1)
        return vote(near_BK, self.labels_N[index_BK], self.classes, self.temperature)
