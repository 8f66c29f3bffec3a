"""DomainNet from made-up copies: the published lists are the splits, and other domains the shifts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from likewise.datasets.domainnet import DOMAINS, ENTRIES, SENTRY, SIZES
from likewise.datasets.listed import names_in
from likewise.errors import DataError

Plant = Callable[[Path, Iterable[str]], None]
ENTRY = {entry.name: replace(entry, counts={}) for entry in ENTRIES}

CLASSES = names_in(
    """aircraft_carrier; airplane; alarm_clock; ambulance; angel; animal_migration; ant; anvil; apple; arm;
    asparagus; axe; backpack; banana; bandage; barn; baseball; baseball_bat; basket; basketball; bat; bathtub;
    beach; bear; beard; bed; bee; belt; bench; bicycle; binoculars; bird; birthday_cake; blackberry; blueberry;
    book; boomerang; bottlecap; bowtie; bracelet; brain; bread; bridge; broccoli; broom; bucket; bulldozer; bus;
    bush; butterfly; cactus; cake; calculator; calendar; camel; camera; camouflage; campfire; candle; cannon; canoe;
    car; carrot; castle; cat; ceiling_fan; cello; cell_phone; chair; chandelier; church; circle; clarinet; clock;
    cloud; coffee_cup; compass; computer; cookie; cooler; couch; cow; crab; crayon; crocodile; crown; cruise_ship;
    cup; diamond; dishwasher; diving_board; dog; dolphin; donut; door; dragon; dresser; drill; drums; duck;
    dumbbell; ear; elbow; elephant; envelope; eraser; eye; eyeglasses; face; fan; feather; fence; finger;
    fire_hydrant; fireplace; firetruck; fish; flamingo; flashlight; flip_flops; floor_lamp; flower; flying_saucer;
    foot; fork; frog; frying_pan; garden; garden_hose; giraffe; goatee; golf_club; grapes; grass; guitar; hamburger;
    hammer; hand; harp; hat; headphones; hedgehog; helicopter; helmet; hexagon; hockey_puck; hockey_stick; horse;
    hospital; hot_air_balloon; hot_dog; hot_tub; hourglass; house; house_plant; hurricane; ice_cream; jacket; jail;
    kangaroo; key; keyboard; knee; knife; ladder; lantern; laptop; leaf; leg; light_bulb; lighter; lighthouse;
    lightning; line; lion; lipstick; lobster; lollipop; mailbox; map; marker; matches; megaphone; mermaid;
    microphone; microwave; monkey; moon; mosquito; motorbike; mountain; mouse; moustache; mouth; mug; mushroom;
    nail; necklace; nose; ocean; octagon; octopus; onion; oven; owl; paintbrush; paint_can; palm_tree; panda; pants;
    paper_clip; parachute; parrot; passport; peanut; pear; peas; pencil; penguin; piano; pickup_truck;
    picture_frame; pig; pillow; pineapple; pizza; pliers; police_car; pond; pool; popsicle; postcard; potato;
    power_outlet; purse; rabbit; raccoon; radio; rain; rainbow; rake; remote_control; rhinoceros; rifle; river;
    roller_coaster; rollerskates; sailboat; sandwich; saw; saxophone; school_bus; scissors; scorpion; screwdriver;
    sea_turtle; see_saw; shark; sheep; shoe; shorts; shovel; sink; skateboard; skull; skyscraper; sleeping_bag;
    smiley_face; snail; snake; snorkel; snowflake; snowman; soccer_ball; sock; speedboat; spider; spoon;
    spreadsheet; square; squiggle; squirrel; stairs; star; steak; stereo; stethoscope; stitches; stop_sign; stove;
    strawberry; streetlight; string_bean; submarine; suitcase; sun; swan; sweater; swing_set; sword; syringe; table;
    teapot; teddy-bear; telephone; television; tennis_racquet; tent; The_Eiffel_Tower; The_Great_Wall_of_China;
    The_Mona_Lisa; tiger; toaster; toe; toilet; tooth; toothbrush; toothpaste; tornado; tractor; traffic_light;
    train; tree; triangle; trombone; truck; trumpet; t-shirt; umbrella; underwear; van; vase; violin;
    washing_machine; watermelon; waterslide; whale; wheel; windmill; wine_bottle; wine_glass; wristwatch; yoga;
    zebra; zigzag"""
)
FORTY = names_in(
    """airplane; ambulance; apple; backpack; banana; bathtub; bear; bed; bee; bicycle; bird; book; bridge; bus; cake;
    calculator; camera; car; cat; chair; clock; cow; dog; dolphin; duck; elephant; fence; fork; horse; house; rabbit;
    scissors; strawberry; table; telephone; truck; butterfly; sheep; drums; donut"""
)
"""In SENTRY's order, which is not the alphabet's."""


def write(
    place: Path, lists: Path, plant: Plant, domains: Iterable[str], classes: Sequence[str], suffix: str = ""
) -> None:
    """A picture of each class in both lists, a second in train for every tenth; and one that no list names."""
    lists.mkdir(parents=True, exist_ok=True)
    for domain in domains:
        named: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
        for label, name in enumerate(classes):
            for i in range(3 if label % 10 == 0 else 2):
                named["test" if i == 1 else "train"].append((f"{domain}/{name}/{domain}_{label}_{i}.jpg", label))
        for part, items in named.items():
            text = "".join(f"{path} {label}\n" for path, label in items)
            (lists / f"{domain}_{part}{suffix}.txt").write_text(text)
        plant(place, [path for items in named.values() for path, _ in items])
        plant(place, [f"{domain}/{classes[0]}/unlisted.jpg"])


def test_each_domain_is_trained_on_and_the_others_here_are_shifts(root: Path, plant: Plant) -> None:
    place = root / "DomainNet"
    write(place, place / "splits", plant, ("real", "sketch", "painting"), CLASSES)
    (place / "painting").rename(place / "paintings")  # lists without pictures are no domain
    data = ENTRY["domainnet-real"]()
    assert data.classes.names[327] == "t-shirt"
    assert data.classes.folders[0] == "aircraft_carrier"
    assert data.classes.names[0] == "aircraft carrier"
    report = data.read_report("test")
    assert [*report] == ["id", "sketch"]
    assert [len(s) for s in (data.train, data.select, *report.values())] == [342, 38, 345, 345]
    assert not set(data.train.records) & set(data.select.records)
    for split, domain, test in ((data.train, "real", False), (data.select, "real", False), (report["id"], "real", True),
                                (report["sketch"], "sketch", True)):  # fmt: skip
        for record in split.records:
            assert record.key.startswith(f"{domain}/{CLASSES[record.label]}/")
            assert record.key.endswith("_1.jpg") == test
            assert record.path == place / record.key
    assert ENTRY["domainnet-painting"].found() is None
    away = ENTRY["domainnet-sketch"]()
    assert [r.key for r in away.read_report("test")["real"].records] == [r.key for r in report["id"].records]


def test_sentry_is_forty_classes_in_four_domains(root: Path, plant: Plant) -> None:
    place = root / "domainnet"
    plant(place, ["sketch/airplane/x.jpg"])
    assert ENTRY["domainnet-sentry-sketch"].found() is None  # pictures alone are not the subset
    write(place, place / "SENTRY_splits", plant, SENTRY, FORTY, "_mini")
    data = ENTRY["domainnet-sentry-sketch"]()
    assert data.classes.names == FORTY
    assert data.domains == ("id", "clipart", "painting", "real")
    with pytest.raises(DataError, match=r"no sketch_train\.txt and sketch_test\.txt"):
        ENTRY["domainnet-sketch"]()


def test_expected_sizes_add_up_to_the_whole(root: Path) -> None:
    train, test = zip(*SIZES.values(), strict=True)
    assert (sum(train), sum(test)) == (409_832, 176_743)  # as of WILDS's copy of it
    for entry, domain in zip(ENTRIES[:6], DOMAINS, strict=True):
        assert entry.counts["train"] + entry.counts["select"] == SIZES[domain][0]
        assert {*entry.counts} == {"train", "select", "id", *DOMAINS} - {domain}


def test_what_is_not_whole_is_refused(root: Path, plant: Plant) -> None:
    place = root / "domainnet"
    write(place, place, plant, ("clipart", "infograph"), CLASSES[:20])
    with pytest.raises(DataError, match=r"train has 20 pictures .* 30,173.*its 20 classes .* not the published list"):
        ENTRIES[0]()
    lists = {part: place / f"clipart_{part}.txt" for part in ("train", "test")}
    text = {part: path.read_text() for part, path in lists.items()}
    lists["train"].write_text(text["train"].replace("clipart/anvil/", "clipart/ant/"))
    with pytest.raises(DataError, match="call label 7 both «ant» and «anvil»"):
        ENTRY["domainnet-clipart"]()
    lists["train"].write_text("clipart/anvil/x.jpg seven\n")
    with pytest.raises(DataError, match=r"clipart_train\.txt has a line that is not"):
        ENTRY["domainnet-clipart"]()
    lists["train"].write_text(text["train"])
    (place / "infograph_train.txt").unlink()
    for part, path in lists.items():
        path.write_text("\n".join(line for line in text[part].splitlines() if not line.endswith(" 7")))
    with pytest.raises(DataError, match="no picture of labels 7"):
        ENTRY["domainnet-clipart"]()
    lists["train"].write_text(text["train"])
    (place / "clipart" / "axe" / "clipart_11_1.jpg").unlink()
    with pytest.raises(DataError, match=r"clipart_11_1\.jpg"):
        replace(ENTRY["domainnet-clipart"], classes="")()
