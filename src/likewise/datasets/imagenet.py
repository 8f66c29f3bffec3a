"""ImageNet and its shifts (V2, R, A, Sketch, ObjectNet), those of them that are found beside it.

ImageNet-R and -A have 200 of its classes and ObjectNet 113, some of which several of its classes stand for: their
pictures are answered among these alone (`Split.among`). Numbers without that restriction are lower.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files as resources
from pathlib import Path

from likewise.data.records import Dataset, Record, Split
from likewise.datasets.named import Named, carved, made, pictures, roots, three, tree
from likewise.errors import DataError, some

SELECT = 10_000
TRAIN = 1_281_167
SHIFTS = {
    "v2": ("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency", "ImageNetV2-matched-frequency"),
    "r": ("imagenet-r",),
    "a": ("imagenet-a",),
    "sketch": ("sketch", "imagenet-sketch"),
    "objectnet": ("objectnet-1.0",),
}
"""Report splits and their folders' usual names, beside ImageNet's own or below a root."""
NAMES = "02f159a1661b0cf5"
FOLDERS = ("imagenet", "ImageNet", "ILSVRC2012", "imagenet/ILSVRC2012")
NEEDS = ("train/n01440764",)
GET = "register at https://image-net.org and unpack ILSVRC2012 train and val into class folders"
TERMS = "ImageNet's terms of access"
COUNTS = {"v2": 10_000, "r": 30_000, "a": 7_500, "sketch": 50_889, "objectnet": 18_574}


@cache
def synsets(subset: str = "imagenet") -> tuple[str, ...]:
    """WordNet ids in label order, as timm carries them: of ImageNet, or of `imagenet_r` and `imagenet_a`."""
    text = (resources("timm") / "data" / "_info" / f"{subset}_synsets.txt").read_text()
    return tuple(line.split()[0] for line in text.splitlines() if line)


def templates() -> list[str]:
    """OpenAI's 80 for ImageNet."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]


def validation(folder: Path) -> Path:
    """The folder of ILSVRC's validation pictures in class folders. Raises `DataError` D17 where they are not sorted."""
    places = (folder / name for name in ("val", "val_in_folder", "val_dirs"))
    found = next((place for place in places if any((place / wnid).is_dir() for wnid in synsets())), None)
    if found is None:
        raise DataError(
            "D17", f"{folder} has no validation pictures in class folders (val/{synsets()[0]}/...). The archive holds "
            "them in one folder; PyTorch's valprep.sh sorts them."
        )  # fmt: skip
    return found


def read(folder: Path) -> Dataset:
    """Train without 10,000 pictures to select on, `id` the 50,000 of ILSVRC's validation set, and the shifts found."""
    from open_clip import IMAGENET_CLASSNAMES

    ids = synsets()
    identity = tree(validation(folder), ids)
    splits = three(*carved(tree(folder / "train", ids), SELECT, "imagenet"), identity)
    for name, place in shifts(folder).items():
        records, among = SHIFTED[name](place)
        splits.append(Split(name, "report", tuple(records), among=among))
    return made("imagenet", IMAGENET_CLASSNAMES, splits, templates(), ids)


def shifts(folder: Path) -> dict[str, Path]:
    """The shifts that are here: beside ImageNet, inside it, or below a root."""
    near = [folder, folder.parent, *roots()]
    places = {name: [root / called for root in near for called in names] for name, names in SHIFTS.items()}
    found = {name: next((p for p in where if p.is_dir()), None) for name, where in places.items()}
    return {name: place for name, place in found.items() if place is not None}


Shift = tuple[list[Record], tuple[tuple[int, ...], ...]]


def _v2(place: Path) -> Shift:
    """Folders are numbers, which sort as words: the label is the number."""
    return [record for label in range(1000) for record in pictures(place / str(label), label)], ()


def _all(place: Path) -> Shift:
    return tree(place, synsets()), ()


def _part(subset: str, place: Path) -> Shift:
    """A subset of classes: labels are ImageNet's own."""
    own = synsets(subset)
    labels = [synsets().index(wnid) for wnid in own]
    return tree(place, own, labels), tuple((label,) for label in labels)


def _objectnet(place: Path) -> Shift:
    """By its own metadata: its folder's name to the label, and the ImageNet classes (label numbers) of that label."""
    maps = next((p for p in (place / "mappings", place) if (p / "objectnet_to_imagenet_1k.json").exists()), None)
    if maps is None:
        raise DataError("D17", f"{place} has no objectnet_to_imagenet_1k.json. It is in mappings/ of the archive.")
    folder_of = json.loads((maps / "folder_to_objectnet_label.json").read_text())
    named = {label: folder for folder, label in folder_of.items()}
    number_of = _pytorch_numbers(maps)
    records: list[Record] = []
    among: list[tuple[int, ...]] = []
    for label, classes in sorted(json.loads((maps / "objectnet_to_imagenet_1k.json").read_text()).items()):
        own = tuple(sorted(number_of[name.strip()] for name in classes.split(";")))
        among.append(own)
        records += pictures(place / "images" / named[label], own[0])
    return records, tuple(among)


def _pytorch_numbers(maps: Path) -> dict[str, int]:
    """ImageNet's long names to our labels: ObjectNet's list is in the order of 2012's numbers, ours in that of ids."""
    lines = (maps / "imagenet_to_label_2012_v2").read_text().splitlines()
    order = json.loads((maps / "pytorch_to_imagenet_2012_id.json").read_text())
    label_of = {int(theirs): int(ours) for ours, theirs in order.items()}
    if missing := [line for number, line in enumerate(lines) if number not in label_of]:
        raise DataError("D17", f"{maps} maps no label to {some(missing)}. Is the copy whole?")
    return {line.strip(): label_of[number] for number, line in enumerate(lines)}


SHIFTED = {
    "v2": _v2, "r": lambda place: _part("imagenet_r", place), "a": lambda place: _part("imagenet_a", place),
    "sketch": _all, "objectnet": _objectnet,
}  # fmt: skip


ENTRIES = (
    Named(
        "imagenet",
        "ImageNet (ILSVRC 2012), 1,000 classes, with the shifts of it that are here: V2, R, A, Sketch, ObjectNet.",
        read,
        folders=FOLDERS,
        needs=NEEDS,
        get=f"{GET}; the shifts: "
        "huggingface.co/datasets/vaishaal/ImageNetV2, github.com/hendrycks/imagenet-r, "
        "github.com/hendrycks/natural-adv-examples, github.com/HaohanWang/ImageNet-Sketch, https://objectnet.dev",
        licence=f"{TERMS}, research only; the shifts have licences of their own",
        paper="Russakovsky et al. 2015, arXiv:1409.0575; Recht 2019, Hendrycks 2021, Wang 2019, Barbu 2019",
        counts={"train": TRAIN - SELECT, "select": SELECT, "id": 50_000, **COUNTS},
        classes=NAMES,
        notes="Methods choose on 10,000 training pictures, drawn by key; FLYP, WiSE-FT and LP-FT chose on the 50,000 "
        "that they report. Names and the 80 templates are OpenAI's, as open_clip carries them; two names stand for two "
        "classes each (missile, sunglasses). ObjectNet is whole (18,574 pictures of 113 classes), as FLYP's published "
        "numbers are not, and its red border of 2 pixels is left on, as FLYP's and WiSE-FT's code leaves it.",
    ),
)
