"""What a suite runs: blocks of encoders, data, methods, shots and seeds; a cell is one of each."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from likewise.config import Config
from likewise.errors import ConfigError, near
from likewise.recipe import Descent, Recipe
from likewise.recipes import RECIPES, get


class Method(Config):
    """A recipe under a name of its own: a named one (`use`), with `path=value` edits."""

    use: str
    edits: tuple[str, ...] = ()
    name: str = Field("", pattern=r"^(\w[\w.+-]*)?$")
    """Of its folders and its column; the recipe's where it is left out."""
    alpha: float | tuple[float | None, ...] | None = None
    """The point of its path that the table reads, or several, each shown: of one training. None: the point chosen on
    the select split."""

    @property
    def points(self) -> tuple[float | None, ...]:
        """`alpha` as a tuple; an expected number that names no point is of the first."""
        return self.alpha if isinstance(self.alpha, tuple) else (self.alpha,)

    @model_validator(mode="after")
    def _known(self) -> Method:
        if self.use not in RECIPES:
            raise ValueError(f"no recipe «{self.use}».{near(self.use, RECIPES)} See likewise ls methods")
        if not self.points or len(set(self.points)) < len(self.points):
            raise ValueError("alpha is a point of the path, or several that differ; null is the one chosen")
        return self

    @property
    def called(self) -> str:
        """Its name in tables and folders."""
        return self.name or self.use

    def recipe(self, rate_scale: float, epochs: int = 0, batch: int = 0) -> Recipe:
        """The recipe at an encoder's rates, every stage that trains by steps at these lengths (0: its own), edited.

        Raises `ConfigError` for a wrong edit.
        """
        found = get(self.use, rate_scale)
        given = {key: value for key, value in (("epochs", epochs), ("batch", batch)) if value}
        sized = [f"stages.{i}.fit.{key}={value}" for i, stage in enumerate(found.stages)
                 if isinstance(stage.fit, Descent) for key, value in given.items()]  # fmt: skip
        return found.edited(*sized, *self.edits)


class Block(Config):
    """A full matrix: every encoder on every data set by every method, at every shot count and seed."""

    encoders: tuple[str, ...] = Field(("icon-clip",), min_length=1)
    datasets: tuple[str, ...] = Field(min_length=1)
    methods: tuple[Method, ...] = Field(min_length=1)
    shots: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)
    """Training pictures a class; 0: all."""
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1)
    allow_short: bool = False
    most: dict[str, PositiveInt] = Field(default_factory=dict)
    """Pictures of a split at most, drawn by key; report splits that are not named are left out. Empty: all."""
    alphas: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    epochs: NonNegativeInt = 0
    """Of every stage that trains by steps; 0: the recipe's own."""
    batch: NonNegativeInt = 0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, tree: Any) -> Any:
        """A method may be its recipe's name alone."""
        if isinstance(tree, dict) and isinstance(tree.get("methods"), list | tuple):
            methods = [{"use": m} if isinstance(m, str) else m for m in tree["methods"]]
            return {**tree, "methods": methods}
        return tree

    @model_validator(mode="after")
    def _possible(self) -> Block:
        if self.most and (lost := {"train", "select"} - {*self.most}):
            raise ValueError(f"most says nothing of {min(lost)}; it must name train, select and what is reported")
        for method in self.methods:
            try:
                grid = self.grid(method)
            except ConfigError as error:
                raise ValueError(f"«{method.called}»: {error}") from None
            for alpha in method.points:
                if alpha is not None and alpha not in grid:
                    raise ValueError(f"«{method.called}» is asked at alpha {alpha:g}, and {instead(grid)}")
        return self

    def grid(self, method: Method) -> list[float]:
        """The points of a method's path that its cells ask about. Raises `ConfigError` for a wrong edit."""
        return method.recipe(1.0, self.epochs, self.batch).grid(self.alphas)

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the matrix, methods innermost."""
        each = itertools.product(self.encoders, self.datasets, self.shots, self.seeds, self.methods)
        return [Cell(self, *one) for one in each]


def instead(grid: list[float]) -> str:
    """What there is in the place of a point that is not asked."""
    asked = ", ".join(f"{alpha:g}" for alpha in grid)
    return f"its runs ask about {asked}; add it to alphas" if grid else "it has no path; leave alpha out"


class Episodes(Config):
    """Few-shot episodes of classes that nobody was trained on, asked of the image tower that a cell leaves.

    They are `likewise.episodes.episodes`, as Kim et al. (2021, Tables 3 and 4) have them: 600 of 5 ways.
    """

    of: str
    """The data set of the new classes: a name or a path. All its pictures are drawn from but those of shifts."""
    shots: tuple[int, ...] = Field((1, 5), min_length=1)
    ways: int = Field(5, ge=2)
    queries: int = Field(15, ge=1)
    count: int = Field(600, ge=1)

    def called(self, shots: int) -> str:
        """What the measure is called in results and tables."""
        return f"{self.ways}-way-{shots}-shot"


class Cell(NamedTuple):
    """One run of a suite: a run folder of its own."""

    block: Block
    encoder: str
    dataset: str
    shots: int
    seed: int
    method: Method
    shot_index: str = ""
    """Where its pictures are named (`Suite.shot_index`); "" where they are drawn by key."""
    episodes: Episodes | None = None
    """Asked when its run is done (`Suite.episodes`)."""

    @property
    def key(self) -> tuple[str, str, int, int, str]:
        return self.encoder, self.dataset, self.shots, self.seed, self.method.called

    @property
    def folder(self) -> Path:
        """Below the suite's folder."""
        encoder, data = (re.sub(r"[^\w.+-]+", "-", name) for name in (self.encoder, self.dataset))
        return Path(encoder) / data / f"shots-{self.shots or 'all'}" / f"seed-{self.seed}" / self.method.called

    def __str__(self) -> str:
        shots = f"{self.shots} shots" if self.shots else "all pictures"
        then = f", then episodes of {self.episodes.of}" if self.episodes else ""
        return f"{self.encoder} on {self.dataset}, {shots}, seed {self.seed}: {self.method.called}{then}"
