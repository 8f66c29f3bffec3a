"""Bottleneck adapters: a small residual network behind a layer. Houlsby et al. 2019, arXiv:1902.00751, section 2.1."""

# D width of the bottleneck, W width of a tower's tokens; ... any shape.

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from likewise.adapters.adapter import AdapterConfig
from likewise.adapters.places import answering, in_blocks
from likewise.encoder import Encoder, Grafts
from likewise.errors import ConfigError
from likewise.keys import kaiming

Activation = Literal["gelu", "relu", "tanh"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "tanh": torch.tanh}


class Bottleneck(AdapterConfig):
    """y -> y + factor A(y) for what comes out of each place, with A(y) = up(activation(down(y))).

    2 w d + d + w numbers a place, with w the tower's width and d `width`. Places are `<tower>.<block>.attention`,
    `.mlp` and `.block`:

        before the residual sum, twice a block: at ("text.*.attention", "text.*.mlp")    Houlsby et al. 2019
        on the stream after both sums: at ("text.*.block",)            Pfeiffer et al. 2021, arXiv:2005.00247
        where="parallel": y + factor A(x), x what goes into the place          He et al. 2022, arXiv:2110.04366

    Kim et al. 2021 (OpenReview EhwEUb2ynIa), one in each text block with d = 24: 301,344 on CLIP ViT-B/16. Raises
    `ConfigError` for a place that the encoder lacks.

    Departs: Kim et al. put it after the feed-forward layers in the text and after the attention in the caption of
    figure 2; their count proves only that there is one a block, and we take the text. `up` starts at zero and `down` as
    PyTorch's linear layers do (He et al.'s start), where Houlsby et al. draw both with std 0.01: ours is silent.
    Houlsby et al. train the norms beside it: say so in `trains`. Where a block scales its sub-layers' answers
    (LayerScale), the adapter stands before that scale.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    at: tuple[str, ...] = ("text.*.mlp",)
    width: int = Field(24, ge=1)
    where: Literal["after", "parallel"] = "after"
    factor: float = Field(1.0, gt=0)
    activation: Activation = "gelu"
    scales: ClassVar[tuple[str, ...] | None] = (".up.weight", ".up.bias")

    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        for place, wide in in_blocks(encoder, "a bottleneck", self.at):
            if self.where == "parallel" and isinstance(encoder.children[place].value, nn.Linear):
                raise ConfigError(
                    f"a parallel bottleneck reads what goes into {place}, and of {encoder.spec.name} that cannot be "
                    "had: its last layer stands for it (BERT's has no module of its own). Use where: after."
                )
            own = f"bottleneck.{place}"
            down_DW = kaiming((self.width, wide), seed, own).to(encoder.device)
            up_WD = down_DW.new_zeros(wide, self.width)
            added = Added(Affine(down_DW), Affine(up_WD), self.activation, self.factor)
            change = added.beside if self.where == "parallel" else added.behind
            grafts.token(own, encoder.children[place], added, answering(change))


class Affine(nn.Module):
    """A linear layer with given weight and zero bias; `nn.Linear` would draw from the global generator."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(weight.new_zeros(len(weight)))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Added(nn.Module):
    """factor up(activation(down(x))), and y with it."""

    def __init__(self, down: nn.Module, up: nn.Module, activation: Activation, factor: float = 1.0) -> None:
        super().__init__()
        self.down, self.up = down, up
        self.activation, self.factor = ACTIVATIONS[activation], factor

    def forward(self, x: Tensor) -> Tensor:
        return torch.mul(self.up(self.activation(self.down(x))), self.factor)

    def behind(self, _: Tensor, y: Tensor) -> Tensor:
        """After what a place answers."""
        return y + self.forward(y)

    def beside(self, x: Tensor, y: Tensor) -> Tensor:
        """Parallel to the place."""
        return y + self.forward(x)
