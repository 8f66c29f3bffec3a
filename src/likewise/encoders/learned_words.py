"""Texts in which characters stand for learned words (`likewise.encoder.learned`), joined to the tokenizer's own ids."""

# L tokens, T texts.

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from likewise.encoder import LEARNED, learned
from likewise.errors import ConfigError

_WORD = re.compile(f"([{learned(0)}-{learned(65_533)}])")  # the whole plane but for its two noncharacters


def lengths(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Tokens in each text before cutting, start and end included. Raises `ConfigError` as `tokenize` does."""
    around = getattr(tokenizer, "specials", 2)
    return [
        len(_ids(tokenizer, text)) if _WORD.search(text) else len(tokenizer.encode(text)) + around for text in texts
    ]


def tokenize(tokenizer: Any, texts: Sequence[str], context: int) -> Tensor:
    """ids_TL, L = `context`; learned word j is -1 - j. Texts without learned words are the tokenizer's business alone.

    Raises `ConfigError` where there are learned words and the tokenizer cannot encode a text in pieces.
    """
    plain = [index for index, text in enumerate(texts) if not _WORD.search(text)]
    if len(plain) == len(texts):
        return torch.as_tensor(tokenizer(list(texts), context_length=context))
    ids_TL = torch.full((len(texts), context), getattr(tokenizer, "pad_token_id", 0))
    if plain:
        ids_TL[plain] = torch.as_tensor(tokenizer([texts[index] for index in plain], context_length=context))
    for index in sorted({*range(len(texts))} - {*plain}):
        ids = _ids(tokenizer, texts[index])
        if len(ids) > context:
            ids = [*ids[: context - 1], ids[-1]]  # the end of text is where the answer is read
        ids_TL[index, : len(ids)] = torch.tensor(ids)
    return ids_TL


def _ids(tokenizer: Any, text: str) -> list[int]:
    missing = [name for name in ("encode", "sot_token_id", "eot_token_id") if not hasattr(tokenizer, name)]
    if missing:
        raise ConfigError(
            f"learned prompts need a tokenizer whose words can be joined, and {type(tokenizer).__name__} has no "
            f"{' and no '.join(missing)}; a text with learned words in it cannot be made into ids. Use an encoder with "
            "open_clip's own tokenizer, or tune something else than prompts."
        )
    ids = [int(tokenizer.sot_token_id)]
    for piece in _WORD.split(text):
        ids += [LEARNED - ord(piece) - 1] if _WORD.fullmatch(piece) else tokenizer.encode(piece)
    return [*ids, int(tokenizer.eot_token_id)]
