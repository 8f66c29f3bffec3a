"""FLYP's and WiSE-FT's transfer sets: Caltech-101, Stanford Cars, Flowers 102 and Rendered SST2, as FLYP splits them.

Goyal et al. 2023, arXiv:2212.00638; class names and templates are OpenAI's for CLIP (Radford et al. 2021). FLYP's other
ones are in `pcam`, `imagenet` and the WILDS family.
"""

# N pictures.

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from likewise.data.records import Dataset, Split
from likewise.datasets.listed import first, listed, mat
from likewise.datasets.named import Named, made, tree
from likewise.errors import DataError

# -- Caltech-101 -----------------------------------------------------------------------------------------------

_CALTECH = (
    "off-center face|centered face|leopard|motorbike|accordion|airplane|anchor|ant|barrel|bass|beaver|binocular|bonsai|"
    "brain|brontosaurus|buddha|butterfly|camera|cannon|side of a car|ceiling fan|cellphone|chair|chandelier|"
    "body of a cougar cat|face of a cougar cat|crab|crayfish|crocodile|head of a  crocodile|cup|dalmatian|dollar bill|"
    "dolphin|dragonfly|electric guitar|elephant|emu|euphonium|ewer|ferry|flamingo|head of a flamingo|garfield|gerenuk|"
    "gramophone|grand piano|hawksbill|headphone|hedgehog|helicopter|ibis|inline skate|joshua tree|kangaroo|ketch|lamp|"
    "laptop|llama|lobster|lotus|mandolin|mayfly|menorah|metronome|minaret|nautilus|octopus|okapi|pagoda|panda|pigeon|"
    "pizza|platypus|pyramid|revolver|rhino|rooster|saxophone|schooner|scissors|scorpion|sea horse|"
    "snoopy (cartoon beagle)|soccer ball|stapler|starfish|stegosaurus|stop sign|strawberry|sunflower|tick|trilobite|"
    "umbrella|watch|water lilly|wheelchair|wild cat|windsor chair|wrench|yin and yang symbol"
)
CALTECH = tuple(_CALTECH.split("|"))
"""OpenAI's names without the background, in the order of the folders; the two blanks are theirs."""
OTHERWISE = {
    "off-center face": "Faces", "centered face": "Faces_easy", "leopard": "Leopards", "motorbike": "Motorbikes",
    "airplane": "airplanes", "side of a car": "car_side", "body of a cougar cat": "cougar_body",
    "face of a cougar cat": "cougar_face", "head of a  crocodile": "crocodile_head",
    "head of a flamingo": "flamingo_head", "snoopy (cartoon beagle)": "snoopy", "yin and yang symbol": "yin_yang",
}  # fmt: skip
"""Folders that are not the name with underscores."""
KINDS = (
    "a photo of @ {}.", "a painting of @ {}.", "@ plastic {}.", "a sculpture of @ {}.", "a sketch of @ {}.",
    "a tattoo of @ {}.", "@ toy {}.", "a rendition of @ {}.", "@ embroidered {}.", "@ cartoon {}.",
    "@ {} in a video game.", "@ plushie {}.", "@ origami {}.", "art of @ {}.", "graffiti of @ {}.",
    "a drawing of @ {}.", "a doodle of @ {}.",
)  # fmt: skip


def caltech(folder: Path) -> Dataset:
    """The pictures in train/, val/ and test/; a background folder there is left out."""
    folders = [OTHERWISE.get(name, name.replace(" ", "_")) for name in CALTECH]
    splits = [
        Split("train", "train", tuple(tree(folder / "train", folders))),
        Split("select", "select", tuple(tree(folder / "val", folders))),
        Split("id", "report", tuple(tree(folder / "test", folders))),
    ]
    templates = [kind.replace("@", article) for article in ("a", "the") for kind in KINDS]
    return made("flyp-caltech-101", CALTECH, splits, templates, folders)


# -- Stanford Cars ---------------------------------------------------------------------------------------------

CAR_TEMPLATES = (
    "a photo of a {}.", "a photo of the {}.", "a photo of my {}.", "i love my {}!", "a photo of my dirty {}.",
    "a photo of my clean {}.", "a photo of my new {}.", "a photo of my old {}.",
)  # fmt: skip


