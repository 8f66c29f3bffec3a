"""What a named dataset is: where its own files are looked for, how they are read, and what they must amount to."""

# N records of a split.

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from likewise.config import fingerprint
from likewise.data.audit import Audit
from likewise.data.decode import SUFFIXES
from likewise.data.records import ClassTable, Dataset, Record, Split
from likewise.data.split import proportional
from likewise.errors import DataError, some

EPISODES = "For episodes (`likewise.episodes`, the suite kim-tables-2-4). It has nothing to train or to select on."
"""Note of the data sets of new classes."""


@dataclass(frozen=True)
class Named:
    """A dataset under a name. Calling it opens it; nothing is read before.

    `read` makes the dataset of the folder in which its files were found. `folders` are that folder's usual names below
    a root (`roots`), and of `needs` (paths or patterns inside it) each must be there; a dataset without folders needs
    nothing on disk. `counts` says how many pictures each split must have and `classes` which fingerprint
    (`order_of`) the class names must have in label order; what differs is refused (D17). A report split other than `id`
    may be missing.
    """

    name: str
    title: str
    read: Callable[[Path], Dataset]
    """Of the folder where it was found; of the current one for data that needs nothing on disk."""
    folders: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    get: str = ""
    licence: str = ""
    paper: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    classes: str = ""
    notes: str = ""
    """What a person should know before trusting a number: departures, traps, who else splits otherwise."""
    text: Callable[[], str] | None = None
    """A data card of its own, in the place of the one made from these."""

    def __call__(self) -> Dataset:
        """The dataset, checked against what it must amount to. Raises `DataError` D12 where it is not here, D17."""
        folder = self.here()
        data = self.read(folder)
        self.check(data.audit, data.classes.names, folder)
        for what in same_names(data.classes):
            data.audit.warn("D16", what)
        return data

    def found(self) -> Path | None:
        """The first folder in which all that it needs is."""
        if not self.folders:
            return Path()
        return next((place for place in self.places() if all(_there(place, need) for need in self.needs)), None)

    def here(self) -> Path:
        """The same. Raises `DataError` D12 where there is none, saying where it was looked for and how to get it."""
        folder = self.found()
        if folder is None:
            raise DataError("D12", self.absent)
        return folder

    @property
    def absent(self) -> str:
        """What to say where it is not found."""
        return f"{self.name} is not here (looked in {self.looked()}). Get it: {self.get}"

    def places(self) -> list[Path]:
        """Where it is looked for, in order."""
        return [root / folder for root in roots() for folder in self.folders]

    def looked(self) -> str:
        """The same, in words."""
        return f"{', '.join(str(place) for place in self.places())}; LIKEWISE_DATA names other roots"

    def check(self, audit: Audit, names: Sequence[str], folder: Path) -> None:
        """Raises `DataError` D17 where counts or class names in order are not as published, with the difference."""
        have = {name: sum(counts.values()) for name, counts in audit.counts.items()}
        wrong = [
            f"{split} has {have.get(split, 0):,} pictures instead of {want:,}"
            for split, want in self.counts.items()
            if have.get(split, 0) != want and (split in have or split in ("train", "select", "id"))
        ]
        if self.classes and order_of(names) != self.classes:
            how = _disorder(names, self.classes)
            wrong.append(f"its {len(names)} classes are not the published list in order: {how}")
        if wrong:
            raise DataError(
                "D17", f"{folder} is not the {self.name} that numbers are published for: {some(wrong, 6)}. It may be "
                f"incomplete or another version. Get it again: {self.get}"
            )  # fmt: skip

    def card(self) -> str:
        """The data card, as Markdown."""
        if self.text is not None:
            return self.text()
        lines = [f"# {self.name}", "", self.title, "", self.notes, ""]
        lines += [f"- {split}: {n:,} pictures" for split, n in self.counts.items()]
        lines += [f"- licence: {self.licence}"] * bool(self.licence) + [f"- paper: {self.paper}"] * bool(self.paper)
        lines += [f"- get it: {self.get}"] * bool(self.get)
        if self.folders:
            lines.append(f"- looked for in {self.looked()}")
        return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def roots() -> list[Path]:
    """Folders under which data sets are looked for: those of LIKEWISE_DATA, then data/, ~/data, /usr/share/datasets."""
    own = [Path(part).expanduser() for part in os.environ.get("LIKEWISE_DATA", "").split(os.pathsep) if part]
    return [*own, Path("data"), Path.home() / "data", Path("/usr/share/datasets")]


