"""The questions that runs answer, and the machine that answers them."""

from __future__ import annotations

from pydantic import Field

from likewise.config import Config
from likewise.recipe.stage import Recipe


class Experiment(Config):
    """The question, whole and fingerprinted. How fast the machine answers it is not part of it."""

    encoder: str
    encoder_digest: str
    data: str
    data_digest: str
    seed: int = 0
    shots: int = Field(0, ge=0)
    """Pictures per class to train on; 0 means all."""
    shot_index: str = ""
    """SHA-256 of the file that says which pictures these are; "" where they are drawn by key."""
    alphas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    recipes: dict[str, Recipe]


class Captioning(Config):
    """The question of a run that tunes on captions: pairs to learn from, labelled data to judge by."""

    encoder: str
    encoder_digest: str
    text: str = ""
    """The encoder whose text tower stands beside; "" where the encoder has its own."""
    pairs: str
    judges: tuple[str, ...]
    """Labelled data sets; the first one's select split chooses alpha."""
    digests: dict[str, str]
    """Of what the other fields name: `text`, `pairs`, each judge, and `replayed` where replay has its own pictures."""
    seed: int = 0
    alphas: tuple[float, ...]
    recipes: dict[str, Recipe]


class Machine(Config):
    """How it runs: recorded beside the results, never part of the question."""

    device: str = "cpu"
    workers: int = Field(0, ge=0)
    eval_batch: int = Field(256, ge=1)
    save_seconds: float = Field(60.0, ge=0)
    """Seconds between two checkpoints of a training run."""
    save_steps: int = Field(0, ge=0)
    """Steps between two checkpoints, 0 for by time only."""
