"""Where data comes from: folders of class folders, tables, manifests. Reading only lists; `build` looks inside.

Classes are ordered naturally by folder (1, 2, 10), which is not torchvision's order (1, 10, 2).
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from likewise.config import Config
from likewise.data.audit import Audit, Finding, missing
from likewise.data.decode import SUFFIXES
from likewise.data.records import Dataset, Progress, Role
from likewise.errors import DataError, UsageError, some

TABLES = (".csv", ".tsv", ".parquet", ".pq")
_PARTS: dict[str, Role] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "select", "dev"), "select"),
    **dict.fromkeys(("test", "testing", "report", "id"), "report"),
}


class SourceOptions(Config):
    """How to read a source. Empty names are found by the usual words; `max_bad` and `held_out` are fractions."""

    image_col: str = ""
    label_col: str = ""
    group_col: str = ""
    image_root: str = ""
    classes_file: str = ""  # YAML or JSON: folder -> human name
    templates: tuple[str, ...] = ()
    on_bad_image: Literal["error", "skip"] = "skip"
    max_bad: float = Field(default=0.01, ge=0, le=1)
    seed: int = 0
    held_out: tuple[float, float] = (0.15, 0.15)  # shares of select and of report, where the source has none

    @model_validator(mode="after")
    def _leave_some(self) -> Self:
        if min(self.held_out) <= 0 or sum(self.held_out) >= 1:
            raise ValueError("held_out needs two fractions above 0 whose sum is below 1")
        return self

    @property
    def allowed(self) -> float:
        """The share that may be left out with a notice."""
        return self.max_bad if self.on_bad_image == "skip" else 0.0

    def leaving_out(self, share: float) -> str:
        """The flags by which such a share is left out; where nothing was to be, that it may."""
        if self.on_bad_image == "error":
            return "--on-bad-image skip"
        return f"--max-bad {math.ceil(round(100 * share, 6)) / 100:.2f}"


class NoClasses(DataError):
    """D02: a folder without class folders. `said` is what was found, without what to do about it."""

    def __init__(self, root: Path, said: str) -> None:
        super().__init__(
            "D02",
            f"{said} Put one folder per class ({root.name}/cat/1.jpg) or pass a CSV: "
            "likewise adapt labels.csv --image-col … --label-col …",
        )
        self.said = said


@dataclass(frozen=True, slots=True)
class Found:
    """One picture as listed, not yet opened. `part` is empty where the source does not divide itself."""

    key: str
    path: Path
    folder: str
    part: Role | Literal[""] = ""
    domain: str = ""  # empty: in distribution
    row: int = -1
    group: str = ""


@dataclass
class Source:
    """What a source lists; `names` are human names it knows, by class folder."""

    found: list[Found]
    names: dict[str, str] = field(default_factory=dict)
    notices: list[Finding] = field(default_factory=list)


def open_dataset(
    path: Path, ood: Mapping[str, Path], options: SourceOptions | None, progress: Progress | None
) -> Dataset:
    """See `Dataset.open`."""
    from likewise.data.build import assemble

    options = options or SourceOptions()
    audit = Audit(about=str(path))
    source = read(path, options)
    found, audit.notices = source.found, source.notices
    taken = {"id", "train", "select", *(f.domain for f in found)}
    for name, place in ood.items():
        if name in taken or not name:
            raise UsageError("U02", f"--ood {name}={place}: «{name}» is taken. Give the domain a name of its own.")
        other = read(place, options)
        audit.notices += other.notices
        # a domain with a test part is reported on that part; otherwise on everything, since none of it is trained on
        tested = [f for f in other.found if f.part == "report"] or other.found
        found = found + [replace(f, key=f"{name}:{f.key}", part="report", domain=name) for f in tested]
    return assemble(
        path.absolute().name if path.is_dir() else path.stem, Source(found, source.names), options, audit, progress
    )


def read(path: Path, options: SourceOptions) -> Source:
    """What is at a path. Raises `DataError` D01 when nothing is, or nothing that can be read."""
    from likewise.data.tables import read_table

    if not path.exists():
        raise missing(path)
    if path.is_dir():
        return read_folder(path)
    if path.suffix.lower() in TABLES:
        return read_table(path, options)
    raise DataError(
        "D01", f"{path} is neither a folder of class folders nor a table ({', '.join(TABLES)}). Unpack or convert it."
    )


def part(word: str) -> Role | None:
    """The role that a split's usual name stands for."""
    return _PARTS.get(word.strip().lower())


def natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """A sort key by which 2 comes before 10."""
    pieces = re.split(r"([0-9]+)", text.casefold())
    return [(0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(pieces) if p], text


# -- folders ---------------------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """What was passed over on the way through a folder, for one notice each."""

    root: Path
    hidden: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as scan:
                everything = sorted(scan, key=lambda e: natural(e.name))
        except OSError as error:
            raise DataError(
                "D01", f"{folder} cannot be listed ({error.strerror}). Its pictures would be lost."
            ) from None
        hidden = [e for e in everything if e.name.startswith(".") or e.name == "__MACOSX"]
        self.hidden += [self.key(Path(e.path)) for e in hidden]
        return [e for e in everything if e not in hidden]

    def key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def pictures(self, folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
        """Files by the name of pictures, in subfolders too; whether they are is found out by opening them."""
        state = folder.stat()
        here = (state.st_dev, state.st_ino)
        if here in above:  # a link to a folder we are in
            return
        for entry in self.entries(folder):
            path = Path(entry.path)
            if entry.is_dir():
                yield from self.pictures(path, above | {here})
            elif path.suffix.lower() in SUFFIXES or not _plain(path):
                yield path
            else:
                self.endings[path.suffix.lower() or "no ending"] += 1

    def notices(self) -> Iterator[Finding]:
        if self.hidden:
            yield Finding("D12", f"{len(self.hidden)} hidden entries left out ({some(self.hidden, 3)}).")
        if self.endings:
            kinds = some(f"{ending} {n}" for ending, n in self.endings.most_common())
            yield Finding("D12", f"{self.endings.total()} files without a picture's ending left out ({kinds}).")
        if self.beside:
            yield Finding("D12", f"folders beside the splits left out: {some(self.beside)}.")
        if self.empty:
            yield Finding("D12", f"class folders without pictures left out: {some(self.empty)}.")


def _plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read_folder(root: Path) -> Source:
    """A folder of class folders, or of split folders (train, val, test, by any usual name) of class folders.

    Raises `DataError` D02 when there are pictures but no class folders, or a split twice.
    """
    walk = _Walk(root)
    folders = [Path(e.path) for e in walk.entries(root) if e.is_dir()]
    found: list[Found] = []
    if _divided(walk, folders):
        seen: dict[Role, Path] = {}
        for folder in folders:
            role = part(folder.name)
            if role is None:
                walk.beside.append(walk.key(folder))
                continue
            if role in seen:
                raise DataError("D02", f"{seen[role]} and {folder} are both the {role} split. Keep one, or merge them.")
            seen[role] = folder
            found += _classes(walk, folder, role)
    else:
        found = _classes(walk, root, "")
    return Source(found, notices=list(walk.notices()))


def _divided(walk: _Walk, folders: list[Path]) -> bool:
    """Whether the folders are splits. A class may be called «train»: then it holds pictures, beside other classes."""
    train = next((f for f in folders if part(f.name) == "train"), None)
    splits = [f for f in folders if part(f.name)]
    if train is None or (len(splits) > 1 and len(splits) == len(folders)):
        return train is not None
    look = _Walk(walk.root)
    classes = any(e.is_dir() for e in look.entries(train))
    beside = (e.name for f in folders if f not in splits for e in look.entries(f) if not e.is_dir())
    return classes and (len(splits) > 1 or not any(Path(name).suffix.lower() in SUFFIXES for name in beside))


def _classes(walk: _Walk, root: Path, role: Role | Literal[""]) -> list[Found]:
    found: list[Found] = []
    loose = 0
    for entry in walk.entries(root):
        path = Path(entry.path)
        if not entry.is_dir():
            loose += path.suffix.lower() in SUFFIXES
            continue
        pictures = [Found(walk.key(p), p, entry.name, role) for p in walk.pictures(path)]
        found += pictures
        if not pictures:
            walk.empty.append(walk.key(path))
    if not found:
        holds = f"holds {loose:,} images but no class folders" if loose else "holds no class folders with images"
        raise NoClasses(root, f"{root} {holds}.")
    if loose:
        walk.endings["images beside the class folders"] += loose
    return found
