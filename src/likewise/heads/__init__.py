"""From pictures' features to class scores, one method a file. `Head` is both the type and the registry.

A text head is a linear head whose rows are the class texts times the scale: the two are one module, which is what lets
them be interpolated.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from likewise.config import Config
from likewise.heads.clip_adapter import ClipAdapter, ClipAdapterHead
from likewise.heads.conditional import Conditional, ConditionalHead
from likewise.heads.cosine import Cosine, CosineHead
from likewise.heads.head import Given, HeadConfig, HeadModule, Reads, unit
from likewise.heads.linear import Linear, LinearHead, text_head
from likewise.heads.lpp import LpPlus, LpPlusHead, steps
from likewise.heads.neighbours import Neighbours, NeighboursHead
from likewise.heads.text import Text, check_words, class_texts, encode
from likewise.heads.tip import Tip, TipHead

__all__ = [
    "ClipAdapter", "ClipAdapterHead", "Conditional", "ConditionalHead", "Cosine", "CosineHead", "Given", "Head",
    "HeadConfig", "HeadModule", "Keep", "Linear", "LinearHead", "LpPlus", "LpPlusHead", "Neighbours", "NeighboursHead",
    "Own", "Reads", "Text", "Tip", "TipHead", "check_words", "class_texts", "encode", "steps", "text_head", "unit",
]  # fmt: skip


class Keep(Config):
    """The head that the stage before left."""

    kind: Literal["keep"] = "keep"


Own = Annotated[ClipAdapter | Conditional | Cosine | Linear | LpPlus | Neighbours | Tip, Field(discriminator="kind")]
"""Heads with numbers of their own."""
Head = Annotated[
    Text | Keep | ClipAdapter | Conditional | Cosine | Linear | LpPlus | Neighbours | Tip, Field(discriminator="kind")
]
