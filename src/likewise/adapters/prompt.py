"""Learned words in the class prompts.

CoOp: Zhou et al. 2022, arXiv:2109.01134; as Kim et al. 2021 use it ("How to Adapt Your Large-Scale Vision-and-Language
Model", OpenReview EhwEUb2ynIa, section on prompt tuning): eight words before the raw class name.
"""

# C classes, L tokens, M learned words of one prompt, N learned words in all, W width of the text tower; ... any shape.

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from likewise.adapters.adapter import AdapterConfig
from likewise.encoder import LEARNED, Encoder, Grafts, Site, learned
from likewise.errors import ConfigError
from likewise.keys import normal

MOST = 65_534
"""So many learned words have a character of their own: the private plane but for its two noncharacters."""
STD = 0.02
"""Of the normal start, as of CLIP's own token embeddings."""


class Prompt(AdapterConfig):
    """`length` vectors in the prompt of a class, in the places of words; the same for all classes, or `per_class`.

    `position` is where the class name stands: at the "end", after the vectors; at the "front"; or in the "middle",
    after the first half of them. `text` is what is around both: "{}." for CoOp's full stop; Kim et al. have none.
    `start` are words whose token embeddings the vectors begin as; without, they are normal with std 0.02.

    length x width numbers, times the classes with `per_class`. On CLIP ViT-B/16: 4,096 (Kim et al.), 8,192 with length
    16. Not silent: an untrained prompt is another prompt than the data's. Raises `ConfigError` for an encoder without a
    table of tokens or with another tokenizer than open_clip's, for words that are not `length` tokens, for prompts that
    leave the class name no room, and for `per_class` before `for_classes`.

    Departs: with `per_class` every class begins at `start`; CoOp's code then shares one prompt.
    """

    kind: Literal["prompt"] = "prompt"
    at: tuple[()] = ()
    """Nothing to choose: it has one place."""
    length: int = Field(8, ge=1)
    position: Literal["front", "middle", "end"] = "end"
    start: str = ""
    per_class: bool = False
    text: str = "{}"
    classes: int = Field(0, ge=0)
    """How many classes there are, for `per_class`; `for_classes` sets it."""
    brings_texts: ClassVar[bool] = True
    refuses: ClassVar[str] = (
        "a learned prompt is an input of the text tower and has no pretrained counterpart to interpolate with"
    )

    @field_validator("text")
    @classmethod
    def _one_place(cls, text: str) -> str:
        if text.count("{}") != 1:
            raise ValueError("text needs one {}, where the vectors and the class name stand")
        return text

    def for_classes(self, classes: int) -> Prompt:
        return self.model_copy(update={"classes": classes}) if self.per_class else self

    def texts(self, names: Sequence[str]) -> list[list[str]]:
        check_names(names)
        half = {"front": 0, "middle": self.length // 2, "end": self.length}[self.position]
        out = []
        for index, name in enumerate(names):
            words = say(self.length, index * self.length if self.per_class else 0)
            parts = (words[:half], name, words[half:])
            out.append([self.text.replace("{}", " ".join(part for part in parts if part))])
        return out

    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        if self.per_class and not self.classes:
            raise ConfigError("a prompt per class has so many vectors as there are classes: call for_classes(n) first.")
        site = token_site(encoder, self.length)
        sets = self.classes if self.per_class else 1
        if sets * self.length > MOST:
            raise ConfigError(
                f"{sets:,} classes of {self.length} learned words each are {sets * self.length:,}, and {MOST:,} can be "
                "told apart in a text. Use a shorter prompt, or one for all classes (per_class: false)."
            )
        if self.start:
            start_MW = words_of(encoder, self.start)
            if len(start_MW) != self.length:
                raise ConfigError(
                    f"the prompt's start «{self.start}» is {len(start_MW)} tokens for {encoder.spec.name}, and its "
                    f"length {self.length}: each vector begins as one token. Change one of the two."
                )
            start_NW = start_MW.repeat(sets, 1)
        else:
            start_NW = normal((sets * self.length, text_width(encoder)), STD, seed, "prompt.text").to(encoder.device)
        grafts.module("prompt.text", site, lambda inside: LearnedWords(inside, nn.Parameter(start_NW)))


class LearnedWords(nn.Module):
    """A table of tokens, and vectors for the negative ids: -1 - j is vector j. Other ids get what they got before.

    `offset` is added to the vectors: None; (W,) or (N, W) for the vectors themselves; (B, 1, W) for the vectors in each
    of the B texts that are read. With `shared` the vectors are another graft's numbers.
    """

    offset: Tensor | None
    vectors: nn.Parameter

    def __init__(self, inside: nn.Module, vectors: nn.Parameter, shared: bool = False) -> None:
        super().__init__()
        self.inside = inside
        self.offset = None
        if shared:
            self.__dict__["vectors"] = vectors  # read, and not registered
        else:
            self.vectors = vectors

    def forward(self, ids: Tensor) -> Tensor:
        table_NW, by_text = self.vectors, self.offset is not None and self.offset.ndim == 3
        if self.offset is not None and not by_text:
            table_NW = table_NW + self.offset  # type: ignore[assignment]
        own = F.embedding((-1 - ids).clamp_min(0), table_NW)
        if self.offset is not None and by_text:
            own = own + self.offset
        return torch.where((ids < 0).unsqueeze(-1), own, self.inside(ids.clamp_min(0)))


def say(length: int, first: int = 0) -> str:
    """The characters of learned words `first`, `first` + 1, ..."""
    return "".join(learned(first + number) for number in range(length))


def check_names(names: Sequence[str]) -> None:
    """Raises `ConfigError` for a class name that has a learned word's character in it."""
    for name in names:
        if any(LEARNED <= ord(character) < LEARNED + MOST for character in name):
            raise ConfigError(
                f"the class name {name!a} has a character of Unicode's private plane, which stands for a learned "
                "word in a prompt. Give the class a name of ordinary characters."
            )


def token_site(encoder: Encoder, length: int) -> Site:
    """Where the table of tokens is. Raises `ConfigError` where learned words cannot be, or leave no room for a name."""
    if "text.tokens" not in encoder.children:
        raise ConfigError(
            f"{encoder.spec.name} has no table of tokens at text.tokens (its text tower is of another library), so "
            "learned words have no place. Tune something else than prompts."
        )
    encoder.tokenize([learned(0)])  # says why, where it cannot
    if length + 3 > encoder.spec.context:
        raise ConfigError(
            f"{length} learned words leave no room for a class name: {encoder.spec.name} reads {encoder.spec.context} "
            f"tokens, start and end included. Use a prompt of at most {encoder.spec.context - 3}."
        )
    return encoder.children["text.tokens"]


def text_width(encoder: Encoder) -> int:
    """W: how wide a token of the text tower is."""
    return int(encoder.sites["text.tokens"].value.shape[1])


def words_of(encoder: Encoder, text: str) -> Tensor:
    """The pretrained embeddings_LW of a text's tokens, without start and end."""
    count = encoder.lengths([text])[0]
    ids_L = encoder.tokenize([text])[0, 1 : min(count, encoder.spec.context) - 1]
    table_VW: Tensor = encoder.sites["text.tokens"].value
    return table_VW.detach()[ids_L.to(table_VW.device)].clone()
