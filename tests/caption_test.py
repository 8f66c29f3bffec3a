"""The caption job: its protocol, what it leaves, going back to it, and what it refuses."""

# N pictures, W feature width.

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import likewise as lw
from likewise.cli import run as cli
from likewise.data.captions import Pairs, from_classes
from likewise.data.records import Dataset, Split
from likewise.encoder import Encoder
from likewise.errors import ConfigError, UsageError
from likewise.export.source import open_source
from likewise.heads import unit
from likewise.judge import Labelled, knn
from likewise.metrics import accuracy
from likewise.predict import features
from likewise.recipes import for_captions
from likewise.run.adapt import Run
from likewise.run.again import described
from likewise.run.artifact import Predictor
from likewise.run.caption_again import interpolate, judge
from likewise.run.choose import Choice
from likewise.run.results import find
from likewise.run.tower import load_tower, save_tower
from likewise.run.tuned import standing, stored
from likewise.run.watch import Watch
from tiny import Machine, shrunk, write_data
from vision import pair_at

NAMES = ("caption-ln", "caption-token-replay", "caption-film-blocks")
KNN = ("knn@10", "knn@20", "knn@100", "knn@200")


def other(data: Dataset) -> Dataset:
    """The same pictures as data of another name, in distribution only."""
    return Dataset("elsewhere", data.classes, data.train, data.select, [data.read_report("a test")["id"]])


def split_of(data: Dataset, rows: list[int]) -> Split:
    """Report pictures, numbered as pairs are."""
    chosen = data.read_report("a test")["id"].subset(rows).records
    return Split("held", "report", tuple(dataclasses.replace(r, label=i) for i, r in enumerate(chosen)))


@pytest.fixture(scope="module")
def pairs(stones: Path) -> Pairs:
    return from_classes(write_data(stones / "data"), ("{}.", "a {} thing."))


def job(
    encoder: Encoder, data: Dataset, pairs: Pairs, out: Path, names: tuple[str, ...] = NAMES, **settings: Any
) -> Run:
    recipes = {name: shrunk(for_captions(name, 30.0, encoder.new)[1]) for name in names}
    return lw.caption(encoder, pairs, recipes, [data, other(data)], out, alphas=(0.0, 0.5, 1.0), **settings)


