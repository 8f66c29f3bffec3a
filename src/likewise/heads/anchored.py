"""What heads have in common that keep the text head they began with."""

# C classes, D shared width.

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from likewise.heads.head import Given, HeadConfig, HeadModule
from likewise.heads.linear import text_head


class Anchored(HeadModule):
    """Buffers `text_CD`, the scale times the class texts, and `shift_C`: weight and bias of the text head.

    Made from a mapping like its own `state_dict`, whose tensors are copied. The shift is 0 but for sigmoid-trained
    encoders, and moves no softmax.
    """

    text_CD: Tensor
    shift_C: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], config: HeadConfig) -> None:
        super().__init__(config)
        self.hold("text_CD", tensors["text_CD"])
        self.hold("shift_C", tensors["shift_C"])

    def hold(self, name: str, tensor: Tensor) -> None:
        """Register a copy as a buffer."""
        self.register_buffer(name, tensor.detach().clone())


def anchors(given: Given) -> dict[str, Tensor]:
    """The tensors of `Anchored`, from the encoder as it now is."""
    zero = text_head(given.encoder, given.prompts)
    assert zero.bias is not None
    return {"text_CD": zero.weight.detach(), "shift_C": zero.bias.detach()}


def bank(given: Given, device: torch.device) -> tuple[Tensor, Tensor]:
    """The training pictures' shared features_ND and labels_N on a device."""
    return given.features("shared").detach().to(device), given.labels_N.to(device)
