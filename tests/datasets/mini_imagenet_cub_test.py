"""miniImageNet and CUB from made-up copies: which classes are new, published names in order, nothing on two sides."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from likewise.data.records import Dataset, Record
from likewise.datasets import cub, mini_imagenet
from likewise.datasets.named import carved, order_of
from likewise.episodes import episodes
from likewise.errors import DataError

Plant = Callable[[Path, Iterable[str]], None]
ENTRIES = {entry.name: entry for entry in (*mini_imagenet.ENTRIES, *cub.ENTRIES)}

TRAIN_WORDS = """
n01532829 n01558993 n01704323 n01749939 n01770081 n01843383 n01910747 n02074367 n02089867 n02091831 n02101006
n02105505 n02108089 n02108551 n02108915 n02111277 n02113712 n02120079 n02165456 n02457408 n02606052 n02687172
n02747177 n02795169 n02823428 n02966193 n03017168 n03047690 n03062245 n03207743 n03220513 n03337140 n03347037
n03400231 n03476684 n03527444 n03676483 n03838899 n03854065 n03888605 n03908618 n03924679 n03998194 n04067472
n04243546 n04251144 n04258138 n04275548 n04296562 n04389033 n04435653 n04443257 n04509417 n04515003 n04596742
n04604644 n04612504 n06794110 n07584110 n07697537 n07747607 n09246464 n13054560 n13133613
"""
VAL_WORDS = """
n01855672 n02091244 n02114548 n02138441 n02174001 n02950826 n02971356 n02981792 n03075370 n03417042 n03535780
n03584254 n03770439 n03773504 n03980874 n09256479
"""
TEST_WORDS = """
n01930112 n01981276 n02099601 n02110063 n02110341 n02116738 n02129165 n02219486 n02443484 n02871525 n03127925
n03146219 n03272010 n03544143 n03775546 n04146614 n04149813 n04418357 n04522168 n07613480
"""
SPECIES_WORDS = """
Black_footed_Albatross Laysan_Albatross Sooty_Albatross Groove_billed_Ani Crested_Auklet Least_Auklet Parakeet_Auklet
Rhinoceros_Auklet Brewer_Blackbird Red_winged_Blackbird Rusty_Blackbird Yellow_headed_Blackbird Bobolink
Indigo_Bunting Lazuli_Bunting Painted_Bunting Cardinal Spotted_Catbird Gray_Catbird Yellow_breasted_Chat
Eastern_Towhee Chuck_will_Widow Brandt_Cormorant Red_faced_Cormorant Pelagic_Cormorant Bronzed_Cowbird Shiny_Cowbird
Brown_Creeper American_Crow Fish_Crow Black_billed_Cuckoo Mangrove_Cuckoo Yellow_billed_Cuckoo Gray_crowned_Rosy_Finch
Purple_Finch Northern_Flicker Acadian_Flycatcher Great_Crested_Flycatcher Least_Flycatcher Olive_sided_Flycatcher
Scissor_tailed_Flycatcher Vermilion_Flycatcher Yellow_bellied_Flycatcher Frigatebird Northern_Fulmar Gadwall
American_Goldfinch European_Goldfinch Boat_tailed_Grackle Eared_Grebe Horned_Grebe Pied_billed_Grebe Western_Grebe
Blue_Grosbeak Evening_Grosbeak Pine_Grosbeak Rose_breasted_Grosbeak Pigeon_Guillemot California_Gull
Glaucous_winged_Gull Heermann_Gull Herring_Gull Ivory_Gull Ring_billed_Gull Slaty_backed_Gull Western_Gull
Anna_Hummingbird Ruby_throated_Hummingbird Rufous_Hummingbird Green_Violetear Long_tailed_Jaeger Pomarine_Jaeger
Blue_Jay Florida_Jay Green_Jay Dark_eyed_Junco Tropical_Kingbird Gray_Kingbird Belted_Kingfisher Green_Kingfisher
Pied_Kingfisher Ringed_Kingfisher White_breasted_Kingfisher Red_legged_Kittiwake Horned_Lark Pacific_Loon Mallard
Western_Meadowlark Hooded_Merganser Red_breasted_Merganser Mockingbird Nighthawk Clark_Nutcracker
White_breasted_Nuthatch Baltimore_Oriole Hooded_Oriole Orchard_Oriole Scott_Oriole Ovenbird Brown_Pelican
White_Pelican Western_Wood_Pewee Sayornis American_Pipit Whip_poor_Will Horned_Puffin Common_Raven White_necked_Raven
American_Redstart Geococcyx Loggerhead_Shrike Great_Grey_Shrike Baird_Sparrow Black_throated_Sparrow Brewer_Sparrow
Chipping_Sparrow Clay_colored_Sparrow House_Sparrow Field_Sparrow Fox_Sparrow Grasshopper_Sparrow Harris_Sparrow
Henslow_Sparrow Le_Conte_Sparrow Lincoln_Sparrow Nelson_Sharp_tailed_Sparrow Savannah_Sparrow Seaside_Sparrow
Song_Sparrow Tree_Sparrow Vesper_Sparrow White_crowned_Sparrow White_throated_Sparrow Cape_Glossy_Starling
Bank_Swallow Barn_Swallow Cliff_Swallow Tree_Swallow Scarlet_Tanager Summer_Tanager Artic_Tern Black_Tern Caspian_Tern
Common_Tern Elegant_Tern Forsters_Tern Least_Tern Green_tailed_Towhee Brown_Thrasher Sage_Thrasher Black_capped_Vireo
Blue_headed_Vireo Philadelphia_Vireo Red_eyed_Vireo Warbling_Vireo White_eyed_Vireo Yellow_throated_Vireo
Bay_breasted_Warbler Black_and_white_Warbler Black_throated_Blue_Warbler Blue_winged_Warbler Canada_Warbler
Cape_May_Warbler Cerulean_Warbler Chestnut_sided_Warbler Golden_winged_Warbler Hooded_Warbler Kentucky_Warbler
Magnolia_Warbler Mourning_Warbler Myrtle_Warbler Nashville_Warbler Orange_crowned_Warbler Palm_Warbler Pine_Warbler
Prairie_Warbler Prothonotary_Warbler Swainson_Warbler Tennessee_Warbler Wilson_Warbler Worm_eating_Warbler
Yellow_Warbler Northern_Waterthrush Louisiana_Waterthrush Bohemian_Waxwing Cedar_Waxwing
American_Three_toed_Woodpecker Pileated_Woodpecker Red_bellied_Woodpecker Red_cockaded_Woodpecker
Red_headed_Woodpecker Downy_Woodpecker Bewick_Wren Cactus_Wren Carolina_Wren House_Wren Marsh_Wren Rock_Wren
Winter_Wren Common_Yellowthroat
"""
TRAIN, VAL, TEST, SPECIES = (words.split() for words in (TRAIN_WORDS, VAL_WORDS, TEST_WORDS, SPECIES_WORDS))


def small(name: str) -> Dataset:
    """The entry's dataset, with its class names held against the published list but no counts."""
    return replace(ENTRIES[name], counts={})()


