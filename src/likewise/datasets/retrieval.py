"""Pictures with captions under a name: COCO and Flickr30k in Karpathy's splits, COCO's own years, CC3M.

What is held for retrieval is the published test, and its texts are trained on by nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from likewise.data.audit import Audit
from likewise.data.caption_sources import Listing, settle
from likewise.data.captions import MOST_HELD, PairOptions, Pairs, open_pairs
from likewise.data.coco import read_coco
from likewise.data.records import Record, Split
from likewise.data.sources import Found
from likewise.datasets.captioned import Captioned, captions_of, holding
from likewise.datasets.listed import first, listed
from likewise.errors import DataError
from likewise.keys import key_rng

Sides = tuple[Listing, Listing]
"""What is trained on and what is held."""


def _of(name: str, sides: Sides, source: Path, options: PairOptions) -> Pairs:
    """The pairs of two listings; raises as `settle`."""
    audit = Audit(about=name)
    audit.note("D00", f"{name} is read as published; its pictures are opened when they are needed")
    audit.notices += [notice for side in sides for notice in side.notices]
    (train, texts), (held, held_texts) = (settle(side, str(source), options, audit) for side in sides)
    empty = Pairs(name, _split(train), tuple(texts), tuple(range(len(train))), _split((), held=True), (), audit)
    return holding(empty, [Record(f.key, i, f.path, f.row) for i, f in enumerate(held)], held_texts)


def _split(found: Iterable[Found], held: bool = False) -> Split:
    records = tuple(Record(f.key, i, f.path, f.row) for i, f in enumerate(found))
    return Split("held", "report", records) if held else Split("pairs", "train", records)


def karpathy(name: str, file: str, images: tuple[str, ...], folder: Path, options: PairOptions) -> Pairs:
    """Karpathy's JSON: train and restval to train on, test held, val left out (Karpathy and Li 2015, arXiv:1412.2306).

    Raises `DataError` D14 where the file is not of that kind.
    """
    path, place = folder / file, first(folder, images)
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["images"]
        told = [(_path(entry), str(entry["split"]), [str(s["raw"]) for s in entry["sentences"]]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError("D14", f"{path} is not Karpathy's JSON of captions ({error!r}). Get it again.") from None
    sides = [[entry for entry in told if entry[1] in words] for words in (("train", "restval"), ("test",))]
    if not all(sides):
        raise DataError("D14", f"{path} has no pictures of the splits train and test. Get it again.")
    train, held = (
        Listing([Found(r.key, r.path, "") for r in listed(place, ((p, 0) for p, _, _ in side))], [t for *_, t in side],
                "pictures", "Get the file again")
        for side in sides
    )  # fmt: skip
    return _of(name, (train, held), path, options)


def _path(entry: dict[str, Any]) -> str:
    return f"{entry['filepath']}/{entry['filename']}" if entry.get("filepath") else str(entry["filename"])


def coco(year: int, folder: Path, options: PairOptions) -> Pairs:
    """COCO's own captions of a year: training pictures to train on; of those for validation 5,000 held, by key."""
    train, held = (
        read_coco(
            folder / "annotations" / f"captions_{part}{year}.json",
            options.model_copy(update={"image_root": str(first(folder, (f"{part}{year}", f"images/{part}{year}")))}),
        )
        for part in ("train", "val")
    )
    keys = list(dict.fromkeys(f.key for f in held.found))
    kept = {keys[i] for i in key_rng("coco", year, "held").permutation(len(keys))[:MOST_HELD]}
    chosen = [i for i, f in enumerate(held.found) if f.key in kept]
    held = Listing([held.found[i] for i in chosen], [held.texts[i] for i in chosen], held.unit, held.fix, held.notices)
    return _of(f"coco-captions-{year}", (train, held), folder / "annotations", options)


def cc3m(folder: Path, options: PairOptions) -> Pairs:
    """Shards, of which those of validation are left out, or a table of pictures and captions; audited as any other.

    A part is held that is drawn by key: CC3M's own validation set is rarely used for retrieval. Raises as `open_pairs`.
    """
    tables = [folder / name for name in ("Train_GCC-training_output.csv", "Train_GCC-training.tsv", "train.tsv")]
    if any(folder.glob("*.tar")):
        source: Path | str = f"{folder}/cc3m-train-*.tar" if any(folder.glob("cc3m-train-*.tar")) else folder
    else:
        source = next((path for path in tables if path.exists()), tables[0])
    return replace(open_pairs(source, options), name="cc3m")


