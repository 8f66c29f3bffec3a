"""Named lists of questions: which encoders, data, methods, shots and seeds make a table, and what a paper's says.

A suite is a YAML file; those of papers ship beside this module and a file of anybody's is read the same way.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from likewise.config import Config
from likewise.errors import UsageError, near
from likewise.suites.expect import Expect, unanswerable
from likewise.suites.matrix import Block, Cell, Episodes, Method

__all__ = ["Block", "Cell", "Episodes", "Expect", "Method", "Suite", "load", "names"]

FOLDER = Path(__file__).parent


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
        data = {name for block in self.blocks for name in block.datasets}
        folders: dict[Path, Cell] = {}
        for cell in cells:
            if (other := folders.setdefault(cell.folder, cell)) is not cell:
                if other.key == cell.key:
                    raise ValueError(f"{cell} is asked twice; give one of its methods a name of its own")
                raise ValueError(f"{cell}, and {other} would share {cell.folder}; name them more differently")
        for what, named in (("shots are published for", self.shot_index), ("episodes come after", self.episodes)):
            if strange := next((name for name in named if name not in data), None):
                raise ValueError(f"{what} «{strange}», which is not among the data.{near(strange, data)}")
        for expected in self.expect:
            if why := unanswerable(expected, cells):
                raise ValueError(f"a number of «{expected.method}» is expected {why}")
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
    return path.stem, Suite.read(path)
