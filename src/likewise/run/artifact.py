"""The adapted model on disk: an open_clip folder that open_clip itself loads, with head, classes and spec beside it."""

# C classes, K best classes, N pictures.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from likewise import files
from likewise.adapters import Adapter
from likewise.config import Config
from likewise.data.decode import picture
from likewise.data.records import ClassTable
from likewise.data.views import evaluate
from likewise.encoder import Encoder, EncoderSpec
from likewise.encoders import load
from likewise.errors import ConfigError
from likewise.heads import HeadModule, Own
from likewise.run.kept import card_of, encoder_of, refuse_tower
from likewise.run.tuned import Point

FORMAT = 2
"""Of `likewise.json`; a change of meaning raises it."""


class Card(Config):
    """What must be known to use the model: written as `likewise.json` beside the weights."""

    format: int = FORMAT
    spec: EncoderSpec
    base: EncoderSpec
    classes: ClassTable
    templates: tuple[str, ...]
    method: str
    alpha: float | None
    head: Own
    adapters: tuple[Adapter, ...] = ()
    """What does not fold into weights; its numbers are in `adapters.safetensors`."""


def save_model(
    path: Path, encoder: Encoder, head: HeadModule, card: dict[str, Any], added: Mapping[str, Tensor] | None = None
) -> None:
    """Write the folder, whole or not at all. `encoder` holds the adapted values, `added` what does not fold."""
    with files.new_folder(path) as folder:
        encoder.write(folder)
        files.write_tensors(folder / "head.safetensors", dict(head.state_dict()))
        if added:
            files.write_tensors(folder / "adapters.safetensors", dict(added))
        loaded = load(f"local-dir:{folder}")
        record = Card.parse(
            {**card, "spec": loaded.spec.tree(), "base": encoder.spec.tree(), "head": head.config.tree()}
        )
        files.write_json(folder / "likewise.json", record.tree())


def save_point(path: Path, encoder: Encoder, there: Point, about: dict[str, Any]) -> None:
    """`save_model` of a point of a method's path on its base, which is left as it was."""
    zero = encoder.state(list(there.values))
    encoder.put(there.values)
    try:
        card = {**about, "adapters": [adapter.tree() for adapter in there.adapters]}
        save_model(path, encoder, there.head, card, there.added)
    finally:
        encoder.put(zero)


class Guess(NamedTuple):
    """One picture's best classes and their probabilities, best first."""

    path: str
    names: tuple[str, ...]
    probabilities: tuple[float, ...]


class Predictor:
    """The adapted model, ready: `predict(["a.jpg"])`."""

    def __init__(self, encoder: Encoder, head: HeadModule, card: Card) -> None:
        self.encoder, self.head, self.card = encoder, head, card
        self.classes = card.classes

    @classmethod
    def load(cls, path: Path) -> Predictor:
        """From a run folder or its `model/`. Raises M02 for weights that were not saved here, M01 for a tower."""
        folder, about = card_of(path, "adapted model", "adapt")
        refuse_tower(path, about.get("task"), "class to name")
        if about.get("format") != FORMAT:
            raise ConfigError(
                f"{folder} has format {about.get('format')}; this version reads {FORMAT}. Adapt again.", "M02"
            )
        card = Card.parse(about, str(folder / "likewise.json"))
        encoder = encoder_of(folder, card.spec, card.adapters)
        head = card.head.load(files.read_tensors(folder / "head.safetensors"), encoder, len(card.classes))
        return cls(encoder, head, card)

    @torch.no_grad()
    def predict(self, paths: Sequence[str | Path], topk: int = 5, batch: int = 64) -> list[Guess]:
        """The best classes of each picture. Raises `DataError` naming a file that cannot be read."""
        out: list[Guess] = []
        for start in range(0, len(paths), batch):
            part = [Path(p) for p in paths[start : start + batch]]
            pixels_BCHW = torch.stack([evaluate(picture(p), self.encoder.spec) for p in part])
            shares_BC = self.head.answer(self.encoder.image(pixels_BCHW)).softmax(1)
            best = shares_BC.topk(min(topk, len(self.classes)), dim=1)
            for path, values, index in zip(part, best.values.tolist(), best.indices.tolist(), strict=True):
                out.append(Guess(str(path), tuple(self.classes.names[i] for i in index), tuple(values)))
        return out
