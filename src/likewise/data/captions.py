"""Pictures with captions: which texts belong together, what is held for retrieval, and a subset drawn by key."""

# U distinct texts.

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from likewise.config import fingerprint
from likewise.data.audit import Audit, AuditError
from likewise.data.caption_sources import HUB, PairOptions, check_captions, read_pairs, settle
from likewise.data.prompts import fill
from likewise.data.records import Dataset, Progress, Record, Split
from likewise.data.scan import drop_bad, drop_copies, scan
from likewise.data.sources import TABLES, Found, NoClasses
from likewise.errors import DataError, UsageError, some
from likewise.keys import key_hash

__all__ = ["PairOptions", "Pairs", "Texts", "check_captions", "from_classes", "from_records", "grouped", "open_pairs"]

LEAST_HELD, MOST_HELD = 50, 5_000  # fewer say little of recall; COCO's usual test has 5,000


class Texts(NamedTuple):
    """The distinct texts of some pictures, and which of them must never be negatives of each other."""

    texts: tuple[str, ...]  # in order of first appearance
    codes: tuple[tuple[int, ...], ...]  # of each picture's captions, places in `texts`
    group_U: np.ndarray  # int64, numbered by first appearance


@dataclass(frozen=True)
class Pairs:
    """Pictures to train on with their captions, and others held for retrieval. Record i has the label i.

    `captions[i]` are the texts of picture i, at least one. Pictures of equal `kin` share their texts: they are of one
    class, or one is a copy of the other. `held` (role `report`) is never trained on. Raises `UsageError` U02 when the
    parts do not agree.
    """

    name: str
    split: Split
    captions: tuple[tuple[str, ...], ...]
    kin: tuple[int, ...]
    held: Split
    held_captions: tuple[tuple[str, ...], ...]
    audit: Audit = field(default_factory=Audit, compare=False)

    def __post_init__(self) -> None:
        sides = ((self.split, self.captions, "train"), (self.held, self.held_captions, "report"))
        for split, captions, role in sides:
            numbered = all(record.label == i for i, record in enumerate(split.records))
            if split.role != role or len(captions) != len(split) or not all(captions) or not numbered:
                raise UsageError(
                    "U02",
                    f"{split.name} of {self.name} needs the role {role}, record i labelled i, and a caption each.",
                )
        if len(self.kin) != len(self.split):
            raise UsageError("U02", f"{self.name} needs one number of kin for each of {len(self.split)} pictures.")

    def __len__(self) -> int:
        return len(self.split)

    def groups(self) -> Texts:
        """The texts to train on. Texts of one picture, of its kin, or equal (but for case) are one group."""
        return grouped(self.captions, self.kin)

    def held_groups(self) -> Texts:
        """The texts held for retrieval: picture i is found by any text in `codes[i]`."""
        return grouped(self.held_captions, range(len(self.held)))

    def subset(self, count: int, seed: int) -> Pairs:
        """So many pictures to train on, or all if there are fewer; held ones stay.

        The choice depends on seed and keys only, and a smaller choice is part of a larger one. Raises `UsageError` U04
        for a count below 1.
        """
        if count < 1:
            raise UsageError("U04", f"{count} pairs asked; training needs at least 1. Use --pairs 1 or more.")
        found = self.only(_first([r.key for r in self.split.records], range(len(self)), count, seed))
        if count > len(self):
            found.audit.note("D12", f"{count:,} pairs asked, {len(self):,} there: all are trained on.")
        return found

    def only(self, chosen: Sequence[int]) -> Pairs:
        """These pictures to train on; held ones stay. The audit is a copy of its own."""
        audit = copy.deepcopy(self.audit)
        audit.counts = _counts(len(chosen), len(self.held))
        return replace(
            self, split=_split(self.split.records[i] for i in chosen), kin=tuple(self.kin[i] for i in chosen),
            captions=tuple(self.captions[i] for i in chosen), audit=audit,
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """Fingerprint of pictures (as `Split.digest`), captions, kin, and what is held."""
        return fingerprint([self.split.digest, self.captions, self.kin, self.held.digest, self.held_captions])

    def tree(self) -> dict[str, Any]:
        """Plain data for the run folder."""
        texts = self.groups()
        return {
            "name": self.name,
            "pictures": len(self),
            "captions": sum(map(len, self.captions)),
            "texts": len(texts.texts),
            "groups": len(set(texts.group_U.tolist())),
            "held": len(self.held),
            "digest": self.digest,
        }


def grouped(captions: Sequence[Sequence[str]], kin: Sequence[int]) -> Texts:
    """The distinct texts of some pictures, in groups: the connected components of «stands with» and «is equal to»."""
    place: dict[str, int] = {}
    codes = tuple(tuple(place.setdefault(text, len(place)) for text in of_one) for of_one in captions)
    families = {number: i for i, number in enumerate(dict.fromkeys(kin))}
    # tokenizers that fold case would make opposites of «A cat» and «a cat»
    folded = {text: i for i, text in enumerate(dict.fromkeys(text.casefold() for text in place))}
    texts, cases = len(place), len(place) + len(folded)
    edges = [(code, cases + families[number]) for of_one, number in zip(codes, kin, strict=True) for code in of_one]
    edges += [(code, texts + folded[text.casefold()]) for text, code in place.items()]
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    size = cases + len(families)
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(size, size))
    part_U = connected_components(graph, directed=False)[1][:texts]
    _, first, back_U = np.unique(part_U, return_index=True, return_inverse=True)
    return Texts(tuple(place), codes, np.argsort(np.argsort(first))[back_U].astype(np.int64))


