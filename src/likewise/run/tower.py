"""A tuned image tower on disk, and what its features say of example pictures."""

# K neighbours, N pictures of the bank.

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from likewise import files
from likewise.adapters import Adapter
from likewise.config import Config
from likewise.data.records import Record, Split
from likewise.encoder import Encoder, EncoderSpec
from likewise.encoders import load
from likewise.errors import ConfigError
from likewise.judge import nearest
from likewise.keys import key_rng
from likewise.names import tower_of
from likewise.predict import features
from likewise.run.choose import Choice
from likewise.run.folder import CAPTIONS
from likewise.run.kept import card_of, encoder_of
from likewise.run.stage import Job
from likewise.run.tuned import Parts, Tuned, parts

FORMAT = 1
"""Of `likewise.json`; a change of meaning raises it."""
EXAMPLES, SHOWN = 8, 6
"""Pictures whose neighbours are kept, and how many of these each."""


class TowerCard(Config):
    """What must be known to use the tower: written as `likewise.json` beside the weights."""

    format: int = FORMAT
    task: str = CAPTIONS
    spec: EncoderSpec
    base: EncoderSpec
    method: str
    alpha: float | None
    adapters: tuple[Adapter, ...] = ()
    """What does not fold into weights; its numbers are in `adapters.safetensors`."""


def save_tower(path: Path, encoder: Encoder, chosen: Choice, tuned: Tuned | None) -> None:
    """Write the image tower at the chosen point as its own library's folder, with what does not fold beside it.

    `tuned` is None for the pretrained encoder. It is left as it was.
    """
    found = parts(tuned, encoder, chosen.alpha) if tuned is not None else Parts({}, (), {})
    unread = tuple(ending for adapter in found.adapters for ending in adapter.only_training)
    added = {
        name: value for name, value in found.added.items() if tower_of(name) != "text" and not name.endswith(unread)
    }
    zero = encoder.state(list(found.values))
    encoder.put(found.values)
    try:
        with files.new_folder(path) as folder:
            encoder.write(folder)
            if added:
                files.write_tensors(folder / "adapters.safetensors", added)
            spec = load(f"local-dir:{folder}").spec
            card = TowerCard(spec=spec, base=encoder.spec, method=chosen.method, alpha=chosen.alpha,
                             adapters=found.adapters if added else ())  # fmt: skip
            files.write_json(folder / "likewise.json", card.tree())
    finally:
        encoder.put(zero)


def load_tower(path: Path) -> Encoder:
    """The tuned encoder of a caption run, from its folder or its `model/`, its adapters standing in it.

    Raises `UsageError` M01 where there is none, `ConfigError` M02 where it was changed or is of another format.
    """
    folder, about = card_of(path, "tuned tower", "caption")
    if about.get("format") != FORMAT or about.get("task") != CAPTIONS:
        raise ConfigError(f"{folder} is no tuned tower of format {FORMAT}. Tune again: likewise caption.", "M02")
    card = TowerCard.parse(about, str(folder / "likewise.json"))
    return encoder_of(folder, card.spec, card.adapters)


def neighbours(job: Job, bank: Split, report: Split) -> list[dict[str, Any]]:
    """Example pictures, drawn by key, with the pictures of the bank nearest to each, of the encoder as it now is."""
    chosen = np.sort(key_rng(0, "examples").permutation(len(report))[:EXAMPLES])
    bank_ND = features(job.encoder, bank, "pooled", **job.reading)
    query_ND = features(job.encoder, report, "pooled", **job.reading)[torch.from_numpy(chosen)]
    _, index_NK = nearest(query_ND, bank_ND, SHOWN)
    return [
        {"picture": _of(record), "near": [_of(bank.records[i]) for i in row]}
        for record, row in zip(report.subset(chosen).records, index_NK.tolist(), strict=True)
    ]


def _of(record: Record) -> dict[str, Any]:
    return {"path": record.path.absolute().as_posix(), "row": record.row, "label": record.label}
