"""CoOp's ten datasets beside ImageNet, in the splits that CoOp published (Zhou et al. 2022, arXiv:2109.01134).

A split is a JSON of [path, label, class name] for train, val and test; FGVC-Aircraft is read from its own lists. A name
begins with `coop-` where the official split, or another paper's under the plain name, has other pictures.
`--shot-index` (`likewise.data.indices`) takes the few-shot choices that are published for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from likewise import files
from likewise.data.records import Dataset, Role, Split
from likewise.datasets.listed import lines, listed
from likewise.datasets.named import Named, made
from likewise.errors import DataError, near, some

PARTS: dict[str, tuple[str, Role]] = {
    "train": ("train", "train"),
    "val": ("select", "select"),
    "test": ("id", "report"),
}
"""CoOp's word for a split, ours, and what it is for."""
Row = tuple[str, int, str]


def read(folder: Path, name: str, file: str, spots: Sequence[str], template: str) -> Dataset:
    """The dataset of a split file; its paths begin in one of `spots` below the folder. Raises `DataError` D17."""
    found = files.read_json(folder / file)
    parts = {part: rows(folder / file, found, part) for part in PARTS}
    names = class_names(folder / file, [row for part in parts.values() for row in part])
    start = parts["train"][0][0] if parts["train"] else ""
    place = next((folder / spot for spot in spots if (folder / spot / start).is_file()), folder / spots[0])
    splits = [
        Split(called, role, listed(place, ((path, label) for path, label, _ in parts[part])))
        for part, (called, role) in PARTS.items()
    ]
    return made(name, names, splits, (template,))


def rows(path: Path, found: Any, part: str) -> list[Row]:
    """The rows of one part of what was read from `path`. Raises `DataError` D17 for a file of another form."""
    try:
        return [(str(place), int(label), str(name)) for place, label, name in found[part]]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            "D17", f"{path} is not a split file: its «{part}» is no list of [path, label, class name]. Get CoOp's "
            "again: github.com/KaiyangZhou/CoOp, DATASETS.md."
        ) from None  # fmt: skip


def class_names(path: Path, found: Sequence[Row]) -> list[str]:
    """Class names in label order, as CoOp's prompts have them: with spaces for underscores. Raises `DataError` D17."""
    by_label: dict[int, set[str]] = {}
    for _, label, name in found:
        by_label.setdefault(label, set()).add(name)
    two = [f"{label}: {' and '.join(sorted(names))}" for label, names in by_label.items() if len(names) > 1]
    gone = sorted(set(range(max(by_label, default=0) + 1)) - set(by_label))
    if two or gone:
        wrong = f"labels have two names ({some(two, 3)})" if two else f"no picture has the label {some(map(str, gone))}"
        raise DataError("D17", f"{path} gives no class order: {wrong}. Get CoOp's again.")
    return [min(by_label[label]).replace("_", " ") for label in sorted(by_label)]


def aircraft(folder: Path) -> Dataset:
    """FGVC-Aircraft's own train, validation and test lists by variant, as CoOp has them too."""
    names = lines(folder / "variants.txt")
    splits = []
    for part, (called, role) in PARTS.items():
        pairs = [line.split(" ", 1) for line in lines(folder / f"images_variant_{part}.txt")]
        strange = [pair[-1] for pair in pairs if pair[-1] not in names]
        if strange:
            raise DataError(
                "D17", f"{folder} lists variants that variants.txt has not: {some(strange, 3)}."
                f"{near(strange[0], names)} Is the copy whole?"
            )  # fmt: skip
        items = ((f"{number}.jpg", names.index(name)) for number, name in pairs)
        splits.append(Split(called, role, listed(folder / "images", items)))
    return made("fgvc-aircraft", names, splits, ("a photo of a {}, a type of aircraft.",))


