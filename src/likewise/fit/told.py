"""Which texts tell a class, or a picture that has captions of its own: each distinct text once."""

# B samples, C classes, U distinct texts.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from likewise.data.captions import grouped
from likewise.encoder import Encoder
from likewise.errors import ConfigError


class Told:
    """`texts` are distinct, in order of first use; `kin_U` numbers their groups (`data.captions.grouped`): texts of one
    group are never each other's negatives. `kin` says which classes are of one kind, by equal numbers.
    """

    def __init__(self, captions: Sequence[Sequence[str]], kin: Sequence[int] | None = None) -> None:
        found = grouped(captions, kin if kin is not None else range(len(captions)))
        self.texts, self.kin_U = list(found.texts), found.group_U
        self.counts_C = np.array([len(own) for own in found.codes], dtype=np.int64)
        self._flat = np.concatenate([np.array(own, dtype=np.int64) for own in found.codes])
        self._first_C = np.cumsum(self.counts_C) - self.counts_C

    def __len__(self) -> int:
        """How many classes."""
        return len(self.counts_C)

    @property
    def each(self) -> int:
        """How many texts every class has. Raises `ConfigError` where some have more than others."""
        if len(set(self.counts_C.tolist())) > 1:
            raise ConfigError(
                f"sampling «pairs» goes through (picture, text) rows, and here pictures have between "
                f"{self.counts_C.min()} and {self.counts_C.max()} texts. Use sampling: images."
            )
        return int(self.counts_C[0])

    def code(self, class_B: np.ndarray, number_B: np.ndarray) -> np.ndarray:
        """Which distinct text is number `number_B` of class `class_B`, as code_B (int64)."""
        return np.asarray(self._flat[self._first_C[class_B] + number_B])

    def tokens(self, encoder: Encoder) -> Tensor:
        """tokens_UL of all of them."""
        return encoder.tokenize(self.texts)
