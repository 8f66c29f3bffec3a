"""`ls datasets` and `ls suites`: what is here, where the rest was looked for, how to get it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from likewise.cli import run

Said = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("likewise.datasets.named.roots", lambda: [tmp_path])
    return tmp_path


def listed(capsys: Said, *words: str) -> dict[str, dict[str, Any]]:
    assert run(["ls", *words, "--json"]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_captions_are_listed_like_data_with_classes(root: Path, capsys: Said) -> None:
    (root / "flickr30k").mkdir()
    (root / "flickr30k" / "dataset_flickr30k.json").touch()
    rows = listed(capsys, "datasets")
    keys = {"name", "has", "here", "title", "looked", "get", "licence", "paper", "counts", "notes"}
    assert {frozenset(row) for row in rows.values()} == {frozenset(keys)}
    captions = {"icon-captions", "coco-captions", "coco-captions-2014", "coco-captions-2017", "flickr30k", "cc3m"}
    assert {name for name, row in rows.items() if row["has"] == "captions"} == captions
    assert rows["flickr30k"]["here"] == str(root / "flickr30k")
    for name, folder in (("coco-captions", "coco"), ("cc3m", "cc3m"), ("mnist", "mnist")):
        assert rows[name]["here"] == "no"
        assert str(root / folder) in rows[name]["looked"]
    assert "dataset_coco.json" in rows["coco-captions"]["get"]
    assert rows["coco-captions"]["counts"] == {"pairs": 113_287, "held": 5_000}
    assert rows["icon-captions"]["here"] == rows["iconshift"]["here"] == "ships or in a package"
    assert all(row["get"] for row in rows.values() if row["looked"])
    assert run(["ls", "datasets", "--like", "flickr"]) == 0
    assert str(root / "flickr30k") in capsys.readouterr().out.replace("\n", "")


def test_a_suite_says_where_its_missing_data_was_looked_for(root: Path, capsys: Said) -> None:
    rows = listed(capsys, "suites", "--like", "wise-ft")
    (missing,) = [row["missing data"] for row in rows.values()]
    assert str(root / "imagenet") in missing["imagenet"]
    assert "register at https://image-net.org" in missing["imagenet"]
    assert run(["ls", "suites", "--like", "wise-ft"]) == 0
    assert "imagenet" in capsys.readouterr().out
