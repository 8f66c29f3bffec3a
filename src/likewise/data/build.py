"""From a listing to a dataset: open everything once, divide what came undivided, refuse what cannot be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from likewise.data.audit import Audit, AuditError, check_classes, check_counts, check_names
from likewise.data.prompts import DEFAULT_TEMPLATES
from likewise.data.records import ClassTable, Dataset, Progress, Record, Role, Split
from likewise.data.scan import Seen, drop_bad, drop_copies, near_copies, scan, two_labels
from likewise.data.sources import Found, Source, SourceOptions, natural
from likewise.data.split import stratified
from likewise.errors import DataError, near, some


def assemble(name: str, source: Source, options: SourceOptions, audit: Audit, progress: Progress | None) -> Dataset:
    """The audited dataset. Raises `AuditError` with every error that was found, `DataError` where none can go on."""
    found, seen = drop_bad(source.found, scan(source.found, progress), options, audit)
    folders = sorted({f.folder for f in found if f.part in ("", "train")}, key=natural)
    if len(folders) < 2:
        # with nothing readable the reason is already there
        if folders or not audit.errors:
            only = f"Only one class («{folders[0]}») found" if folders else "No class with training images found"
            audit.error(
                "D03",
                f"{only}. Classification needs at least 2. If {audit.about} is itself a split, pass its parent.",
            )
        raise AuditError(audit)
    classes = ClassTable.of(folders, _names(folders, source.names, options))
    check_names(audit, classes.folders, classes.names)
    two_labels(found, seen, audit)
    splits = _divide(found, seen, options, audit)
    kept = drop_copies(found, seen, splits, audit)
    found, seen, splits = [found[i] for i in kept], [seen[i] for i in kept], [splits[i] for i in kept]
    near_copies(seen, splits, audit)
    _groups_apart(found, splits, audit)
    check_classes(audit, folders, _folders_of(found, splits))
    audit.counts = _counts(found, splits, folders)
    _emptied(audit)
    check_counts(audit)
    if audit.errors:
        raise AuditError(audit)
    return _dataset(name, classes, found, splits, audit, options)


def _dataset(
    name: str, classes: ClassTable, found: Sequence[Found], splits: Sequence[str], audit: Audit, options: SourceOptions
) -> Dataset:
    labels = {folder: label for label, folder in enumerate(classes.folders)}
    records: dict[str, list[Record]] = {"train": [], "select": [], "id": []}
    for f, split in zip(found, splits, strict=True):
        records.setdefault(split, []).append(Record(f.key, labels[f.folder], f.path, f.row, f.group))
    report = [Split(s, "report", tuple(r)) for s, r in records.items() if s not in ("train", "select")]
    return Dataset(
        name=name,
        classes=classes,
        train=Split("train", "train", tuple(records["train"])),
        select=Split("select", "select", tuple(records["select"])),
        report=report,
        templates=options.templates or DEFAULT_TEMPLATES,
        audit=audit,
    )


def _names(folders: Sequence[str], known: dict[str, str], options: SourceOptions) -> dict[str, str]:
    """Human names by folder, those of the classes file first. Raises `DataError` D09 for a file that does not fit."""
    if not options.classes_file:
        return known
    path = Path(options.classes_file)
    try:
        # the base loader keeps words as they are: 0001, no and 1e3 are folder names here
        tree: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError("D09", f"--classes {path} cannot be read as YAML or JSON ({error}).") from None
    if not isinstance(tree, dict) or not all(isinstance(v, str) and v.strip() for v in tree.values()):
        raise DataError("D09", f"--classes {path} needs one line a class, «folder: human name», with one name each.")
    for folder in tree:
        if folder not in folders:
            raise DataError(
                "D09",
                f"--classes {path} names «{folder}», and no class folder is called so.{near(folder, folders)} "
                f"Classes: {some(folders)}.",
            )
    return {**known, **tree}


def _divide(found: Sequence[Found], seen: Sequence[Seen], options: SourceOptions, audit: Audit) -> list[str]:
    """The split of every picture: as the source says; what it lacks (select, report or both) is taken off train."""
    splits = [f.domain or {"report": "id", "": "train"}.get(f.part, f.part) for f in found]
    shares: dict[Role, float] = {}
    if "select" not in splits:
        shares["select"] = options.held_out[0]
    if "id" not in splits:
        shares["report"] = options.held_out[1]
    if not shares:
        return splits
    pool = [i for i, split in enumerate(splits) if split == "train"]
    ties = []
    for i in pool:
        look, group = seen[i].look, found[i].group
        ties.append(
            [("pixels", seen[i].pixels)] + [("look", look)] * (look is not None) + [("group", group)] * bool(group)
        )
    keys, folders = [found[i].key for i in pool], [found[i].folder for i in pool]
    for i, role in zip(pool, stratified(keys, folders, ties, shares, options.seed), strict=True):
        splits[i] = "id" if role == "report" else role
    small = [c for c, n in Counter(folders).items() if n < 3]
    if small:
        audit.warn(
            "D08",
            f"{len(small)} classes have under 3 images ({some(f'«{c}»' for c in small)}), so not one for each of "
            "train, select and test. Nothing can be said about them; add images.",
        )
    parts = "/".join(f"{100 * x:.0f}" for x in (1 - sum(shares.values()), *shares.values()))
    sides = " and ".join({"select": "val", "report": "test"}[role] for role in shares)
    audit.note("D12", f"no {sides} -> stratified {parts}, duplicates kept together (seed {options.seed}).")
    return splits


def _groups_apart(found: Sequence[Found], splits: Sequence[str], audit: Audit) -> None:
    sides: dict[str, set[str]] = {}
    for f, split in zip(found, splits, strict=True):
        if f.group:
            sides.setdefault(f.group, set()).add("report" if split not in ("train", "select") else split)
    apart = [group for group, where in sides.items() if len(where) > 1]
    if apart:
        audit.warn(
            "D10",
            f"{len(apart)} groups are in two splits ({some(apart, 3)}), by the source's own division. What belongs "
            "together is then trained on and tested on; remove the division to have groups kept whole.",
        )


def _folders_of(found: Sequence[Found], splits: Sequence[str]) -> dict[str, list[str]]:
    sides: dict[str, set[str]] = {}
    for f, split in zip(found, splits, strict=True):
        if split != "train":
            sides.setdefault(split, set()).add(f.folder)
    return {split: sorted(folders, key=natural) for split, folders in sides.items()}


def _counts(found: Sequence[Found], splits: Sequence[str], folders: Sequence[str]) -> dict[str, dict[str, int]]:
    pairs = Counter(zip(splits, (f.folder for f in found), strict=True))
    order = ["train", "select", "id", *dict.fromkeys(s for s in splits if s not in ("train", "select", "id"))]
    return {split: {folder: pairs[split, folder] for folder in folders} for split in order}


def _emptied(audit: Audit) -> None:
    """D08 errors for what the division or the dropping of copies has left without pictures."""
    without = [folder for folder, n in audit.counts["train"].items() if not n]
    if without:
        audit.error(
            "D08",
            f"{some(f'«{c}»' for c in without)} has no training image left: all were copies of images in other splits. "
            "Add images, or remove the class.",
        )
    for split in ("select", "id"):
        if not any(audit.counts[split].values()):
            audit.error(
                "D08",
                f"no image is left for {split}: classes or groups are too small to divide, or all were copies. Add "
                "images (3 a class at least), or give the split its own folder.",
            )
