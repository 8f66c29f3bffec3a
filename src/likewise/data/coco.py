"""COCO's captions file: pictures and annotations in one JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from likewise.data.audit import Finding
from likewise.data.caption_sources import Listing, PairOptions
from likewise.data.sources import Found
from likewise.data.tables import check_there
from likewise.errors import DataError, some


def read_coco(path: Path, options: PairOptions) -> Listing:
    """COCO's captions file: `images` (id, file_name) and `annotations` (image_id, caption), several to a picture.

    File names are relative to `image_root`, or to the file's folder (Chen et al. 2015, arXiv:1504.00325). Raises
    `DataError` D14 when the file is not of this kind, D06 for pictures that are not there, D15 where it lists none.
    """
    try:
        tree: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError("D14", f"{path} is not readable JSON ({error}). It may have been cut off.") from None
    images, notes = _lists(path, tree)
    if not images:
        raise DataError("D15", f"{path} lists no pictures («images» is empty). Pass the file of another split.")
    name = options.caption_col or "caption"
    if notes and not any(name in note for note in notes):
        others = ", ".join(sorted({str(key) for note in notes[:100] for key in note}))
        raise DataError(
            "D14",
            f"the annotations of {path} have no «{name}», but {others}. It is not a captions file (COCO's is called "
            "captions_*.json, beside instances_*.json). Pass that one, or use --caption-col NAME.",
        )
    root = Path(options.image_root) if options.image_root else path.parent
    names = {image["id"]: str(image["file_name"]) for image in images}
    told = [note for note in notes if note["image_id"] in names]
    used = list(dict.fromkeys(names[note["image_id"]] for note in told))
    check_there(path, used, [root / file for file in used], options.source)
    found = [Found(Path(f).as_posix(), root / f, "") for f in (names[note["image_id"]] for note in told)]
    texts: list[Sequence[str]] = [(str(note.get(name) or ""),) for note in told]
    listing = Listing(found, texts, "annotations", "Fill or remove them in the file")
    without, astray = len(names) - len({note["image_id"] for note in told}), len(notes) - len(told)
    if not told:
        raise DataError("D13", f"none of the {len(names):,} pictures of {path} has a caption. Pass captions_*.json.")
    if without:
        listing.notices.append(Finding("D13", f"{without:,} of {len(names):,} pictures of {path} have no caption."))
    if astray:
        listing.notices.append(Finding("D13", f"{astray:,} captions of {path} are of pictures that it does not list."))
    return listing


def _lists(path: Path, tree: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    needs = {"images": ("id", "file_name"), "annotations": ("image_id",)}
    what = ""
    if not isinstance(tree, dict):
        what = f"it is a {'list' if isinstance(tree, list) else type(tree).__name__}"
    for part, keys in needs.items():
        entries = tree.get(part) if isinstance(tree, dict) else None
        if not what and not isinstance(entries, list):
            what = f"it has no list «{part}», but {some(map(str, tree), 8)}"
        for i, entry in enumerate(entries if not what and isinstance(entries, list) else []):
            lacks = [key for key in keys if not isinstance(entry, dict) or not isinstance(entry.get(key), str | int)]
            if lacks:
                what = f"entry {i + 1} of «{part}» has no {' and no '.join(f'«{key}»' for key in lacks)}"
                break
    if what:
        raise DataError(
            "D14",
            f"{path} is not a COCO captions file: {what}. It needs images (id, file_name) and annotations (image_id, "
            "caption); write other formats as a CSV with the columns filepath and caption.",
        )
    return tree["images"], tree["annotations"]