@pytest.fixture(scope="module")
def run(fresh: Callable[[str], Encoder], stones: Path, pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return job(fresh("with-vit"), write_data(stones / "data"), pairs, tmp_path_factory.mktemp("captions") / "run")


def value(run: Run, **want: Any) -> float:
    row = find(run.results["rows"], **want)
    assert row is not None, want
    return float(row["value"])


def test_every_point_is_judged_on_every_domain_by_every_metric(run: Run) -> None:
    rows = run.results["rows"]
    points = [("pretrained", None), *((name, a) for name in NAMES for a in (0.0, 0.5, 1.0))]
    domains = {"select": ("select", "elsewhere:select"), "report": ("id", "dark", "elsewhere:id")}
    for method, alpha in points:
        for split, there in domains.items():
            for domain in there:
                for metric in (*KNN, "linear", "centroid"):
                    assert find(rows, method=method, alpha=alpha, split=split, domain=domain, metric=metric)
    judged = {"select", "elsewhere:select", "id", "dark", "elsewhere:id"}
    assert {r["domain"] for r in rows} == judged | {"ood-mean", "captions"}
    assert run.results["judges"] == ["colours", "elsewhere"]


def test_at_alpha_zero_every_method_is_the_pretrained_encoder(run: Run) -> None:
    for r in run.results["rows"]:
        if r["alpha"] == 0 and r["domain"] != "captions":  # whose projection no pretraining has seen
            assert r["value"] == value(run, method="pretrained", **{k: r[k] for k in ("split", "domain", "metric")})


def test_a_number_by_hand(run: Run, fresh: Callable[[str], Encoder], data: Dataset) -> None:
    """kNN of the token-replay tower at alpha 0.5, from the delta on disk, through the encoder and NumPy."""
    encoder = fresh("with-vit").vision  # type: ignore[attr-defined]
    tuned = stored(run.path / "methods" / "caption-token-replay", encoder)
    assert not {"image.projection", "scale"} & set(tuned.values)
    with standing(tuned, encoder, 0.5):
        bank_NW = unit(features(encoder, data.train, "pooled")).double().numpy()
        test_NW = unit(features(encoder, data.read_report("a test")["dark"], "pooled")).double().numpy()
    labels_N = data.train.labels_N
    hits = 0
    for row_W, label in zip(test_NW, data.read_report("a test")["dark"].labels_N, strict=True):
        cosine_N = bank_NW @ row_W
        near = np.argsort(-cosine_N)[:10]
        votes = np.bincount(labels_N[near], np.exp(cosine_N[near] / 0.07), minlength=3)
        hits += int(votes.argmax() == label)
    want = {"method": "caption-token-replay", "alpha": 0.5, "domain": "dark", "metric": "knn@10"}
    assert value(run, **want) == pytest.approx(hits / len(test_NW))


def test_alpha_is_chosen_on_select_and_the_report_is_read_once_afterwards(run: Run) -> None:
    choice = json.loads((run.path / "choice.json").read_text())
    assert choice["method"] == run.results["chosen"]["method"]
    assert set(choice["alphas"]) == {"pretrained", *NAMES}
    log = json.loads((run.path / "data" / "access.json").read_text())
    assert len(log) == 2  # once for each judge
    assert all(entry["why"].startswith("once, after") for entry in log)
    assert " % knn@20 on the " in choice["why"]


def test_what_it_leaves_loads_again(run: Run, fresh: Callable[[str], Encoder], data: Dataset) -> None:
    chosen = run.results["chosen"]
    pair = fresh("with-vit")
    tower = load_tower(run.path)
    assert not tower.has("text")
    want = features(tower, data.select, "pooled")
    if chosen["method"] == "pretrained":
        assert torch.equal(want, features(pair, data.select, "pooled"))
    else:
        with standing(stored(run.path / "methods" / chosen["method"], pair), pair, chosen["alpha"]):
            torch.testing.assert_close(want, features(pair, data.select, "pooled"), rtol=1e-4, atol=1e-5)
    (run.path / "model" / "likewise.json").rename(run.path / "model" / "aside.json")
    try:
        with pytest.raises(UsageError, match="holds no tuned tower"):
            load_tower(run.path)
    finally:
        (run.path / "model" / "aside.json").rename(run.path / "model" / "likewise.json")


def test_a_tower_names_no_classes_and_says_what_it_is(run: Run) -> None:
    for asked in (
        lambda: Predictor.load(run.path),
        lambda: Predictor.load(run.path / "model"),
        lambda: open_source(run.path),
    ):
        with pytest.raises(UsageError, match=r"likewise caption: .*image tower and no classes.*own library, of timm"):
            asked()


@pytest.mark.parametrize("name", NAMES)
def test_a_tower_with_and_without_folding_answers_the_same(
    run: Run, fresh: Callable[[str], Encoder], data: Dataset, tmp_path: Path, name: str
) -> None:
    pair = fresh("with-vit")
    tuned = stored(run.path / "methods" / name, pair)
    save_tower(tmp_path / "model", pair, Choice(name, 0.5, ""), tuned)
    assert (tmp_path / "model" / "adapters.safetensors").exists() == (name != "caption-ln")
    with standing(tuned, pair, 0.5):
        want = features(pair, data.select, "pooled")
    torch.testing.assert_close(features(load_tower(tmp_path), data.select, "pooled"), want, rtol=1e-4, atol=1e-5)
    assert not torch.equal(want, features(pair, data.select, "pooled"))


def test_going_back_gives_the_same_numbers(run: Run, data: Dataset) -> None:
    """All of them, retrieval too, of a method by its short name."""
    found = interpolate(run.path, (0.0, 0.5), Machine(), Watch(), ["ln"])
    keys = ("method", "alpha", "split", "domain", "metric")
    assert {tuple(r[k] for k in keys) for r in found["rows"]} == {
        tuple(r[k] for k in keys) for r in run.results["rows"] if r["method"] == "caption-ln" and r["alpha"] != 1
    }
    for r in found["rows"]:
        want = {k: r[k] for k in keys}
        assert r["value"] == pytest.approx(value(run, **want)), want
    assert {r["metric"] for r in found["rows"] if r["domain"] == "captions"} >= {"i2t@1", "t2i@1"}
    rows = judge(run.path, data, Machine(), Watch())
    chosen = {k: run.results["chosen"][k] for k in ("method", "alpha")}
    for metric in KNN:
        again = find(rows, domain="dark", metric=metric)
        assert again is not None
        assert again["value"] == pytest.approx(value(run, **chosen, split="report", domain="dark", metric=metric))
    again_data = described(run.path / "data" / "elsewhere", "elsewhere")
    assert again_data.domains == ("id",)
    assert [r.key for r in again_data.train.records] == [r.key for r in data.train.records]


def test_the_report_tells_the_choice_and_draws_a_panel_for_each_k(run: Run) -> None:
    page = (run.path / "report.html").read_text()
    assert all(f"<figcaption>{k} neighbours</figcaption>" in page for k in (10, 20, 100, 200))
    assert all(f"<figcaption>{d}</figcaption>" in page for d in ("id", "dark", "elsewhere:id"))
    assert page.count("data:image/") >= 2 * 6 * 6
    assert "knn@20" in (run.path / "report.md").read_text()


def test_resumed_it_reads_and_does_not_train_again(
    run: Run, fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs
) -> None:
    stamp = (run.path / "results.json").stat().st_mtime_ns
    job(fresh("with-vit"), data, pairs, run.path, resume=True)
    assert (run.path / "results.json").stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="already holds a finished run"):
        job(fresh("with-vit"), data, pairs, run.path)
    with pytest.raises(UsageError, match=r"recipes\.caption-ln differ"):
        job(
            fresh("with-vit"), data, pairs, run.path, names=("caption-token-replay", "caption-film-blocks"), resume=True
        )


