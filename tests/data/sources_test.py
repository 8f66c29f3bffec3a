from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likewise.data import Dataset, SourceOptions
from likewise.data.sources import natural, read
from likewise.errors import ConfigError, DataError, UsageError

Plant = Callable[..., Path]


def refused(code: str, *words: str, path: Path, **options: Any) -> None:
    with pytest.raises(DataError) as caught:
        Dataset.open(path, options=SourceOptions(**options))
    assert caught.value.code == code, caught.value
    for word in words:
        assert word in str(caught.value)


def test_class_folders_are_in_natural_order() -> None:
    assert sorted(["10", "b", "2", "1", "a10", "a9", "B2"], key=natural) == ["1", "2", "10", "a9", "a10", "b", "B2"]


def test_a_folder_of_class_folders(plant: Plant) -> None:
    photos = plant("photos", snow_fox=20, bear=20)
    data = Dataset.from_folder(photos)
    assert data.name == "photos"
    assert data.classes.folders == ("bear", "snow_fox")
    assert data.classes.names == ("bear", "snow fox")
    assert (len(data.train), len(data.select), len(data.read_report("test")["id"])) == (28, 6, 6)
    assert {r.path.parent.name for r in data.train.records if r.label == 1} == {"snow_fox"}
    assert data.audit.ok
    assert "70/15/15" in data.audit.text()


def test_split_folders_by_their_usual_names_share_the_classes_of_train(plant: Plant) -> None:
    for where, n in (("Train", 6), ("validation", 2), ("test", 3)):
        plant(f"photos/{where}", **{"10": n, "9": n})
    (plant("photos/validation", extra=0)).mkdir(exist_ok=True)
    data = Dataset.open(plant("photos"))
    assert data.classes.folders == ("9", "10")
    assert (len(data.train), len(data.select), len(data.read_report("test")["id"])) == (12, 4, 6)
    assert all(data.classes.folders[r.label] == r.path.parent.name for r in data.select.records)


def test_a_missing_split_is_taken_off_train(plant: Plant) -> None:
    plant("photos/train", cat=20, dog=20)
    data = Dataset.open(plant("photos/test", cat=5, dog=5).parent)
    assert (len(data.train), len(data.select), len(data.read_report("test")["id"])) == (34, 6, 10)


def test_a_class_may_be_called_train(plant: Plant) -> None:
    assert Dataset.open(plant("vehicles", bus=6, train=6)).classes.folders == ("bus", "train")


def test_hidden_folders_and_other_files_are_left_out_and_said(plant: Plant) -> None:
    photos = plant("photos", cat=6, dog=6, **{".ipynb_checkpoints": 2, "__MACOSX": 1})
    (photos / "cat" / "notes.txt").write_text("not a picture")
    (photos / "empty").mkdir()
    data = Dataset.open(photos)
    assert data.classes.folders == ("cat", "dog")
    said = data.audit.text()
    assert all(word in said for word in (".ipynb_checkpoints", "__MACOSX", ".txt 1", "empty"))


def test_loops_of_links_end_and_pipes_are_found_bad(plant: Plant) -> None:
    photos = plant("photos", cat=6, dog=6)
    (photos / "cat" / "again").symlink_to(photos / "cat", target_is_directory=True)
    os.mkfifo(photos / "cat" / "pipe.jpg")
    data = Dataset.open(photos, options=SourceOptions(max_bad=0.1))
    assert data.audit.bad == [("cat/pipe.jpg", "not a regular file")]
    assert sum(data.audit.tree()["counts"][s]["cat"] for s in ("train", "select", "id")) == 6


def test_a_missing_path_names_its_neighbour(plant: Plant) -> None:
    photos = plant("photos", cat=1)
    refused("D01", "photoz not found", "Did you mean photos?", path=photos.with_name("photoz"))


def test_loose_pictures_one_class_and_a_split_twice_are_refused(plant: Plant, tmp_path: Path) -> None:
    plant("loose", **{".": 3})
    refused("D02", "holds 3 images but no class folders", "--image-col", path=tmp_path / "loose")
    refused("D03", "Only one class («cat»)", path=plant("single", cat=4))
    plant("twice/train", cat=3, dog=3)
    plant("twice/val", cat=1, dog=1)
    refused("D02", "both the select split", path=plant("twice/valid", cat=1, dog=1).parent)
    (tmp_path / "photos.zip").write_bytes(b"PK")
    refused("D01", "neither a folder", path=tmp_path / "photos.zip")


def test_other_domains_are_report_splits_under_the_same_classes(plant: Plant) -> None:
    photos, winter = plant("photos", cat=6, dog=6), plant("photos_winter", dog=2, cat=1)
    data = Dataset.open(photos, ood={"winter": winter})
    assert data.domains == ("id", "winter")
    report = data.read_report("test")
    assert sorted(data.classes.folders[r.label] for r in report["winter"].records) == ["cat", "dog", "dog"]
    for name in ("id", "train", ""):
        with pytest.raises(UsageError, match="taken"):
            Dataset.open(photos, ood={name: winter})
    with pytest.raises(DataError, match="winter has 1 class that train lacks: Cat") as caught:
        Dataset.open(photos, ood={"winter": plant("other", Cat=2, dog=2)})
    assert caught.value.code == "D04"
    assert "Did you mean cat?" in str(caught.value)


def test_options_and_kinds_are_checked(plant: Plant) -> None:
    photos = plant("photos", cat=4, dog=4)
    with pytest.raises(ConfigError, match="Did you mean max_bad"):
        Dataset.from_folder(photos, max_bed=1)
    with pytest.raises(ConfigError, match="held_out"):
        Dataset.from_folder(photos, held_out=(0.5, 0.5))
    with pytest.raises(UsageError, match="not a table"):
        Dataset.from_table(photos)


