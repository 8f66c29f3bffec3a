"""The text head: class rows from the text tower (Radford et al. 2021, arXiv:2103.00020, section 3.1.4)."""

# C classes, D shared width, L tokens, U distinct texts.

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from likewise.config import Config
from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.heads.head import unit

CHUNK = 128
"""Texts that are encoded together. Part of the answer's last bit, so it is one number everywhere."""


class Text(Config):
    """Scores are the scale times cosines with the class texts, averaged over templates.

    `templates` are the data's unless given here: `{}` stands for the class name.
    """

    kind: Literal["text"] = "text"
    templates: tuple[str, ...] = ()


def encode(encoder: Encoder, tokens_UL: Tensor, chunk: int = CHUNK) -> Tensor:
    """Unit rows_UD of token ids, in chunks whose activations are recomputed for the gradient.

    Memory is that of one chunk, however many classes there are (Chen et al. 2016, arXiv:1604.06174); no chunk is kept
    where no gradient is asked for.
    """
    parts = tokens_UL.split(chunk)
    if not torch.is_grad_enabled() or len(parts) == 1:
        return torch.cat([unit(encoder.text(part)) for part in parts])
    # Nothing in a tower is random, so no generator's state need be kept.
    rows = [checkpoint(encoder.text, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat([unit(row) for row in rows])


def check_words(encoder: Encoder, texts: Sequence[str], tokens_UL: Tensor) -> None:
    """Raises `ConfigError` naming a text with a learned word (a negative id) where no prompt stands to read it."""
    place = encoder.children.get("text.tokens")
    if (tokens_UL < 0).any() and not (place is not None and hasattr(place.value, "vectors")):
        text = texts[int((tokens_UL < 0).any(1).nonzero()[0])]
        raise ConfigError(
            f"the text {text!a} has a character of Unicode's private plane, which stands for a learned word, and no "
            f"prompt stands in {encoder.spec.name} to read it. Write the text in ordinary characters."
        )


def class_texts(encoder: Encoder, prompts: Sequence[Sequence[str]], chunk: int = CHUNK) -> Tensor:
    """Unit rows_CD: per class the mean of its prompts' unit embeddings, at unit length again. No gradient.

    Each distinct prompt is encoded once, shortest first, so that a chunk is as narrow as its texts. Raises
    `ConfigError` for a text with a learned word in it where the encoder has none.
    """
    distinct = sorted({text for texts in prompts for text in texts}, key=lambda text: (len(text), text))
    tokens_UL = encoder.tokenize(distinct).to(encoder.device)
    check_words(encoder, distinct, tokens_UL)
    with torch.no_grad():
        rows_UD = encode(encoder, tokens_UL, chunk)
    place = {text: i for i, text in enumerate(distinct)}
    return torch.stack([unit(rows_UD[[place[t] for t in texts]].mean(0)) for texts in prompts])
