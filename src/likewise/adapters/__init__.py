"""What can be added to an encoder, one paper a file. `Adapter` is both the type and the registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import Field
from torch import nn

from likewise.adapters.adapter import AdapterConfig
from likewise.adapters.bottleneck import Bottleneck
from likewise.adapters.caption_tokens import CaptionTokens
from likewise.adapters.compacter import Compacter
from likewise.adapters.film import Film
from likewise.adapters.lora import Lora
from likewise.adapters.maple import Maple
from likewise.adapters.prompt import Prompt
from likewise.adapters.visual_prompt import VisualPrompt
from likewise.config import fingerprint
from likewise.encoder import Encoder

__all__ = [
    "Adapter", "AdapterConfig", "Bottleneck", "CaptionTokens", "Compacter", "Film", "Lora", "Maple", "Prompt",
    "VisualPrompt", "add", "grafted", "settings_in", "texts_of",
]  # fmt: skip

Adapter = Annotated[
    Bottleneck | CaptionTokens | Compacter | Film | Lora | Maple | Prompt | VisualPrompt, Field(discriminator="kind")
]


def add(encoder: Encoder, adapters: Iterable[AdapterConfig], seed: int) -> None:
    """Put adapters into the encoder; `encoder.grafts.remove()` takes them out.

    Each leaves a graft without numbers that is named after its settings: they decide answers too (`settings_in`).
    """
    for adapter in adapters:
        adapter.graft(encoder, encoder.grafts, seed)
        encoder.grafts.shared(f"{adapter.kind}.both.settings-{fingerprint(adapter)}", nn.Module())


def settings_in(encoder: Encoder) -> list[str]:
    """What stands in the encoder, apart from its numbers: where, by which seam, and under which settings."""
    return sorted(f"{seam} {name}" for name, seam in encoder.grafts.seams.items())


@contextlib.contextmanager
def grafted(encoder: Encoder, adapters: Iterable[AdapterConfig], seed: int = 0) -> Iterator[None]:
    """Inside, the adapters stand in the encoder, untrained; afterwards it is as it was."""
    assert not encoder.grafts.seams, "grafts do not nest"
    try:
        add(encoder, adapters, seed)
        yield
    finally:
        encoder.grafts.remove()


def texts_of(adapters: Sequence[AdapterConfig], names: Sequence[str]) -> list[list[str]] | None:
    """The class prompts that one of the adapters brings, or None where none does."""
    own = [texts for adapter in adapters if (texts := adapter.texts(names)) is not None]
    assert len(own) < 2, "a recipe with two prompts is refused when it is made"
    return own[0] if own else None