def open_pairs(path: Path | str, options: PairOptions | None = None, progress: Progress | None = None) -> Pairs:
    """The audited pairs at `path`: a table (CSV, TSV, parquet), COCO captions, tar shards (one, a folder, a pattern
    such as `cc3m/{00000..00331}.tar`), a Hugging Face dataset (a saved folder or `hf-datasets:NAME`), or a folder of
    class folders, whose names become captions by `options.templates`.

    With `options.pairs` only those pictures and the held ones are opened. `progress` is told (what, done, total).
    Raises `DataError` as the readers say, `AuditError` (with `audit`) when too many pictures cannot be read.
    """
    options, source = options or PairOptions(), str(path)
    listing = read_pairs(source, options, progress)
    if listing is None:
        pairs = from_classes(_classes(Path(path), options, progress), options.templates, options)
        return pairs.subset(options.pairs, options.seed) if options.pairs else pairs
    audit = Audit(about=source)
    audit.notices = listing.notices
    found, captions = settle(listing, source, options, audit)
    keys = [f.key for f in found]
    held = _hold(_units(captions), keys, options)
    free = [i for i in range(len(found)) if i not in held]
    chosen = set(_first(keys, free, options.pairs or len(free), options.seed)) | held
    if options.pairs > len(free):
        audit.note("D12", f"{options.pairs:,} pairs asked, {len(free):,} there: all are trained on.")
    texts = dict(zip(keys, captions, strict=True))
    kept = [found[i] for i in sorted(chosen)]
    kept, seen = drop_bad(kept, scan(kept, progress), options.source, audit)
    if audit.errors:
        raise AuditError(audit)
    held_keys = {keys[i] for i in held}
    sides = ["held" if f.key in held_keys else "train" for f in kept]
    stay = drop_copies(kept, seen, sides, audit)
    train = [i for i in stay if sides[i] == "train"]
    if not train:
        raise DataError("D15", f"{source} has no picture left to train on. All were copies of held ones; add pictures.")
    first: dict[str, int] = {}
    kin = [first.setdefault(seen[i].pixels, n) for n, i in enumerate(train)]
    if len(first) < len(train):
        copies = len(train) - len(first)
        audit.note("D10", f"{copies:,} pictures are copies of others (same pixels); their captions count as of one.")
    pictures = [_record(kept[i]) for i in train], [_record(kept[i]) for i in stay if sides[i] == "held"]
    return _pairs(_name(source), pictures, texts, kin, audit)


def from_classes(dataset: Dataset, templates: Sequence[str] = (), options: PairOptions | None = None) -> Pairs:
    """The training pictures of a classed dataset, with all prompts of the class as captions of each; a class is a kin.

    Departs from other sources in what is held: of every class a part, since to hold whole groups would be to hold whole
    classes; the texts of held pictures are therefore trained on, the pictures are not.
    """
    options = options or PairOptions()
    prompts = fill(templates or dataset.templates, dataset.classes.names)
    records = dataset.train.records
    keys = [r.key for r in records]
    # of each class one picture is never held, so that none is lost
    last = {r.label: i for i, r in sorted(enumerate(records), key=lambda at: key_hash(options.seed, "held", at[1].key))}
    free = set(range(len(records))) - set(last.values())
    groups: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        groups[f"group {record.group}" if record.group else f"key {record.key}"].append(i)
    held = _hold((unit for unit in groups.values() if free.issuperset(unit)), keys, options)
    held = held or _hold([[i] for i in sorted(free)], keys, options)  # groups may all be too large
    texts = {r.key: tuple(dict.fromkeys(prompts[r.label])) for r in records}
    train = [r for i, r in enumerate(records) if i not in held]
    sides = train, [records[i] for i in sorted(held)]
    audit = copy.deepcopy(dataset.audit)
    audit.about = audit.about or dataset.name
    return _pairs(dataset.name, sides, texts, [r.label for r in train], audit)


