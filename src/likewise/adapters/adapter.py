"""What every adapter is: a value that says where it stands, and how it is put into an encoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from likewise.config import Config
from likewise.encoder import Encoder, Grafts


class AdapterConfig(Config):
    """Base of the adapters. `at` are patterns (`names.select`) over the encoder's names.

    Numbers are named `adapters.<kind>.<tower>...` (`Grafts`), drawn by key from (seed, name), and held in fp32 on the
    encoder's device.
    """

    scales: ClassVar[tuple[str, ...] | None] = None
    """Endings of the numbers in which what the adapter adds is linear: alpha times these is the point at alpha on the
    way from the pretrained model. None: there is no such way, and `refuses` says why."""
    refuses: ClassVar[str] = ""
    linear: ClassVar[bool] = False
    """Whether what it adds is linear in all its numbers, so that means of these are means of that."""
    brings_texts: ClassVar[bool] = False
    """Whether it writes the class prompts (`texts`)."""
    reads_captions: ClassVar[bool] = False
    """Whether the image tower is told of each picture's caption while it trains (`Encoder.told`)."""
    only_training: ClassVar[tuple[str, ...]] = ()
    """Endings of numbers that nothing reads when the image tower is used without texts."""

    kind: str

    @abstractmethod
    def graft(self, encoder: Encoder, grafts: Grafts, seed: int) -> None:
        """Put it in. Raises `ConfigError` naming the place that this encoder lacks."""

    def for_classes(self, classes: int) -> AdapterConfig:
        """The adapter for so many classes, where their number decides how many numbers it has. Asked before `graft`."""
        return self

    def texts(self, names: Sequence[str]) -> list[list[str]] | None:
        """The prompts of the classes, where the adapter brings its own; None: the data's."""
        return None

    @property
    def places(self) -> tuple[str, ...]:
        """Patterns over the encoder's names where it stands, where these are its to choose."""
        return getattr(self, "at", ())

    @property
    def on_images(self) -> bool:
        """Whether it may change the image tower."""
        return not self.brings_texts if not self.places else any(not p.startswith("text") for p in self.places)

    def without_text(self) -> AdapterConfig | None:
        """The adapter on the image tower alone; None where nothing is left."""
        at = tuple(pattern for pattern in self.places if not pattern.startswith("text"))
        if at == self.places:
            return None if self.brings_texts else self
        return self.model_copy(update={"at": at}) if at else None

    def in_line(self, name: str) -> bool:
        """Whether a number's name is among those that `scales`."""
        return self.scales is not None and any(name.endswith(ending) for ending in self.scales)
