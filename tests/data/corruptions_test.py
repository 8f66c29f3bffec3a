"""Corruptions against their formulas and Pillow, what every kind must do, their way through a dataset and a run."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from likewise.data.corrupt import KINDS, SEVERITIES, changed, corrupt
from likewise.data.records import Dataset
from likewise.datasets.corruptions import asked, corrupted, corrupting
from likewise.errors import UsageError
from likewise.keys import key_rng

NONE = {"defocus-blur", "zoom-blur", "brightness", "contrast", "pixelate", "jpeg"}
"""Kinds in which nothing is random."""


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Shapes at every scale, as a photograph has them, in colours."""
    rng, total = np.random.default_rng(0), np.zeros((72, 96, 3))
    for smooth in (1, 2, 4, 8, 16, 32):
        layer = gaussian_filter(rng.standard_normal(total.shape), (smooth, smooth, 0.6))
        total += np.tanh(3 * layer / layer.std())
    return Image.fromarray((128 + 18 * total).clip(0, 255).astype(np.uint8))


def of(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.float64)


def far(image: Image.Image, kind: str, severity: int, draws: int = 1) -> float:
    """Mean absolute difference to the picture, over some keys."""
    moved = [corrupt(image, kind, severity, (kind, severity, n)) for n in range(draws)]
    return float(np.mean([abs(of(one) - of(image)).mean() for one in moved]))


def test_there_are_fifteen() -> None:
    assert len(KINDS) == 15
    assert SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_changes_pictures_of_any_size_by_key_alone(kind: str, picture: Image.Image) -> None:
    for image in (picture, picture.crop((0, 0, 40, 61)), picture.resize((5, 3)), Image.new("RGB", (1, 1), "teal")):
        for severity in (2, 5):
            one = corrupt(image, kind, severity, (0, "a"))
            assert (one.size, one.mode) == (image.size, "RGB")
            np.random.seed(severity)
            assert one.tobytes() == corrupt(image, kind, severity, (0, "a")).tobytes()
    one, other = (corrupt(picture, kind, 3, (seed, "a")) for seed in (0, 1))
    assert one.tobytes() != picture.tobytes()
    assert (one.tobytes() == other.tobytes()) == (kind in NONE)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"elastic", "frost", "fog"}))
def test_severity_grows(kind: str, picture: Image.Image) -> None:
    found = [far(picture, kind, severity, 1 if kind in NONE else 12) for severity in SEVERITIES]
    assert (np.diff(found) > (-0.1 * found[0] if kind == "snow" else 0)).all(), found
    assert found[4] > 1.2 * found[0], found


