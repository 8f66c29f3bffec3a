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


class Neighbours(HeadConfig):
    """Weighted vote of the k nearest training pictures; weights exp(cosine / temperature), after Wu et al. 2018.

    Departs: k never exceeds the number of training pictures.
    """

    kind: Literal["neighbours"] = "neighbours"
    k: int = Field(20, ge=1)
    temperature: float = Field(0.07, gt=0)
    refuses: ClassVar[str] = "a neighbours head keeps its training features and has no weights to interpolate"
    kept: ClassVar[bool] = True

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        return {}

    def build(self, given: Given) -> HeadModule:
        return NeighboursHead(unit(given.features("shared")), given.labels_N, len(given.prompts), self)

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        return NeighboursHead(tensors["bank_ND"], tensors["labels_N"], classes, self)


class NeighboursHead(HeadModule):
    """logits_BC = log of the vote's shares; a class without a vote gets the log of the smallest positive float.

    `bank_ND` has unit rows already.
    """

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
        weight_BK = torch.softmax(near_BK / self.temperature, dim=1)  # shares: the same vote, no overflow
        vote_BC = weight_BK.new_zeros(len(near_BK), self.classes).scatter_add_(1, self.labels_N[index_BK], weight_BK)
        return vote_BC.clamp_min(torch.finfo(vote_BC.dtype).tiny).log()
