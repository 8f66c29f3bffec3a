"""Fingerprints of pictures: exact (bytes, pixels) and perceptual, for duplicates across splits."""

# N pictures, H height, W width.

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image
from scipy.fft import dctn


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of size and RGB pixels: equal for the same picture in two file formats."""
    rgb = image.convert("RGB")
    return hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()


def perceptual_hash(image: Image.Image) -> int:
    """64 bits that stay nearly the same under scaling and re-encoding.

    The signs, about their median, of the 8 x 8 lowest frequencies of the 32 x 32 grey picture's cosine transform
    (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2.1).
    Departs: the constant term is left out of the median, so that paper white does not move it.
    """
    grey_HW = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    low = dctn(grey_HW, norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int(np.packbits(bits).view(">u8")[0])


def distances(hashes_N: np.ndarray, one: int) -> np.ndarray:
    """Hamming distances (bits, 0 to 64) of every hash in `hashes_N` (uint64) from one hash."""
    bits_N: np.ndarray = np.bitwise_count(np.bitwise_xor(hashes_N, np.uint64(one)))
    return bits_N


def near_pairs(hashes: Iterable[int], within: int) -> Iterator[tuple[int, int]]:
    """All index pairs (i < j) whose hashes differ in at most `within` bits. Quadratic, in rows of NumPy."""
    hashes_N = np.fromiter(hashes, dtype=np.uint64)
    for i in range(len(hashes_N) - 1):
        for j in np.flatnonzero(distances(hashes_N[i + 1 :], int(hashes_N[i])) <= within):
            yield i, i + 1 + int(j)
