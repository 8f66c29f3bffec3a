"""Tar shards of pictures and captions, as webdataset writes them: CC3M, CC12M, img2dataset's output.

Pictures are read where they lie. Of each only the place of its header is kept, which is all that `decode` needs, so
nothing is unpacked, no index is cached, and no disk is used twice. Names in a shard are keys and never paths.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from likewise.data.audit import Finding
from likewise.data.caption_sources import CAPTION, Listing, PairOptions
from likewise.data.decode import SUFFIXES
from likewise.data.records import Progress
from likewise.data.sources import Found
from likewise.errors import DataError

_MOST_TEXT = 1_000_000  # bytes of a member with words


@dataclass
class _Shard:
    """Places of pictures and texts by sample, and what else there was, by ending."""

    pictures: dict[str, int] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    endings: Counter[str] = field(default_factory=Counter)


def read_shards(paths: Sequence[Path], options: PairOptions, progress: Progress | None) -> Listing:
    """The samples of these tars: a picture (`key.jpg`) and words (`key.txt`, or `caption` in `key.json`) each.

    Raises `DataError` D14 for a file that is no whole, uncompressed tar, D15 for shards without pictures, D13 for
    shards without words.
    """
    root = os.path.commonpath([path.absolute().parent for path in paths])
    listing = Listing([], [], "samples", "Give each sample a key.txt, or a key.json with «caption»")
    endings: Counter[str] = Counter()
    left = 0
    for i, path in enumerate(paths):
        shard = _read(path, options)
        name = path.absolute().relative_to(root).as_posix()
        for key, place in shard.pictures.items():
            listing.found.append(Found(f"{name}/{key}", path, "", row=place))
            listing.texts.append(shard.texts.get(key, []))
        endings += shard.endings
        left += len(shard.texts.keys() - shard.pictures.keys())
        if progress:
            progress("list", i + 1, len(paths))
    holds = ", ".join(f".{ending} {n:,}" for ending, n in endings.most_common(8)) or "no files"
    where = f"{paths[0]}" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1:,} more"
    if not listing.found:
        raise DataError("D15", f"{where}: no pictures in the shards (found {holds}). A sample is key.jpg with key.txt.")
    if not any(listing.texts):
        named = f"«{options.caption_col}»" if options.caption_col else "«caption»"
        raise DataError(
            "D13",
            f"{where}: {len(listing.found):,} pictures and no captions (found {holds}). A sample needs key.txt, or "
            f"key.json with {named}; use --caption-col NAME for another field of the JSON.",
        )
    if left:
        listing.notices.append(Finding("D13", f"{left:,} captions in {where} are of no picture there."))
    return listing


def _read(path: Path, options: PairOptions) -> _Shard:
    shard = _Shard()
    try:
        with tarfile.open(path, "r:") as tar:
            while member := tar.next():
                # sparse files and sizes told elsewhere than in the header are legal, and no picture is written so
                if member.isreg() and not member.issparse() and "size" not in member.pax_headers:
                    _take(shard, tar, member, options)
                tar.members.clear()  # type: ignore[attr-defined]  # or every header would be kept
            end = tar.offset
        with open(path, "rb") as file:
            file.seek(end)
            rest = file.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, OSError, ValueError, ArithmeticError, RecursionError) as error:
        said = f"{path} cannot be read as an uncompressed tar ({error}). Unpack .gz with gunzip, or fetch it again."
        raise DataError("D14", said) from None
    if rest.strip(b"\0"):  # tarfile takes a damaged header for the end
        raise DataError("D14", f"{path} is damaged from byte {end:,} on. Fetch it again.")
    return shard


def _take(shard: _Shard, tar: tarfile.TarFile, member: tarfile.TarInfo, options: PairOptions) -> None:
    folder, slash, base = member.name.rpartition("/")
    stem, _, ending = base.partition(".")
    ending = ending.lower()
    key = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in folder + slash + stem)
    if not stem:  # a hidden file
        return
    shard.endings[ending] += 1
    if f".{ending}" in SUFFIXES:
        shard.pictures.setdefault(key, member.offset_data - tarfile.BLOCKSIZE)
    elif ending in ("txt", "json") and member.size <= _MOST_TEXT:
        stream = tar.extractfile(member)
        data = stream.read() if stream else b""
        if ending == "json":
            texts = _fields(data, options.caption_col)
        else:
            texts = [data.decode("utf-8", "replace")] if not options.caption_col else []
        shard.texts[key] = [*shard.texts.get(key, []), *texts]


def _fields(data: bytes, name: str) -> list[str]:
    """The caption or captions in a sample's JSON; nothing where it has none or is damaged."""
    try:
        tree: Any = json.loads(data)
    except (ValueError, RecursionError):
        return []
    known = tree if isinstance(tree, dict) else {}
    value: Any = next((known[key] for key in ((name,) if name else CAPTION) if known.get(key)), [])
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