# -- tables ----------------------------------------------------------------------------------------------------


def table(plant: Plant, name: str, rows: list[str]) -> Path:
    root = plant("photos", cat=8, dog=8)
    path = root.parent / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    return path


def listing(*columns: str) -> list[str]:
    return [f"photos/{c}/{i}.png," + ",".join((c, *columns)) for c in ("cat", "dog") for i in range(8)]


def test_a_csv_by_its_usual_columns_relative_to_itself(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(plant, "labels.csv", ["File,Species", *listing()])
    monkeypatch.chdir("/")
    data = Dataset.from_table(path)
    assert data.classes.folders == ("cat", "dog")
    assert all(data.classes.folders[r.label] == r.path.parent.name for r in data.train.records)
    assert data.train.open(0).size == (24, 24)
    for mark, name in (("\t", "labels.tsv"), (";", "semi.csv")):
        other = path.with_name(name)
        other.write_text(path.read_text().replace(",", mark))
        assert Dataset.open(other).train.labels_N.tolist() == data.train.labels_N.tolist()


def test_wrong_columns_and_blank_cells_are_named(plant: Plant) -> None:
    path = table(plant, "labels.csv", ["file,kind,site", *listing("x")])
    refused("D05", "for the class", "Columns: file, kind, site", "--label-col NAME", path=path)
    refused("D05", "no column «kinds». Did you mean kind?", path=path, label_col="kinds")
    assert Dataset.open(path, options=SourceOptions(label_col="kind")).classes.folders == ("cat", "dog")
    path.write_text("file,label\n" + "\n".join([*listing(), "photos/cat/0.png,"]))
    refused("D05", "1 of 17 rows", "row 17", path=path)
    path.write_text("file,label\n" + "\n".join([*listing(), "a,b,c"]))
    refused("D05", "row 17", "3 cells", path=path)
    path.write_bytes(b"file,label\n\xff\xfe")
    refused("D05", "UTF-8", path=path)


def test_paths_that_are_not_there_are_counted(plant: Plant) -> None:
    path = table(plant, "labels.csv", ["file,label", *(line.replace("photos/", "") for line in listing())])
    refused("D06", "16 of 16 image paths", "first: cat/0.png", str(path.parent / "cat/0.png"), path=path)
    root = str(path.parent / "photos")
    assert len(Dataset.open(path, options=SourceOptions(image_root=root)).train) == 12
    path.write_text("file,label\n" + "\n".join([*listing(), "photos/cat/99.png,cat"]))
    refused("D06", "1 of 17", path=path)
    assert Dataset.open(path, options=SourceOptions(max_bad=0.1)).audit.bad[0][0] == "photos/cat/99.png"


def test_split_domain_and_group_columns(plant: Plant) -> None:
    lines = [f"{line},{('train', 'val', 'test', 'test')[i % 4]},{'snow' if i % 4 == 3 else ''},g{i}"
             for i, line in enumerate(listing())]  # fmt: skip
    path = table(plant, "labels.csv", ["file,label,split,domain,camera", *lines])
    data = Dataset.open(path, options=SourceOptions(group_col="camera"))
    report = data.read_report("test")
    assert {name: len(s) for name, s in report.items()} == {"id": 4, "snow": 4}
    assert (len(data.train), len(data.select)) == (4, 4)
    assert data.train.groups == ("g0", "g4", "g8", "g12")
    path.write_text(path.read_text().replace(",val,", ",fold2,"))
    refused("D05", "«fold2»", "train, val and test", path=path)


def test_without_a_split_column_the_largest_domain_is_trained_on(plant: Plant) -> None:
    lines = [f"{line},{'snow' if i % 4 == 3 else 'sun'}" for i, line in enumerate(listing())]
    data = Dataset.open(table(plant, "labels.csv", ["file,label,domain", *lines]))
    assert data.domains == ("id", "snow")
    assert len(data.read_report("test")["snow"]) == 4
    assert "largest domain, «sun»" in data.audit.text()


def test_pictures_in_parquet_with_hugging_face_names(tmp_path: Path, draw: Callable[..., Image.Image]) -> None:
    pictures = []
    for i in range(12):
        buffer = io.BytesIO()
        draw(i).save(buffer, "PNG")
        pictures.append({"bytes": buffer.getvalue(), "path": f"{i}.png"})
    labels = [i % 2 for i in range(12)]
    about = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["red fox", "lynx"]}, "image": {}}}}
    data = pa.table({"image": pictures, "label": labels})
    pq.write_table(data.replace_schema_metadata({"huggingface": json.dumps(about)}), tmp_path / "p.parquet")
    pq.write_table(data, tmp_path / "plain.parquet")
    named = Dataset.open(tmp_path / "p.parquet")
    assert named.classes.folders == ("lynx", "red fox")
    for i, r in enumerate(named.train.records):
        assert r.key == f"p.parquet#{r.row}"
        assert named.train.open(i).tobytes() == draw(r.row).tobytes()
        assert named.classes.folders[r.label] == ("red fox", "lynx")[r.row % 2]
    assert Dataset.open(tmp_path / "plain.parquet").classes.folders == ("0", "1")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    refused("D05", "not a readable parquet", path=tmp_path / "broken.parquet")


def test_repeated_rows_are_left_out_and_two_labels_are_both_kept(plant: Plant) -> None:
    path = table(plant, "labels.csv", ["file,label", *listing(), "photos/cat/0.png,cat", "photos/cat/1.png,dog"])
    source = read(path, SourceOptions())
    assert len(source.found) == len({f.key for f in source.found}) == 17
    assert "1 rows" in source.notices[0].message
