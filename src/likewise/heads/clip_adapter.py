"""CLIP-Adapter: a small network on the picture's feature. Gao et al. 2021, arXiv:2110.04544."""

# B images, C classes, D shared width, H hidden width.

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.heads.anchored import Anchored, anchors
from likewise.heads.head import Given, HeadConfig, HeadModule, unit
from likewise.keys import kaiming


class ClipAdapter(HeadConfig):
    """Cosines of the texts with share * relu(up relu(down f)) + (1 - share) f, where f is the feature at length 1.

    Trains 2 D H numbers, H = D // reduction: 131,072 for D = 512. There are no biases, so the length that f comes with
    makes no difference; the texts and the scale are held. Raises `ConfigError` where `reduction` exceeds D.

    Departs: the paper's other adapter, on the class texts, is left out.
    """

    kind: Literal["clip-adapter"] = "clip-adapter"
    reduction: int = Field(4, ge=1)
    share: float = Field(0.2, gt=0, lt=1)
    refuses: ClassVar[str] = (
        "a CLIP-Adapter mixes a fixed share of a new feature into the picture's, from its random start on, so there "
        "are no weights at which it is the zero-shot model and from which a line could lead"
    )
    no_mean: ClassVar[str] = (
        "a CLIP-Adapter has hidden units that start at random, so those of two trainings do not correspond and the "
        "mean of their weights is the mean of nothing that they do"
    )

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        numbers = encoder.shared_width * self._hidden(encoder)
        return {"down": numbers, "up": numbers}

    def build(self, given: Given) -> HeadModule:
        width, hidden = given.encoder.shared_width, self._hidden(given.encoder)
        start = {
            "down": kaiming((hidden, width), given.seed, "head.clip-adapter.down"),
            "up": kaiming((width, hidden), given.seed, "head.clip-adapter.up"),
        }
        return ClipAdapterHead(anchors(given) | start, self).to(given.encoder.device)

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        return ClipAdapterHead(tensors, self).to(encoder.device)

    def _hidden(self, encoder: Encoder) -> int:
        if self.reduction > encoder.shared_width:
            raise ConfigError(
                f"a reduction of {self.reduction} leaves nothing of the {encoder.shared_width} shared "
                f"features of {encoder.spec.name}. Choose a reduction of at most {encoder.shared_width}."
            )
        return encoder.shared_width // self.reduction


class ClipAdapterHead(Anchored):
    """`down` is H x D, `up` D x H."""

    def __init__(self, tensors: Mapping[str, Tensor], config: ClipAdapter) -> None:
        super().__init__(tensors, config)
        self.share = config.share
        self.down = nn.Parameter(tensors["down"].detach().clone())
        self.up = nn.Parameter(tensors["up"].detach().clone())

    def forward(self, features_BD: Tensor) -> Tensor:
        plain_BD = unit(features_BD)
        new_BD = F.linear(F.linear(plain_BD, self.down).relu(), self.up).relu()
        return F.linear(unit(self.share * new_BD + (1 - self.share) * plain_BD), self.text_CD, self.shift_C)
