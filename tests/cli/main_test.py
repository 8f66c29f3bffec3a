"""The command line as a person meets it: exit codes, messages, files, JSON; in one process, on tiny encoders."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

import likewise as lw
from likewise import files, suites
from likewise.cli import run
from likewise.cli.terminal import alphas, seconds
from likewise.errors import UsageError
from likewise.metrics import standard_error
from likewise.recipe import then
from likewise.run.choose import Contender, choose
from likewise.suites import Suite

Said = pytest.CaptureFixture[str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two kinds of picture that a probe can tell apart: bright on the left or on the right, with noise."""
    rng = np.random.default_rng(0)
    for label, side in (("left", 0), ("right", 1)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
            pixels[:, 8 * side : 8 * side + 8] += 150
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def model(folder_of: Callable[[str], Path]) -> str:
    return f"local-dir:{folder_of('plain')}"


def test_adapt_leaves_a_run_that_the_other_commands_read(
    photos: Path, model: str, tmp_path: Path, capsys: Said
) -> None:
    out = tmp_path / "run"
    assert run(["adapt", str(photos), "-o", str(out), "-e", model, "--methods", "knn,linear", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"rows", "chosen", "seconds", "out"} == set(said)
    keys = {"method", "alpha", "split", "domain", "metric", "value", "low", "high", "n"}
    assert all(set(row) == keys for row in said["rows"])
    assert {row["method"] for row in said["rows"]} == {"zero-shot", "knn", "linear"}
    assert (out / "STATUS").read_text() == "done\n"
    assert (out / "report.html").read_text().startswith("<!")
    best = max(row["value"] for row in said["rows"] if row["metric"] == "accuracy" and row["split"] == "report")
    assert best == 1.0  # the two classes differ in half of their pixels

    # the report split was read after the choice, once, and the log says so
    log = json.loads((out / "data" / "access.json").read_text())
    assert len(log) == 1

    picture = str(photos / "left" / "0.png")
    assert run(["predict", str(out), picture, "--json"]) == 0
    guess = json.loads(capsys.readouterr().out)[0]
    assert abs(sum(guess["probabilities"]) - 1) < 1e-5

    assert run(["eval", str(out), str(photos), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert next(r["n"] for r in rows) == 40

    assert run(["interpolate", str(out), "--alpha", "0,1", "--json"]) == 0
    path = json.loads(capsys.readouterr().out)["rows"]
    for alpha, twin in ((0.0, ("zero-shot", None)), (1.0, ("linear", 1.0))):
        mine = next(r for r in path if r["alpha"] == alpha and r["split"] == "report" and r["metric"] == "accuracy")
        theirs = next(r for r in said["rows"] if (r["method"], r["alpha"]) == twin and r["split"] == "report"
                      and r["metric"] == "accuracy" and r["domain"] == mine["domain"])  # fmt: skip
        assert mine["value"] == theirs["value"]
    assert len(json.loads((out / "data" / "access.json").read_text())) == 2

    # of one method alone it is the same
    assert run(["interpolate", str(out), "--alpha", "0,1", "--method", "linear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == [r for r in path if r["method"] == "linear"] == path
    for name, said_of in (
        ("linaer", r"has no method «linaer». Did you mean linear? Methods of this run with a path: linear."),
        ("linear,knn", "knn has no path to the pretrained model: a neighbours head"),
        (",", "names no method"),
    ):
        assert run(["interpolate", str(out), "--method", name]) == 2
        assert said_of in capsys.readouterr().err
    assert len(json.loads((out / "data" / "access.json").read_text())) == 3  # which read no report split

    assert run(["report", str(out), "-o", str(tmp_path / "again.html")]) == 0

    # the model is an open_clip folder, and what open_clip builds from it is what we built
    module = open_clip.create_model(f"local-dir:{out / 'model'}")
    assert torch.equal(
        module.state_dict()["visual.proj"], lw.Run.load(out).predictor.encoder.module.state_dict()["visual.proj"]
    )

    # a second run into the same folder would lose something, and is refused
    assert run(["adapt", str(photos), "-o", str(out), "-e", model, "--methods", "knn"]) == 2
    assert "R01" in capsys.readouterr().err
    assert (out / "STATUS").read_text() == "done\n"
    # the same question again, resumed, trains nothing and gives the same rows
    assert (
        run(["adapt", str(photos), "-o", str(out), "-e", model, "--methods", "knn,linear", "--json", "--resume"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["rows"] == said["rows"]
    assert len(json.loads((out / "data" / "access.json").read_text())) == 3  # and reads no report split again
    # another question may not be mixed in
    assert (
        run(["adapt", str(photos), "-o", str(out), "-e", model, "--methods", "knn,linear", "--seed", "1", "--resume"])
        == 2
    )
    assert "differ" in capsys.readouterr().err


def test_train_edits_the_recipe(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    words = ["train", "flyp", str(photos), "stages.0.fit.epochs=1", "stages.0.fit.lr=1e-3", "-e", model]
    assert run([*words, "-o", str(tmp_path / "run"), "--json"]) == 0
    assert '"epochs: 1"' not in capsys.readouterr().out
    assert "epochs: 1\n" in (tmp_path / "run" / "config.yaml").read_text()
    assert run([*words[:3], "stages.0.fit.epoch=1", "-e", model]) == 2
    assert "Did you mean epochs" in capsys.readouterr().err


def test_edits_after_adapts_data_are_sent_to_train(photos: Path, capsys: Said) -> None:
    assert run(["adapt", str(photos), "stages.0.fit.lr=1e-3", "--methods", "ln", "seed=1"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error U01: adapt compares methods as they are, and stages.0.fit.lr=1e-3 edits one.")
    assert f"likewise train METHOD {photos} stages.0.fit.lr=1e-3 seed=1 (methods" in said
    assert run(["adapt", str(photos), "winter/"]) == 2
    assert "winter/ is one too many. Data from elsewhere: --ood NAME=winter/." in capsys.readouterr().err
    assert run(["check", str(photos), "winter/"]) == 2  # elsewhere it is Typer that says it
    assert "unexpected extra argument" in capsys.readouterr().err
    assert run(["adapt", "--help"]) == 0
    assert "FURTHER" not in capsys.readouterr().out


def test_a_model_with_something_added_is_kept_and_read(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    recipes = lw.recipes.RECIPES
    mine = then(recipes["film-blocks"], recipes["linear"])
    edits = [f"stages.0.fit.{edit}" for edit in ("lr=0.05", "epochs=2", "batch=16")]
    (tmp_path / "mine.yaml").write_text(mine.edited("title=mine").yaml())
    out = tmp_path / "run"
    assert run(["train", str(tmp_path / "mine.yaml"), str(photos), *edits, "-e", model, "-o", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["chosen"]["method"] == "mine"
    alpha = said["chosen"]["alpha"]
    assert alpha > 0
    assert (out / "model" / "adapters.safetensors").exists()
    rows = {
        (r["alpha"], r["split"]): r["value"]
        for r in said["rows"]
        if r["method"] == "mine" and r["metric"] == "accuracy"
    }
    # the model on disk, asked about the pictures of the report split, is right as often as the run said
    guesses = lw.Run.load(out).predictor.predict(sorted(photos.rglob("*.png")), topk=1)
    split = {row["path"]: row["role"] for row in pq.read_table(out / "data" / "split.parquet").to_pylist()}
    right = [Path(g.path).parent.name == g.names[0] for g in guesses if split[g.path] == "report"]
    assert sum(right) / len(right) == rows[alpha, "report"]
    assert run(["interpolate", str(out), "--alpha", f"0,{alpha}", "--json"]) == 0
    path = {
        (r["alpha"], r["split"]): r["value"]
        for r in json.loads(capsys.readouterr().out)["rows"]
        if r["metric"] == "accuracy"
    }
    assert all(path[at] == rows[at] for at in ((0.0, "report"), (alpha, "report"), (alpha, "select")))
    assert run(["eval", str(out), str(photos), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = next(r for r in rows if r["metric"] == "accuracy")
    assert (found["n"], found["value"]) == (40, sum(Path(g.path).parent.name == g.names[0] for g in guesses) / 40)


def test_time_limit_leaves_out_and_says_so(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    words = [
        "adapt",
        str(photos),
        "-o",
        str(tmp_path / "run"),
        "-e",
        model,
        "--methods",
        "flyp",
        "--time-limit",
        "0.001s",
    ]
    # 34 training pictures make 10 steps: enough to measure five, and none of them in a millisecond
    assert run([*words, "--json"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert "flyp" in results["skipped"]
    assert "flyp" not in results["methods"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["adapt", "nowhere"], "D01", 1),
        (["adapt", "PHOTOS", "--methods", "flip"], "C01", 2),
        (["adapt", "PHOTOS", "--effort", "fast"], "C01", 2),
        (["adapt", "PHOTOS", "--ood", "winter"], "U01", 2),
        (["adapt", "PHOTOS", "--encoder", "open_clip:ViT-B-17/openai"], "M01", 2),
        (["adapt", "PHOTOS", "--encoder", "open_clip:ViT-B-16/opena"], "M01", 2),
        (["adapt", "PHOTOS", "--encoder", "open_clip:ViT-B-32/ft.pt"], "M02", 2),
        (["adapt", "PHOTOS", "--time-limit", "soon"], "C01", 2),
        (["adapt", "PHOTOS", "--shots", "100"], "D08", 1),
        (["interpolate", "PHOTOS", "--alpha", "0:2:0.5"], "C01", 2),
        (["predict", "PHOTOS", "x.png"], "D01", 2),
        (["report", "PHOTOS"], "", 1),
        (["plan", "lnn"], "C01", 2),
        (["ls", "recipies"], "C01", 2),
        (["cat", "ikonshift"], "C01", 2),
        (["adapt", "PHOTOS", "--methods", ","], "C01", 2),
        (["adapt", "PHOTOS", "--ood", "ood-mean=PHOTOS"], "D01", 1),
        (["adapt", "PHOTOS", "--device", "abacus"], "E01", 3),
        (["adapt", "PHOTOS", "-o", "/dev/null", "--methods", "knn"], "R01", 2),
        (["adapt", "PHOTOS", "-o", "/proc/nothing/here", "--methods", "knn"], "E02", 3),
        (["interpolate", "PHOTOS", "--alpha", "1:0:0.1"], "C01", 2),
        (["interpolate", "PHOTOS", "--alpha", "0:1:0.3"], "C01", 2),
        (["adapt"], "", 2),
        (["adept", "PHOTOS"], "", 2),
    ],
)
def test_bad_input(
    words: list[str],
    code: str,
    exit_code: int,
    photos: Path,
    tmp_path: Path,
    capsys: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    assert run([str(photos) if w == "PHOTOS" else w for w in words]) == exit_code
    said = capsys.readouterr().err
    assert code in said
    assert "Traceback" not in said
    assert sorted(os.listdir(tmp_path)) == before  # nothing half-written is left


def test_a_fixed_alpha_from_python(photos: Path, model: str, tmp_path: Path) -> None:
    data = lw.Dataset.from_folder(photos)
    recipe = lw.recipes.flyp_wise.edited("stages.0.fit.epochs=1")
    run = lw.adapt(lw.load(model), data, recipe=recipe, out=tmp_path / "run")
    asked = {row["alpha"] for row in run.results["rows"] if row["method"] != "zero-shot"}
    assert 0.5 in asked
    assert run.results["chosen"]["alpha"] in (0.5, None)
    assert len(run.predictor.predict([photos / "left" / "0.png"])[0].names) == 2


def test_overwrite_takes_only_what_a_run_wrote(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    mine = tmp_path / "project"
    mine.mkdir()
    (mine / "config.yaml").write_text("a: 1")
    (mine / "thesis.txt").write_text("years of work")
    words = ["adapt", str(photos), "-e", model, "--methods", "linear", "-o"]
    assert run([*words, str(mine), "--overwrite"]) == 2
    assert "not a run of ours" in capsys.readouterr().err
    assert sorted(os.listdir(mine)) == ["config.yaml", "thesis.txt"]
    assert run([*words, str(tmp_path / "run")]) == 0
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert run([*words, str(tmp_path / "run"), "--overwrite", "--seed", "1"]) == 0
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert run([*words, str(tmp_path / "run"), "--overwrite", "--resume"]) == 2


def test_two_processes_do_not_share_a_folder(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    with files.lock(tmp_path / "run" / ".lock"):
        assert run(["adapt", str(photos), "-e", model, "--methods", "knn", "-o", str(tmp_path / "run")]) == 2
    assert "another process" in capsys.readouterr().err


def contender(method: str, alpha: float | None, kept: int, share: float, n: int = 50) -> Contender:
    return Contender(method, alpha, kept, share, n, standard_error(share, n))


def test_a_tie_goes_to_zero_shot() -> None:
    tied = [contender("zero-shot", None, 0, 0.8), contender("knn", None, 900, 0.8), contender("ln", 0.2, 64, 0.8)]
    assert choose(tied)[:2] == ("zero-shot", None)
    assert choose(tied[1:])[:2] == ("ln", 0.2)
    # far ahead wins though it is large; the nearest alpha of what cannot be told apart is taken
    path = [contender("flyp", a, 10**6, p, 1000) for a, p in ((0.2, 0.85), (0.9, 0.985), (1.0, 0.986))]
    assert choose([*tied, *path])[:2] == ("flyp", 0.9)
    # what is measured less surely cannot be told apart from farther away
    assert choose([*tied, *(one._replace(error=0.15) for one in path)])[:2] == ("flyp", 0.2)


def test_the_sentence_says_what_the_choice_is_of() -> None:
    """Where nothing is added there is nothing smaller, and a point without an alpha has no smallest one."""
    none, knn = contender("pre", None, 0, 0.8), contender("knn", None, 90, 0.81)
    ln = contender("ln", 0.5, 64, 0.99)
    assert choose([none, knn]).why == (
        "80.0 % on the select pictures is within one standard error (5.6) of the best, 81.0 % on the 50 select "
        "pictures (knn); it adds nothing."
    )
    assert choose([none._replace(accuracy=0.9), knn], "knn@20").why == (
        "best with 90.0 % knn@20 on the 50 select pictures (pre): nothing that adds to it does better."
    )
    assert choose([none, ln], "knn@20").why == (
        "best with 99.0 % knn@20 on the 50 select pictures (ln at alpha 0.5), and nothing smaller comes within one "
        "standard error (2.9)."
    )
    assert choose([knn, knn._replace(method="tip", kept=900, accuracy=0.82)]).why.endswith(
        "(tip); of those that close it adds fewest numbers."
    )
    assert choose([ln, ln._replace(alpha=1.0, accuracy=0.995)], "knn@20").why.endswith(
        "(ln at alpha 1); of those that close it adds fewest numbers, at the smallest alpha."
    )


def test_a_method_that_diverges_is_left_out(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    words = ["train", "ft", str(photos), "stages.0.fit.lr=1e30", "stages.0.fit.clip=0", "-e", model]
    assert run([*words, "-o", str(tmp_path / "run"), "--json"]) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert "not finite" in results["skipped"]["ft"]
    capsys.readouterr()


def test_a_bug_of_ours_is_exit_5(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr("likewise.recipes.get", broken)
    assert run(["plan", "ln"]) == 5
    said = capsys.readouterr().err
    assert "X01" in said
    assert "on purpose" in Path(said.split(" is in ")[1].split(";")[0]).read_text()


def test_check_says_what_is_wrong(photos: Path, capsys: Said) -> None:
    assert run(["check", str(photos)]) == 0
    (photos / "left" / "torn.png").write_bytes((photos / "left" / "0.png").read_bytes()[:60])
    (photos / "left" / "none.png").write_bytes(b"")
    capsys.readouterr()
    assert run(["check", str(photos), "--json"]) == 1
    codes = [finding["code"] for finding in json.loads(capsys.readouterr().out)["errors"]]
    assert codes == ["D07"]  # 2 of 42 is over the 1 % that is skipped
    assert run(["check", str(photos), "--max-bad", "10%"]) == 0


def test_split_is_read_back_as_it_was(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    for name in ("m.csv", "m.parquet"):
        assert run(["split", str(photos), "-o", str(tmp_path / name)]) == 0
        assert (
            run(["adapt", str(tmp_path / name), "-e", model, "-o", str(tmp_path / f"of-{name}"), "--methods", "knn"])
            == 0
        )
    runs = [json.loads((tmp_path / f"of-{n}" / "results.json").read_text())["rows"] for n in ("m.csv", "m.parquet")]
    assert runs[0] == runs[1]
    capsys.readouterr()


def test_dry_run_writes_nothing(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    assert run(["adapt", str(photos), "-e", model, "-o", str(tmp_path / "run"), "--dry-run"]) == 0
    assert not (tmp_path / "run").exists()
    assert "steps" in capsys.readouterr().out


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_classes_that_texts_cannot_tell_apart(
    photos: Path, model: str, tmp_path: Path, capsys: Said, dry: list[str]
) -> None:
    (photos / "right").rename(photos / "LEFT")
    words = ["adapt", str(photos), "-e", model, "-o", str(tmp_path / "run"), *dry, "--methods"]
    assert run([*words, "linear,ln"]) == 1
    said = capsys.readouterr().err
    assert "error D16: «LEFT» and «left» are the same tokens" in said
    assert "and ln would have no other way" in said
    assert not (tmp_path / "run").exists()
    assert run([*words, "linear"]) == 0
    assert "D16 «LEFT» and «left» are the same tokens" in capsys.readouterr().err


def test_plan_as_json(capsys: Said, model: str) -> None:
    assert run(["plan", "ln", "-e", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"recipe", "encoder", "trainable", "held", "names", "note"}
    assert found["note"] == ""
    # 2 blocks of two norms, one before and one after, in the image tower; the same but the first in the text tower
    assert found["trainable"] == 2 * 32 * (2 * 2 + 2) + 2 * 16 * (2 * 2 + 1)
    assert all("norm" in name for name in found["names"])
    assert run(["plan", "kim-probe", "-e", model, "--json"]) == 0
    assert "say --classes N" in json.loads(capsys.readouterr().out)["note"]
    # what is added is no part of what is held
    assert run(["plan", "cocoop", "-e", model, "--classes", "3", "--json"]) == 0
    added = json.loads(capsys.readouterr().out)
    assert added["names"] == [
        "adapters.prompt.text.vectors", "head.down.weight", "head.down.bias", "head.up.weight", "head.up.bias",
    ]  # fmt: skip
    assert added["trainable"] == 4 * 16 + (16 + 1) + (16 + 16)
    assert added["held"] == found["trainable"] + found["held"]


def test_a_method_that_an_encoder_cannot_have_says_why(
    folder_of: Callable[[str], Path], photos: Path, tmp_path: Path, capsys: Said
) -> None:
    resnet = f"local-dir:{folder_of('resnet')}"
    assert run(["plan", "vpt-deep", "-e", resnet]) == 2
    assert "no transformer blocks in its image tower" in capsys.readouterr().err
    assert run(["adapt", str(photos), "-e", resnet, "--methods", "linear,maple", "-o", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "maple" in said
    assert "no transformer blocks in its image tower" in said
    assert not (tmp_path / "run").exists()  # said before anything was trained, or written
    # so that the command, mended, runs as if it were the first
    assert run(["adapt", str(photos), "-e", resnet, "--methods", "linear", "-o", str(tmp_path / "run")]) == 0
    capsys.readouterr()


def test_lists_and_schema(capsys: Said) -> None:
    for words in (["ls"], ["ls", "datasets", "--json"], ["ls", "models", "--like", "icon"], ["schema"], ["cat", "ln"]):
        assert run(words) == 0
        assert capsys.readouterr().out


def test_a_suite_is_shown_whole_and_told_from_a_recipe_of_its_name(capsys: Said) -> None:
    assert run(["cat", "offline"]) == 0
    assert Suite.parse(yaml.safe_load(capsys.readouterr().out)) == suites.load("offline")[1]
    said = {}
    for word in ("clip-lora", "suite:clip-lora"):
        assert run(["cat", word]) == 0
        said[word] = "eleven data sets" in capsys.readouterr().out
    assert said == {"clip-lora": False, "suite:clip-lora": True}
    assert run(["cat", "ofline"]) == 2
    assert "Did you mean offline" in capsys.readouterr().err


def test_seconds_and_alphas() -> None:
    with pytest.raises(UsageError, match="leaves no time"):
        seconds("0m0s")
    assert [seconds(t) for t in ("90", "90s", "30m", "1h30m", "1.5h")] == [90, 90, 1800, 5400, 5400]
    assert alphas("0:1:0.25") == (0, 0.25, 0.5, 0.75, 1)
    assert alphas("0:1:0.1")[-1] == 1.0
    assert len(alphas("0:1:0.1")) == 11
    for wrong in ("", "a", "0:1", "1.5", "0:1:0"):
        with pytest.raises(UsageError):
            alphas(wrong)
