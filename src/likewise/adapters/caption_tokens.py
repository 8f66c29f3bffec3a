"""Captions as tokens in the image tower: read while it trains, and stood in for by learned ones when it is used."""

# B images, D shared width, L tokens, P caption tokens, R width of the bottleneck, W width of the image tower.

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from likewise.adapters.adapter import AdapterConfig
from likewise.adapters.bottleneck import Affine
from likewise.adapters.tokens import blocks_of, check_room, width_of
from likewise.encoder import Encoder, Grafts
from likewise.keys import kaiming, normal


class CaptionTokens(AdapterConfig):
    """Each block sees `length` tokens more, the same ones again at every block; their outputs are dropped.

    y -> y + gate (block(x, tokens) - y) for each block, y = block(x), gate one number that starts at 0: silent. While a
    stage with the masked loss trains, the tokens are null + up(down(t)), with t the unit row of the picture's caption
    as `Encoder.told` gives it; otherwise they are `null`, which is learned. So nothing of a text is needed when the
    encoder is used, and a loss that compares pictures with texts is refused (`recipe.Stage`): the text's features would
    reach it through the picture's.

    blocks + P W + R (D + 1) + P W (R + 1) numbers, of which the last two terms (`down`, `up`) only training needs: they
    are not kept with an image tower, and are not there in an encoder without a text tower. Each block runs twice.
    Raises `ConfigError` for a tower without blocks, or with blocks that count their tokens.

    The mechanism is that of deep visual prompts (Jia et al. 2022, arXiv:2203.12119, section 3.2) with what a text says
    in the place of learned numbers: another reading of "Token Replay" (see `losses.Replay`), kept apart from that name.

    Departs: a text is its pooled row, from which P tokens are made, since not every text tower gives its tokens; the
    gate is a plain number and not its tanh (zero-initialised attention: Zhang et al. 2023, arXiv:2303.16199), so that
    alpha times it is a path to the pretrained tower.
    """

    kind: Literal["caption-tokens"] = "caption-tokens"
    at: tuple[()] = ()
    """Nothing to choose: it stands at every block."""
    length: int = Field(4, ge=1)
    width: int = Field(24, ge=1)
    """R, of the way from a text's row to its tokens."""
    scales: ClassVar[tuple[str, ...] | None] = (".gate",)
    reads_captions: ClassVar[bool] = True
    only_training: ClassVar[tuple[str, ...]] = (".down.weight", ".down.bias", ".up.weight", ".up.bias")

    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        blocks = blocks_of(encoder, "image", "a caption token")
        wide = width_of(encoder, "image")
        tokens = _Tokens(encoder, self.length, wide, self.width, seed)
        grafts.shared("caption-tokens.image.told", tokens)
        for index in range(blocks):
            at = encoder.children[f"image.{index}.block"]
            grafts.module(f"caption-tokens.image.{index}", at, lambda inside: _Block(inside, tokens))
        check_room(encoder, "a caption token")


class _Tokens(nn.Module):
    """The tokens of the pictures that are being looked at."""

    def __init__(self, encoder: Encoder, length: int, wide: int, width: int, seed: int) -> None:
        super().__init__()
        key = "caption-tokens.image.told"
        self.null = nn.Parameter(normal((length, wide), 0.02, seed, key).to(encoder.device))
        self.down = self.up = None
        if encoder.has("text"):
            self.down = Affine(kaiming((width, encoder.shared_width), seed, key, "down").to(encoder.device))
            self.up = Affine(kaiming((length * wide, width), seed, key, "up").to(encoder.device))
        self._encoder = [encoder]  # in a list: an encoder's modules are not this one's

    def forward(self, count: int) -> Tensor:
        """tokens_BPW for so many pictures."""
        told_BD = self._encoder[0].told
        null_BPW = self.null.expand(count, -1, -1)
        if told_BD is None:
            return null_BPW
        assert self.down is not None, "captions are told to encoders that read"
        assert self.up is not None
        seen_B1 = told_BD.abs().sum(1, keepdim=True) > 0  # a row of zeros: nothing is said of this picture
        made_BPW = (self.up(self.down(told_BD)) * seen_B1).reshape(null_BPW.shape)
        tokens_BPW: Tensor = null_BPW + made_BPW
        return tokens_BPW


class _Block(nn.Module):
    """A block, and what the tokens change in it."""

    def __init__(self, inside: nn.Module, tokens: _Tokens) -> None:
        super().__init__()
        self.inside = inside
        self.gate = nn.Parameter(tokens.null.new_zeros(()))
        self._tokens = [tokens]  # in a list: its numbers are registered once, by all blocks' own graft

    def forward(self, x_BLW: Tensor, *rest: Any, **more: Any) -> Tensor:
        y_BLW: Tensor = self.inside(x_BLW, *rest, **more)
        tokens_BPW: Tensor = self._tokens[0](len(x_BLW)).to(x_BLW.dtype)
        with_BLW: Tensor = self.inside(torch.cat([x_BLW, tokens_BPW], 1), *rest, **more)[:, : x_BLW.shape[1]]
        return y_BLW + (self.gate * (with_BLW - y_BLW)).to(y_BLW.dtype)