COUNTED = "Class names and template are CoOp's and Tip-Adapter's; their numbers are accuracies. "
MEAN = "CLIP's paper reports the mean of the classes (macro_recall) instead. "
FILE = "github.com/KaiyangZhou/CoOp, DATASETS.md (most also in github.com/linzhiqiu/cross_modal_adaptation, splits/)"
COOP = "; split: Zhou et al. 2022, arXiv:2109.01134"


def _coop(
    name: str, file: str, spots: Sequence[str], template: str, counts: tuple[int, int, int], **about: Any
) -> Named:
    train, select, test = counts
    about["get"] += f", and {file} beside it: {FILE}"
    about["paper"] += COOP
    about["notes"] = f"{COUNTED}{about['notes']}".strip()
    return Named(
        name, read=partial(read, name=name, file=file, spots=spots, template=template), needs=(file,),
        counts={"train": train, "select": select, "id": test}, **about,
    )  # fmt: skip


ENTRIES = (
    _coop(
        "coop-caltech-101",
        "split_zhou_Caltech101.json",
        ("101_ObjectCategories", "caltech-101/101_ObjectCategories"),
        "a photo of a {}.",
        (4_128, 1_649, 2_465),
        title="Caltech-101 in CoOp's split: 100 classes, without the background and Faces_easy.",
        folders=("caltech-101", "caltech101"),
        get="101_ObjectCategories of https://data.caltech.edu/records/20086",
        licence="CC BY 4.0",
        paper="Fei-Fei et al. 2004, Learning generative visual models from few training examples, CVPR workshop",
        classes="34f67fe8054acaa8",
        notes="FLYP's 101 classes and its split are flyp-caltech-101. " + MEAN,
    ),
    _coop(
        "oxford-pets",
        "split_zhou_OxfordPets.json",
        ("images",),
        "a photo of a {}, a type of pet.",
        (2_944, 736, 3_669),
        title="Oxford-IIIT Pet: 37 breeds of cats and dogs; CoOp's part of trainval to select on, the official test.",
        folders=("oxford_pets", "oxford-iiit-pet"),
        get="images of https://www.robots.ox.ac.uk/~vgg/data/pets, or torchvision's OxfordIIITPet",
        licence="CC BY-SA 4.0",
        paper="Parkhi et al. 2012, Cats and dogs, CVPR",
        classes="2c795bad20079bea",
        notes=MEAN,
    ),
    _coop(
        "stanford-cars",
        "split_zhou_StanfordCars.json",
        (".",),
        "a photo of a {}.",
        (6_509, 1_635, 8_041),
        title="Stanford Cars: 196 models; CoOp's part of the training set to select on, the official test.",
        folders=("stanford_cars", "StanfordCars"),
        get="cars_train and cars_test of Stanford Cars (its own page is gone; DATASETS.md of "
        "github.com/linzhiqiu/cross_modal_adaptation has a copy)",
        licence="not verified; its own page is gone",
        paper="Krause et al. 2013, 3D object representations for fine-grained categorization, ICCV workshop",
        classes="51e3085df4e4eead",
        notes="Names begin with the year. FLYP selects on other pictures: flyp-cars. ",
    ),
    _coop(
        "coop-flowers-102",
        "split_zhou_OxfordFlowers.json",
        ("jpg", "all_images"),
        "a photo of a {}, a type of flower.",
        (4_093, 1_633, 2_463),
        title="Oxford Flowers 102 in CoOp's split, which is not the official one.",
        folders=("oxford_flowers", "flowers-102", "flowers102"),
        get="jpg of https://www.robots.ox.ac.uk/~vgg/data/flowers/102, or torchvision's Flowers102",
        licence="not verified",
        paper="Nilsback and Zisserman 2008, Automated flower classification over a large number of classes, ICVGIP",
        classes="f4cdbf5601185194",
        notes="The official 1,020, 1,020 and 6,149 pictures are flowers-102. " + MEAN,
    ),
    _coop(
        "coop-food-101",
        "split_zhou_Food101.json",
        ("images",),
        "a photo of {}, a type of food.",
        (50_500, 20_200, 30_300),
        title="Food-101 in CoOp's split, which mixes the noisy training and the clean test pictures.",
        folders=("food-101",),
        get="food-101.tar.gz of https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101, or torchvision's Food101",
        licence="pictures from Foodspotting; scientific fair use only",
        paper="Bossard et al. 2014, Food-101: mining discriminative components with random forests, ECCV",
        classes="65f35ac744e5b24c",
        notes="The official split is food-101. ",
    ),
    Named(
        "fgvc-aircraft",
        "FGVC-Aircraft: 100 variants; the official train, validation and test lists, which CoOp has too.",
        aircraft,
        folders=("fgvc_aircraft", "fgvc-aircraft-2013b/data", "fgvc_aircraft/data"),
        needs=("variants.txt", "images_variant_train.txt", "images"),
        get="data of https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft, or torchvision's FGVCAircraft",
        licence="non-commercial research",
        paper="Maji et al. 2013, arXiv:1306.5151; in the few-shot protocol of Zhou et al. 2022, arXiv:2109.01134",
        counts={"train": 3_334, "select": 3_333, "id": 3_333},
        classes="7fea009b3347cc94",
        notes=COUNTED + MEAN + "torchvision's trainval is train and select together.",
    ),
    _coop(
        "sun397",
        "split_zhou_SUN397.json",
        ("SUN397", "."),
        "a photo of a {}.",
        (15_880, 3_970, 19_850),
        title="SUN397: 397 scenes; the official first partition (50 pictures a class to train on, 50 to test).",
        folders=("sun397", "SUN397"),
        get="SUN397.tar.gz of https://vision.princeton.edu/projects/2010/SUN",
        licence="not verified",
        paper="Xiao et al. 2010, SUN database: large-scale scene recognition from abbey to zoo, CVPR",
        classes="0c97f8edb381474a",
        notes="Of the training part CoOp holds back 10 a class to select on. Of 108,754 pictures the partition uses "
        "39,700; VTAB's split is another. ",
    ),
    _coop(
        "coop-dtd",
        "split_zhou_DescribableTextures.json",
        ("images", "dtd/images"),
        "{} texture.",
        (2_820, 1_128, 1_692),
        title="Describable Textures in CoOp's split, which is not one of the official ten.",
        folders=("dtd", "dtd/dtd"),
        get="https://www.robots.ox.ac.uk/~vgg/data/dtd, or torchvision's DTD",
        licence="not verified",
        paper="Cimpoi et al. 2014, arXiv:1311.3618",
        classes="830b9f149466303e",
        notes="The official first split is dtd. ",
    ),
    _coop(
        "coop-eurosat",
        "split_zhou_EuroSAT.json",
        ("2750", "EuroSAT_RGB"),
        "a centered satellite photo of {}.",
        (13_500, 5_400, 8_100),
        title="EuroSAT (RGB) in CoOp's split.",
        folders=("eurosat", "EuroSAT"),
        get="EuroSAT.zip by github.com/phelber/EuroSAT, or torchvision's EuroSAT",
        licence="MIT",
        paper="Helber et al. 2019, arXiv:1709.00029",
        classes="70547c2c466191ae",
        notes="There is no official split; Kim et al.'s 15,000, 2,000 and 10,000 pictures are eurosat. ",
    ),
    _coop(
        "ucf-101",
        "split_zhou_UCF101.json",
        ("UCF-101-midframes",),
        "a photo of a person doing {}.",
        (7_639, 1_898, 3_783),
        title="UCF101: the middle frames of videos of 101 actions; the official first test list.",
        folders=("ucf101",),
        get="UCF-101-midframes.zip, made by CoOp's authors (in the same place as the split file)",
        licence="not verified",
        paper="Soomro et al. 2012, arXiv:1212.0402",
        classes="aa4d160f13bcb68a",
        notes="CoOp selects on training videos that share their group (scene, actors) with others trained on. ",
    ),
)