@pytest.mark.parametrize("kind", ["frost", "fog"])
def test_of_a_veiled_picture_ever_less_is_left(kind: str, picture: Image.Image) -> None:
    """A veil brightens what a weight darkens, so differences need not grow; the picture's own contrast must fall.

    Under the same veil a picture and its mirror image differ by what is left of them.
    """
    dark = picture.point(lambda value: value // 2)  # nothing is clipped
    mirrored = dark.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    brightest, left = of(dark).max() / 255, []
    for severity in SEVERITIES:
        one, other = (of(corrupt(image, kind, severity, (3,))) for image in (dark, mirrored))
        left.append(np.polyfit((of(dark) - of(mirrored)).ravel(), (one - other).ravel(), 1)[0])
        assert far(dark, kind, severity) > 10
    fog = [brightest / (brightest + c) for c in (1.5, 2, 2.5, 2.5, 3)]
    assert left == pytest.approx({"frost": [1, 0.8, 0.7, 0.65, 0.6], "fog": fog}[kind], abs=0.02)


def test_elastic_moves_corners_at_first_and_pixels_then(picture: Image.Image) -> None:
    """The authors' strengths: a large affine move at 1 and 2, a small one with ever more jitter from 3 on."""
    found = [far(picture, "elastic", severity, draws) for severity, draws in enumerate((3, 3, 8, 8, 8), 1)]
    assert found[1] > found[0] > found[2]
    assert found[2] < found[3] < found[4]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_simple_ones_are_their_formulas(severity: int, picture: Image.Image) -> None:
    x = of(picture) / 255

    def same(kind: str, want: np.ndarray) -> None:
        have = of(corrupt(picture, kind, severity, (7,)))
        assert abs(have - 255 * np.clip(want, 0, 1)).max() <= 0.5 + 1e-4, kind

    std = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    same("gaussian-noise", x + std * key_rng("corruption", 7).standard_normal(x.shape))
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    same("contrast", np.stack([(c - c.mean()) * share + c.mean() for c in x.transpose(2, 0, 1)], 2))
    more = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    h, s, v = of(picture.convert("HSV")).transpose(2, 0, 1)  # Pillow's has 8 bits
    lighter = Image.merge("HSV", [Image.fromarray(c.astype(np.uint8)) for c in (h, s, np.minimum(v + 255 * more, 255))])
    assert abs(of(corrupt(picture, "brightness", severity, (7,))) - of(lighter.convert("RGB"))).max() <= 6


def test_brightness_of_black_and_white_and_the_largest_colour() -> None:
    pixels = Image.fromarray(np.array([[[0, 0, 0], [255, 255, 255], [200, 100, 50]]], dtype=np.uint8))
    assert np.asarray(corrupt(pixels, "brightness", 2, (0,))).tolist() == [[[51] * 3, [255] * 3, [251, 126, 63]]]


def test_digital_ones_are_pillows(picture: Image.Image) -> None:
    for severity, quality, share in zip(SEVERITIES, (25, 18, 15, 10, 7), (0.6, 0.5, 0.4, 0.3, 0.25), strict=True):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        assert corrupt(picture, "jpeg", severity, (0,)).tobytes() == Image.open(file).tobytes()
        small = picture.resize((int(96 * share), int(72 * share)), Image.Resampling.BOX)
        want = small.resize((96, 72), Image.Resampling.BOX)
        assert corrupt(picture, "pixelate", severity, (0,)).tobytes() == want.tobytes()


def test_noise_has_its_moments() -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    shot = of(corrupt(grey, "shot-noise", 1, (0,))) / 255  # Poisson of 60 x, over 60
    assert shot.mean() == pytest.approx(128 / 255, abs=0.002)
    assert shot.std() == pytest.approx(np.sqrt(128 / 255 / 60), rel=0.02)
    impulse = of(corrupt(grey, "impulse-noise", 5, (0,)))
    assert (impulse == 0).mean() == pytest.approx(0.135, abs=0.003)
    assert (impulse == 255).mean() == pytest.approx(0.135, abs=0.003)


def test_blurs_keep_what_is_even_and_their_lengths_follow_the_size() -> None:
    for kind in ("defocus-blur", "motion-blur", "glass-blur", "zoom-blur"):
        even = Image.new("RGB", (60, 50), (200, 30, 90))
        assert abs(of(corrupt(even, kind, 5, (0,))) - of(even)).max() <= 1
    widths = []
    for side in (112, 224, 448):
        pixels = np.zeros((side, side, 3), dtype=np.uint8)
        pixels[:, side // 2 :] = 255  # an edge
        line = of(corrupt(Image.fromarray(pixels), "defocus-blur", 5, (0,)))[side // 2, :, 0]
        widths.append(int(((line > 5) & (line < 250)).sum()))
    assert widths[1] / widths[0] == pytest.approx(2, rel=0.15)
    assert widths[2] / widths[1] == pytest.approx(2, rel=0.15)
    assert 15 <= widths[1] <= 21  # a disk of radius 10


@pytest.fixture
def data(plant: Callable[..., Path]) -> Dataset:
    plant("photos/train", cat=6, dog=6)
    plant("photos/val", cat=5, dog=5)
    return Dataset.open(plant("photos/test", cat=3, dog=4).parent)


def test_a_dataset_gets_splits_that_open_corrupted(data: Dataset) -> None:
    more = corrupted(data, ["fog", "jpeg"], [1, 3], seed=4)
    assert more.domains == ("id", "fog-1", "fog-3", "jpeg-1", "jpeg-3")
    assert more.audit.counts["fog-3"] == {"cat": 3, "dog": 4}
    assert "fog-3" not in data.audit.counts
    report = more.read_report("the end")
    assert data.access_log == more.access_log != []
    split, identity = report["fog-3"], report["id"]
    assert split.records == identity.records
    assert len(split.subset([1, 0])) == 2
    for i in range(len(split)):
        clean, key = identity.open(i), identity.records[i].key
        assert clean.tobytes() == data._report["id"].open(i).tobytes()
        assert split.open(i).tobytes() == corrupt(clean, "fog", 3, (4, "fog", 3, key)).tobytes()
        assert split.open(i).tobytes() != clean.tobytes()
    assert split.subset([2]).open(0).tobytes() == split.open(2).tobytes()
    assert split.open(0).tobytes() != corrupted(data, ["fog"], [3], seed=5)._report["fog-3"].open(0).tobytes()
    assert len(corrupted(data).domains) == 76


def test_digests_know_the_change_and_only_the_change(data: Dataset) -> None:
    identity, before, ways = data._report["id"], data.digest, data.ways
    assert replace(identity, change="fog-3:0").digest != identity.digest
    assert replace(identity, change="fog-3:0").digest != replace(identity, change="fog-3:1").digest
    more = corrupted(data, ["fog"], [3])
    assert more.digest != before
    assert more.ways == {"fog-3": {"metric": "accuracy", "among": [], "change": "fog-3:0"}}
    assert (data.digest, data.ways) == (before, ways) == (before, {})


def test_a_run_folder_opens_them_again(data: Dataset, tmp_path: Path) -> None:
    from likewise.run.again import described
    from likewise.run.protocol import describe

    more = corrupted(data, ["glass-blur"], [2], seed=9)
    describe(tmp_path, {"": more}, "likewise adapt")
    again = described(tmp_path / "data", more.name)
    assert again.digest == more.digest
    assert again._report["glass-blur-2"].open(3).tobytes() == more._report["glass-blur-2"].open(3).tobytes()


def test_names_with_a_plus() -> None:
    assert asked("iconshift+corruptions") == ("iconshift", tuple(KINDS), SEVERITIES)
    assert asked("iconshift+corruptions-3") == ("iconshift", tuple(KINDS), (3,))
    assert asked("a+b/c+fog,zoom-blur-5") == ("a+b/c", ("fog", "zoom-blur"), (5,))
    assert asked("x+glass-blur") == ("x", ("glass-blur",), SEVERITIES)
    assert asked("iconshift") is asked("photos+more") is asked("+fog") is asked("c++") is None
    with pytest.raises(UsageError, match="severity 7 asked"):
        asked("x+fog-7")
    with pytest.raises(UsageError, match=r"no corruption «snowy».* Did you mean snow"):
        asked("x+fog,snowy-1")


@pytest.mark.parametrize(
    ("rest", "wrong", "meant"),
    [
        ("fgo-3", "fgo", "fog"), ("corruption-3", "corruption", "corruptions"), ("fog_3", "fog_3", "fog"),
        ("Snow", "Snow", "snow"), ("glas-blur,fog", "glas-blur", "glass-blur"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", ["iconshift", "{}", "{}/a+b"])
def test_a_misspelt_corruption_of_what_is_known_is_answered_with_the_near_miss(
    tmp_path: Path, base: str, rest: str, wrong: str, meant: str
) -> None:
    (tmp_path / "a+b").mkdir()
    with pytest.raises(UsageError, match=rf"no corruption «{wrong}»\. Did you mean {meant}") as caught:
        corrupting(f"{base.format(tmp_path)}+{rest}")
    assert caught.value.code == "U05"


def test_a_path_with_a_plus_is_no_corruption(tmp_path: Path) -> None:
    for name in ("photos", "photos+more", "photos+fgo-3"):
        (tmp_path / name).mkdir()
    for name in ("photos+more", "photos+fgo-3", "photos+2/train.csv", "photos+new.csv", "elsewhere+more"):
        assert corrupting(str(tmp_path / name))[0] == str(tmp_path / name)
    assert asked("never-was+fgo-3") is None


def test_a_name_says_what_to_open_and_what_to_make_of_it(data: Dataset, tmp_path: Path) -> None:
    base, finish = corrupting("colours+fog,jpeg-2", seed=5)
    assert base == "colours"
    assert finish(data).domains == (*data.domains, "fog-2", "jpeg-2")
    assert finish(data).ways["fog-2"]["change"] == "fog-2:5"
    (tmp_path / "a+fog-2").mkdir()  # what is on disk is what is meant
    for name in ("colours", str(tmp_path / "a+fog-2")):
        base, finish = corrupting(name)
        assert base == name
        assert finish(data) is data


def test_what_is_no_corruption_is_refused(data: Dataset, picture: Image.Image) -> None:
    with pytest.raises(UsageError, match=r"no corruption «frogs».* Did you mean frost or fog"):
        corrupt(picture, "frogs", 1, (0,))
    for severity in (0, 6):
        with pytest.raises(UsageError, match=f"severity {severity} asked"):
            corrupt(picture, "fog", severity, (0,))
    with pytest.raises(UsageError, match="«fog-3» is no change"):
        changed(picture, "fog-3", "a")
    with pytest.raises(UsageError, match="is no change"):
        corrupted(data, ["fog"], [6])
    with pytest.raises(UsageError, match="names of their own"):
        corrupted(corrupted(data, ["fog"], [1]), ["fog"], [1])
    with pytest.raises(UsageError, match="no report split «id»"):
        corrupted(Dataset("x", data.classes, data.train, data.select, []))
