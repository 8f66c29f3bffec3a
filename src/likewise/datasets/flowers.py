"""Oxford Flowers 102 in its official split (Nilsback and Zisserman 2008); CoOp's is coop-flowers-102.

Names and template are OpenAI's for CLIP (Radford et al. 2021, arXiv:2103.00020).
"""

# N pictures.

from __future__ import annotations

from pathlib import Path

from likewise.data.records import Dataset
from likewise.datasets.listed import first, listed, mat
from likewise.datasets.named import Named, made, three
from likewise.errors import DataError

_NAMES = (
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
NAMES = tuple(_NAMES.split("|"))
"""OpenAI's names in the order of the labels in imagelabels.mat, which count from 1 and are not alphabetical."""
TEMPLATES = ("a photo of a {}, a type of flower.",)


def read(folder: Path) -> Dataset:
    """The official three splits of setid.mat."""
    labels_N = mat(folder / "imagelabels.mat", "labels")
    if not 1 <= int(labels_N.min()) <= int(labels_N.max()) <= len(NAMES):
        raise DataError("D17", f"{folder / 'imagelabels.mat'} has labels outside 1 to {len(NAMES)}. Get it again.")
    place = first(folder, ("jpg", "all_images"))

    def items(field: str) -> list[tuple[str, int]]:
        ids = [int(i) for i in mat(folder / "setid.mat", field)]
        return [(f"image_{i:05d}.jpg", int(labels_N[i - 1]) - 1) for i in ids]

    splits = three(*(listed(place, items(field)) for field in ("trnid", "valid", "tstid")))
    return made("flowers-102", NAMES, splits, TEMPLATES)


ENTRIES = (
    Named(
        "flowers-102",
        "Oxford Flowers 102 in its official split: 10 pictures a class to train on and 10 to select on.",
        read,
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
        "on it. CoOp's split is coop-flowers-102. CLIP's paper reports the mean of the classes (macro_recall), FLYP's "
        "code accuracy.",
    ),
)
