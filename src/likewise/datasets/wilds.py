"""Three sets of WILDS (Koh et al. 2021, arXiv:2012.07421), from its own archives: iWildCam, FMoW and Camelyon17.

Splits and measures are WILDS's: macro F1 over the classes present (iWildCam), accuracy, and the accuracy of the region
with the lowest (FMoW).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from likewise.data.records import Dataset, Record, Role, Split
from likewise.datasets import pcam
from likewise.datasets.listed import listed, names_in, rows
from likewise.datasets.named import Named, carved, made
from likewise.errors import DataError, near

TAKEN = {"train": "train", "select": "id_val", "id": "id_test", "ood": "test"}
"""Our splits and WILDS's; its `val`, out of distribution, is in none."""
WILDS = "Koh et al. 2021, arXiv:2012.07421"
GET = "pip install wilds, then wilds.get_dataset('{}', root_dir='data', download=True), or https://wilds.stanford.edu"

IWILDCAM = names_in(
    """empty; white-lipped peccary; central american agouti; lowland paca; cougar; south american tapir; collared
    peccary; red brocket; ocelot; ruddy quail-dove; south american coati; nine-banded armadillo; tayra; common
    opossum; crab-eating raccoon; jaguar; giant anteater; great tinamou; tapeti; jaguarundi; margay; brown brocket;
    gray four-eyed opossum; wild goat; cattle cow bull; sheep; wolf; scrub hare; olive baboon; common genet; cape
    bushbuck; slender mongoose; african bush elephant; gambian pouched rat; steenbok; striped hyena; impala; spotted
    hyena; caracal; wild horse; lion; common eland; waterbuck; common warthog; leopard; white-tailed mongoose;
    black-backed jackal; african buffalo; plains zebra; giraffe; hartebeest; vervet monkey; günther's dik-dik;
    bushpig; grant's gazelle; thomson's gazelle; common ostrich; aardvark; cheetah; white-bellied bustard; wildcat;
    east african oryx; buff-crested bustard; kori bustard; black-bellied bustard; great argus; leopard cat; banded
    palm civet; indian muntjak; wild boar; sun bear; sambar deer; malayan porcupine; asian golden cat; tiger;
    three-striped ground squirrel; common emerald dove; cape genet; crested porcupine; african wild dog; rock hyrax;
    dog; unknown bird; unknown bat; amazonian motmot; black agouti; geotrygon; white-nosed coati; northern tamandua;
    opossum; crested guan; hummingbird; plain parakeet; dromedary; bat-eared fox; vulturine guineafowl; zebra;
    aardwolf; serval; greater kudu; hippopotamus; spotted thick-knee; masked palm civet; marbled cat; dhole; asian
    water monitor; yellow-throated marten; banded linsang; crested partridge; salvadori's pheasant; bronze-tailed
    peacock-pheasant; sunda pangolin; sumatran serow; macaque; handsome spurfowl; l'hoest's monkey; black-fronted
    duiker; african brush-tailed porcupine; chimpanzee; blue monkey; mountain squirrel; western yellow wagtail;
    yellow-whiskered greenbul; little greenbul; charming thicket rat; forest giant squirrel; boehm's bush squirrel;
    yellow-backed duiker; common rufous-nosed rat; moustached grass warbler; peters's striped mouse; african wading
    rat; stella wood mouse; servaline genet; side-striped jackal; african pygmy mouse; ross's turaco; tambourine
    dove; tullberg's soft-furred mouse; big-eared swamp rat; egyptian goose; link rat; grey-winged francolin; olive
    thrush; brocket deer; gray fox; ocellated turkey; great curassow; lowland paca; baird's tapir; raccoon;
    white-tailed deer; grey-headed dove; central american red brocket; striped hog-nosed skunk; yucatan brown
    brocket; plain chachalaca; thomas's langur; sunda clouded leopard; sumatran hog badger; mouse-deer; sumatran
    treepie; rufous-vented niltava; silver-eared mesia; red-billed partridge; gallopheasants; javan whistling
    thrush; crestless fireback; crested serpent eagle; blue whistling thrush; collared mongoose; crab-eating fox;
    motorcycle; deer mouse; jaguarundi; bare-throated tiger heron; blue ground dove; red squirrel; unknown bird;
    grey-cowled wood rail; unknown dove; central american red brocket"""
)
"""English names in label order, in small letters, from WiSE-FT's labels.csv (the archive has none)."""

