"""What a run on captions refuses or says before it writes or trains anything, and a dry run with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import likewise as lw
from likewise.cli import run as cli
from likewise.data.captions import PairOptions, Pairs, from_classes, open_pairs
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError, DataError, UsageError
from likewise.recipe import Machine
from likewise.recipes import RECIPES, captions, for_captions
from likewise.run.caption import caption
from likewise.run.caption_again import interpolate
from likewise.run.caption_before import check
from likewise.run.planning import possible
from likewise.run.watch import Watch
from tiny import shrunk, write_data
from vision import BLOCKLESS, IN_BLOCKS, pair_at


@pytest.fixture(scope="module")
def pairs(stones: Path) -> Pairs:
    return from_classes(write_data(stones / "data"), ("{}.", "a {} thing."))


def test_what_does_not_learn_from_captions_is_refused(
    fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs, tmp_path: Path
) -> None:
    for name, why in (("ln", "learns from classes"), ("knn", "learns from classes"), ("lp-ft", "learns from classes")):
        with pytest.raises(ConfigError, match=why):
            check({name: RECIPES[name]})
    with pytest.raises(UsageError, match=r"no method «flim» for captions\. Did you mean film"):
        for_captions("flim")
    with pytest.raises(UsageError, match="nothing to judge by"):
        caption(fresh("with-vit"), pairs, {}, [], tmp_path / "none")
    with pytest.raises(UsageError, match="the same name"):
        caption(fresh("with-vit"), pairs, {}, [data, data], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_path_of_nothing_but_its_beginning_is_refused(
    fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no point but 0"):
        lw.caption(fresh("with-vit"), pairs, "film", [data], tmp_path / "x", alphas=(0.0,))
    assert not (tmp_path / "x").exists()


def tried(stones: Path, pairs: Path, *rest: str) -> int:
    """The command's exit status before anything is trained, on the tiny pair."""
    pair_at(stones, "with-vit")
    places = (stones / "vision" / "vit", stones / "encoders" / "plain")
    tower, text = (f"local-dir:{place}" for place in places)
    judge_by = str(stones / "data" / "train")
    return cli(["caption", str(pairs), "--encoder", tower, "--text", text, "--eval", judge_by, *rest])


def table(path: Path, data: Dataset, captions: list[str]) -> Path:
    """Captions of pictures that `tried`'s judge has not, as a CSV."""
    chosen = data.select.records[: len(captions)]
    lines = [f"{r.path.absolute()},{caption}" for r, caption in zip(chosen, captions, strict=True)]
    path.write_text("\n".join(["filepath,caption", *lines, ""]))
    return path


def test_blank_captions_are_left_out_as_the_error_says(
    stones: Path, data: Dataset, tmp_path: Path, capsys: Any
) -> None:
    path = table(tmp_path / "pairs.csv", data, ["red", "green", "blue", ""])
    assert tried(stones, path, "--dry-run", "-o", str(tmp_path / "run")) == 1
    assert "--max-bad 0.25" in capsys.readouterr().err
    assert tried(stones, path, "--dry-run", "-o", str(tmp_path / "run"), "--max-bad", "0.25") == 0
    assert tried(stones, path, "--dry-run", "--max-bad", "0.25", "--on-bad-image", "error") == 1
    said = capsys.readouterr().err
    assert "leave them out with --on-bad-image skip." in said
    assert "--max-bad" not in said


def test_damaged_pictures_of_a_judge_and_of_rehearsal_go_by_the_same_flags(
    stones: Path, data: Dataset, tmp_path: Path, capsys: Any
) -> None:
    path = table(tmp_path / "pairs.csv", data, ["red", "green", "blue", "grey"])
    shutil.copytree(stones / "data" / "train", tmp_path / "spoilt")
    (tmp_path / "spoilt" / "red" / "0.png").write_bytes(b"<html>")
    for flag in ("--eval", "--replay"):
        words = (flag, str(tmp_path / "spoilt"), "--method", "token-replay", "--dry-run")
        assert tried(stones, path, *words) == 1
        assert "1 images (5.6%) cannot be read, over the 1% limit" in capsys.readouterr().err
        assert tried(stones, path, *words, "--max-bad", "10%") == 0
        assert tried(stones, path, *words, "--max-bad", "10%", "--on-bad-image", "error") == 1


