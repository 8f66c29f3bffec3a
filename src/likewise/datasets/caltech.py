"""Caltech-101 as FLYP has it (Goyal et al. 2023, arXiv:2212.00638); CoOp's split is coop-caltech-101.

Names and templates are OpenAI's for CLIP (Radford et al. 2021, arXiv:2103.00020).
"""

from __future__ import annotations

from pathlib import Path

from likewise.data.records import Dataset
from likewise.datasets.named import Named, made, three, tree

_NAMES = (
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
NAMES = tuple(_NAMES.split("|"))
"""OpenAI's names without the background, in the order of the folders; the two blanks are theirs."""
OTHERWISE = {
    "off-center face": "Faces", "centered face": "Faces_easy", "leopard": "Leopards", "motorbike": "Motorbikes",
    "airplane": "airplanes", "side of a car": "car_side", "body of a cougar cat": "cougar_body",
    "face of a cougar cat": "cougar_face", "head of a  crocodile": "crocodile_head",
    "head of a flamingo": "flamingo_head", "snoopy (cartoon beagle)": "snoopy", "yin and yang symbol": "yin_yang",
}  # fmt: skip
"""Folders that are not the name with underscores."""
_KINDS = (
    "a photo of @ {}.", "a painting of @ {}.", "@ plastic {}.", "a sculpture of @ {}.", "a sketch of @ {}.",
    "a tattoo of @ {}.", "@ toy {}.", "a rendition of @ {}.", "@ embroidered {}.", "@ cartoon {}.",
    "@ {} in a video game.", "@ plushie {}.", "@ origami {}.", "art of @ {}.", "graffiti of @ {}.",
    "a drawing of @ {}.", "a doodle of @ {}.",
)  # fmt: skip
TEMPLATES = tuple(kind.replace("@", article) for article in ("a", "the") for kind in _KINDS)


def read(folder: Path) -> Dataset:
    """The pictures in train/, val/ and test/; a background folder there is left out."""
    folders = [OTHERWISE.get(name, name.replace(" ", "_")) for name in NAMES]
    parts = (tree(folder / part, folders) for part in ("train", "val", "test"))
    return made("flyp-caltech-101", NAMES, three(*parts), TEMPLATES, folders)


ENTRIES = (
    Named(
        "flyp-caltech-101",
        "Caltech-101 as FLYP has it: 101 classes in train/, val/ and test/, about 60, 20 and 20 %.",
        read,
        folders=("caltech-101", "caltech101"),
        needs=("train/Faces_easy", "val/Faces_easy", "test/Faces_easy"),
        get="101_ObjectCategories of https://data.caltech.edu/records/20086; then, without BACKGROUND_Google, "
        "datacreation_scripts/traintestsplit.py of github.com/locuslab/FLYP, which sorts it into the three folders",
        licence="CC BY 4.0",
        paper="Fei-Fei et al. 2004, Learning generative visual models from few training examples, CVPR workshop; "
        "split: Goyal et al. 2023, arXiv:2212.00638",
        classes="89e3c463f4f87321",
        notes="FLYP draws the split without a seed, so each copy has its own: counts are not checked, and the test of "
        "one copy is partly the training set of another. A split that is the same for all is coop-caltech-101. "
        "FLYP's code reports accuracy; CLIP's paper reports the mean of the classes (macro_recall).",
    ),
)
