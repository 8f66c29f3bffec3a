"""Opening every picture once: what cannot be read, and what is the same picture twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from likewise.data.audit import Audit
from likewise.data.decode import attempt
from likewise.data.hashing import distances, perceptual_hash, pixel_hash
from likewise.data.records import Progress
from likewise.data.sources import Found, SourceOptions
from likewise.errors import some

NEAR = 4  # bits of 64 within which perceptual hashes mean the same picture, re-encoded or scaled
NEAR_LIMIT = 20_000  # pictures up to which all pairs are compared
FLAT = 8  # grey levels; a picture with less contrast has no perceptual hash worth the name
_CHUNK = 512
_T = TypeVar("_T")
_S = TypeVar("_S")


class Seen(NamedTuple):
    """A picture's fingerprints; `bad` is the reason why there are none."""

    pixels: str = ""
    look: int | None = None
    bad: str = ""


def scan(found: Sequence[Found], progress: Progress | None) -> list[Seen]:
    """Every picture decoded once, in the order of `found`."""
    return list(_each(_see, found, ("check", progress)))


def pixels_of(places: Sequence[tuple[Path, int]], progress: Progress | None) -> list[str]:
    """The pixel hash of each picture (path and row), which is decoded for it; "" for one that cannot be read."""
    return list(_each(_hash, places, ("compare", progress)))


def _each(look: Callable[[_T], _S], things: Sequence[_T], telling: tuple[str, Progress | None]) -> Iterator[_S]:
    name, progress = telling
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes outside the lock
        for start in range(0, len(things), _CHUNK):
            yield from pool.map(look, things[start : start + _CHUNK])
            if progress:
                progress(name, min(start + _CHUNK, len(things)), len(things))


def _hash(place: tuple[Path, int]) -> str:
    image, _ = attempt(*place)
    return pixel_hash(image) if image else ""


def _see(one: Found) -> Seen:
    image, reason = attempt(one.path, one.row)
    if image is None:
        return Seen(bad=reason)
    low, high = image.convert("L").resize((32, 32), Image.Resampling.BOX).getextrema()
    flat = float(high) - float(low) < FLAT  # type: ignore[arg-type]  # one band, so two numbers
    return Seen(pixel_hash(image), None if flat else perceptual_hash(image))


def drop_bad(
    found: Sequence[Found], seen: Sequence[Seen], options: SourceOptions, audit: Audit
) -> tuple[list[Found], list[Seen]]:
    """What could be read. More unreadable files than allowed are a D07 error in the audit."""
    audit.bad = [(f.key, s.bad) for f, s in zip(found, seen, strict=True) if s.bad]
    if audit.bad:
        n, share = len(audit.bad), len(audit.bad) / len(found)
        listed = some((key for key, _ in audit.bad), 3)
        if share > options.allowed:
            audit.error(
                "D07",
                f"{n:,} images ({share:.1%}) cannot be read, over the {options.allowed:.0%} limit: {listed}; the "
                f"first: {audit.bad[0][1]}. Remove them, or leave them out with {options.leaving_out(share)}.",
            )
        else:
            audit.note("D07", f"{n:,} images ({share:.1%}) cannot be read and were left out: {listed}.")
    kept = [(f, s) for f, s in zip(found, seen, strict=True) if not s.bad]
    return [f for f, _ in kept], [s for _, s in kept]


def two_labels(found: Sequence[Found], seen: Sequence[Seen], audit: Audit) -> None:
    """A D10 warning naming pictures that are, pixel for pixel, in two classes."""
    first: dict[str, Found] = {}
    clashes = []
    for f, s in zip(found, seen, strict=True):
        other = first.setdefault(s.pixels, f)
        if other.folder != f.folder:
            clashes.append(f"{other.key} («{other.folder}») = {f.key} («{f.folder}»)")
    if clashes:
        verb = "picture carries" if len(clashes) == 1 else "pictures carry"
        audit.warn(
            "D10",
            f"{len(clashes)} {verb} two labels: {some(clashes, 3)}. One of the two is wrong, in training and in the "
            "score. Remove the wrong copy.",
        )


def copies(pixels: Sequence[str], ranks: Sequence[int]) -> dict[int, int]:
    """The pictures that are copies of one of a higher rank, by index, each with the copy that stays."""
    best: dict[str, int] = {}
    for i, own in enumerate(pixels):
        if ranks[i] > ranks[best.setdefault(own, i)]:
            best[own] = i
    return {i: best[own] for i, own in enumerate(pixels) if ranks[i] < ranks[best[own]]}


def drop_copies(found: Sequence[Found], seen: Sequence[Seen], splits: Sequence[str], audit: Audit) -> list[int]:
    """Indices that stay when exact copies across splits are dropped: report splits keep theirs, then select.

    The audit remembers the pixels of what was seen.
    """
    audit.pixels = {f.key: s.pixels for f, s in zip(found, seen, strict=True)}
    rank = {"train": 0, "select": 1}
    dropped = copies([s.pixels for s in seen], [rank.get(split, 2) for split in splits])
    audit.duplicates += [(found[i].key, found[other].key) for i, other in dropped.items()]
    if audit.duplicates:
        shown = some((f"{a} = {b}" for a, b in audit.duplicates), 3)
        audit.warn(
            "D10",
            f"{len(audit.duplicates)} images appear in two splits (same pixels): {shown}. Scores would be too good, so "
            "the copies in train and select were left out; test and other domains are complete.",
        )
    return [i for i in range(len(found)) if i not in dropped]


def near_copies(seen: Sequence[Seen], splits: Sequence[str], audit: Audit) -> None:
    """A D10 warning with the number of pictures in train or select that resemble one in another split."""
    chosen = [(s.look, split) for s, split in zip(seen, splits, strict=True) if s.look is not None]
    if len(seen) > NEAR_LIMIT:
        audit.note("D10", f"near-duplicates were not looked for among more than {NEAR_LIMIT:,} images.")
        return
    looks_N = np.array([look for look, _ in chosen], dtype=np.uint64)
    side_N = np.array([{"train": 0, "select": 1}.get(split, 2) for _, split in chosen])
    count = sum(
        bool(np.any(distances(looks_N[side_N > side], int(look)) <= NEAR))
        for look, side in zip(looks_N, side_N, strict=True)
        if side < 2
    )
    if count:
        audit.warn(
            "D10",
            f"{count} images of train or select look like one in a later split (perceptual hash within {NEAR} of 64 "
            "bits). They stay; if they are the same scene, pass a table with a column «group» for what belongs "
            "together (of adapt, check and split: any column, with --group-col).",
        )
