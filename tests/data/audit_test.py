from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from likewise.data import Audit, Dataset, SourceOptions
from likewise.data.audit import AuditError, Finding, check_counts, looks_like_code
from likewise.errors import DataError

Plant = Callable[..., Path]


def findings(listed: list[Finding], code: str) -> str:
    return "\n".join(message for c, message in listed if c == code)


@pytest.fixture
def divided(plant: Plant) -> Path:
    for where, n in (("train", 12), ("val", 5), ("test", 6)):
        plant(f"photos/{where}", cat=n, dog=n)
    return plant("photos")


@pytest.mark.parametrize("name", ["n02123045", "0001", "7", "class_3", "a320", "x", "3f2a9c1b04"])
def test_codes_are_not_words(name: str) -> None:
    assert looks_like_code(name)


@pytest.mark.parametrize("name", ["cat", "ox", "red fox", "Boeing 737-800", "猫", "öl", "decade", "facade"])
def test_words_are_not_codes(name: str) -> None:
    assert not looks_like_code(name)


def test_bad_files_are_skipped_up_to_the_limit_and_listed(divided: Path) -> None:
    (divided / "train/cat/0.png").write_bytes(b"<html>")
    data = Dataset.open(divided, options=SourceOptions(max_bad=0.05))
    assert data.audit.bad == [("train/cat/0.png", "not a picture in a format that is read")]
    assert len(data.train) == 23
    assert json.loads(json.dumps(data.audit.tree()))["bad"][0]["file"] == "train/cat/0.png"
    strict = SourceOptions(max_bad=0.05, on_bad_image="error")
    for options, way in (
        (SourceOptions(), r"--max-bad 0\.03\.$"),
        (strict, r"leave them out with --on-bad-image skip\.$"),
    ):
        with pytest.raises(AuditError, match=rf"1 images \(2\.2%\) cannot be read.*{way}") as caught:
            Dataset.open(divided, options=options)
        assert caught.value.code == "D07"
        assert caught.value.audit.bad[0][0] == "train/cat/0.png"


def test_every_error_is_told_at_once(divided: Path) -> None:
    (divided / "train/cat/0.png").write_bytes(b"<html>")
    (divided / "val/dog").rename(divided / "val/otter")
    with pytest.raises(AuditError) as caught:
        Dataset.open(divided)
    assert [code for code, _ in caught.value.audit.errors] == ["D07", "D04"]
    assert "select has 1 class that train lacks: otter; train has 1 that select lacks: dog" in str(caught.value)


def test_a_class_missing_from_val_is_a_warning_and_shifts_no_label(divided: Path) -> None:
    shutil.rmtree(divided / "val/cat")
    data = Dataset.open(divided)
    assert "select has no picture of 1 of train's 2 classes (cat)" in findings(data.audit.warnings, "D04")
    assert set(data.select.labels_N.tolist()) == {data.classes.index("dog")} == {1}


def test_copies_across_splits_stay_in_the_later_one(divided: Path) -> None:
    with Image.open(divided / "test/cat/0.png") as image:
        image.save(divided / "train/cat/copy.bmp")  # the same pixels in other bytes
    shutil.copy(divided / "test/dog/0.png", divided / "val/dog/copy.png")
    shutil.copy(divided / "val/dog/1.png", divided / "train/dog/copy.png")
    data = Dataset.open(divided)
    assert sorted(data.audit.duplicates) == [
        ("train/cat/copy.bmp", "test/cat/0.png"),
        ("train/dog/copy.png", "val/dog/1.png"),
        ("val/dog/copy.png", "test/dog/0.png"),
    ]
    assert (len(data.train), len(data.select), len(data.read_report("test")["id"])) == (24, 10, 12)
    assert "3 images appear in two splits" in findings(data.audit.warnings, "D10")


def test_copies_are_kept_together_when_we_divide(plant: Plant) -> None:
    photos = plant("photos", cat=12, dog=12)
    for i in range(12):
        with Image.open(photos / f"cat/{i}.png") as image:
            image.save(photos / f"cat/{i}_again.bmp")
    data = Dataset.open(photos)
    assert data.audit.duplicates == []
    sides: dict[str, set[str]] = {}
    for split in (data.train, data.select, *data.read_report("test").values()):
        for r in split.records:
            sides.setdefault(r.path.stem.removesuffix("_again") + r.path.parent.name, set()).add(split.name)
    assert all(len(where) == 1 for where in sides.values())


