"""The data as every other room sees it: classes, records, splits with roles, and the dataset that guards them."""

# N records of one split.

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
from PIL import Image
from pydantic import model_validator

from likewise.config import Config, fingerprint
from likewise.data import corrupt, decode
from likewise.data.audit import Audit
from likewise.data.prompts import DEFAULT_TEMPLATES, check_templates
from likewise.errors import DataError, UsageError, near, some
from likewise.metrics import NAMED

if TYPE_CHECKING:
    from likewise.data.sources import SourceOptions

Role = Literal["train", "select", "report"]
Progress = Callable[[str, int, int], None]


class ClassTable(Config):
    """The classes in label order: label i is `folders[i]` in the data and `names[i]` in prompts."""

    names: tuple[str, ...]
    folders: tuple[str, ...]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.names) != len(self.folders) or len(set(self.folders)) != len(self.folders):
            raise ValueError("names and folders must be as many, and no folder twice")
        return self

    @classmethod
    def of(cls, folders: Sequence[str], names: Mapping[str, str] | None = None) -> Self:
        """The table of these folders; a folder without a given name is read with spaces for `_` and `-`."""
        names = names or {}
        plain = (names.get(f) or " ".join(f.replace("_", " ").replace("-", " ").split()) or f for f in folders)
        return cls(names=tuple(plain), folders=tuple(folders))

    @property
    def digest(self) -> str:
        return fingerprint(self)

    def index(self, folder: str) -> int:
        """The label of a folder. Raises `DataError` D04 for one that is not in the table."""
        try:
            return self.folders.index(folder)
        except ValueError:
            raise DataError(
                "D04", f"no class «{folder}» in {some(self.folders)}.{near(folder, self.folders)}"
            ) from None

    def __len__(self) -> int:
        return len(self.folders)


@dataclass(frozen=True, slots=True)
class Record:
    """One picture: `key` is its stable name, `row` its place in a parquet file (-1: `path` is an image file)."""

    key: str
    label: int
    path: Path
    row: int = -1
    group: str = ""


@dataclass(frozen=True)
class Split:
    """Records with a role. `train` is fitted on, `select` is chosen on, `report` is read once, after the choice.

    `metric` is its own measure (`metrics.NAMED`), beside those that every split gets. `among` says, where its pictures
    are of fewer classes than the table has, which labels stand for each of them: the largest of their logits is the
    class's, under the first of them, and no other class can be answered. Its records carry those first labels.
    `change` says how its pictures are corrupted as they are opened (`corrupt.changed`), where they are.
    """

    name: str
    role: Role
    records: tuple[Record, ...]
    metric: str = "accuracy"
    among: tuple[tuple[int, ...], ...] = ()
    change: str = ""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def labels_N(self) -> np.ndarray:
        """Labels, int64."""
        return np.fromiter((r.label for r in self.records), dtype=np.int64, count=len(self))

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(r.group for r in self.records)

    def open(self, i: int) -> Image.Image:
        """Picture i, upright, RGB. Raises `DataError` D07 naming the file; never another picture instead."""
        image, record = decode.picture(self.records[i].path, self.records[i].row), self.records[i]
        return corrupt.changed(image, self.change, record.key) if self.change else image

    @property
    def digest(self) -> str:
        """Fingerprint of keys, labels, `change`, and every file's size and modification time, as they are now."""
        states: dict[Path, tuple[int, int]] = {}
        for path in {r.path for r in self.records}:
            state = path.stat()
            states[path] = (state.st_size, state.st_mtime_ns)
        rows: list[Any] = [[r.key, r.label, r.row, *states[r.path]] for r in self.records]
        return fingerprint([*rows, *([self.change] if self.change else [])])

    def subset(self, indices: Sequence[int] | np.ndarray) -> Split:
        """The split with these records, in this order."""
        return replace(self, records=tuple(self.records[int(i)] for i in indices))

    def counts(self, classes: ClassTable) -> dict[str, int]:
        """Pictures of each class folder, zeros included."""
        by_label = Counter(r.label for r in self.records)
        return {folder: by_label[label] for label, folder in enumerate(classes.folders)}