def cars(folder: Path) -> Dataset:
    """The official training and test pictures; selected on is the fifth of the former that FLYP draws."""
    official = [str(name).replace("/", "-") for name in mat(folder / "devkit" / "cars_meta.mat", "class_names")]
    names = sorted(official, key=lambda name: name.replace(" ", "_"))  # the order of FLYP's class folders
    label_of = [names.index(name) for name in official]

    def items(path: Path) -> list[tuple[str, int]]:
        found = mat(path, "annotations")
        return [(str(f), label_of[int(y) - 1]) for f, y in zip(found["fname"], found["class"], strict=True)]

    train = listed(folder / "cars_train", items(folder / "devkit" / "cars_train_annos.mat"))
    labelled = folder / "cars_test_annos_withlabels.mat"
    if not labelled.is_file():
        raise DataError(
            "D17", f"{labelled} is not there. The test annotations in devkit/ have no labels; put this file, which "
            "came later, beside cars_test/."
        )  # fmt: skip
    test = listed(folder / "cars_test", items(labelled))
    kept, select = fifth(len(train))
    splits = [
        Split("train", "train", tuple(train[i] for i in kept)),
        Split("select", "select", tuple(train[i] for i in select)),
        Split("id", "report", test),
    ]
    return made("flyp-cars", names, splits, CAR_TEMPLATES)


def fifth(n: int, seed: int = 10) -> tuple[list[int], list[int]]:
    """What scikit-learn's `train_test_split(test_size=0.2, random_state=10)`, by which FLYP splits, keeps and draws."""
    order_N = np.random.RandomState(seed).permutation(n)  # its own generator, as old as FLYP's
    count = math.ceil(0.2 * n)
    return order_N[count:].tolist(), order_N[:count].tolist()


# -- Flowers 102 -----------------------------------------------------------------------------------------------

_FLOWERS = (
    "pink primrose|hard-leaved pocket orchid|canterbury bells|sweet pea|english marigold|tiger lily|moon orchid|"
    "bird of paradise|monkshood|globe thistle|snapdragon|colt's foot|king protea|spear thistle|yellow iris|"
    "globe flower|purple coneflower|peruvian lily|balloon flower|giant white arum lily|fire lily|pincushion flower|"
    "fritillary|red ginger|grape hyacinth|corn poppy|prince of wales feathers|stemless gentian|artichoke|"
    "sweet william|carnation|garden phlox|love in the mist|mexican aster|alpine sea holly|ruby-lipped cattleya|"
    "cape flower|great masterwort|siam tulip|lenten rose|barbeton daisy|daffodil|sword lily|poinsettia|"
    "bolero deep blue|wallflower|marigold|buttercup|oxeye daisy|common dandelion|petunia|wild pansy|primula|sunflower|"
    "pelargonium|bishop of llandaff|gaura|geranium|orange dahlia|pink and yellow dahlia|cautleya spicata|"
    "japanese anemone|black-eyed susan|silverbush|californian poppy|osteospermum|spring crocus|bearded iris|"
    "windflower|tree poppy|gazania|azalea|water lily|rose|thorn apple|morning glory|passion flower|lotus|toad lily|"
    "anthurium|frangipani|clematis|hibiscus|columbine|desert-rose|tree mallow|magnolia|cyclamen|watercress|canna lily|"
    "hippeastrum|bee balm|air plant|foxglove|bougainvillea|camellia|mallow|mexican petunia|bromelia|blanket flower|"
    "trumpet creeper|blackberry lily"
)
FLOWERS = tuple(_FLOWERS.split("|"))
"""OpenAI's names in the order of the labels in imagelabels.mat, which count from 1 and are not alphabetical."""


def flowers(folder: Path) -> Dataset:
    """The official three splits of setid.mat."""
    labels_N = mat(folder / "imagelabels.mat", "labels")
    if not 1 <= int(labels_N.min()) <= int(labels_N.max()) <= len(FLOWERS):
        raise DataError("D17", f"{folder / 'imagelabels.mat'} has labels outside 1 to {len(FLOWERS)}. Get it again.")
    place = first(folder, ("jpg", "all_images"))

    def items(field: str) -> list[tuple[str, int]]:
        ids = [int(i) for i in mat(folder / "setid.mat", field)]
        return [(f"image_{i:05d}.jpg", int(labels_N[i - 1]) - 1) for i in ids]

    splits = [
        Split("train", "train", listed(place, items("trnid"))),
        Split("select", "select", listed(place, items("valid"))),
        Split("id", "report", listed(place, items("tstid"))),
    ]
    return made("flowers-102", FLOWERS, splits, ("a photo of a {}, a type of flower.",))


# -- Rendered SST2 ---------------------------------------------------------------------------------------------

REVIEWS = ("negative", "positive")