FMOW = names_in(
    """airport; airport_hangar; airport_terminal; amusement_park; aquaculture; archaeological_site; barn;
    border_checkpoint; burial_site; car_dealership; construction_site; crop_field; dam; debris_or_rubble;
    educational_institution; electric_substation; factory_or_powerplant; fire_station; flooded_road; fountain;
    gas_station; golf_course; ground_transportation_station; helipad; hospital; impoverished_settlement;
    interchange; lake_or_pond; lighthouse; military_facility; multi-unit_residential; nuclear_powerplant;
    office_building; oil_or_gas_facility; park; parking_lot_or_garage; place_of_worship; police_station; port;
    prison; race_track; railway_bridge; recreational_facility; road_bridge; runway; shipyard; shopping_mall;
    single-unit_residential; smokestack; solar_farm; space_facility; stadium; storage_tank; surface_mine;
    swimming_pool; toll_booth; tower; tunnel_opening; waste_disposal; water_treatment_facility; wind_farm; zoo"""
)
"""Categories in WILDS's order, by which they are numbered."""
PLACES = ("", " in asia", " in africa", " in the americas", " in europe", " in oceania")
FMOW_TEMPLATES = (
    *(f"{view} photo of a {{}}{place}." for place in PLACES for view in ("satellite", "aerial")),
    "a photo of a {}.", "{}.",
)  # fmt: skip

HOSPITALS = {"1": "val", "2": "test"}
"""Those whose slides are another split's, whatever the table says."""


Items = dict[str, list[tuple[str, int]]]
"""Of each split of WILDS's, its pictures below their folder, with labels."""


def _splits(
    found: Mapping[str, Sequence[Record]], metric: Mapping[str, str] | None = None, ours: Mapping[str, str] = TAKEN
) -> list[Split]:
    """Our splits (`ours`: our names to those of `found`), with the measures of those that have one."""
    roles: dict[str, Role] = {"train": "train", "select": "select"}
    return [
        Split(name, roles.get(name, "report"), tuple(found[own]), (metric or {}).get(name, "accuracy"))
        for name, own in ours.items()
    ]


def iwildcam(folder: Path) -> Dataset:
    """Train, `id_val` to select on, and `id_test` (id) and `test` (ood) to report, all by macro F1."""
    items: Items = defaultdict(list)
    for split, name, label in rows(folder / "metadata.csv", ("split", "filename", "y")):
        items[split].append((name, int(label)))
    found = {split: listed(folder / "train", items[split]) for split in TAKEN.values()}
    splits = _splits(found, dict.fromkeys(("select", "id", "ood"), "macro_f1"))
    return made("iwildcam", IWILDCAM, splits, ("a photo of {}.", "{} in the wild."))


def fmow(folder: Path) -> Dataset:
    """Train, `id_val` to select on, `id_test` (id) and the pictures from 2016 on (ood, by the worst region)."""
    return _fmow("fmow", _splits(_fmow_records(folder), {"ood": "worst_group"}))


def fmow_geo(folder: Path) -> Dataset:
    """The years before 2013: train, select and id in the Americas, with Africa and Europe as other domains."""
    by_region: dict[str, list[Record]] = defaultdict(list)
    for split, records in _fmow_records(folder).items():
        for record in records:
            by_region[f"{split} {record.group}"].append(record)
    home = {name: f"{TAKEN[name]} Americas" for name in ("train", "select", "id")}
    away = {region.lower(): f"id_test {region}" for region in ("Africa", "Europe")}
    return _fmow("fmow-geo", _splits(by_region, ours={**home, **away}))


def _fmow(name: str, splits: list[Split]) -> Dataset:
    return made(name, [category.replace("_", " ") for category in FMOW], splits, FMOW_TEMPLATES, FMOW)


def _fmow_records(folder: Path) -> dict[str, list[Record]]:
    """WILDS's train, id_val and id_test (years before 2013) and test (from 2016 on).

    A record's group is its region, and "" for what lies in none, which WILDS leaves out where it looks for the worst.
    """
    region_of = {row[0]: row[1] for row in rows(folder / "country_code_mapping.csv", ("alpha-3", "region"))}
    columns = ("split", "category", "country_code", "timestamp")
    items: Items = defaultdict(list)
    regions: dict[str, str] = {}
    for place, (split, category, country, stamp) in enumerate(rows(folder / "rgb_metadata.csv", columns)):
        if category not in FMOW:
            raise DataError("D17", f"{folder} has a category that FMoW has not: {category}.{near(category, FMOW)}")
        year = _year(folder, stamp)
        own = split if split == "train" else f"id_{split}"
        if year >= 2013:
            own = "test" if split == "test" and year >= 2016 else ""
        # pictures are numbered by the row in the whole table, sequestered rows included
        name = f"rgb_img_{place}.png"
        regions[name] = region_of.get(country, "").replace("Other", "")
        items[own].append((name, FMOW.index(category)))
    found = {split: listed(folder / "images", items[split]) for split in TAKEN.values()}
    return {split: [replace(r, group=regions[r.key]) for r in records] for split, records in found.items()}


def _year(folder: Path, stamp: str) -> int:
    try:
        when = datetime.fromisoformat(stamp)
    except ValueError:
        raise DataError("D17", f"{folder / 'rgb_metadata.csv'} has a time that is none: «{stamp}».") from None
    return (when if when.tzinfo is None else when.astimezone(UTC)).year