def from_records(
    name: str, records: Sequence[Record], captions: Sequence[tuple[str, ...]], audit: Audit, options: PairOptions
) -> Pairs:
    """The pairs of pictures that were audited before, a part of them held."""
    keys = [r.key for r in records]
    held = _hold(_units(captions), keys, options)
    sides = [r for i, r in enumerate(records) if i not in held], [records[i] for i in sorted(held)]
    return _pairs(name, sides, dict(zip(keys, captions, strict=True)), range(len(sides[0])), audit)


def _pairs(
    name: str,
    sides: tuple[Sequence[Record], Sequence[Record]],
    texts: dict[str, tuple[str, ...]],
    kin: Sequence[int],
    audit: Audit,
) -> Pairs:
    train, held = sides
    audit.counts = _counts(len(train), len(held))
    return Pairs(
        name, _split(train), tuple(texts[r.key] for r in train), tuple(kin),
        Split("held", "report", _numbered(held)), tuple(texts[r.key] for r in held), audit,
    )  # fmt: skip


def _hold(units: Iterable[Sequence[int]], keys: Sequence[str], options: PairOptions) -> set[int]:
    """Which pictures are held for retrieval: whole units, drawn by key whatever their order, up to the share."""
    want = int(min(max(options.held * len(keys), LEAST_HELD), len(keys) / 5, MOST_HELD)) if options.held else 0
    ranked = sorted(units, key=lambda unit: min(key_hash(options.seed, "held", keys[i]) for i in unit))
    held: set[int] = set()
    for unit in ranked if want else ():
        if len(held) + len(unit) <= want:
            held.update(unit)
    return held


def _units(captions: Sequence[Sequence[str]]) -> list[list[int]]:
    """The pictures in groups of connected captions."""
    texts = grouped(captions, range(len(captions)))
    members: dict[int, list[int]] = defaultdict(list)
    for i, of_one in enumerate(texts.codes):
        members[int(texts.group_U[of_one[0]])].append(i)
    return list(members.values())


def _first(keys: Sequence[str], among: Iterable[int], count: int, seed: int) -> list[int]:
    """The `count` first by a hash of (seed, key), in their own order."""
    return sorted(sorted(among, key=lambda i: key_hash(seed, "pairs", keys[i]))[:count])


def _name(source: str) -> str:
    """A name for the pairs that a folder may have; of a pattern what all its files share, or the folder above's."""
    if source.startswith(HUB):
        source = source.removeprefix(HUB).partition(":")[0]
    path = Path(source).absolute()
    names = [path.name] if path.is_dir() else [path.stem]
    if not path.exists():
        shared = [re.sub(r"\{[^{}]*\}|\[[^]]*\]|[*?]", "", name) for name in (*names, *(p.name for p in path.parents))]
        names = [name.strip("-._") for name in shared]
    plain = (re.sub(r"[^\w.+-]+", "-", name).strip("-.") for name in names)
    return next((name for name in plain if name), "pairs")


def _record(found: Found) -> Record:
    return Record(found.key, 0, found.path, found.row, found.group)


def _numbered(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(replace(record, label=i) for i, record in enumerate(records))


def _split(records: Iterable[Record]) -> Split:
    return Split("pairs", "train", _numbered(records))


def _counts(train: int, held: int) -> dict[str, dict[str, int]]:
    return {"pairs": {"": train}, "held": {"": held}}


def _classes(path: Path, options: PairOptions, progress: Progress | None) -> Dataset:
    try:
        return Dataset.open(path, options=options.source, progress=progress)
    except NoClasses as error:
        inside = [p.name for p in sorted(path.iterdir()) if p.suffix.lower() in (*TABLES, ".json")]
        if inside:
            raise DataError("D02", f"{error.said} For captions pass a file in it: {some(inside)}.") from None
        raise DataError(
            "D02",
            f"{error.said} Captions come from a table with the columns filepath and caption, a row for each: likewise "
            f"caption pairs.csv --image-root {path}. Or put one folder per class ({path.name}/cat/1.jpg), whose names "
            "become captions.",
        ) from None
