"""Pairs kept apart from the pictures that they are judged by: what is measured on must not have been trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from likewise.data.captions import Pairs
from likewise.data.records import Dataset, Progress
from likewise.data.scan import copies, pixels_of
from likewise.errors import DataError, some

Place = tuple[str, Path, int]
"""A picture's key, file and row."""


def apart(pairs: Pairs, judges: Sequence[Dataset], progress: Progress | None = None) -> Pairs:
    """The pairs without those whose picture is, pixel for pixel, a select or report picture of a judge.

    Where there are some, the audit has a D10 warning with their number, and `duplicates` names each; else the pairs
    come back as they are. Raises `DataError` D15 where none is left. Report splits are compared, not read: their
    fingerprints are from the audit that opened them, or made from the manifest's places, and nothing else leaves here.
    """
    own = [(r.key, r.path, r.row) for r in pairs.split.records]
    pixels = _pixels(own, pairs.audit.pixels, progress)
    keys = [key for key, *_ in own]
    for data in judges:
        rows = data.manifest().select(["key", "path", "row", "role"]).to_pylist()
        measured = [(row["key"], Path(row["path"]), row["row"]) for row in rows if row["role"] != "train"]
        pixels += _pixels(measured, data.audit.pixels, progress)
        keys += [f"{key} of {data.name}" for key, *_ in measured]
    same = copies(pixels, [int(i >= len(own)) for i in range(len(keys))])
    if not same:
        return pairs
    shown = some((f"{keys[i]} = {keys[other]}" for i, other in same.items()), 3)
    said = (
        f"the pictures of {len(same):,} of {len(own):,} pairs are select or report pictures of "
        f"{some(data.name for data in judges)} (same pixels): {shown}. Scores would be too good, so"
    )
    if len(same) == len(own):
        raise DataError(
            "D15", f"{said} no pair is left to train on. Give other pairs, or judge by other data with --eval."
        )
    left = pairs.only([i for i in range(len(own)) if i not in same])
    left.audit.warn("D10", f"{said} these pairs were left out of training; {len(left):,} remain.")
    left.audit.duplicates += [(keys[i], keys[other]) for i, other in same.items()]
    return left


def _pixels(places: Sequence[Place], known: Mapping[str, str], progress: Progress | None) -> list[str]:
    """Pixel hashes, from the audit where it has them; a picture that cannot be read is like no other."""
    fresh = [(key, path, row) for key, path, row in places if key not in known]
    found = pixels_of([(path, row) for _, path, row in fresh], progress) if fresh else []
    seen = {**known, **{key: own for (key, *_), own in zip(fresh, found, strict=True)}}
    return [seen[key] or f"unread {key}" for key, *_ in places]