def camelyon17(folder: Path) -> Dataset:
    """Train and validation pictures of three hospitals, the latter halved by key, and those of the test hospital."""
    columns = ("patient", "node", "x_coord", "y_coord", "tumor", "center", "split")
    items: Items = defaultdict(list)
    for patient, node, x, y, tumor, center, split in rows(folder / "metadata.csv", columns):
        own = HOSPITALS.get(center, "id_val" if split == "1" else "train")
        slide = f"patient_{patient}_node_{node}"
        items[own].append((f"{slide}/patch_{slide}_x_{x}_y_{y}.png", int(tumor)))
    found = {split: listed(folder / "patches", items[split]) for split in ("train", "id_val", "test")}
    reported, chosen_on = carved(found["id_val"], len(found["id_val"]) // 2, "camelyon17")
    splits = _splits({**found, "id_val": chosen_on, "id_test": reported})
    return made("camelyon17", pcam.NAMES, splits, pcam.TEMPLATES)


ENTRIES = (
    Named(
        "iwildcam",
        "iWildCam (WILDS 2.0): 182 animals, and nothing, before camera traps; out of distribution, traps never seen.",
        iwildcam,
        folders=("iwildcam_v2.0", "wilds/iwildcam_v2.0"),
        needs=("metadata.csv", "train"),
        get=GET.format("iwildcam"),
        licence="CDLA-Permissive-1.0",
        paper=f"Beery et al. 2020, arXiv:2004.10340; {WILDS}",
        counts={"train": 129_809, "select": 7_314, "id": 8_154, "ood": 42_791},
        classes="2db1bfb8949d432c",
        notes="Measured by macro F1 over the classes present, as by WILDS; papers that print «accuracy» may mean it. "
        "Four names stand for two classes each, so a text head cannot reach a macro F1 of 1. WILDS's validation at "
        "other traps (14,961 pictures), on which its leaderboard methods may choose, is not used. Names and the two "
        "templates are WiSE-FT's and FLYP's.",
    ),
    Named(
        "fmow",
        "FMoW (WILDS 1.1): land use in 62 categories from satellites until 2012; out of distribution, from 2016 on.",
        fmow,
        folders=("fmow_v1.1", "wilds/fmow_v1.1"),
        needs=("rgb_metadata.csv", "country_code_mapping.csv", "images"),
        get=GET.format("fmow"),
        licence="Functional Map of the World Challenge Public License",
        paper=f"Christie et al. 2018, arXiv:1711.07846; {WILDS}",
        counts={"train": 76_863, "ood": 22_108},
        classes="636cb54a43b592a9",
        notes="`id` is measured by accuracy, `ood` by the accuracy of the worst region, pictures of no region "
        "left out. WILDS's validation of 2013 to 2015 is not used. The sizes of select and id are not verified. Names "
        "have spaces; FLYP's prompts keep the underscores, and two templates more choose between «a» and «an». Those "
        "that name a continent go with every picture, wherever it was taken, as theirs do.",
    ),
    Named(
        "fmow-geo",
        "FMoW of the Americas until 2012; out of distribution, Africa and Europe in the same years.",
        fmow_geo,
        folders=("fmow_v1.1", "wilds/fmow_v1.1"),
        needs=("rgb_metadata.csv", "country_code_mapping.csv", "images"),
        get=GET.format("fmow"),
        licence="Functional Map of the World Challenge Public License",
        paper=f"Kumar et al. 2022, arXiv:2202.10054 (LP-FT's «Geo-shift»); Christie et al. 2018, arXiv:1711.07846; "
        f"{WILDS}",
        classes="636cb54a43b592a9",
        notes="LP-FT's code trains on the Americas and reports the three regions on WILDS's validation part, on which "
        "it also chooses; here that part chooses and the test part is reported. Sizes are not verified.",
    ),
    Named(
        "camelyon17",
        "Camelyon17 (WILDS 1.0): tumour or not in patches of lymph nodes; out of distribution, another hospital.",
        camelyon17,
        folders=("camelyon17_v1.0", "wilds/camelyon17_v1.0"),
        needs=("metadata.csv", "patches"),
        get=GET.format("camelyon17"),
        licence="CC0 1.0",
        paper=f"Bandi et al. 2018, IEEE Transactions on Medical Imaging 38(2); {WILDS}",
        counts={"train": 302_436, "select": 16_780, "id": 16_780, "ood": 85_054},
        classes="99903509a82fd73f",
        notes="WILDS has no test in distribution: its `id_val` is halved by key, one half to select on and one to "
        "report as `id`. They are patches of slides that are trained on, so `id` is easy. WILDS's validation hospital "
        "(34,904 patches), on which its leaderboard methods choose, is not used. Names and template are OpenAI's "
        "for PatchCamelyon.",
    ),
)  # fmt: skip