def _there(place: Path, need: str) -> bool:
    return next(place.glob(need), None) is not None if any(c in need for c in "*?[") else (place / need).exists()


def order_of(names: Sequence[str]) -> str:
    """What tells a list of class names in its order from any other."""
    return fingerprint(list(names))


def _disorder(names: Sequence[str], published: str) -> str:
    """How names differ from a published list of which the fingerprint alone is known: which stand wrong where it is
    their alphabetical order, as most are; else how they begin.
    """
    orders = [sorted(names), sorted(names, key=str.lower)]
    if right := next((order for order in orders if order_of(order) == published), None):
        wrong = [(i, is_, was) for i, (is_, was) in enumerate(zip(names, right, strict=True)) if is_ != was]
        return some((f"label {i} is «{is_}», published «{was}»" for i, is_, was in wrong), 3)
    return f"they begin {some(names, 3)}"


def same_names(classes: ClassTable) -> list[str]:
    """What it costs a text head that classes have the same name: a sentence for each such name."""
    by_name: dict[str, list[int]] = {}
    for label, name in enumerate(classes.names):
        by_name.setdefault(name, []).append(label)
    return [
        f"classes {', '.join(map(str, labels))} are all called «{name}»: a text head answers only the first of them, "
        f"so the pictures of the other {len(labels) - 1} count as wrong"
        for name, labels in by_name.items()
        if len(labels) > 1
    ]


def made(
    name: str, names: Sequence[str], splits: Iterable[Split], templates: Sequence[str], folders: Sequence[str] = ()
) -> Dataset:
    """The dataset of these splits: `train`, `select`, and report splits of which the one in distribution is `id`.

    `names` are the classes in label order, `folders` what they are called on disk where that is another word.
    """
    classes = ClassTable(names=tuple(names), folders=tuple(folders) or unlike(names))
    by_name = {split.name: split for split in splits}
    audit = Audit(name, counts={split.name: split.counts(classes) for split in by_name.values()})
    audit.note("D00", f"{name} is read as published; its pictures are opened when they are needed")
    train = by_name.pop("train", Split("train", "train", ()))
    select = by_name.pop("select", Split("select", "select", ()))
    return Dataset(name, classes, train, select, list(by_name.values()), tuple(templates), audit)


def three(train: Iterable[Record], select: Iterable[Record], identity: Iterable[Record]) -> list[Split]:
    """The splits that most have: to train on, to select on, and the one in distribution to report."""
    return [
        Split("train", "train", tuple(train)),
        Split("select", "select", tuple(select)),
        Split("id", "report", tuple(identity)),
    ]


def unlike(names: Sequence[str]) -> tuple[str, ...]:
    """Names as folders, which no two classes share: equal ones get their label behind them."""
    return tuple(f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names))


def pictures(folder: Path, label: int, key: str = "") -> list[Record]:
    """Every picture directly in a folder, by name, under one label. Raises `DataError` D17 for a folder that lacks."""
    if not folder.is_dir():
        raise DataError(
            "D17", f"{folder} is not there, though a class of the dataset belongs in it. Is the copy whole?"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return [Record(f"{key or folder.name}/{path.name}", label, path) for path in paths]


def tree(root: Path, folders: Sequence[str], labels: Sequence[int] | None = None) -> list[Record]:
    """The pictures of class folders; label i is `folders[i]`'s, or `labels[i]`."""
    where = labels if labels is not None else range(len(folders))
    return [record for folder, label in zip(folders, where, strict=True) for record in pictures(root / folder, label)]


def carved(records: Sequence[Record], count: int, word: str) -> tuple[list[Record], list[Record]]:
    """`records` without `count` of them, and these: each class's share (`proportional`), drawn by key.

    So everybody selects on the same ones, and on each class.
    """
    chosen = proportional([record.label for record in records], count, word, "select")
    taken = set(chosen)
    return [record for i, record in enumerate(records) if i not in taken], [records[i] for i in chosen]


def held_back(records: Sequence[Record], held: int, word: str) -> list[Split]:
    """Train, select and `id`, of which the last two, `held` each, are drawn from all (`carved`)."""
    rest, identity = carved(records, held, f"{word} id")
    return three(*carved(rest, held, word), identity)
