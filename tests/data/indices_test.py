"""Published few-shot choices: exactly those pictures, and what is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from likewise.data.indices import CONVERT, published
from likewise.data.records import ClassTable, Dataset, Record, Split
from likewise.errors import DataError, UsageError

FOLDERS = ("AnnualCrop", "Forest")


def split(name: str, role: Any, numbers: range) -> Split:
    place = Path("/somewhere")
    keys = [(f"{folder}/{folder}_{n}.jpg", label) for label, folder in enumerate(FOLDERS) for n in numbers]
    return Split(name, role, tuple(Record(key, label, place / key) for key, label in keys))


@pytest.fixture
def data() -> Dataset:
    classes = ClassTable(names=("annual crop", "forest"), folders=FOLDERS)
    train, select = split("train", "train", range(10)), split("select", "select", range(10, 20))
    return Dataset("eurosat", classes, train, select, [split("id", "report", range(20, 30))])


def item(folder: str, number: int, label: int | None = None) -> dict[str, Any]:
    """A picture as cross-modal-adaptation writes it, below its author's own folder."""
    path = f"./data/eurosat/2750/{folder}/{folder}_{number}.jpg"
    return {"impath": path, "label": FOLDERS.index(folder) if label is None else label, "classname": folder}


def index(train: list[Any], val: list[Any]) -> dict[str, Any]:
    return {"train": {"data": train, "indices": []}, "val": {"data": val, "indices": []}}


GOOD = index(
    [item("Forest", 7), item("AnnualCrop", 3), item("AnnualCrop", 0), item("Forest", 2)],
    [item("Forest", 15), item("AnnualCrop", 11)],
)


def keys(part: Split) -> list[str]:
    return [record.key for record in part.records]


def test_exactly_these_pictures_in_their_order(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "shot_2-seed_1.json").write_text(json.dumps(GOOD))
    for source in (tmp_path, tmp_path / "shot_2-seed_1.json"):
        few = published(data, source, shots=2, seed=1)
        assert data.few(2, 1, index=str(source)).train == few.train
        want = ["Forest/Forest_7.jpg", "AnnualCrop/AnnualCrop_3.jpg", "AnnualCrop/AnnualCrop_0.jpg"]
        assert keys(few.train) == [*want, "Forest/Forest_2.jpg"]
        assert few.train.labels_N.tolist() == [1, 0, 0, 1]
        assert keys(few.select) == ["Forest/Forest_15.jpg", "AnnualCrop/AnnualCrop_11.jpg"]
        assert (few.train.role, few.select.role) == ("train", "select")
        assert few.read_report("test") == data.read_report("test")
        assert few.access_log is data.access_log
        assert few.audit.counts["train"] == {"AnnualCrop": 2, "Forest": 2}
        assert not few.audit.warnings
    assert len(data.train) == 20


def test_a_picture_selected_on_here_may_be_trained_on_there(data: Dataset, tmp_path: Path) -> None:
    train = [item("Forest", 12), item("AnnualCrop", 3), item("AnnualCrop", 4)]
    (tmp_path / "a.json").write_text(json.dumps(index(train, [item("Forest", 1)])))
    few = published(data, tmp_path / "a.json", shots=2, seed=1)
    assert (keys(few.train)[:1], keys(few.select)) == (["Forest/Forest_12.jpg"], ["Forest/Forest_1.jpg"])
    (short,) = [found.message for found in few.audit.warnings if found.code == "D08"]
    assert short.endswith("in " + str(tmp_path / "a.json") + ", «forest» has 1 training images.")


