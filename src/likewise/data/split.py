"""Dividing data that came undivided: by class, by key, with whatever belongs together kept together."""

from __future__ import annotations

import csv
import heapq
import io
import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from likewise import files
from likewise.data.records import Dataset, Role
from likewise.errors import UsageError
from likewise.keys import Key, key_hash, key_rng


class _Unit(NamedTuple):
    """Pictures that must stay on one side, and how many of each class they are."""

    rank: int
    members: list[int]
    counts: Counter[str]


def stratified(
    keys: Sequence[str],
    classes: Sequence[str],
    ties: Sequence[Sequence[Hashable]],
    shares: Mapping[Role, float],
    seed: int,
) -> list[Role]:
    """A side for each picture, so that each class gives its share (fraction) to `select` and to `report`.

    Pictures that have a tie in common (a group, a pixel hash) go to one side. Units are ranked by a hash of (seed,
    key) and taken in that order, so that the order of listing is without effect and a new picture moves at most
    a few others. A class of 3 or more gives at least one picture to every side asked for, where its units allow; every
    class keeps at least one picture in `train`.
    """
    units = _units(keys, classes, ties, seed)
    total = Counter(classes)
    sides: dict[int, Role] = {}
    left = Counter(total)  # what train still has
    asked: list[Role] = [side for side in ("report", "select") if shares.get(side)]
    for side in asked:
        need = {c: _need(n, shares[side], side) for c, n in total.items()}
        got: Counter[str] = Counter()
        free = [u for u in range(len(units)) if u not in sides]
        # a unit is taken where it brings the side nearer to its share
        for u in free:
            wanted = sum(min(n, max(0, need[c] - got[c])) for c, n in units[u].counts.items())
            if 2 * wanted > units[u].counts.total() and _fits(units[u].counts, left):
                sides[u] = side
                got += units[u].counts
                left -= units[u].counts
        # a class still without takes too large a unit rather than none, if that is mostly of classes without
        for c in sorted(c for c, n in need.items() if n and not got[c]):
            lacking = {k for k, n in need.items() if n and not got[k]}
            if c not in lacking:  # by now another class's unit brought some
                continue
            fits = [u for u in free if u not in sides and c in units[u].counts and _fits(units[u].counts, left)]
            fits = [u for u in fits if 2 * sum(units[u].counts[k] for k in lacking) >= units[u].counts.total()]
            if fits:
                u = min(fits, key=lambda u: (units[u].counts.total(), units[u].rank))
                sides[u] = side
                got += units[u].counts
                left -= units[u].counts
    answer: list[Role] = ["train"] * len(keys)
    for u, side in sides.items():
        for i in units[u].members:
            answer[i] = side
    return answer


def proportional(labels: Sequence[int], count: int, *key: Key) -> list[int]:
    """Which `count` of these pictures to draw so that each label gives its share of them, in ascending order.

    Shares are whole by the largest remainder (Hamilton's method), but a label of two pictures or more gives at least
    one, where `count` is enough for that, and every label keeps one, where enough is left. Which pictures, and which
    of two labels with equal remainders gives the odd one, the key decides.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        members[label].append(i)
    given = {label: int(len(own) > 1) for label, own in members.items()}
    if sum(given.values()) > count:
        given = dict.fromkeys(members, 0)

    def turn(label: int) -> tuple[bool, int, int, int]:
        """Least for the label whose turn it is: one's last picture last, then the farthest behind its share."""
        ahead = given[label] * len(labels) - count * len(members[label])
        return len(members[label]) - given[label] == 1, ahead, key_hash(*key, "odd", label), label

    queue = [turn(label) for label in members]
    heapq.heapify(queue)
    for _ in range(count - sum(given.values())):
        *_, label = heapq.heappop(queue)
        given[label] += 1
        if given[label] < len(members[label]):
            heapq.heappush(queue, turn(label))
    drawn = (
        members[label][k]
        for label, n in given.items()
        for k in key_rng(*key, label).permutation(len(members[label]))[:n]
    )
    return sorted(drawn)


def _fits(counts: Counter[str], left: Counter[str]) -> bool:
    return all(left[c] - n >= 1 for c, n in counts.items())


def _need(n: int, share: float, side: Role) -> int:
    if n < 3:
        return int(n == 2 and side == "report")  # of two, one is learnt from and one measured
    return max(1, int(n * share + 0.5))


def _units(keys: Sequence[str], classes: Sequence[str], ties: Sequence[Sequence[Hashable]], seed: int) -> list[_Unit]:
    root = list(range(len(keys)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    first: dict[Hashable, int] = {}
    for i, tokens in enumerate(ties):
        for token in tokens:
            root[find(i)] = find(first.setdefault(token, i))
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(keys)):
        members[find(i)].append(i)
    units = [
        _Unit(min(key_hash(seed, "split", keys[i]) for i in group), group, Counter(classes[i] for i in group))
        for group in members.values()
    ]
    return sorted(units, key=lambda unit: unit.rank)


def write_manifest(dataset: Dataset, path: Path | str) -> None:
    """The dataset's manifest as .csv, .tsv or .parquet: reading it gives the same splits, keys and class names.

    Paths below the manifest's folder are written relative to it, others absolute. Raises `UsageError` for another
    ending.
    """
    path, table = Path(path), dataset.manifest()
    here = Path(os.path.abspath(path)).parent
    paths = [Path(p) for p in table.column("path").to_pylist()]
    shown = [(p.relative_to(here) if p.is_relative_to(here) else p).as_posix() for p in paths]
    table = table.set_column(table.schema.get_field_index("path"), "path", pa.array(shown, pa.string()))
    match path.suffix.lower():
        case ".parquet":
            sink = io.BytesIO()
            pq.write_table(table, sink)
            files.write_bytes(path, sink.getvalue())
        case ".csv" | ".tsv" as suffix:
            text = io.StringIO()
            writer = csv.writer(text, delimiter="," if suffix == ".csv" else "\t", lineterminator="\n")
            writer.writerow(table.column_names)
            writer.writerows(zip(*(table.column(n).to_pylist() for n in table.column_names), strict=True))
            files.write_bytes(path, text.getvalue().encode())
        case other:
            raise UsageError("U05", f"a manifest ends in .csv, .tsv or .parquet, and {path} in «{other}». Rename it.")
