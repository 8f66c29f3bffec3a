"""Opening every picture once: what cannot be read, and what is the same picture twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image

from likewise.data.audit import Audit
from likewise.data.decode import attempt
from likewise.data.hashing import distances, perceptual_hash, pixel_hash
from likewise.data.sources import Found, SourceOptions
from likewise.errors import some

NEAR = 4  # bits of 64 within which perceptual hashes mean the same picture, re-encoded or scaled
NEAR_LIMIT = 20_000  # pictures up to which all pairs are compared
FLAT = 8  # grey levels; a picture with less contrast has no perceptual hash worth the name
_CHUNK = 512


class Seen(NamedTuple):
    """A picture's fingerprints; `bad` is the reason why there are none."""

    pixels: str = ""
    look: int | None = None
    bad: str = ""


def scan(found: Sequence[Found], progress: Callable[[str, int, int], None] | None) -> list[Seen]:
    """Every picture decoded once, in the order of `found`."""
    seen: list[Seen] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes outside the lock
        for start in range(0, len(found), _CHUNK):
            seen += pool.map(_see, found[start : start + _CHUNK])
            if progress:
                progress("check", len(seen), len(found))
    return seen


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
        allowed = options.max_bad if options.on_bad_image == "skip" else 0.0
        listed = some((key for key, _ in audit.bad), 3)
        if share > allowed:
            audit.error(
                "D07",
                f"{n:,} images ({share:.1%}) cannot be read, over the {allowed:.0%} limit: {listed}; the first: "
                f"{audit.bad[0][1]}. Re-run with --on-bad-image skip --max-bad {np.ceil(share * 100) / 100:.2f}, or "
                "remove them.",
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


def drop_copies(found: Sequence[Found], seen: Sequence[Seen], splits: Sequence[str], audit: Audit) -> list[int]:
    """Indices that stay when exact copies across splits are dropped: report splits keep theirs, then select."""
    rank = {"train": 0, "select": 1}
    best: dict[str, int] = {}
    for i, s in enumerate(seen):
        here = best.setdefault(s.pixels, i)
        if rank.get(splits[i], 2) > rank.get(splits[here], 2):
            best[s.pixels] = i
    kept = []
    for i, s in enumerate(seen):
        other = best[s.pixels]
        if rank.get(splits[i], 2) < rank.get(splits[other], 2):
            audit.duplicates.append((found[i].key, found[other].key))
        else:
            kept.append(i)
    if audit.duplicates:
        shown = some((f"{a} = {b}" for a, b in audit.duplicates), 3)
        audit.warn(
            "D10",
            f"{len(audit.duplicates)} images appear in two splits (same pixels): {shown}. Scores would be too good, so "
            "the copies in train and select were left out; test and other domains are complete.",
        )
    return kept


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