def test_coops_pickle_is_refused_and_what_the_message_says_makes_json_of_it(data: Dataset, tmp_path: Path) -> None:
    parts = {part: [SimpleNamespace(**row) for row in GOOD[part]["data"]] for part in ("train", "val")}
    (tmp_path / "shot_2-seed_1.pkl").write_bytes(pickle.dumps(parts))
    for source in (tmp_path, tmp_path / "shot_2-seed_1.pkl", tmp_path / "shot_2-seed_1.json"):
        with pytest.raises(DataError, match="is a pickle, which can run code") as caught:
            published(data, source, shots=2, seed=1)
        assert caught.value.code == "D14"
        assert f'"{CONVERT}" shot_2-seed_1.pkl shot_2-seed_1.json' in str(caught.value)
    command = [sys.executable, "-c", CONVERT, "shot_2-seed_1.pkl", "shot_2-seed_1.json"]
    subprocess.run(command, cwd=tmp_path, check=True)
    few = published(data, tmp_path, shots=2, seed=1)
    assert keys(few.train)[:2] == ["Forest/Forest_7.jpg", "AnnualCrop/AnnualCrop_3.jpg"]
    del parts["val"]  # as CoOp's of ImageNet
    (tmp_path / "shot_2-seed_1.pkl").write_bytes(pickle.dumps(parts))
    subprocess.run(command, cwd=tmp_path, check=True)
    assert published(data, tmp_path, shots=2, seed=1).train == few.train


def test_without_pictures_to_select_on_these_are_drawn_by_key(data: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "shot_2-seed_1.json"
    crop = ["x/AnnualCrop/AnnualCrop_3.jpg", 0, ""]
    rows = [["x/Forest/Forest_7.jpg", 1, ""], ["x/Forest/Forest_12.jpg", 1, ""], crop]
    file.write_text(json.dumps({"train": rows}))
    few = published(data, file, shots=2, seed=1)
    assert keys(few.train) == ["Forest/Forest_7.jpg", "Forest/Forest_12.jpg", "AnnualCrop/AnnualCrop_3.jpg"]
    own = data.few(2, 1).select  # what is not trained on, of each class as many
    assert [k for k in keys(few.select) if "Crop" in k] == [k for k in keys(own) if "Crop" in k]
    assert few.select.labels_N.tolist() == [0, 0, 1, 1]
    assert not {*keys(few.select)} & {*keys(few.train)}
    rows[1] = [f"x/{next(k for k in keys(own) if 'Forest' in k)}", 1, ""]
    file.write_text(json.dumps({"train": rows}))
    assert not {*keys(published(data, file, shots=2, seed=1).select)} & {rows[1][0].removeprefix("x/")}
    assert "draws its own to select on" in few.audit.text()


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (
            json.dumps(index([item("Forest", 25)], [])),
            "D17",
            "not among those to train and select on",
        ),  # a test picture
        (json.dumps(index([item("Forest", 1, label=0)], [])), "D17", r"label 0, and here it has 1 \(«forest»\)"),
        (json.dumps(index([item("Forest", 1)], [item("Forest", 1)])), "D17", "names pictures twice"),
        (json.dumps(index([item("Forest", n) for n in range(3)], [])), "D17", "no choice of 2 a class: «forest» has 3"),
        (json.dumps(index([item("Forest", 1)], [item("Forest", 12)])), "D17", "of annual crop it names nothing"),
        (json.dumps(index([], GOOD["val"]["data"])), "D17", "of annual crop, forest it names nothing to train"),
        (json.dumps(index(GOOD["train"]["data"], [])), "D17", "leaves nothing to select on"),
        (json.dumps({"train": [["Forest/Forest_1.jpg", 1, "forest"]], "val": 3}), "D14", "its «val» is neither"),
        (json.dumps([1, 2]), "D14", "its «train» is neither"),
        ("{", "F02", "not readable JSON"),
    ],
)
def test_what_is_not_such_a_choice_is_refused(data: Dataset, tmp_path: Path, text: str, code: str, said: str) -> None:
    (tmp_path / "shot_2-seed_1.json").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        published(data, tmp_path, shots=2, seed=1)
    assert caught.value.code == code


def test_a_file_that_is_not_there_is_told_with_those_that_are(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "shot_4-seed_1.json").write_text(json.dumps(GOOD))
    with pytest.raises(DataError, match=r"shot_2-seed_1.json is not there; there are shot_4-seed_1.json"):
        published(data, tmp_path, shots=2, seed=1)
    with pytest.raises(DataError, match="there is no JSON file"):
        published(data, tmp_path / "gone" / "x.json", shots=2, seed=1)
    with pytest.raises(UsageError, match="0 shots"):
        published(data, tmp_path, shots=0, seed=1)