@dataclass(eq=False)
class Dataset:
    """Pictures under one class table: `train` and `select` open, report splits behind a log.

    `report` holds the in-distribution split, named `id`, and one split for each other domain. Raises `UsageError`
    when a role or a template is wrong, `DataError` D04 when a label is outside the class table.
    """

    name: str
    classes: ClassTable
    train: Split
    select: Split
    report: InitVar[Sequence[Split]]
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    audit: Audit = field(default_factory=Audit)
    access_log: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self, report: Sequence[Split]) -> None:
        self._report = {s.name: s for s in sorted(report, key=lambda s: s.name != "id")}
        self.templates = check_templates(self.templates)
        roles = [("train", self.train), ("select", self.select), *(("report", s) for s in report)]
        for role, split in roles:
            if split.role != role:
                raise UsageError("U02", f"split «{split.name}» has the role {split.role} and was given as {role}.")
            if split.metric not in NAMED:
                raise UsageError("U02", f"{split.name} is measured by «{split.metric}».{near(split.metric, NAMED)}")
            if split.among and not set(split.labels_N.tolist()) <= {labels[0] for labels in split.among}:
                raise DataError(
                    "D04", f"{split.name} has labels that are not the first of those it says stand for a class."
                )
            if len(split) and not 0 <= split.labels_N.min() <= split.labels_N.max() < len(self.classes):
                raise DataError("D04", f"{split.name} has labels outside the {len(self.classes)} classes.")
        for name in self._report:
            # a domain's name is a file's name and a row's key
            if not re.fullmatch(r"\w[\w .+-]*", name) or name == "ood-mean":
                raise UsageError("U02", f"«{name}» cannot name a domain. Use letters, digits, spaces, dots and dashes.")
        if len(self._report) != len(report) or {"train", "select"} & set(self._report):
            raise UsageError("U02", f"report splits need names of their own: {some(s.name for s in report)}.")

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the report splits: `id` first, then the other domains."""
        return tuple(self._report)

    @property
    def sizes(self) -> dict[str, int]:
        """How many pictures each report split has; none is opened."""
        return {name: len(split) for name, split in self._report.items()}

    def read_report(self, why: str) -> dict[str, Split]:
        """The report splits, by name; the only way to them, and each call is written to `access_log`."""
        self.access_log.append(
            {"when": datetime.now(UTC).isoformat(timespec="seconds"), "why": why, "splits": list(self._report)}
        )
        return dict(self._report)

    def few(self, shots: int, seed: int, allow_short: bool = False, index: Path | str = "") -> Dataset:
        """The dataset with `shots` training pictures a class, and to select on as many as `shots.to_select` says.

        The choice depends on seed, class folder and keys only, and a smaller choice is part of a larger one. Report
        splits and the access log are shared. Raises `DataError` D08 naming the classes that have too few of either.
        `index` is a file (or folder) with a published choice, which is then taken as it is (`indices.published`).
        """
        from likewise.data import indices
        from likewise.data import shots as own

        return indices.published(self, Path(index), shots, seed) if index else own.few(self, shots, seed, allow_short)

    def thinned(self, most: Mapping[str, int], word: str) -> Dataset:
        """At most so many pictures of each split named in `most`, drawn by key; report splits not named are left out.

        `train` and `select` must be named; `word` is part of the key.
        """
        from likewise.data.shots import thin

        return thin(self, most, word)

    def splits(self) -> tuple[Split, ...]:
        """Train and select, the two that may be looked into while choosing."""
        return (self.train, self.select)

    def tree(self) -> dict[str, Any]:
        """Plain data for the run folder: classes, templates, counts and digests of every split, the access log."""
        return {
            "name": self.name,
            "classes": {**self.classes.tree(), "digest": self.classes.digest},
            "templates": list(self.templates),
            "splits": {
                s.name: {"role": s.role, "images": len(s), "digest": s.digest, "classes": s.counts(self.classes)}
                for s in (self.train, self.select, *self._report.values())
            },
            "access_log": list(self.access_log),
        }

    @property
    def digest(self) -> str:
        """Fingerprint of classes, templates and every split; describes, so it is not a reading."""
        splits = (self.train, self.select, *self._report.values())
        parts = [self.classes.digest, list(self.templates), {f"{s.role}:{s.name}": s.digest for s in splits}]
        return fingerprint([*parts, *([self.ways] if self.ways else [])])

    @property
    def ways(self) -> dict[str, Any]:
        """How splits are measured where it is not plain accuracy among all classes, and how pictures are changed."""
        return {
            s.name: {"metric": s.metric, "among": [list(labels) for labels in s.among],
                     **({"change": s.change} if s.change else {})}
            for s in (self.train, self.select, *self._report.values())
            if s.among or s.metric != "accuracy" or s.change
        }  # fmt: skip

    def manifest(self) -> pa.Table:
        """One row a record; a table source that gives the same splits again. Describes, so it is not a reading.

        `label` is the class folder, `class` its human name, `split` one of train, select, test; `domain` is `id`
        or the name of an out-of-distribution split. Paths are absolute.
        """
        rows = [
            {
                "key": r.key,
                "path": r.path.absolute().as_posix(),
                "row": r.row,
                "label": self.classes.folders[r.label],
                "class": self.classes.names[r.label],
                "split": "test" if s.role == "report" else s.role,
                "role": s.role,
                "domain": s.name if s.role == "report" else "id",
                "group": r.group,
            }
            for s in (self.train, self.select, *self._report.values())
            for r in s.records
        ]
        names = ("key", "path", "row", "label", "class", "split", "role", "domain", "group")
        return pa.table({n: pa.array([r[n] for r in rows], pa.int64() if n == "row" else pa.string()) for n in names})

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        ood: Mapping[str, Path | str] | None = None,
        options: SourceOptions | None = None,
        progress: Progress | None = None,
    ) -> Dataset:
        """The audited dataset at `path`: a folder of class folders, a table (CSV, TSV, parquet) or a manifest.

        `ood` names further sources, each a report split of its own. Every picture is opened once, and `progress` is
        told (what, done, total). Raises `DataError`; one that a finished audit raises (`AuditError`) carries `audit`.
        """
        from likewise.data.sources import open_dataset

        return open_dataset(Path(path), {n: Path(p) for n, p in (ood or {}).items()}, options, progress)

    @classmethod
    def from_folder(cls, path: Path | str, ood: Mapping[str, Path | str] | None = None, **options: Any) -> Dataset:
        """`open` for a folder; `options` are the fields of `SourceOptions`."""
        return cls._from("folder", path, ood, options)

    @classmethod
    def from_table(cls, path: Path | str, ood: Mapping[str, Path | str] | None = None, **options: Any) -> Dataset:
        """`open` for a CSV, TSV or parquet file; `options` are the fields of `SourceOptions`."""
        return cls._from("table", path, ood, options)

    @classmethod
    def _from(
        cls, kind: str, path: Path | str, ood: Mapping[str, Path | str] | None, options: dict[str, Any]
    ) -> Dataset:
        from likewise.data.sources import SourceOptions

        if Path(path).exists() and Path(path).is_dir() != (kind == "folder"):
            raise UsageError("U03", f"{path} is not a {kind}. Use Dataset.open, which takes either.")
        return cls.open(path, ood=ood, options=SourceOptions.parse(options, "options"))