def test_captions_of_which_some_are_cut_are_a_warning_of_the_run(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    path = table(tmp_path / "pairs.csv", data, ["red", "green", "blue " * 100, "grey"])
    recipes, heard = {"caption-ln": shrunk(for_captions("ln")[1])}, Heard()
    given, out = open_pairs(path, PairOptions(held=0)), tmp_path / "run"
    report = data.read_report("a test")
    judge = lw.Dataset("dark", data.classes, data.train, replace(report["dark"], role="select"), [report["id"]])
    run = lw.caption(fresh("with-vit"), given, recipes, judge, out, alphas=(0.0, 1.0), watch=heard)
    (warning,) = run.results["warnings"]
    assert warning["code"] == "D11"
    assert warning["message"].startswith("1 of 4 different captions exceed the 16 tokens")
    assert f"D11 {warning['message']}" in heard.lines
    assert "warning D11</span> 1 of 4 different captions" in (out / "report.html").read_text()


def test_a_dry_run_refuses_what_the_run_would(stones: Path, data: Dataset, tmp_path: Path, capsys: Any) -> None:
    path = table(tmp_path / "pairs.csv", data, ["red", "green", "blue", "grey"])
    place = "stages.1.replay.at=[image.9.block]"
    assert tried(stones, path, place, "--method", "token-replay", "--dry-run") == 2
    said = capsys.readouterr().err
    assert "has no place «image.9.block» whose tokens could be compared" in said
    assert "nothing would train" not in said
    assert tried(stones, path, "--dry-run", "--method", "ln", "stages.1.trains=[image.*norm*, text, scale]") == 2
    assert "loss.bank keeps texts' features from step to step" in capsys.readouterr().err
    judge = str(stones / "data" / "train")
    for words, code, why in (
        (("--alpha", "0"), 2, "alphas name no point but 0"),
        (("--eval", judge), 2, "two data sets to judge by have the same name"),
        (("--time-limit", "soon"), 2, "«soon» is not a time"),
        (("--method", "token-replay", "--replay", str(tmp_path / "gone")), 1, "gone not found"),
    ):
        assert tried(stones, path, "--dry-run", *words) == code
        assert why in capsys.readouterr().err
    path = table(tmp_path / "long.csv", data, [f"{colour} " * 100 for colour in ("red", "green", "blue", "grey")])
    assert tried(stones, path, "--dry-run") == 1
    assert "none is read whole" in capsys.readouterr().err


def test_pictures_to_rehearse_need_a_method_that_replays(
    fresh: Callable[[str], Encoder], stones: Path, data: Dataset, pairs: Pairs, tmp_path: Path, capsys: Any
) -> None:
    path = table(tmp_path / "pairs.csv", data, ["red", "green", "blue", "grey"])
    rehearsed = ("--replay", str(stones / "data" / "train"), "--dry-run", "--method")
    assert tried(stones, path, *rehearsed, "ln") == 2
    assert "caption-ln would not rehearse them" in capsys.readouterr().err
    assert tried(stones, path, *rehearsed, "ln,token-replay") == 0
    with pytest.raises(UsageError, match="Add the method token-replay"):
        lw.caption(fresh("with-vit"), pairs, "ln", data, tmp_path / "run", replayed=data.train)


# -- pictures that the judge measures on --------------------------------------------------------------------------


class Heard(Watch):
    """What is said, kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def leaking(path: Path, data: Dataset, leaks: int) -> Pairs:
    """Four training pictures of the data with captions, and so many of its pictures to select on, in other files."""
    path.mkdir()
    rows = [f"{record.path.absolute()},a picture number {i}" for i, record in enumerate(data.train.records[:4])]
    for i, record in enumerate(data.select.records[:leaks]):
        with Image.open(record.path) as image:
            image.save(path / f"{i}.bmp")
        rows.append(f"{i}.bmp,a leak number {i}")
    (path / "pairs.csv").write_text("\n".join(["filepath,caption", *rows, ""]))
    return open_pairs(path / "pairs.csv", PairOptions(held=0))


def test_pictures_that_a_judge_measures_on_are_left_out_and_said(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    given, heard = leaking(tmp_path / "web", data, 3), Heard()
    recipes = {"caption-ln": shrunk(for_captions("ln")[1])}
    run = lw.caption(fresh("with-vit"), given, recipes, data, tmp_path / "run", alphas=(0.0, 1.0), watch=heard)
    said = "the pictures of 3 of 7 pairs are select or report pictures of colours (same pixels)"
    assert any(line.startswith(f"D10 {said}") for line in heard.lines)
    (warning,) = run.results["warnings"]
    assert warning["code"] == "D10"
    assert warning["message"].startswith(said)
    assert f"warning D10</span> {said}" in (run.path / "report.html").read_text()
    assert f"- warning D10: {said}" in (run.path / "report.md").read_text()
    trained_on = pq.read_table(run.path / "data" / "pairs.parquet").column("key").to_pylist()
    assert not any(key.endswith(".bmp") for key in trained_on)
    assert len(trained_on) == 4
    about = json.loads((run.path / "data" / "pairs.json").read_text())
    assert about["pictures"] == 4
    assert len(about["audit"]["duplicates"]) == 3
    log = json.loads((run.path / "data" / "access.json").read_text())
    assert [entry["why"].split(",")[0] for entry in log] == ["once"]


def test_pairs_that_are_all_measured_on_are_refused(
    fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    given = leaking(tmp_path / "web", data, 3).only([4, 5, 6])
    with pytest.raises(DataError, match="no pair is left to train on"):
        lw.caption(fresh("with-vit"), given, "ln", data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_says_what_it_leaves_out(stones: Path, data: Dataset, tmp_path: Path, capsys: Any) -> None:
    """The judge is all of the data, in folders: what it divides off is found in the pairs, whatever they are called."""
    judge = lw.Dataset.open(stones / "data" / "train")
    mixed = [*judge.select.records, *data.select.records[:4]]
    rows = [f"{r.path.absolute()},number {i}" for i, r in enumerate(mixed)]
    (tmp_path / "pairs.csv").write_text("\n".join(["filepath,caption", *rows, ""]))
    assert tried(stones, tmp_path / "pairs.csv", "--dry-run", "--method", "ln") == 0
    assert re.search(r"D10 the pictures of [123] of [56] pairs are", capsys.readouterr().err)
    short = ("--method", "ln", "stages.0.fit.epochs=1", "stages.1.fit.epochs=1", "--alpha", "0,1")
    assert tried(stones, tmp_path / "pairs.csv", *short, "-o", str(tmp_path / "run")) == 0
    said = capsys.readouterr().err  # one or two of the seven are held, and held ones may be measured on
    assert re.search(r"D10 the pictures of [123] of [56] pairs are select or report pictures of train", said)


# -- methods that an encoder cannot have --------------------------------------------------------------------------


def test_a_method_that_cannot_be_is_left_out_and_the_others_run(
    fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs, tmp_path: Path
) -> None:
    """On a convolutional network there are no blocks for LoRA."""
    heard = Heard()
    recipes = {name: shrunk(for_captions(name)[1]) for name in ("caption-lora", "caption-ln")}
    encoder = fresh("with-resnet")
    run = lw.caption(encoder, pairs, recipes, data, tmp_path / "run", alphas=(0.0, 1.0), watch=heard)
    why = "caption-lora cannot be used with .*LoRA has no place «image.*qkv.weight»"
    assert set(run.results["methods"]) == {"caption-ln"}
    assert list(run.results["skipped"]) == ["caption-lora"]
    assert re.search(why, run.results["skipped"]["caption-lora"])
    assert any(re.search(f"^left out caption-lora: {why}", line) for line in heard.lines)
    assert "caption-lora was left out: caption-lora cannot be used" in (run.path / "report.html").read_text()
    with pytest.raises(UsageError, match=rf"caption-lora was left out of {run.path}: {why}"):
        interpolate(run.path, (0.5,), Machine(), Watch(), ["lora"])
    # the question is the same with it, so the run goes on where it stopped
    (run.path / "STATUS").write_text("interrupted\n")
    again = lw.caption(encoder, pairs, recipes, data, run.path, alphas=(0.0, 1.0), resume=True)
    assert again.results["skipped"] == run.results["skipped"]


def test_where_no_method_can_be_nothing_is_written(
    fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs, tmp_path: Path
) -> None:
    for names in ("lora", "lora,bottleneck"):
        with pytest.raises(ConfigError, match="caption-lora cannot be used with"):
            lw.caption(fresh("with-resnet"), pairs, names, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", BLOCKLESS)
def test_on_convolutional_networks_four_are_refused_and_the_docs_name_them(
    fresh: Callable[[str], Encoder], kind: str
) -> None:
    found, refused = possible(captions.RECIPES, fresh(kind), 9, 9)
    assert set(refused) == set(IN_BLOCKS)
    assert set(found) | set(refused) == set(captions.RECIPES)
    text = (Path(__file__).parents[1] / "docs" / "methods" / "captions.md").read_text()
    told = re.search(r"refused on convolutional networks[^:]*:(.*?)\.", text, re.DOTALL)
    assert told is not None
    assert set(re.findall(r"`([\w-]+)`", told[1])) == set(refused)
    replaying = re.search(r'--method (film-channels) "(stages\.1\.replay=[^"]*)"', text)
    assert replaying is not None
    recipe = for_captions(replaying[1])[1].edited(replaying[2])
    assert possible({"x": recipe}, fresh(kind), 9, 9)[1] == {}
