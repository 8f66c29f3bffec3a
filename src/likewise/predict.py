"""From pictures to numbers: cached features of a held encoder, and the logits of several models in one reading.

Evaluation decodes each picture once, for however many points of a WiSE path are asked about.
"""

# B images, C classes, D shared width, N pictures.

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from likewise import files
from likewise.config import fingerprint
from likewise.data.batches import Batch, Pictures, batches
from likewise.data.records import Split
from likewise.encoder import Encoder, weights_hash
from likewise.heads import BuiltHead

FORMAT = 1
"""Version of the cache's content; a change of meaning raises it, and old entries are never read again."""

Progress = Callable[[int, int], None]


def _nothing(done: int, total: int) -> None:
    """The progress of somebody who does not look."""


class Predictions(NamedTuple):
    """Logits_NC (float32), labels_N and index_N (int64), in the split's order."""

    logits_NC: np.ndarray
    labels_N: np.ndarray
    index_N: np.ndarray

    def write(self, path: Path) -> None:
        files.write_tensors(path, {name: torch.from_numpy(value) for name, value in self._asdict().items()})

    @classmethod
    def read(cls, path: Path) -> Predictions:
        tensors = files.read_tensors(path)
        return cls(**{name: tensors[name].numpy() for name in cls._fields})


class Candidate(NamedTuple):
    """A model to ask: values to put into the encoder (by our names) and its built head."""

    values: Mapping[str, Tensor]
    head: BuiltHead


def cache_folder() -> Path:
    """`$LIKEWISE_CACHE`, or the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("LIKEWISE_CACHE") or f"{base}/likewise")


def _evaluate(split: Split, encoder: Encoder, batch: int, workers: int) -> Iterator[Batch]:
    pictures = Pictures(split, encoder.spec, 0)
    plan = ([(-1, i) for i in range(start, min(start + batch, len(split)))] for start in range(0, len(split), batch))
    return batches(pictures, plan, workers)


@torch.no_grad()
def features(
    encoder: Encoder, split: Split, *, batch: int = 256, workers: int = 0, cache: Path | None = None,
    progress: Progress = _nothing,
) -> Tensor:  # fmt: skip
    """shared_ND of the evaluation view, from the cache if this very encoder has seen these very files.

    The key is the content: weights, spec, file list with sizes and times, batch (it can move the last bit), format.
    """
    weights = weights_hash(encoder.module.state_dict())  # as they are now: a stage before may have trained them
    about = [FORMAT, encoder.spec.digest, weights, split.digest, batch, str(encoder.device), torch.__version__]
    key = fingerprint(about)
    entry = (cache or cache_folder()) / "features" / key
    if files.whole(entry):
        stored = files.read_tensors(entry / "features.safetensors")["shared_ND"]
        if len(stored) == len(split) and bool(torch.isfinite(stored).all()):
            progress(len(split), len(split))
            return stored
    rows, done = [], 0
    for part in _evaluate(split, encoder, batch, workers):
        rows.append(encoder.image(part.pixels_BCHW.to(encoder.device)).shared_BD.float().cpu())
        progress(done := done + len(part.index_B), len(split))
    shared_ND = torch.cat(rows)
    try:
        with files.new_folder(entry) as folder:
            files.write_tensors(folder / "features.safetensors", {"shared_ND": shared_ND})
    except OSError:  # a cache that cannot be written costs time, not truth
        pass
    return shared_ND


@torch.no_grad()
def head_logits(head: BuiltHead, shared_ND: Tensor, split: Split, batch: int = 4096) -> Predictions:
    """Predictions of a head on features already computed."""
    device = next(iter(head.state_dict().values())).device
    logits_NC = torch.cat([head(part.to(device)) for part in shared_ND.split(batch)]).float().cpu().numpy()
    return Predictions(logits_NC, split.labels_N, np.arange(len(split)))


@torch.no_grad()
def predict(
    encoder: Encoder, candidates: Sequence[Candidate], split: Split, *, batch: int = 256, workers: int = 0,
    progress: Progress = _nothing,
) -> list[Predictions]:  # fmt: skip
    """Each candidate's predictions, the pictures read once. Leaves the encoder as it was."""
    before = encoder.state(sorted({name for candidate in candidates for name in candidate.values}))
    logits: list[list[Tensor]] = [[] for _ in candidates]
    done = 0
    try:
        for part in _evaluate(split, encoder, batch, workers):
            pixels_BCHW = part.pixels_BCHW.to(encoder.device)
            for rows, candidate in zip(logits, candidates, strict=True):
                encoder.put({**before, **candidate.values})  # what the candidate before it changed goes back
                rows.append(candidate.head(encoder.image(pixels_BCHW).shared_BD).float().cpu())
            progress(done := done + len(part.index_B), len(split))
    finally:
        encoder.put(before)
    index_N = np.arange(len(split))
    return [Predictions(torch.cat(rows).numpy(), split.labels_N, index_N) for rows in logits]
