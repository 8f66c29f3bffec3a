"""Named lists of questions: which encoders, data, methods, shots and seeds make a table, and what a paper's says.

A suite is a YAML file; those of papers ship beside this module and a file of anybody's is read the same way.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, model_validator

from likewise.config import Config
from likewise.errors import ConfigError, UsageError, near
from likewise.recipe import Descent, Recipe
from likewise.recipes import RECIPES, get

FOLDER = Path(__file__).parent


class Method(Config):
    """A recipe under a name of its own: a named one (`use`), with `path=value` edits."""

    use: str
    edits: tuple[str, ...] = ()
    name: str = ""
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
    shots: tuple[int, ...] = Field((0,), min_length=1)
    """Training pictures a class; 0: all."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    allow_short: bool = False
    most: dict[str, int] = Field(default_factory=dict)
    """Pictures of a split at most, drawn by key; report splits that are not named are left out. Empty: all."""
    alphas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    epochs: int = 0
    """Of every stage that trains by steps; 0: the recipe's own."""
    batch: int = 0

    @model_validator(mode="before")
    @classmethod
    def _short(cls, tree: Any) -> Any:
        """A method may be its recipe's name alone."""
        if isinstance(tree, dict) and isinstance(tree.get("methods"), list | tuple):
            methods = [{"use": m} if isinstance(m, str) else m for m in tree["methods"]]
            return {**tree, "methods": methods}
        return tree

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the matrix, methods innermost."""
        each = itertools.product(self.encoders, self.datasets, self.shots, self.seeds, self.methods)
        return [Cell(self, *one) for one in each]


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


class Expect(Config):
    """A published number and where it is from: of one line of the table, or the mean of several.

    `dataset`, `domain` and `shots` may each be one or a list (`datasets`, `domains`). The mean is over what the suite
    has of these: every data set at every one of the counts at which a cell of it stands, each domain alike.
    A source that begins with «memory» is nobody's reading, or is of a setting that nobody knows: it is shown as
    unverified and never decides.
    """

    value: float
    """In percent, as papers print it."""
    source: str
    method: str
    datasets: tuple[str, ...] = Field(min_length=1)
    encoder: str = ""
    domains: tuple[str, ...] = Field(("id",), min_length=1)
    metric: str = "accuracy"
    shots: tuple[int, ...] = Field((0,), min_length=1)
    alpha: float | None = None
    """The point of the path that it is of; None: the one that the table reads."""
    tolerance: float = 1.0
    """Points to either side."""

    @model_validator(mode="before")
    @classmethod
    def _one(cls, tree: Any) -> Any:
        """One of a list may be given as itself."""
        if not isinstance(tree, dict):
            return tree
        for one, several in (("dataset", "datasets"), ("domain", "domains")):
            if one in tree and several in tree:
                raise ValueError(f"{one} and {several} are both given; say one of them")
            tree = {several if key == one else key: value for key, value in tree.items()}
        lists = ("datasets", "domains", "shots")
        return {k: (v,) if k in lists and isinstance(v, str | int) else v for k, v in tree.items()}

    def among(self, cells: Iterable[Cell]) -> list[Cell]:
        """The cells whose number, or mean of numbers, it is."""
        return [
            cell
            for cell in cells
            if cell.method.called == self.method
            and cell.dataset in self.datasets
            and cell.shots in self.shots
            and self.encoder in ("", cell.encoder)
        ]

    @property
    def verified(self) -> bool:
        """Whether the number was read in its source."""
        return not self.source.startswith("memory")


class Suite(Config):
    """A table to be made: what to run and what is expected."""

    title: str
    paper: str = ""
    about: str = ""
    departs: str = ""
    """Where running this is not what the paper ran."""
    blocks: tuple[Block, ...] = Field(min_length=1)
    shot_index: dict[str, str] = Field(default_factory=dict)
    """By data set, a published choice of its shots (`likewise.data.indices`): a file, or a folder of files; as it
    stands here or below a root of LIKEWISE_DATA. A data set that is not named draws by key."""
    episodes: dict[str, Episodes] = Field(default_factory=dict)
    """By the data set that cells train on, what new classes they are then asked about."""
    expect: tuple[Expect, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """Every cell, block by block."""
        return [
            cell._replace(
                shot_index=self.shot_index.get(cell.dataset, "") if cell.shots else "",
                episodes=self.episodes.get(cell.dataset),
            )
            for block in self.blocks
            for cell in block.cells
        ]

    @model_validator(mode="after")
    def _meets(self) -> Suite:
        cells = self.cells
        methods = {m.called for block in self.blocks for m in block.methods}
        data = {name for block in self.blocks for name in block.datasets}
        if again := next((cell for cell, count in Counter(cell.key for cell in cells).items() if count > 1), None):
            raise ValueError(f"{' '.join(map(str, again))} is asked twice; give one of its methods a name of its own")
        for what, named in (("shots are published for", self.shot_index), ("episodes come after", self.episodes)):
            if strange := next((name for name in named if name not in data), None):
                raise ValueError(f"{what} «{strange}», which is not among the data.{near(strange, data)}")
        for expected in self.expect:
            if expected.method not in methods:
                raise ValueError(f"a number is expected of «{expected.method}», which is not among the methods")
            if strange := next((name for name in expected.datasets if name not in data), None):
                raise ValueError(f"a number is expected on «{strange}», which is not among the data")
            about = [(cell.dataset, cell.shots) for cell in expected.among(cells)]
            for part, there in ((expected.datasets, {d for d, _ in about}), (expected.shots, {k for _, k in about})):
                if len(part) > 1 and (lost := [one for one in part if one not in there]):
                    raise ValueError(f"a mean of «{expected.method}» is expected over {lost[0]}, where it has no cell")
        return self


def names() -> list[str]:
    """The suites that ship, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> tuple[str, Suite]:
    """A shipped suite by name, or one of a file, with what it is called. Raises `UsageError`, `ConfigError`."""
    path = Path(name) if Path(name).suffix in {".yaml", ".yml", ".json"} else FOLDER / f"{name}.yaml"
    if not path.is_file():
        if path.parent == FOLDER:
            raise UsageError(
                "C01", f"no suite «{name}».{near(name, names())} Suites: {', '.join(names())}; or a YAML file."
            )
        raise UsageError("D01", f"{path} is not there. Suites that ship: {', '.join(names())}.")
    try:
        return path.stem, Suite.read(path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