def reviews(folder: Path) -> Dataset:
    """Sentences drawn as pictures, in class folders; the archive calls its second split valid, FLYP val."""
    splits = [
        Split("train", "train", tuple(tree(folder / "train", REVIEWS))),
        Split("select", "select", tuple(tree(first(folder, ("valid", "val")), REVIEWS))),
        Split("id", "report", tuple(tree(folder / "test", REVIEWS))),
    ]
    return made("rendered-sst2", REVIEWS, splits, ("a {} review of a movie.",))


FLYP = "; split: Goyal et al. 2023, arXiv:2212.00638"
MEAN = "CLIP's paper reports the mean of the classes (macro_recall)"

ENTRIES = (
    Named(
        "flyp-caltech-101",
        "Caltech-101 as FLYP has it: 101 classes in train/, val/ and test/, about 60, 20 and 20 %.",
        caltech,
        folders=("caltech-101", "caltech101"),
        needs=("train/Faces_easy", "val/Faces_easy", "test/Faces_easy"),
        get="101_ObjectCategories of https://data.caltech.edu/records/20086; then, without BACKGROUND_Google, "
        "datacreation_scripts/traintestsplit.py of github.com/locuslab/FLYP, which sorts it into the three folders",
        licence="CC BY 4.0",
        paper="Fei-Fei et al. 2004, Learning generative visual models from few training examples, CVPR workshop" + FLYP,
        classes="89e3c463f4f87321",
        notes="FLYP draws the split without a seed, so each copy has its own: counts are not checked, and the test of "
        "one copy is partly the training set of another. A split that is the same for all is coop-caltech-101. "
        f"FLYP's code reports accuracy; {MEAN}.",
    ),
    Named(
        "flyp-cars",
        "Stanford Cars as FLYP has it: 196 models; selected on is a fifth of the training set, reported the test.",
        cars,
        folders=("StanfordCars", "stanford_cars"),
        needs=("devkit/cars_meta.mat",),
        get="cars_train, cars_test, devkit and cars_test_annos_withlabels.mat of Stanford Cars, beside each other (its "
        "own page is gone; DATASETS.md of github.com/linzhiqiu/cross_modal_adaptation has a copy)",
        licence="not verified; its own page is gone",
        paper="Krause et al. 2013, 3D object representations for fine-grained categorization, ICCV workshop" + FLYP,
        counts={"train": 6_515, "select": 1_629, "id": 8_041},
        classes="9f278fdd7d99b390",
        notes="The fifth is the very one that FLYP draws (scikit-learn, random_state 10). Labels are in the order of "
        "FLYP's class folders, not of the devkit; names have - for / (Ram C-V). CoOp's split is stanford-cars.",
    ),
    Named(
        "flowers-102",
        "Oxford Flowers 102 in its official split: 10 pictures a class to train on and 10 to select on.",
        flowers,
        folders=("flowers-102", "flowers102", "oxford_flowers"),
        needs=("imagelabels.mat", "setid.mat"),
        get="102flowers.tgz (as jpg/), imagelabels.mat and setid.mat of "
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102, or torchvision's Flowers102",
        licence="not verified",
        paper="Nilsback and Zisserman 2008, Automated flower classification over a large number of classes, ICVGIP",
        counts={"train": 1_020, "select": 1_020, "id": 6_149},
        classes="fcf4c7b959cc4adc",
        notes="Labels are the official ones less 1, which are not in alphabetical order; FLYP's are, and one list with "
        "the other's labels names almost every picture wrongly. Names are OpenAI's: torchvision's and CoOp's say ball "
        "moss for air plant and write a dahlia and the globe flower otherwise. The larger part is the test: some train "
        f"on it. CoOp's split is coop-flowers-102. {MEAN}, FLYP's code accuracy.",
    ),
    Named(
        "rendered-sst2",
        "Rendered SST2: sentences of film reviews drawn as pictures, negative or positive.",
        reviews,
        folders=("rendered-sst2", "sst2"),
        needs=("train/negative", "test/negative"),
        get="https://openaipublic.azureedge.net/clip/data/rendered-sst2.tgz, or torchvision's RenderedSST2",
        licence="not verified",
        paper="Radford et al. 2021, arXiv:2103.00020; sentences: Socher et al. 2013, EMNLP",
        counts={"train": 6_920, "select": 872, "id": 1_821},
        classes="414d8f8b517d4dbc",
        notes="FLYP trains on 4, 16 and 32 pictures a class, drawn without a seed 50 times over, and selects on as "
        "many.",
    ),
)
