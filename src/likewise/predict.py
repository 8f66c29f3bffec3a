"""From pictures to numbers: cached features of a held encoder, and the logits of several models in one reading.

Evaluation decodes each picture once, for however many points of a WiSE path are asked about.
"""

# B images, C classes, D shared width, N pictures, U texts, W pooled width.

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from likewise import files
from likewise.adapters import AdapterConfig, add, settings_in
from likewise.config import fingerprint
from likewise.data.batches import Batch, Pictures, batches
from likewise.data.records import Split
from likewise.encoder import Encoder, weights_hash
from likewise.heads import HeadModule, Reads, check_words, encode
from likewise.names import tower_of

FORMAT = 2
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


def of_split(logits_NC: Tensor, split: Split) -> Predictions:
    """What was said of a split, among the classes that it has (`Split.among`); the others are at -inf."""
    said_NC = logits_NC.float().cpu().numpy()
    if split.among:
        kept_NC = np.full_like(said_NC, -np.inf)
        for labels in split.among:
            kept_NC[:, labels[0]] = said_NC[:, list(labels)].max(1)
        said_NC = kept_NC
    return Predictions(said_NC, split.labels_N, np.arange(len(split)))


class Candidate(NamedTuple):
    """A model to ask: what to add to the encoder, values to put into it (by our names), and its built head."""

    values: Mapping[str, Tensor]
    head: HeadModule
    adapters: tuple[AdapterConfig, ...] = ()

    @property
    def moves_images(self) -> bool:
        """Whether the pretrained encoder's image features are not this model's."""
        return any(tower_of(name) in ("image", "both") for name in self.values)


@contextlib.contextmanager
def placed(encoder: Encoder, candidate: Candidate) -> Iterator[None]:
    """Inside, the encoder is the candidate's; afterwards as it was."""
    assert not encoder.grafts.seams, "grafts do not nest"
    before = encoder.state([name for name in candidate.values if name in encoder.sites])
    try:
        add(encoder, candidate.adapters, 0)  # every number is among the values, so the seed is nothing to them
        encoder.put(candidate.values)
        yield
    finally:
        encoder.grafts.remove()
        encoder.put(before)


def _evaluate(split: Split, encoder: Encoder, batch: int, workers: int) -> Iterator[Batch]:
    pictures = Pictures(split, encoder.spec, 0)
    plan = ([(-1, i) for i in range(start, min(start + batch, len(split)))] for start in range(0, len(split), batch))
    return batches(pictures, plan, workers)


@torch.no_grad()
def features(
    encoder: Encoder, split: Split, reads: Reads = "shared", *, batch: int = 256, workers: int = 0,
    cache: Path | None = None, progress: Progress = _nothing,
) -> Tensor:  # fmt: skip
    """shared_ND or pooled_NW of the evaluation view, from the cache if this very encoder has seen these very files.

    Raises `ConfigError` where there are no pooled features.

    The key is the content: weights, spec, what stands in it, file list with sizes and times, batch (it can move the
    last bit), format.
    """
    if reads == "pooled":
        encoder.pooled_width  # noqa: B018  (raises where there are none)
    # The content as it is now: a stage before may have trained or added something.
    about = [
        FORMAT,
        encoder.spec.digest,
        encoder.content(),
        split.digest,
        batch,
        str(encoder.device),
        torch.__version__,
        *settings_in(encoder),
    ]
    key = fingerprint(about)
    entry = (cache or files.cache_folder()) / "features" / key
    if files.whole(entry):
        stored = files.read_tensors(entry / "features.safetensors")
        if all(len(rows) == len(split) and bool(torch.isfinite(rows).all()) for rows in stored.values()):
            progress(len(split), len(split))
            return stored[reads]
    rows: dict[str, list[Tensor]] = {"shared": [], "pooled": []}
    done = 0
    for part in _evaluate(split, encoder, batch, workers):
        embedded = encoder.image(part.pixels_BCHW.to(encoder.device))
        rows["shared"].append(embedded.shared_BD.float().cpu())
        if embedded.pooled_BW is not None:
            rows["pooled"].append(embedded.pooled_BW.float().cpu())
        progress(done := done + len(part.index_B), len(split))
    found = {name: torch.cat(parts) for name, parts in rows.items() if parts}
    _kept(entry, "features.safetensors", found)
    return found[reads]


@torch.no_grad()
def text_rows(encoder: Encoder, texts: Sequence[str], *, cache: Path | None = None) -> Tensor:
    """The text tower's unit rows_UD of texts, from the cache where the same tower was asked the same before.

    Raises `ConfigError` for a text with a learned word in it where the encoder has none.
    """
    mine = {n: p for n, p in encoder.parameters_by_name().items() if tower_of(n) in ("text", "both")}
    about = [FORMAT, encoder.spec.digest, weights_hash(mine), list(texts), str(encoder.device), torch.__version__]
    about += settings_in(encoder)
    entry = (cache or files.cache_folder()) / "texts" / fingerprint(about)
    if files.whole(entry):
        stored = files.read_tensors(entry / "rows.safetensors")["rows"]
        if len(stored) == len(texts) and bool(torch.isfinite(stored).all()):
            return stored
    order = sorted(range(len(texts)), key=lambda u: (len(texts[u]), texts[u]))  # a chunk is as narrow as its texts
    asked = [texts[u] for u in order]
    tokens_UL = encoder.tokenize(asked).to(encoder.device)
    check_words(encoder, asked, tokens_UL)
    rows_UD = encode(encoder, tokens_UL).float().cpu()
    found_UD = torch.empty_like(rows_UD)
    found_UD[order] = rows_UD
    _kept(entry, "rows.safetensors", {"rows": found_UD})
    return found_UD


def _kept(entry: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    try:
        with files.new_folder(entry) as folder:
            files.write_tensors(folder / name, dict(tensors))
    except OSError:  # a cache that cannot be written costs time, not truth
        pass


@torch.no_grad()
def head_logits(head: HeadModule, features_ND: Tensor, split: Split, batch: int = 4096) -> Predictions:
    """Predictions of a head on features already computed (those that it reads)."""
    device = next(iter(head.state_dict().values())).device
    return of_split(torch.cat([head(part.to(device)) for part in features_ND.split(batch)]), split)


@torch.no_grad()
def predict(
    encoder: Encoder, candidates: Sequence[Candidate], split: Split, *, batch: int = 256, workers: int = 0,
    progress: Progress = _nothing,
) -> list[Predictions]:  # fmt: skip
    """Each candidate's predictions, the pictures read once. Leaves the encoder as it was."""
    logits: list[list[Tensor]] = [[] for _ in candidates]
    done = 0
    for part in _evaluate(split, encoder, batch, workers):
        pixels_BCHW = part.pixels_BCHW.to(encoder.device)
        for rows, candidate in zip(logits, candidates, strict=True):
            with placed(encoder, candidate):
                rows.append(candidate.head.answer(encoder.image(pixels_BCHW)).float().cpu())
        progress(done := done + len(part.index_B), len(split))
    return [of_split(torch.cat(rows), split) for rows in logits]