@pytest.fixture
def mini(root: Path, plant: Plant) -> Path:
    """Two pictures a class, listed in no order of classes."""
    place = root / "miniImagenet"
    for part, ids in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        rows = [(f"{wnid}{i:08d}.jpg", wnid) for i in (5, 12) for wnid in reversed(ids)]
        plant(place / "images", [name for name, _ in rows])
        with open(place / f"{part}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("filename", "label"), *rows])
    return place


def carve_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a made-up copy is as much as it can give."""

    def tenth(records: list[Record], _: int, word: str) -> tuple[list[Record], list[Record]]:
        return carved(records, len(records) // 10, word)

    for place in ("named", "cub"):
        monkeypatch.setattr(f"likewise.datasets.{place}.carved", tenth)


def test_mini_imagenet_is_split_by_classes(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carve_less(monkeypatch)
    base, validation, novel = small("mini-imagenet"), small("mini-imagenet-validation"), small("mini-imagenet-novel")
    assert [len(d.classes) for d in (base, validation, novel)] == [64, 16, 20]
    (identity,) = base.read_report("test").values()
    sides = [base.train, base.select, identity]
    assert [len(s) for s in sides] == [105, 11, 12]
    assert len({r.key for s in sides for r in s.records}) == 128
    for data, splits in ((base, sides), (validation, []), (novel, [])):
        for split in splits or data.read_report("test").values():
            for record in split.records:
                assert record.key.startswith(data.classes.folders[record.label])
                assert record.path.is_file()
    assert (len(novel.train), len(novel.select), len(novel.read_report("test")["id"])) == (0, 0, 40)
    assert base.classes.names[0] == "house finch"
    assert novel.classes.folders == tuple(sorted(TEST))
    assert len(base.templates) == 80


def test_episodes_are_of_the_novel_classes(mini: Path) -> None:
    split = small("mini-imagenet-novel").read_report("test")["id"]
    features_ND = torch.nn.functional.one_hot(torch.from_numpy(split.labels_N), 20).float()
    assert episodes(features_ND, split.labels_N, shots=1, queries=1, count=5, key=(0,)).value == 1


def test_an_incomplete_mini_imagenet_is_refused(mini: Path) -> None:
    with pytest.raises(DataError, match=r"id has 40 pictures instead of 12,000"):
        ENTRIES["mini-imagenet-novel"]()
    (mini / "images" / f"{TEST[0]}00000005.jpg").unlink()
    with pytest.raises(DataError, match=rf"1 of 40 pictures that the dataset lists.*{TEST[0]}00000005"):
        small("mini-imagenet-novel")
    text = (mini / "val.csv").read_text()
    (mini / "val.csv").write_text(text.replace(f",{VAL[0]}", ",n00000001"))
    with pytest.raises(DataError, match="n00000001, which are no classes of ImageNet"):
        small("mini-imagenet-validation")
    (mini / "val.csv").write_text(text.replace(f",{VAL[0]}", f",{TEST[1]}"))
    with pytest.raises(DataError, match="not the published list in order"):
        small("mini-imagenet-validation")
    (mini / "test.csv").unlink()
    assert ENTRIES["mini-imagenet-novel"].found() is None


@pytest.fixture
def cub(root: Path, plant: Plant) -> Path:
    """Three pictures a species, numbered by no order of classes; one of three is for training."""
    place = root / "CUB_200_2011"
    folders = [f"{i + 1:03d}.{name}" for i, name in enumerate(SPECIES)]
    files = [f"{folder}/{folder[4:]}_000{i}_7.jpg" for i in (1, 2, 3) for folder in reversed(folders)]
    plant(place / "images", files)
    (place / "classes.txt").write_text("".join(f"{i + 1} {folder}\n" for i, folder in enumerate(folders)))
    (place / "images.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(files, 1)))
    (place / "image_class_labels.txt").write_text("".join(f"{n} {int(f[:3])}\n" for n, f in enumerate(files, 1)))
    (place / "train_test_split.txt").write_text("".join(f"{n} {int('_0001_' in f)}\n" for n, f in enumerate(files, 1)))
    return place


def test_cub_by_its_official_split(cub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carve_less(monkeypatch)
    data = small("cub")
    (identity,) = data.read_report("test").values()
    assert (len(data.train), len(data.select), len(identity)) == (180, 20, 400)
    assert not any("_0001_" in r.key for r in identity.records)
    assert all("_0001_" in r.key for r in (*data.train.records, *data.select.records))
    for record in (*data.train.records, *identity.records):
        assert record.key.startswith(f"{record.label + 1:03d}.")
    assert data.classes.names[21] == "Chuck will Widow"
    assert order_of([name.replace("_", " ") for name in SPECIES]) == ENTRIES["cub"].classes


def test_cubs_classes_are_parted_by_their_numbers(cub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carve_less(monkeypatch)
    parts = {name: small(f"cub-{name}") for name in ("base", "validation", "novel")}
    numbers = {name: [int(f[:3]) for f in data.classes.folders] for name, data in parts.items()}
    assert numbers == {
        "base": list(range(1, 201, 2)), "validation": list(range(2, 201, 4)), "novel": list(range(4, 201, 4))
    }  # fmt: skip
    for data in parts.values():
        every = [*data.train.records, *data.select.records, *data.read_report("test")["id"].records]
        assert len(every) == 3 * len(data.classes) == len({r.key for r in every})
        assert all(r.key.startswith(data.classes.folders[r.label] + "/") for r in every)
    assert len(parts["base"].train) > 200
    assert len(parts["novel"].train) == 0


def test_an_incomplete_cub_is_refused(cub: Path) -> None:
    (cub / "images" / f"003.{SPECIES[2]}" / f"{SPECIES[2]}_0002_7.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 600 pictures that the dataset lists.*003\.Sooty_Albatross"):
        small("cub")
    lines = (cub / "image_class_labels.txt").read_text().splitlines()
    (cub / "image_class_labels.txt").write_text("\n".join(["1 1", *lines[1:]]))
    with pytest.raises(DataError, match="picture 1 is 200"):
        small("cub-novel")
    (cub / "classes.txt").write_text("1 001.Black_footed_Albatross\n")
    with pytest.raises(DataError, match="numbers 1 classes"):
        small("cub")


@pytest.mark.parametrize(("sizes", "count", "least"), [([30] * 194 + [29] * 6, 600, 3), ([59] * 85 + [58] * 15, 500, 5),
                                                       ([732] * 40 + [1300] * 960, 10_000, 5)])  # fmt: skip
def test_every_class_has_pictures_to_select_on_at_published_sizes(sizes: list[int], count: int, least: int) -> None:
    records = [
        Record(f"{label}/{i}", label, Path()) for label, n in enumerate(sizes) for i in range(n)
    ]  # CUB, ImageNet
    kept, drawn = carved(records, count, "cub")
    assert len(drawn) == count
    assert sorted(r.key for r in (*kept, *drawn)) == sorted(r.key for r in records)
    counts = Counter(r.label for r in drawn)
    assert min(counts[label] for label in range(len(sizes))) >= least
