"""What every head is: a value that says how it is made, and a module from features to class scores."""

# B images, C classes, D shared width, N training pictures, W pooled width.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likewise.config import Config
from likewise.encoder import Embedded, Encoder
from likewise.errors import ConfigError

Reads = Literal["shared", "pooled"]
"""Which of the features a head reads: after the projection to the shared space, or before it."""


def unit(x: Tensor) -> Tensor:
    """Rows at length 1, in fp32."""
    return F.normalize(x.float(), dim=-1)


@dataclass
class Given:
    """What a head may be made from: the encoder as it now is, the classes' prompts, the training pictures."""

    encoder: Encoder
    prompts: Sequence[Sequence[str]]
    labels_N: Tensor
    features: Callable[[Reads], Tensor]
    """The training pictures' features in the evaluation view, N rows; computed when asked for."""
    seed: int = 0


class HeadModule(nn.Module):
    """A head at work: `forward` takes features_BD (those that `config.reads` says) to logits_BC."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config

    def answer(self, embedded: Embedded) -> Tensor:
        """logits_BC of the features that it reads. Raises `ConfigError` where the encoder gives none of these."""
        features_BD = embedded.pooled_BW if self.config.reads == "pooled" else embedded.shared_BD
        if features_BD is None:
            raise ConfigError(f"a {self.config.kind} head reads pooled features, and this encoder gives none.")
        return torch.as_tensor(self(features_BD))

    def at(self, alpha: float, zero: HeadModule) -> HeadModule:
        """A new head at alpha on the straight line from `zero` (0) to this one (1): bitwise their scores at the ends.

        `zero` is the pretrained model's text head, a `LinearHead`. Heads whose config `has_path` implement it; the
        others raise `ConfigError` with their reason.
        """
        raise ConfigError(
            f"a {self.config.kind} head has no point at alpha {alpha:g} on the way from the text head: "
            f"{self.config.refuses}. Use it as it was trained (alpha 1)."
        )

    def penalty(self) -> Tensor | None:
        """What the head adds to the loss, if anything."""
        return None

    @property
    def keeps(self) -> int:
        """How many numbers of training features it holds."""
        return 0

    @property
    def chooses(self) -> bool:
        """Whether `choose` does anything."""
        return type(self).choose is not HeadModule.choose

    def choose(self, select_ND: Tensor, labels_N: Tensor) -> dict[str, float]:
        """Set what is chosen on the select split, and say what was chosen. Called after training."""
        return {}


class HeadConfig(Config):
    """Base of the heads that have numbers of their own."""

    path: ClassVar[bool] = False
    """Whether `HeadModule.at` can interpolate it with the text head."""
    refuses: ClassVar[str] = ""
    """Why not, where not."""
    no_mean: ClassVar[str] = ""
    """Why the mean of several trainings' numbers is no mean of what they say; "" where it is."""
    kept: ClassVar[bool] = False
    """Whether it keeps training features and has no numbers that train."""
    live_text: ClassVar[bool] = False
    """Whether each prediction asks the text tower."""

    kind: str

    @property
    def has_path(self) -> bool:
        """Whether there is a straight line from the text head to this one."""
        return self.path

    @property
    def reads(self) -> Reads:
        return "shared"

    def sizes(self, encoder: Encoder, classes: int, pictures: int) -> dict[str, int]:
        """How many numbers could train, by the names of the module's parameters, before it is made."""
        raise NotImplementedError

    def build(self, given: Given) -> HeadModule:
        """The head as it starts."""
        raise NotImplementedError

    def load(self, tensors: Mapping[str, Tensor], encoder: Encoder, classes: int) -> HeadModule:
        """The head again from its `state_dict`."""
        raise NotImplementedError