def test_a_clip_needs_no_pair_and_is_recalled_before_training(
    fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs, tmp_path: Path
) -> None:
    """Its projection is pretrained, so retrieval has a number at the beginning too."""
    held = dataclasses.replace(
        pairs, held=split_of(data, [0, 2, 4]), held_captions=(("red.",), ("green.",), ("blue.",))
    )
    found = job(fresh("plain"), data, held, tmp_path / "run", names=("caption-ln",))
    recalled = {(r["method"], r["alpha"]) for r in found.results["rows"] if r["domain"] == "captions"}
    assert recalled == {("pretrained", None), *(("caption-ln", a) for a in (0.0, 0.5, 1.0))}
    zero = [value(found, domain="captions", metric="i2t@1", **at) for at in (
        {"method": "pretrained"}, {"method": "caption-ln", "alpha": 0.0})]  # fmt: skip
    assert zero[0] == zero[1]
    assert {r["method"] for r in found.results["rows"]} == {"pretrained", "caption-ln"}
    assert json.loads((found.path / "model" / "likewise.json").read_text())["spec"]["family"] == "open_clip"


def test_the_command_on_class_folders(stones: Path, data: Dataset, tmp_path: Path, capsys: Any) -> None:
    """PAIRS and --eval as a person gives them; `eval` and `interpolate` on what it leaves."""
    pair_at(stones, "with-vit")
    photos = stones / "data" / "train"
    out = tmp_path / "run"
    code = cli(
        ["caption", str(photos), "--encoder", f"local-dir:{stones / 'vision' / 'vit'}", "--text",
         f"local-dir:{stones / 'encoders' / 'plain'}", "--method", "ln", "stages.0.fit.epochs=1",
         "stages.1.fit.epochs=1",
         "--eval", str(stones / "data" / "train"), "--alpha", "0,1", "-o", str(out), "--json"]
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    told = json.loads(said.out)
    assert set(told) == {"rows", "chosen", "warnings", "seconds", "out"}
    assert {"knn@10", "knn@20", "knn@100", "knn@200", "linear"} <= {r["metric"] for r in told["rows"]}
    assert cli(["eval", str(out), str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]
    assert cli(["interpolate", str(out), "--alpha", "0,0.5", "--json"]) == 0
    assert {r["alpha"] for r in json.loads(capsys.readouterr().out)["rows"]} == {0.0, 0.5}
    assert cli(["caption", str(photos), "--encoder", f"local-dir:{stones / 'vision' / 'vit'}", "--eval", "digits"]) == 2
    assert "has no text tower, so captions mean nothing to it" in capsys.readouterr().err
    vote = knn(Labelled(torch.eye(3), np.arange(3)), torch.eye(3), 3)[10]
    assert (vote.k, accuracy(vote.logits_MC, np.arange(3)).value) == (3, 1.0)


def test_votes_of_more_neighbours_than_there_are_are_said(run: Run, data: Dataset) -> None:
    n = len(data.train)
    assert run.results["notes"][0] == f"colours: knn@20, knn@100, knn@200 are votes of all its {n} training pictures"
    assert "votes of all its" in (run.path / "report.html").read_text()


def test_the_later_neighbours_are_a_tuned_encoders(run: Run) -> None:
    of = json.loads((run.path / "neighbours.json").read_text())["of"]
    assert of["method"] in run.results["methods"]
    assert of["alpha"] > 0


def test_going_back_says_what_is_not_as_it_was(run: Run) -> None:
    with pytest.raises(UsageError, match=r"has no method «lm»\..*Methods of this run with a path: caption-ln, caption"):
        interpolate(run.path, (0.5,), Machine(), Watch(), ["lm"])
    config = run.path / "config.yaml"
    before = config.read_text()
    text = yaml.safe_load(before)["digests"]["text"]
    config.write_text(before.replace(text, "f" * len(text)))
    try:
        with pytest.raises(ConfigError, match=f"is not the text that .* was made with.*{'f' * len(text)}"):
            interpolate(run.path, (0.5,), Machine(), Watch(), ["ln"])
    finally:
        config.write_text(before)


def test_the_table_of_a_path_has_retrieval_beside_the_domains(run: Run, capsys: Any) -> None:
    assert cli(["interpolate", str(run.path), "--alpha", "0,0.5", "--method", "film-blocks"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    heads = ["method", "alpha", "select", "id", "dark", "elsewhere:id", "ood-mean", "i2t@1", "t2i@1"]
    assert first.split() == heads
    assert [line.split()[:2] for line in rest if "caption-" in line] == [
        ["caption-film-blocks", alpha] for alpha in ("0", "0.5")
    ]


def test_points_are_those_that_were_asked_and_a_method_without_a_path_says_so(
    fresh: Callable[[str], Encoder], data: Dataset, pairs: Pairs, tmp_path: Path
) -> None:
    plain = shrunk(for_captions("ln")[1])
    recipes = {"caption-ln": plain, "endless": plain.model_copy(update={"merge": None, "no_merge": "it bends"})}
    found = lw.caption(fresh("with-vit"), pairs, recipes, data, tmp_path / "run", alphas=(0.0, 0.5))
    asked = {("pretrained", None), ("caption-ln", 0.0), ("caption-ln", 0.5), ("endless", 1.0)}
    assert {(r["method"], r["alpha"]) for r in found.results["rows"]} == asked
    page, text = ((found.path / f"report.{kind}").read_text() for kind in ("html", "md"))
    said = (
        "endless stands at alpha 1 alone, where training left it: it has no path to the pretrained encoder (it bends)"
    )
    assert said in found.results["notes"]
    assert f'<p class="note">{said}.</p>' in page
    assert "norms α\u202f=\u202f0.5 |" in text
    ends = re.findall(r"([\w-]+) [\d.]+ % at alpha ([\d.]+)[,.] ", page)
    assert set(ends) == {("caption-ln", "0.5"), ("endless", "1")}
