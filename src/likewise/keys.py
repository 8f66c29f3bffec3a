"""Randomness by key: every draw is a function of integers and words, so a resumed run needs integers only.

No global generator is read or moved. A key is a tuple of integers and words; equal keys give equal draws on every
machine, whatever the number of workers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Key = int | str | np.integer


def _digest(key: tuple[Key, ...]) -> bytes:
    # NumPy integers print differently from Python's, and must not be a different key
    return hashlib.sha256(repr(tuple(k if isinstance(k, str) else int(k) for k in key)).encode()).digest()


def key_rng(*key: Key) -> np.random.Generator:
    """A PCG64 generator seeded by the SHA-256 of the key."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(key), "big")))


def key_hash(*key: Key) -> int:
    """64 bits of the key's SHA-256: one draw, where a whole generator would be wasted."""
    return int.from_bytes(_digest(key)[:8], "big")


def normal(shape: Sequence[int], std: float, *key: int | str) -> Tensor:
    """A float32 tensor of independent normal draws, by key."""
    return torch.from_numpy(key_rng(*key).standard_normal(tuple(shape)) * std).float()


def uniform(shape: Sequence[int], bound: float, *key: int | str) -> Tensor:
    """A float32 tensor of independent draws from [-bound, bound), by key."""
    return torch.from_numpy(key_rng(*key).uniform(-bound, bound, tuple(shape))).float()


def kaiming(shape: Sequence[int], *key: int | str) -> Tensor:
    """PyTorch's own start of a linear layer (He et al. 2015 with a = sqrt 5): uniform in 1 / sqrt(fan in), by key."""
    return uniform(shape, 1 / math.sqrt(shape[-1]), *key)
