"""From features to class scores: the text head, the linear head, the neighbours head, and the values that name them.

A head reads unit-length shared features. A text head is then a linear head whose rows are the class texts times the
scale: the two are one module, which is what lets them be interpolated.
"""

# B images, C classes, D shared width, K neighbours, L tokens, N training pictures, T templates, U distinct texts.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from likewise.config import Config
from likewise.encoder import Encoder


class Text(Config):
    """Scores are the scale times cosines with the class texts, averaged over templates (CLIP, section 3.1.4)."""

    kind: Literal["text"] = "text"


class Linear(Config):
    """A weight row and a bias for each class, on unit-length shared features; started from the text head or from zeros.

    Trains C (D + 1) numbers. Departs: CLIP's probe (section 3.2) reads features before the projection; ours reads the
    shared ones, so that every linear head has a WiSE path to the text head.
    """

    kind: Literal["linear"] = "linear"
    start: Literal["text", "zeros"] = "text"


class Keep(Config):
    """The head that the stage before left."""

    kind: Literal["keep"] = "keep"


class Neighbours(Config):
    """Weighted vote of the k nearest training pictures; weights exp(cosine / temperature).

    Caron et al. 2021 (DINO, arXiv:2104.14294), appendix E, after Wu et al. 2018. Departs: k never exceeds the number of
    training pictures.
    """

    kind: Literal["neighbours"] = "neighbours"
    k: int = Field(20, ge=1)
    temperature: float = Field(0.07, gt=0)


Head = Annotated[Text | Linear | Keep | Neighbours, Field(discriminator="kind")]


def unit(x: Tensor) -> Tensor:
    """Rows at length 1, in fp32."""
    return F.normalize(x.float(), dim=-1)


def class_texts(encoder: Encoder, prompts: Sequence[Sequence[str]], chunk: int = 256) -> Tensor:
    """Unit rows_CD: per class the mean of its prompts' unit embeddings, at unit length again. No gradient.

    Each distinct prompt is encoded once, shortest first, so that a chunk is as narrow as its texts.
    """
    distinct = sorted({text for texts in prompts for text in texts}, key=lambda text: (len(text), text))
    tokens_UL = encoder.tokenize(distinct).to(encoder.device)
    with torch.no_grad():
        rows_UD = torch.cat([unit(encoder.text(part)) for part in tokens_UL.split(chunk)])
    place = {text: i for i, text in enumerate(distinct)}
    return torch.stack([unit(rows_UD[[place[t] for t in texts]].mean(0)) for texts in prompts])


class LinearHead(nn.Module):
    """logits_BC = unit(shared_BD) weight_CD' + bias_C."""

    def __init__(self, weight_CD: Tensor, bias_C: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_CD.detach().clone().float())
        self.bias = nn.Parameter(bias_C.detach().clone().float())

    def forward(self, shared_BD: Tensor) -> Tensor:
        return F.linear(unit(shared_BD), self.weight, self.bias)


class NeighboursHead(nn.Module):
    """logits_BC = log of the vote's shares; a class without a vote gets the log of the smallest positive float.

    `bank_ND` has unit rows already.
    """

    bank_ND: Tensor
    labels_N: Tensor

    def __init__(self, bank_ND: Tensor, labels_N: Tensor, classes: int, config: Neighbours) -> None:
        super().__init__()
        self.register_buffer("bank_ND", bank_ND)
        self.register_buffer("labels_N", labels_N.long())
        self.classes, self.config = classes, config

    def forward(self, shared_BD: Tensor) -> Tensor:
        k = min(self.config.k, len(self.bank_ND))
        near_BK, index_BK = (unit(shared_BD) @ self.bank_ND.T).topk(k, dim=1)
        weight_BK = torch.softmax(near_BK / self.config.temperature, dim=1)  # shares: the same vote, no overflow
        vote_BC = weight_BK.new_zeros(len(near_BK), self.classes).scatter_add_(1, self.labels_N[index_BK], weight_BK)
        return vote_BC.clamp_min(torch.finfo(vote_BC.dtype).tiny).log()


BuiltHead = LinearHead | NeighboursHead


def text_head(encoder: Encoder, prompts: Sequence[Sequence[str]]) -> LinearHead:
    """The zero-shot head of the encoder as it now is."""
    rows_CD = class_texts(encoder, prompts)
    with torch.no_grad():
        return LinearHead(encoder.scale * rows_CD, encoder.shift.expand(len(rows_CD)))


def head_tensors(head: BuiltHead) -> dict[str, Tensor]:
    """A copy of the head's numbers, as `head_from` reads them."""
    return {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}


def head_from(tensors: Mapping[str, Tensor], config: Config, classes: int) -> BuiltHead:
    """A head from its tensors: what `head_tensors` gave, and the value that made it."""
    if isinstance(config, Neighbours):
        return NeighboursHead(tensors["bank_ND"], tensors["labels_N"], classes, config)
    return LinearHead(tensors["weight"], tensors["bias"])
