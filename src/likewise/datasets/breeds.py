"""BREEDS's Living-17 and Entity-30: classes of ImageNet in groups, with other members of each group as the shift.

Santurkar et al. 2020, arXiv:2008.04859. The division is that of `make_living17` and `make_entity30` in the authors'
`robustness.tools.breeds_helpers`, with `split="rand"`, run once on their hierarchy and written down here, so that
ImageNet's folders are all it takes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from likewise.data.records import Dataset, Record, Split
from likewise.datasets.imagenet import FOLDERS, GET, NEEDS, TERMS, synsets, templates, validation
from likewise.datasets.named import Named, carved, made, three, tree

Division = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
"""Of each superclass, ImageNet's labels of the subclasses that are trained on, and of those of the shift."""

LIVING_17: Division = {
    "salamander": ((27, 29), (26, 28)),
    "turtle": ((37, 34), (33, 35)),
    "lizard": ((41, 44), (47, 38)),
    "snake": ((60, 57), (65, 61)),
    "spider": ((76, 72), (74, 77)),
    "grouse": ((81, 83), (82, 80)),
    "parrot": ((88, 90), (87, 89)),
    "crab": ((118, 120), (119, 121)),
    "dog": ((163, 154), (257, 157)),
    "wolf": ((272, 271), (270, 269)),
    "fox": ((280, 279), (277, 278)),
    "domestic cat": ((282, 285), (283, 284)),
    "bear": ((297, 295), (296, 294)),
    "beetle": ((305, 306), (302, 303)),
    "butterfly": ((325, 321), (324, 322)),
    "ape": ((368, 365), (366, 367)),
    "monkey": ((377, 380), (381, 379)),
}
ENTITY_30: Division = {
    "serpentes": ((64, 56, 57, 52), (61, 55, 53, 62)),
    "passerine": ((11, 10, 20, 19), (18, 12, 14, 16)),
    "saurian": ((44, 45, 40, 46), (48, 47, 42, 38)),
    "arachnid": ((70, 73, 71, 75), (77, 72, 78, 76)),
    "aquatic bird": ((146, 140, 134, 127), (99, 142, 135, 97)),
    "crustacean": ((124, 123, 125, 118), (121, 119, 122, 120)),
    "carnivore": ((171, 359, 181, 253), (205, 175, 155, 195)),
    "insect": ((318, 308, 311, 325), (303, 317, 305, 321)),
    "ungulate": ((355, 353, 340, 345), (341, 344, 351, 343)),
    "primate": ((372, 379, 383, 367), (369, 384, 378, 371)),
    "bony fish": ((391, 0, 396, 392), (394, 397, 390, 395)),
    "barrier": ((460, 716, 877, 421), (489, 825, 525, 912)),
    "building": ((454, 483, 668, 467), (582, 865, 698, 437)),
    "electronic equipment": ((742, 707, 650, 508), (662, 482, 664, 528)),
    "footwear": ((502, 630, 638, 770), (774, 615, 514, 496)),
    "garment": ((400, 411, 655, 568), (608, 887, 775, 842)),
    "headdress": ((715, 584, 793, 452), (433, 515, 439, 518)),
    "home appliance": ((897, 651, 521, 882), (859, 550, 811, 534)),
    "kitchen utensil": ((647, 499, 505, 813), (567, 503, 868, 469)),
    "measuring instrument": ((531, 409, 704, 635), (426, 892, 604, 530)),
    "motor vehicle": ((627, 779, 665, 511), (867, 436, 734, 569)),
    "musical instrument": ((566, 641, 579, 881), (402, 687, 546, 889)),
    "neckwear": ((552, 678, 443, 906), (679, 824, 457, 451)),
    "sports equipment": ((795, 543, 522, 752), (768, 416, 602, 852)),
    "tableware": ((659, 899, 441, 898), (572, 907, 504, 923)),
    "tool": ((749, 507, 695, 783), (563, 784, 792, 862)),
    "vessel": ((510, 625, 403, 871), (628, 913, 484, 914)),
    "dish": ((964, 935, 963, 933), (965, 926, 962, 934)),
    "vegetable": ((939, 943, 942, 944), (938, 940, 941, 946)),
    "fruit": ((949, 953, 955, 948), (990, 987, 998, 988)),
}
VALIDATION = 50
"""Pictures of each class of ImageNet in its validation set."""


def read(name: str, division: Division, folder: Path) -> Dataset:
    """Train (less as many pictures as `id` has, to select on), `id`, and `ood`: the shift's subclasses."""
    place = validation(folder)
    per_class = len(next(iter(division.values()))[0])
    count = VALIDATION * per_class * len(division)
    splits = three(*carved(_of(folder / "train", division, 0), count, name), _of(place, division, 0))
    splits.append(Split("ood", "report", tuple(_of(place, division, 1))))
    return made(name, tuple(division), splits, templates())


def _of(place: Path, division: Division, side: int) -> list[Record]:
    """The pictures of one side's subclasses under their superclasses' labels."""
    pairs = [(synsets()[own], label) for label, sides in enumerate(division.values()) for own in sides[side]]
    return tree(place, [wnid for wnid, _ in pairs], [label for _, label in pairs])


def _entry(name: str, title: str, division: Division, classes: str) -> Named:
    n = VALIDATION * len(division) * len(next(iter(division.values()))[0])
    return Named(
        name,
        title,
        partial(read, name, division),
        folders=FOLDERS,
        needs=NEEDS,
        get=f"{GET}; nothing else",
        licence=f"{TERMS}, research only",
        paper="Santurkar et al. 2020, arXiv:2008.04859; Russakovsky et al. 2015, arXiv:1409.0575",
        counts={"select": n, "id": n, "ood": n},
        classes=classes,
        notes="The division is that of `robustness` 1.2.1 with split='rand', as in LP-FT's code; `id` and `ood` are "
        f"ImageNet's validation pictures, {VALIDATION} of each subclass. As many training pictures as `id` has, drawn "
        "by key, are held back to select on; LP-FT had none and chose on what it reported. A superclass is called by "
        "the first of its names. Templates are OpenAI's 80 for ImageNet; BREEDS has none. The size of train is not "
        "verified.",
    )


ENTRIES = (
    _entry("living-17", "Living-17 (BREEDS): 17 kinds of animals; out of distribution, other species of them.",
           LIVING_17, "47e011a0ad4068d7"),
    _entry("entity-30", "Entity-30 (BREEDS): 30 kinds of things; out of distribution, other things of these kinds.",
           ENTITY_30, "85257bfb8dd16084"),
)  # fmt: skip
