"""Pretrained encoders by name: `load("icon-clip")`, `load("open_clip:ViT-B-16/openai")`."""

from __future__ import annotations

from pathlib import Path

from likewise.encoder import Encoder
from likewise.encoders import open_clip

BUILT_IN = {"icon-clip": Path(__file__).parent.parent / "assets" / "icon-clip"}
"""Models that the package carries, as open_clip folders."""

RATE_SCALES = {"icon-clip": 30.0}
"""Recipes name learning rates for CLIPs of ViT-B size and up. icon-clip is ten times smaller and hardly
trained by their measure: of 10 and 30 times the rates of full fine-tuning, FLYP and LayerNorm tuning, the larger was as
good or better on IconShift's select split for each of the three (one seed)."""


def load(name: str = "icon-clip", weights: bool = True) -> Encoder:
    """The encoder of that name, on the CPU, in fp32, in eval mode.

    `weights=False` gives the architecture alone, for counting. Raises `UsageError` M01 for an unknown name,
    `ConfigError` M02 where weights and architecture do not belong together, `MachineError` M01 where a download failed.
    """
    if name in BUILT_IN:
        encoder = open_clip.load(f"local-dir:{BUILT_IN[name]}", weights)
        encoder.spec = encoder.spec.model_copy(update={"name": name})
        encoder.rate_scale = RATE_SCALES[name]
        return encoder
    return open_clip.load(name, weights)
