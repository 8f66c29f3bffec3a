"""Few-shot choices that others published: exactly these pictures, in the place of our own draw.

Two forms of JSON are read. That of Lin et al. (2023, arXiv:2301.06267; github.com/linzhiqiu/cross_modal_adaptation,
indices/) is `{"train": {"data": [{"impath", "label", "classname"}, ...]}, "val": ...}`. The other has rows, as CoOp's
split files: `{"train": [[path, label, class name], ...], "val": ...}`; CoOp's own pickles can be written so. CoOp's of
ImageNet have no «val» (it selects on the test pictures): these are drawn by key here, as everywhere.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from likewise import files
from likewise.data.records import Dataset, Record
from likewise.data.shots import some_of_each, to_select
from likewise.errors import DataError, UsageError, some

CONVERT = (
    "import json, pickle, sys; d = pickle.load(open(sys.argv[1], 'rb')); json.dump({k: [[i.impath, i.label, "
    "i.classname] for i in d[k]] for k in d}, open(sys.argv[2], 'w'))"
)
"""What writes one of CoOp's pickles as JSON, for a person who trusts it to run where Dassl is installed."""
GET = (
    "indices/ of github.com/linzhiqiu/cross_modal_adaptation (CoOp's choices of seeds 1 to 3, and others of ImageNet), "
    "or what CoOp itself drew, written as JSON (likewise.data.indices.CONVERT)"
)
"""Where such choices are to be had."""


def published(data: Dataset, source: Path, shots: int, seed: int) -> Dataset:
    """The dataset with the training and select pictures of an index file, in its order; report splits are shared.

    `source` is the file, or the folder that has it as `shot_16-seed_1.json`. Pictures are known by the end of their
    path, wherever the file's author kept them, among those to train and to select on: never among report splits.
    Raises `UsageError` U04 for fewer than one shot; `DataError` D12 where there is no such file, D14 for a pickle or
    another form, D17 where it names other pictures or labels than the dataset has, or more than `shots` of a class.
    """
    if shots < 1:
        raise UsageError(
            "U04", f"{shots} shots asked with the choice in {source}, which is of so many pictures a class: say how "
            "many, --shots K. All pictures (0) need no choice."
        )  # fmt: skip
    path = file_of(source, shots, seed)
    pool = {record.key: record for split in data.splits() for record in split.records}
    listed = files.read_json(path)
    train = _records(path, listed, "train", pool, data.classes.names)
    if "val" in listed:
        select, said = _records(path, listed, "val", pool, data.classes.names), "trains and selects on the pictures"
    else:
        select, said = _to_select_on(data, train, shots, seed), "draws its own to select on, and trains on the pictures"
    twice = [key for key, n in Counter(record.key for record in (*train, *select)).items() if n > 1]
    if twice:
        raise DataError("D17", f"{path} names pictures twice ({some(twice, 3)}). A choice on what was trained on says "
                        "nothing. Get it again.")  # fmt: skip
    counts = Counter(record.label for record in train)
    if more := [f"«{data.classes.names[label]}» has {n}" for label, n in counts.items() if n > shots]:
        raise DataError(
            "D17", f"{path} is no choice of {shots} a class: {some(more, 3)}. Pass the file of {shots} shots."
        )
    if none := [name for i, name in enumerate(data.classes.names) if not counts[i]]:
        raise DataError("D17", f"{path} is not whole: of {some(none, 3)} it names nothing to train on. Get it again.")
    if not select:
        raise DataError("D17", f"{path} is not whole: it leaves nothing to select on. Get it again.")
    audit = copy.deepcopy(data.audit)
    if short := [f"«{name}» has {counts[i]}" for i, name in enumerate(data.classes.names) if counts[i] < shots]:
        audit.warn("D08", f"{shots} shots asked; in {path}, {some(short)} training images.")
    audit.note("D00", f"{said} that {path} names")
    splits = replace(data.train, records=train), replace(data.select, records=select)
    audit.counts.update({split.name: split.counts(data.classes) for split in splits})
    return replace(data, train=splits[0], select=splits[1], report=tuple(data._report.values()), audit=audit)


def file_of(source: Path, shots: int, seed: int) -> Path:
    """The index file: `source`, or the one of these shots and this seed in the folder. Raises `DataError` D12, D14."""
    path = source / f"shot_{shots}-seed_{seed}.json" if source.is_dir() else source
    pickled = path.with_suffix(".pkl")
    if path.suffix == ".pkl" or (pickled.exists() and not path.exists()):
        raise DataError(
            "D14", f"{pickled} is a pickle, which can run code when it is read, so it is not. Where CoOp runs, write "
            f'it as JSON: python -c "{CONVERT}" {pickled.name} {pickled.stem}.json'
        )  # fmt: skip
    if not path.is_file():
        beside = sorted(found.name for found in path.parent.glob("*.json")) if path.parent.is_dir() else []
        there = f"there are {some(beside, 4)}" if beside else "there is no JSON file"
        raise DataError("D12", f"{path} is not there; {there}. Files are called shot_K-seed_S.json.")
    return path


def _to_select_on(data: Dataset, train: Sequence[Record], shots: int, seed: int) -> tuple[Record, ...]:
    """As many as `Dataset.few` draws, of those that are not trained on."""
    taken = {record.key for record in train}
    rest = [i for i, record in enumerate(data.select.records) if record.key not in taken]
    return some_of_each(data.select.subset(rest), data.classes, to_select(shots), seed).records


def _records(
    path: Path, listed: Any, part: str, pool: Mapping[str, Record], names: Sequence[str]
) -> tuple[Record, ...]:
    try:
        rows = listed[part]["data"] if isinstance(listed[part], dict) else listed[part]
        items = [
            (str(row["impath"]), int(row["label"])) if isinstance(row, dict) else (str(row[0]), int(row[1]))
            for row in rows
        ]
    except (KeyError, TypeError, ValueError, IndexError):
        raise DataError(
            "D14", f"{path} is not an index of few-shot pictures: its «{part}» is neither rows of path, label and "
            "class name, nor «data» with impath and label."
        ) from None  # fmt: skip
    found = [(place, label, _known(place, pool)) for place, label in items]
    if lost := [place for place, _, record in found if record is None]:
        raise DataError(
            "D17", f"{len(lost):,} of the {len(found):,} pictures that {path} has to {part} on are not among those to "
            f"train and select on here: {some(lost, 3)}. Is it of this dataset?"
        )  # fmt: skip
    records = [record for _, _, record in found if record is not None]
    for record, (_, label, _) in zip(records, found, strict=True):
        if record.label != label:
            raise DataError(
                "D17", f"{path} gives {record.key} the label {label}, and here it has {record.label} "
                f"(«{names[record.label]}»). Its classes are in another order; get the file for this dataset."
            )  # fmt: skip
    return tuple(records)


def _known(place: str, pool: Mapping[str, Record]) -> Record | None:
    """The record whose key is the longest end of a path."""
    parts = place.replace("\\", "/").split("/")
    return next((pool[key] for i in range(len(parts)) if (key := "/".join(parts[i:])) in pool), None)
