"""The linear head, with the module that every head of class rows ends as."""

# B images, C classes, D shared width, W pooled width.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.heads.head import Given, HeadConfig, HeadModule, Reads, unit
from likewise.heads.text import class_texts


class Linear(HeadConfig):
    """A weight row and a bias for each class, on unit-length features; started from the text head or from zeros.

    Trains C (D + 1) numbers, or C D without `bias`. Features "shared" have a WiSE path to the text head; "pooled" are
    those before the projection (CLIP's own probe, Radford et al. 2021, section 3.2; Kim et al.: 769 C on ViT-B/16).
    """

    kind: Literal["linear"] = "linear"
    start: Literal["text", "zeros"] = "text"
    features: Reads = "shared"
    bias: bool = True
    path: ClassVar[bool] = True
    refuses: ClassVar[str] = "a head on features before the projection has no text head to interpolate with"

    @model_validator(mode="after")
    def _meets(self) -> Linear:
        if self.features == "pooled" and self.start == "text":
            raise ValueError("a head on pooled features cannot start from the texts, which lie in the shared space")
        return self

    @property
    def has_path(self) -> bool:
        return self.features == "shared"

    @property
    def reads(self) -> Reads:
        return self.features

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        width = encoder.shared_width if self.reads == "shared" else encoder.pooled_width
        return {"weight": classes * width} | ({"bias": classes} if self.bias else {})

    def build(self, given: Given) -> HeadModule:
        device, classes = given.encoder.device, len(given.prompts)
        if self.start == "text":
            zero = text_head(given.encoder, given.prompts)
            return LinearHead(zero.weight, zero.bias if self.bias else None, self).to(device)
        width = self.sizes(given.encoder, 1, 0)["weight"]
        bias_C = torch.zeros(classes) if self.bias else None
        return LinearHead(torch.zeros(classes, width), bias_C, self).to(device)

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        return LinearHead(tensors["weight"], tensors.get("bias"), self)


class LinearHead(HeadModule):
    """logits_BC = unit(features_BD) weight_CD' + bias_C."""

    def __init__(self, weight_CD: Tensor, bias_C: Tensor | None, config: HeadConfig | None = None) -> None:
        super().__init__(config or Linear())
        self.weight = nn.Parameter(weight_CD.detach().clone().float())
        self.bias = None if bias_C is None else nn.Parameter(bias_C.detach().clone().float())

    def forward(self, features_BD: Tensor) -> Tensor:
        return F.linear(unit(features_BD), self.weight, self.bias)

    def at(self, alpha: float, zero: HeadModule) -> HeadModule:
        """As in `HeadModule`. A head without bias is one whose bias is 0 at its own end; the way there has zero's."""
        if not self.config.has_path:
            return super().at(alpha, zero)
        weight_CD, bias_C = text_end(zero, self.weight)
        weight_CD = torch.lerp(weight_CD, self.weight, alpha)
        if self.bias is None and alpha == 1:
            return LinearHead(weight_CD, None, self.config)
        bias_C = torch.lerp(bias_C, torch.zeros_like(bias_C) if self.bias is None else self.bias, alpha)
        return LinearHead(weight_CD, bias_C, self.config)


def text_end(zero: HeadModule, weight_CD: Tensor) -> tuple[Tensor, Tensor]:
    """The text head's weight_CD and bias_C, where the other end's rows lie. Raises `ConfigError` for other classes."""
    assert isinstance(zero, LinearHead), "the line starts at a text head"
    if zero.weight.shape != weight_CD.shape:
        raise ConfigError(
            f"the text head has {tuple(zero.weight.shape)} classes and width, the tuned head {tuple(weight_CD.shape)}: "
            "no line joins them. Make both from the same class table and encoder."
        )
    bias_C = torch.zeros(len(weight_CD)) if zero.bias is None else zero.bias
    return zero.weight.detach().to(weight_CD.device), bias_C.detach().to(weight_CD.device)


def text_head(encoder: Encoder, prompts: Sequence[Sequence[str]]) -> LinearHead:
    """The zero-shot head of the encoder as it now is."""
    rows_CD = class_texts(encoder, prompts)
    with torch.no_grad():
        return LinearHead(encoder.scale * rows_CD, encoder.shift.expand(len(rows_CD)))
