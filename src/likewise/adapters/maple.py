"""Learned words and learned image tokens, coupled: MaPLe (Khattak et al. 2023, arXiv:2210.03117, section 3.2)."""

# I width of the image tower, P learned words, W width of the text tower.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from likewise.adapters.adapter import AdapterConfig
from likewise.adapters.prompt import STD, LearnedWords, check_names, say, text_width, token_site, words_of
from likewise.adapters.tokens import blocks_of, check_room, exchange, insert, take_out, width_of
from likewise.encoder import Encoder, Grafts
from likewise.errors import ConfigError
from likewise.keys import kaiming, normal, uniform


class Maple(AdapterConfig):
    """`length` learned words in front of the class name, new ones before each of the first `depth` text blocks.

    The image tower gets tokens that are linear maps of these words, a map for each depth: they stand at the end of its
    sequence, come in before the norm ahead of the first block (where there is one), are exchanged before each of the
    next depth - 1 blocks and taken out after the last. The first words begin as the embeddings of the first tokens of
    `start` (none: normal with std 0.02), the others normal; the maps as PyTorch's linear layers.

    depth (length W + W I + I) numbers, W and I the widths of the text and the image tower. On CLIP ViT-B/16: 3,555,072.
    Not silent. While it stands, each text must have the words in it, as `texts` puts them: their places are exchanged
    in every text. Raises `ConfigError` where learned words or blocks have no place, and for a `start` of fewer tokens
    than `length`.

    Departs: numbers stay fp32, where the authors' code trains in fp16; a tower with fewer blocks than `depth` ends it.
    """

    kind: Literal["maple"] = "maple"
    at: tuple[()] = ()
    """Nothing to choose: it has one place."""
    length: int = Field(2, ge=1)
    depth: int = Field(9, ge=1)
    start: str = "a photo"
    brings_texts: ClassVar[bool] = True
    refuses: ClassVar[str] = "learned words and tokens are inputs of the towers and have no pretrained counterpart"

    @property
    def on_images(self) -> bool:
        return True

    def texts(self, names: Sequence[str]) -> list[list[str]]:
        check_names(names)
        return [[f"{say(self.length)} {name}."] for name in names]

    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        blocks = {tower: blocks_of(encoder, tower, "MaPLe") for tower in ("text", "image")}
        site = token_site(encoder, self.length + 1)  # the full stop needs a place too
        pairs = [self._pair(encoder, seed, index) for index in range(min(self.depth, *blocks.values()))]
        grafts.shared("maple.both", nn.ModuleList(pairs))
        first = pairs[0]
        grafts.module("maple.both.words", site, lambda inside: LearnedWords(inside, first.words, shared=True))
        early = encoder.children.get("image.norm_pre", encoder.children["image.0.block"])
        grafts.token("maple.both.image.0", early, nn.Module(), insert(first.seen, None), before=True)
        for index, pair in enumerate(pairs[1:], start=1):
            for tower, hook in {"text": exchange(pair.spoken, 1), "image": exchange(pair.seen, None)}.items():
                block = encoder.children[f"{tower}.{index}.block"]
                grafts.token(f"maple.both.{tower}.{index}", block, nn.Module(), hook, before=True)
        last = encoder.children[f"image.{blocks['image'] - 1}.block"]
        grafts.token("maple.both.image.out", last, nn.Module(), take_out(self.length, None))
        check_room(encoder, "MaPLe")

    def _pair(self, encoder: Encoder, seed: int, index: int) -> _Pair:
        own, wide, wide_image = f"maple.both.{index}", text_width(encoder), width_of(encoder, "image")
        words_PW = normal((self.length, wide), STD, seed, own, "words")
        if index == 0 and self.start:
            words_PW = words_of(encoder, self.start)[: self.length]
            if len(words_PW) < self.length:
                raise ConfigError(
                    f"MaPLe's start «{self.start}» is {len(words_PW)} tokens for {encoder.spec.name}, and its length "
                    f"{self.length}: each word begins as one token. Write more words, or none for a normal start."
                )
        weight_IW = kaiming((wide_image, wide), seed, own, "weight")
        bias_I = uniform((wide_image,), 1 / math.sqrt(wide), seed, own, "bias")
        return _Pair(words_PW, weight_IW, bias_I).to(encoder.device)


class _Pair(nn.Module):
    """The words of one depth, and the map that makes image tokens of them."""

    def __init__(self, words_PW: Tensor, weight_IW: Tensor, bias_I: Tensor) -> None:
        super().__init__()
        self.words = nn.Parameter(words_PW)
        self.weight = nn.Parameter(weight_IW)
        self.bias = nn.Parameter(bias_I)

    def spoken(self) -> Tensor:
        return self.words

    def seen(self) -> Tensor:
        return F.linear(self.words, self.weight, self.bias)