def test_one_picture_under_two_labels_names_both(divided: Path) -> None:
    shutil.copy(divided / "train/cat/3.png", divided / "train/dog/twin.png")
    warning = findings(Dataset.open(divided).audit.warnings, "D10")
    assert "1 picture carries two labels: train/cat/3.png («cat») = train/dog/twin.png («dog»)" in warning


def scene(number: int, size: int) -> Image.Image:
    """A picture with the spectrum of photographs, amplitude falling as 1 / frequency."""
    waves = np.fft.fftfreq(size)
    radius = np.hypot(*np.meshgrid(waves, waves))
    radius[0, 0] = 1
    noise = np.random.Generator(np.random.PCG64(number)).normal(size=(size, size))
    light = np.fft.ifft2(np.fft.fft2(noise) / radius).real
    return Image.fromarray(np.uint8(255 * (light - light.min()) / np.ptp(light)))


def test_near_copies_across_splits_are_counted(plant: Plant) -> None:
    for where, n in (("train", 12), ("val", 5), ("test", 6)):
        plant(f"photos/{where}", cat=n, dog=n)
    photos = plant("photos")
    assert "look like" not in Dataset.open(photos).audit.text()
    for i in range(3):
        scene(i, 128).save(photos / f"test/cat/new{i}.png")
        scene(i, 128).resize((80, 80)).save(photos / f"train/cat/new{i}.jpg", quality=70)
    warning = findings(Dataset.open(photos).audit.warnings, "D10")
    assert warning.startswith("3 images of train or select look like")
    # what every command can do comes first; --group-col only with the commands that have it
    assert warning.endswith(
        "pass a table with a column «group» for what belongs together (of adapt, check and split: any column, with "
        "--group-col)."
    )


def test_flat_pictures_are_not_called_alike(plant: Plant) -> None:
    photos = plant("photos", cat=4, dog=4)
    for i in range(40):
        Image.new("RGB", (8, 8), (i * 5, 9, 9)).save(photos / f"{('cat', 'dog')[i % 2]}/flat{i}.png")
    data = Dataset.open(photos)
    assert (len(data.train), len(data.select)) == (32, 8)  # as one cluster of copies, all 40 would stay in train
    assert not findings(data.audit.warnings, "D10")


def test_names_counts_and_small_classes_are_warned_about(plant: Plant, tmp_path: Path) -> None:
    photos = plant("photos", n01=70, n02=5, n03=2)
    data = Dataset.open(photos)
    assert "3 of 3 class names look like codes (n01, n02, n03)" in findings(data.audit.warnings, "D09")
    uneven = findings(data.audit.warnings, "D08")
    assert "1 classes have under 3 images («n03»)" in uneven
    assert "«n01» has 48 images, «n03» 1" in uneven
    assert "2 of 3 classes have under 5 images in select" in uneven
    (tmp_path / "names.json").write_text('{"n01": "lynx", "n02": "lynx", "n03": "otter"}')
    named = Dataset.open(photos, options=SourceOptions(classes_file=str(tmp_path / "names.json")))
    assert named.classes.names == ("lynx", "lynx", "otter")
    assert "«lynx» names more than one class" in findings(named.audit.warnings, "D09")
    (tmp_path / "names.json").write_text('{"n04": "lynx"}')
    with pytest.raises(DataError, match="names «n04»"):
        Dataset.open(photos, options=SourceOptions(classes_file=str(tmp_path / "names.json")))


def test_ratio_of_ten_is_not_yet_uneven() -> None:
    for most, warned in ((50, 0), (51, 1)):
        audit = Audit(counts={"train": {"a": 5, "b": most}})
        check_counts(audit)
        assert len(audit.warnings) == warned


def test_a_class_whose_pictures_are_all_copies_is_an_error(divided: Path) -> None:
    for i in range(12):
        shutil.copy(divided / "test/cat/0.png", divided / f"train/cat/{i}.png")
    with pytest.raises(AuditError, match="«cat» has no training image left") as caught:
        Dataset.open(divided)
    assert caught.value.code == "D08"


def test_progress_is_told_and_every_picture_is_opened(divided: Path) -> None:
    told: list[tuple[str, int, int]] = []
    data = Dataset.open(divided, progress=lambda *what: told.append(what))
    assert told[-1] == ("check", 46, 46)
    first = data.audit.text().splitlines()[0]
    assert first == f"check     {divided}: 46 images, 2 classes (min 23 «cat», max 23 «cat»; ratio 1)"
