"""Learned tokens in the image tower: visual prompt tuning, VPT (Jia et al. 2022, arXiv:2203.12119, section 3.2)."""

# P learned tokens, W width of the image tower.

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from likewise.adapters.adapter import AdapterConfig
from likewise.adapters.tokens import blocks_of, check_room, exchange, insert, take_out, width_of
from likewise.encoder import Encoder, Grafts
from likewise.errors import ConfigError
from likewise.keys import uniform


class VisualPrompt(AdapterConfig):
    """`length` learned tokens before each of the first `depth` blocks of the image tower; 0 is all of them.

    They stand behind the class token, or in front where there is none; from block to block new ones take the places of
    the old ones' outputs (depth 1, VPT-shallow: the outputs go on), and after the last block they are taken out, so
    pooling sees what it saw before. They start uniform in +-sqrt(6 / (3 p^2 + width)), p the patch's side.

    depth x length x width numbers. On CLIP ViT-B/16, length 8: 73,728 deep, 6,144 shallow. Not silent: an untrained
    token takes part in the attention. Raises `ConfigError` for a tower without blocks, with fewer than `depth`, or
    with blocks that count their tokens.

    Departs: in a tower that normalises before its first block (CLIP's) the tokens come in behind that norm; the paper's
    towers have none.
    """

    kind: Literal["visual-prompt"] = "visual-prompt"
    at: tuple[()] = ()
    """Nothing to choose: it has one place."""
    length: int = Field(8, ge=1)
    depth: int = Field(0, ge=0)
    refuses: ClassVar[str] = "learned tokens are inputs of the blocks and have no pretrained counterpart"

    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        blocks = blocks_of(encoder, "image", "a visual prompt")
        depth = self.depth or blocks
        if depth > blocks:
            raise ConfigError(
                f"a visual prompt of depth {depth} in {encoder.spec.name}, whose image tower has {blocks} blocks. Use "
                f"at most {blocks}, or 0 for all."
            )
        width = width_of(encoder, "image")
        bound = math.sqrt(6 / (3 * patch_area(encoder) + width))
        at = 1 if "image.class" in encoder.sites else 0
        for index in range(depth):
            own = f"visual-prompt.image.{index}"
            tokens = _Tokens(uniform((self.length, width), bound, seed, own).to(encoder.device))
            hook = (exchange if index else insert)(tokens.read, at)
            grafts.token(own, encoder.children[f"image.{index}.block"], tokens, hook, before=True)
        last = encoder.children[f"image.{blocks - 1}.block"]
        grafts.token("visual-prompt.image.out", last, nn.Module(), take_out(self.length, at))
        check_room(encoder, "a visual prompt")


class _Tokens(nn.Module):
    def __init__(self, start_PW: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(start_PW)

    def read(self) -> Tensor:
        return self.vectors


def patch_area(encoder: Encoder) -> int:
    """Pixels in a patch: of the one convolution that cuts them, or, behind a stem of several, of the stem's stride.

    Raises `ConfigError` where neither is known.
    """
    found = [site.value for name, site in encoder.sites.items() if name.startswith("image.patch.")]
    kernels = [weight for weight in found if weight.ndim == 4]
    if len(kernels) == 1:
        return int(kernels[0].shape[2] * kernels[0].shape[3])
    if "image.positions" not in encoder.sites:
        raise ConfigError(f"{encoder.spec.name} does not say how large its patches are, by which visual prompts start.")
    positions: Tensor = encoder.sites["image.positions"].value
    side = math.isqrt(positions.numel() // positions.shape[-1])  # a class token more does not reach the next square
    return (encoder.spec.image_size // side) ** 2
