"""One stage and all it needs."""

# N training pictures.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from likewise.data.records import Split
from likewise.encoder import Encoder
from likewise.heads import HeadModule, Reads
from likewise.names import Plan
from likewise.recipe import Stage


@dataclass
class Work:
    """One stage and all it needs; its adapters stand in the encoder.

    `captions` are the texts to train with, `prompts` those to predict with, per class; `features` gives the training
    pictures' features in the evaluation view, `rows` the text tower's unit rows of texts, where they are kept.
    `frozen` is the encoder as it was pretrained, for a stage that replays it; `replayed` the pictures on which, where
    these are not the training pictures. `kin`: classes of equal numbers are never each other's negatives.
    """

    stage: Stage
    encoder: Encoder
    head: HeadModule | None
    split: Split
    captions: Sequence[Sequence[str]]
    prompts: Sequence[Sequence[str]]
    seed: int
    workers: int = 0
    features: Callable[[Reads], Tensor] | None = None
    rows: Callable[[Sequence[str]], Tensor] | None = None
    frozen: Encoder | None = None
    replayed: Split | None = None
    kin: Sequence[int] | None = None

    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that could train: the encoder's by name, grafts included, and `head.*`."""
        mine = self.encoder.parameters_by_name()
        if self.head is not None:
            mine |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return mine

    def plan(self) -> Plan:
        return self.stage.plan({name: p.numel() for name, p in self.parameters().items()})