KARPATHY = "caption_datasets.zip of Karpathy (https://cs.stanford.edu/people/karpathy/deepimagesent)"
ZIPS = "https://cocodataset.org/#download: train{0}.zip, val{0}.zip and annotations_trainval{0}.zip, unpacked"
COCO_PAPER = "Lin et al. 2014, arXiv:1405.0312; captions: Chen et al. 2015, arXiv:1504.00325"
COCO_LICENCE = "annotations CC BY 4.0, pictures by Flickr's terms"
COCOS = ("coco", "COCO", "mscoco", "MSCOCO")
FLICKR_IMAGES = ("flickr30k-images", "flickr30k_images", "images", "Images")

ENTRIES = (
    Captioned(
        captions_of(
            "coco-captions",
            "COCO's captions in Karpathy's split: 113,287 pictures, 5,000 held, five texts each.",
            folders=COCOS,
            needs=("dataset_coco.json", "train2014", "val2014"),
            get=f"{ZIPS.format(2014)}, and dataset_coco.json of {KARPATHY} beside them",
            licence=COCO_LICENCE,
            paper=f"{COCO_PAPER}; split: Karpathy and Li 2015, arXiv:1412.2306",
            counts={"pairs": 113_287, "held": 5_000},
            notes="Train and restval are trained on, test is held whole (5K; 1K tests are means over parts of it), val "
            "is left out.",
        ),
        partial(karpathy, "coco-captions", "dataset_coco.json", (".",)),
    ),
    *(
        Captioned(
            captions_of(
                f"coco-captions-{year}",
                f"COCO's captions of {year}, as they are published.",
                folders=COCOS,
                needs=(f"annotations/captions_train{year}.json", f"annotations/captions_val{year}.json"),
                get=ZIPS.format(year),
                licence=COCO_LICENCE,
                paper=COCO_PAPER,
                counts=counts,
                notes="Validation pictures are held, 5,000 of them drawn by key where there are more. Papers report on "
                "Karpathy's split, coco-captions; it trains on pictures that are held here.",
            ),
            partial(coco, year),
        )
        for year, counts in ((2014, {"pairs": 82_783, "held": 5_000}), (2017, {"pairs": 118_287, "held": 5_000}))
    ),
    Captioned(
        captions_of(
            "flickr30k",
            "Flickr30k in Karpathy's split: 29,000 pictures, 1,000 held, five texts each.",
            folders=("flickr30k", "Flickr30k", "flickr30k_images"),
            needs=("dataset_flickr30k.json",),
            get="pictures by the form of https://shannon.cs.illinois.edu/DenotationGraph, in flickr30k-images/, and "
            f"dataset_flickr30k.json of {KARPATHY}",
            licence="research only, pictures by Flickr's terms",
            paper="Young et al. 2014, TACL 2; split: Karpathy and Li 2015, arXiv:1412.2306",
            counts={"pairs": 29_000, "held": 1_000},
            notes="Test is held, val (1,014 pictures) is left out.",
        ),
        partial(karpathy, "flickr30k", "dataset_flickr30k.json", FLICKR_IMAGES),
    ),
    Captioned(
        captions_of(
            "cc3m",
            "Conceptual Captions: pictures of the web with their alt texts.",
            folders=("cc3m", "CC3M"),
            needs=("*.[tc][as][rv]",),  # a tar, a csv or a tsv
            get="img2dataset with the training TSV of https://ai.google.com/research/ConceptualCaptions, or "
            "huggingface.co/datasets/pixparse/cc3m-wds",
            licence="Google's terms for the texts, pictures by their owners'",
            paper="Sharma et al. 2018, ACL",
            notes="Of 3.3 million links many are dead, and no two copies have the same pictures: counts are not "
            "checked. All pictures are opened once; --pairs N opens N and those held.",
        ),
        cc3m,
    ),
)
