"""Few-shot choice: so many pictures a class, by seed and class alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from likewise.errors import DataError, UsageError, some
from likewise.keys import key_rng

if TYPE_CHECKING:
    from likewise.data.records import ClassTable, Dataset, Split

FEW = 4


def to_select(shots: int) -> int:
    """Pictures a class to select on beside `shots` to train on: as many, at most 4, or a tenth where that is more.

    So CoOp's code has it at 1 to 16 shots (Zhou et al. 2022, arXiv:2109.01134), and Kim et al. (2021, OpenReview
    EhwEUb2ynIa) a tenth at 256 and 512, here rounded down. Departs: Kim et al. have as many as shots at 8 and 16 too
    (on Flowers 102 they have CoOp's); that they count by class is our reading.
    """
    return max(min(shots, FEW), shots // 10)


def _reach(pictures: int) -> int:
    """The most shots beside which so many pictures of a class are enough to select on."""
    return pictures if pictures < FEW else 10 * pictures + 9


def few(data: Dataset, shots: int, seed: int, allow_short: bool) -> Dataset:
    """See `Dataset.few`."""
    if shots < 1:
        raise UsageError("U04", f"{shots} shots asked; a class needs at least 1 training image. Use --shots 1 or more.")
    wanted = (
        (data.train, shots, "training images", int),
        (data.select, to_select(shots), "images to select on", _reach),
    )
    audit = copy.deepcopy(data.audit)
    fewest, said = shots, []
    for split, most, called, reach in wanted:
        short = {folder: n for folder, n in split.counts(data.classes).items() if n < most}
        if short:
            fewest = min(fewest, *map(reach, short.values()))
            said.append(some(f"«{folder}» has {n}" for folder, n in short.items()) + f" of {most} {called}")
    if said and not allow_short:
        smaller = f"--shots {fewest}" if fewest else "fewer shots on more images"
        raise DataError(
            "D08",
            f"{shots} shots asked, but {' and '.join(said)} after the split. Use {smaller}, or --allow-short (uses "
            "what there is, reported per class; in a suite allow_short: true).",
        )
    if said:
        audit.warn("D08", f"{shots} shots asked; {' and '.join(said)}, all used.")
    train = some_of_each(data.train, data.classes, shots, seed)
    select = some_of_each(data.select, data.classes, to_select(shots), seed)
    audit.counts.update({s.name: s.counts(data.classes) for s in (train, select)})
    return replace(data, train=train, select=select, report=tuple(data._report.values()), audit=audit)


def thin(data: Dataset, most: Mapping[str, int], word: str) -> Dataset:
    """See `Dataset.thinned`."""

    def some_of(split: Split) -> Split:
        order = key_rng(word, data.name, split.name).permutation(len(split))
        return split.subset(sorted(order[: most[split.name]]))

    train, select = some_of(data.train), some_of(data.select)
    report = [some_of(split) for name, split in data._report.items() if name in most]
    audit = copy.deepcopy(data.audit)
    audit.counts = {split.name: split.counts(data.classes) for split in (train, select, *report)}
    return replace(data, train=train, select=select, report=report, audit=audit)


def some_of_each(split: Split, classes: ClassTable, n: int, seed: int) -> Split:
    """At most `n` pictures of each class, drawn by seed, role, class folder and keys alone."""
    members: list[list[int]] = [[] for _ in classes.folders]
    for i in sorted(range(len(split)), key=lambda i: split.records[i].key):
        members[split.records[i].label].append(i)
    chosen: list[int] = []
    for folder, of_class in zip(classes.folders, members, strict=True):
        order = key_rng(seed, "shots", split.role, folder).permutation(len(of_class))
        chosen += [of_class[k] for k in order[:n]]
    return split.subset(sorted(chosen))
