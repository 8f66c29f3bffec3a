"""Opening the folder of a model that a run kept: what both kinds of model check before they trust it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from likewise import files
from likewise.adapters import AdapterConfig, add
from likewise.encoder import Encoder, EncoderSpec
from likewise.encoders import load
from likewise.errors import ConfigError, UsageError
from likewise.run.folder import CAPTIONS, which


def card_of(path: Path, what: str, command: str) -> tuple[Path, Any]:
    """The model's folder, of a run folder its `model/`, and the tree of its `likewise.json`.

    Raises `UsageError` M01 where there is none, `ConfigError` M02 where something in it was changed.
    """
    folder = path / "model" if (path / "model").is_dir() else path
    if not (folder / "likewise.json").exists():
        where = which(path) or f" Give the folder that `likewise {command} -o` wrote."
        if (path / "delta.json").exists():
            where = (
                " It holds a delta, what trained without its base: likewise.export.read_delta puts it there, in "
                "Python; likewise export RUN --format merged writes a whole model."
            )
        raise UsageError("M01", f"{path} holds no {what}.{where}")
    if not files.whole(folder):
        raise ConfigError(f"{folder} was cut off or changed after it was written; its manifest does not verify.", "M02")
    return folder, files.read_json(folder / "likewise.json")


def refuse_tower(path: Path, task: object, what: str) -> None:
    """Raises `UsageError` M01 where a classifier is asked for and the task says that captions tuned a tower."""
    if task == CAPTIONS:
        folder = path / "model" if (path / "model").is_dir() else path
        card = folder / "likewise.json"
        library = f", of {files.read_json(card)['spec']['family']}" if card.exists() else ""
        raise UsageError(
            "M01",
            f"{path} is of likewise caption: it holds an image tower and no classes, so there is no {what}. {folder} "
            f"is a folder of the tower's own library{library}; likewise eval judges the tower on labelled data.",
        )


def encoder_of(folder: Path, spec: EncoderSpec, adapters: Sequence[AdapterConfig]) -> Encoder:
    """The encoder in a model's folder, its adapters standing in it. Raises M02 where it is not what was saved."""
    encoder = load(f"local-dir:{folder}")
    if encoder.spec.digest != spec.digest:
        raise ConfigError(f"{folder}: the encoder built here is not the one that was saved "
                          f"({encoder.spec.digest}, saved {spec.digest}).", "M02")  # fmt: skip
    add(encoder, adapters, 0)
    if adapters:
        encoder.put(files.read_tensors(folder / "adapters.safetensors"))
    return encoder
