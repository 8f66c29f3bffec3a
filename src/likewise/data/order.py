"""Which pictures and templates come when: functions of seed and epoch or step, without state (`likewise.keys`)."""

# B samples of one batch.

from __future__ import annotations

import functools

import numpy as np

from likewise.keys import key_hash, key_rng


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order (int64, each of 0 .. n-1 once) in which an epoch visits n samples."""
    return key_rng(seed, "permutation", epoch).permutation(n)


def choose(seed: int, epoch: int, ids_B: np.ndarray, n: int | np.ndarray) -> np.ndarray:
    """One of n templates (int64, as choice_B) for each sample id: the same whatever else is in the batch.

    `n` may say how many there are for each sample, as n_B.
    """
    n_B = np.broadcast_to(n, ids_B.shape).tolist()
    return np.array([key_hash(seed, "template", epoch, i) % n for i, n in zip(ids_B.tolist(), n_B)], dtype=np.int64)


def pairs(seed: int, step: int, batch: int, images: int, templates: int) -> tuple[np.ndarray, np.ndarray]:
    """FLYP's published sampling at one step: image_B and template_B (int64) of a batch of (image, template) rows.

    The rows are all images * templates pairs, row k being (image k // templates, template k % templates). A pass
    visits each row once in ceil(rows / batch) steps, its last batch being what is left; the next pass has an order
    of its own. `step` counts from the start of training and runs on over epochs of ceil(images / batch) steps, so
    one epoch visits only a part of the images, and an image may be in a batch twice (Goyal et al. 2023,
    arXiv:2212.00638, as in the authors' code).
    """
    rows = images * templates
    number, place = divmod(step, -(-rows // batch))
    chosen_B = _rows(seed, number, rows)[place * batch : (place + 1) * batch].astype(np.int64)
    return chosen_B // templates, chosen_B % templates


@functools.lru_cache(maxsize=1)
def _rows(seed: int, number: int, rows: int) -> np.ndarray:
    # ImageNet with 80 templates has 1e8 rows: 32 bits halve them, and one pass is held at a time
    order = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
    key_rng(seed, "pairs", number).shuffle(order)
    order.flags.writeable = False
    return order
