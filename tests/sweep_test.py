"""Sweeps: cells are ordinary runs, curves are their numbers, resume runs what is missing, errors come early."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
from PIL import Image

import likewise as lw
import tiny
from likewise.api import sweep
from likewise.cli import run
from likewise.cli.sweep import _number, _over, table
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import DataError, Interrupted, UsageError
from likewise.metrics import half_width, over_seeds
from likewise.recipe import Recipe
from likewise.recipes import RECIPES
from likewise.run.sweep import Sweep
from likewise.run.watch import Watch

Said = pytest.CaptureFixture[str]
SHOTS, SEEDS = (1, 5, 0), (0, 1)
SMALL = (1, 4)
ALPHAS = (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The colours with enough of each to choose among: 8 to train on and 6 to select on, a class."""
    with pytest.MonkeyPatch.context() as patch:
        counts = {"train": 8, "select": 6, "id": 3, "dark": 4}
        patch.setattr(tiny, "SPLITS", [(name, role, counts[name]) for name, role, _ in tiny.SPLITS])
        return tiny.write_data(tmp_path_factory.mktemp("many"))


@pytest.fixture(scope="module")
def plain(fresh: Callable[[str], Encoder]) -> Encoder:
    return fresh("plain")


@pytest.fixture(scope="module")
def methods() -> dict[str, Recipe]:
    return {"linear": tiny.shrunk(RECIPES["linear"]), "ln": tiny.shrunk(RECIPES["ln"])}


@pytest.fixture(scope="module")
def done(plain: Encoder, many: Dataset, methods: dict[str, Recipe], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(
        plain, many, methods, tmp_path_factory.mktemp("sweep") / "out", shots=SHOTS, seeds=SEEDS, alphas=ALPHAS
    )


def results(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "results.json").read_text())
    return found


def cell(shots: int, seed: int) -> str:
    return f"shots-{shots or 'all'}/seed-{seed}"


def test_a_cell_is_the_run_that_adapt_makes(
    done: Sweep, plain: Encoder, many: Dataset, methods: dict[str, Recipe], tmp_path: Path
) -> None:
    assert [(c["shots"], c["seed"]) for c in done.curves["cells"]] == [(k, s) for k in SHOTS for s in SEEDS]
    alone = lw.adapt(plain, many, methods, tmp_path / "run", shots=5, seed=1, alphas=ALPHAS)
    assert done.run(5, 1).results["rows"] == alone.results["rows"]
    mine, theirs = done.path / cell(5, 1), alone.path
    assert (mine / "config.yaml").read_text() == (theirs / "config.yaml").read_text()
    assert {p.name for p in mine.iterdir()} == {p.name for p in theirs.iterdir()}
    for c in done.curves["cells"]:
        assert (done.path / c["folder"] / "STATUS").read_text() == "done\n"
        assert len(json.loads((done.path / c["folder"] / "data" / "access.json").read_text())) == 1


def test_what_a_cell_finds_in_the_data_is_that_cells(plain: Encoder, many: Dataset, tmp_path: Path) -> None:
    wordy = dataclasses.replace(
        many, templates=("a {} " + "thing " * 20,), report=list(many.read_report("a copy").values())
    )
    found = sweep(plain, wordy, {}, tmp_path / "out", shots=(0,), seeds=SEEDS)
    for seed in SEEDS:
        audit = json.loads((found.path / cell(0, seed) / "data" / "audit.json").read_text())
        assert len(audit["warnings"]) == 1  # the prompts are cut off; said once, not once a cell
    assert wordy.audit.warnings == []


def test_select_and_training_pictures_are_few_and_apart(done: Sweep) -> None:
    drawn: dict[tuple[int, int, str], frozenset[str]] = {}
    for shots in SHOTS:
        for seed in SEEDS:
            table = pq.read_table(done.path / cell(shots, seed) / "data" / "split.parquet").to_pylist()
            held = Counter((row["role"], row["label"]) for row in table)
            wanted = {"train": shots or 8, "select": min(shots, 4) or 6}
            assert all(held[role, colour] == n for role, n in wanted.items() for colour in tiny.COLOURS)
            for role in ("train", "select", "report"):
                drawn[shots, seed, role] = frozenset(row["key"] for row in table if row["role"] == role)
            assert len({row["path"] for row in table}) == len(table)  # no picture plays two roles
        assert drawn[shots, 0, "report"] == drawn[1, 1, "report"]
    assert drawn[1, 0, "train"] < drawn[5, 0, "train"] < drawn[0, 0, "train"]  # fewer shots are some of the more
    assert drawn[1, 0, "select"] < drawn[5, 0, "select"]
    assert drawn[5, 0, "train"] != drawn[5, 1, "train"]
    assert drawn[5, 0, "select"] != drawn[5, 1, "select"]
    sizes = {s["shots"]: (s["train"]["pictures"], s["select"]["pictures"]) for s in done.curves["sizes"]}
    assert sizes == {1: (3, 3), 5: (15, 12), 0: (24, 18)}
    assert done.curves["sizes"][1]["select"] == {"pictures": 12, "fewest": 4, "most": 4}


def test_curves_are_the_cells_numbers_at_the_alpha_of_each(done: Sweep) -> None:
    rows = {(r["method"], r["shots"], r["domain"]): r for r in done.curves["rows"]}
    domains = ("id", "dark", "ood-mean")
    assert set(rows) == {(m, k, d) for m in ("zero-shot", "linear", "ln") for k in SHOTS for d in domains}
    kinds = Counter()
    for (method, shots, domain), row in rows.items():
        values, own, alphas = [], [], []
        for seed in SEEDS:
            found = results(done.path / cell(shots, seed))
            alpha = found["chosen"]["alphas"][method]
            own += [r for r in found["rows"] if (r["method"], r["alpha"], r["split"], r["domain"], r["metric"])
                    == (method, alpha, "report", domain, "accuracy")]  # fmt: skip
            values.append(own[-1]["value"])
            alphas.append(alpha)
        assert (row["values"], row["alphas"]) == (values, alphas)
        assert (row["n"], row["seeds"], row["metric"]) == (2, [0, 1], "accuracy")
        assert row["mean"] == pytest.approx(sum(values) / 2)
        kinds[row["interval"]] += 1
        if values[0] == values[1]:
            assert row["interval"] == "pictures"
            assert (row["low"], row["high"]) == (own[0]["low"], own[0]["high"])
            assert row["low"] < row["high"]  # never a width of nothing
        else:  # two seeds that differ: no interval is said, and both are there
            assert (row["interval"], row["low"], row["high"]) == ("few", None, None)
    assert set(kinds) == {"few", "pictures"}
    zero = [r for (method, _, domain), r in rows.items() if method == "zero-shot" and domain == "dark"]
    assert len({r["mean"] for r in zero}) == 1
    assert all(r["interval"] == "pictures" for r in zero)


@pytest.mark.parametrize("values", [[0.5, 0.6], [0.2, 0.4, 0.9], [0.70, 0.71, 0.69, 0.72, 0.7], [0.01, 0.9]])
def test_the_interval_over_seeds_is_students(values: list[float]) -> None:
    found = over_seeds(values)
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert found == pytest.approx((np.mean(values), max(0, low), min(1, high), len(values)))
    assert half_width(values) == pytest.approx((high - low) / 2)


def test_the_interval_of_one_is_not_known() -> None:
    assert over_seeds([0.4])[::3] == (0.4, 1)
    assert np.isnan([*over_seeds([0.4])[1:3], half_width([0.4])]).all()


class Breaks(Watch):
    """Does something when a method of the third cell begins."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act, self.parts = act, list[str]()

    def part(self, text: str) -> None:
        self.parts.append(text)

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        if len(self.parts) == 3:
            self.act()


def _killed() -> None:
    raise SystemError("the process is gone")


@pytest.mark.parametrize("how", ["killed", "asked to stop"])
def test_a_stopped_sweep_goes_on_where_it_was(
    how: str, done: Sweep, plain: Encoder, many: Dataset, methods: dict[str, Recipe], tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"shots": (1, 5), "seeds": SEEDS, "alphas": ALPHAS}
    watch = Breaks(_killed if how == "killed" else lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemError if how == "killed" else Interrupted) as stopped:
        sweep(plain, many, methods, tmp_path / "out", watch=watch, **asked)
    if how == "asked to stop":
        assert "cell 3 of 4" in str(stopped.value)
        assert stopped.value.exit_code == 4  # type: ignore[attr-defined]
    assert watch.parts[2] == "cell 3 of 4: 5 shots, seed 0"
    assert not (tmp_path / "out" / "curves.json").exists()
    finished = [tmp_path / "out" / cell(1, seed) / "results.json" for seed in SEEDS]
    before = [path.stat().st_mtime_ns for path in finished]

    with pytest.raises(UsageError, match="unfinished sweep"):
        sweep(plain, many, methods, tmp_path / "out", **asked)
    with pytest.raises(UsageError, match="holds no finished sweep"):
        Sweep.load(tmp_path / "out")
    again = sweep(plain, many, methods, tmp_path / "out", resume=True, **asked)
    assert again.curves["rows"] == [row for row in done.curves["rows"] if row["shots"]]
    assert [path.stat().st_mtime_ns for path in finished] == before
    logs = [json.loads(path.read_text()) for path in again.path.glob("shots-*/seed-*/data/access.json")]
    assert [len(log) for log in logs] == [1] * 4  # no report split was read again
    assert (again.path / "report.html").exists()

    # only what is asked for beyond it is run: a third seed of one shot count
    more = Breaks(lambda: None)
    wider = sweep(
        plain,
        many,
        methods,
        tmp_path / "out",
        resume=True,
        **{**asked, "shots": (1,), "seeds": (0, 1, 2), "watch": more},
    )
    assert [path.stat().st_mtime_ns for path in finished] == before
    assert {r["n"] for r in wider.curves["rows"]} == {3}
    over = [r for r in wider.curves["rows"] if r["interval"] == "seeds"]
    assert over  # three are enough
    for row in over:
        error = np.std(row["values"], ddof=1) / np.sqrt(3)
        low, high = scipy.stats.t.interval(0.95, 2, loc=np.mean(row["values"]), scale=error)
        assert (row["low"], row["high"]) == pytest.approx((max(0, low), min(1, high)))
    assert [p.endswith("finished before") for p in more.parts] == [True, True, False]
    with pytest.raises(UsageError, match=r"/out holds another experiment; recipes\.ln differ"):
        sweep(plain, many, {"linear": methods["linear"]}, tmp_path / "out", resume=True, **asked)


def test_one_seed_carries_the_runs_own_interval(
    plain: Encoder, many: Dataset, methods: dict[str, Recipe], tmp_path: Path
) -> None:
    linear = {"linear": methods["linear"]}
    found = sweep(plain, many, linear, tmp_path / "out", shots=(1, 2), seeds=(3,))
    for row in found.curves["rows"]:
        want = {"split": "report", "alpha": row["alphas"][0], **{k: row[k] for k in ("method", "domain", "metric")}}
        told = results(found.path / cell(row["shots"], 3))["rows"]
        own = next(r for r in told if want.items() <= r.items())
        assert (row["mean"], row["low"], row["high"]) == (own["value"], own["low"], own["high"])
        assert (row["interval"], row["n"], row["pictures"]) == ("pictures", 1, own["n"])
    with pytest.raises(UsageError, match="seed and seeds are both given"):
        sweep(plain, many, linear, tmp_path / "other", shots=(1, 2), seed=1)
    with pytest.raises(UsageError, match="-1 is below 0"):
        sweep(plain, many, linear, tmp_path / "other", shots=(1, -1))
    # a shortage is found before the first cell, though a smaller count would do
    watch = Breaks(lambda: None)
    with pytest.raises(DataError, match="9 shots asked, but «red» has 8"):
        sweep(plain, many, linear, tmp_path / "other", shots=(1, 9), watch=watch)
    assert watch.parts == []
    assert not (tmp_path / "other").exists()


def test_the_terminals_table_says_what_stands_beside_a_mean() -> None:
    rows = [
        {"method": m, "shots": 1, "domain": "id", "interval": kind, "n": len(values), "values": values,
         "mean": float(np.mean(values)), "low": 0.5, "high": 0.75}
        for m, kind, values in (("a", "seeds", [0.5, 0.6, 0.7]), ("b", "few", [0.5, 0.7]), ("c", "pictures", [0.6] * 3))
    ]  # fmt: skip
    curves = {"rows": rows, "shots": [1], "methods": {"a": {}, "b": {}, "c": {}}, "seeds": [0, 1, 2]}
    cells = [_number(row) for row in rows]
    half = scipy.stats.sem([50, 60, 70]) * scipy.stats.t.ppf(0.975, 2)
    assert cells == [f"60.0 ± {half:.1f}", "60.0 (50.0, 70.0)", "60.0 (50.0-75.0)"]
    assert list(table(curves, "id").columns[1].cells) == cells
    assert _over(curves) == (
        "mean and half of the 95 % t-interval over 3 seeds. In brackets: the number of each of 2 seeds, too few for an "
        "interval. In brackets with a dash: a run's own 95 % interval over pictures, where the seeds agree."
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of picture, bright on the left or on the right, with noise."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("cli") / "photos"
    for label, side in (("left", 0), ("right", 1)):
        (folder / label).mkdir(parents=True)
        for i in range(28):
            pixels = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
            pixels[:, 8 * side : 8 * side + 8] += 90
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def model(folder_of: Callable[[str], Path]) -> str:
    return f"local-dir:{folder_of('plain')}"


def test_the_command_line_from_sweep_to_report(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    out = tmp_path / "out"
    words = ["adapt", str(photos), "-e", model, "--methods", "linear", "-o", str(out)]
    many = [*words, "--shots", "1,4", "--seeds", "0,1"]
    assert run([*many, "--dry-run"]) == 0
    assert "4 runs" in capsys.readouterr().out
    assert not out.exists()
    assert run([*many, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {"rows", "out"}
    assert said["out"] == str(out)
    assert said["rows"] == json.loads((out / "curves.json").read_text())["rows"]
    assert {(r["method"], r["shots"]) for r in said["rows"]} == {(m, k) for m in ("zero-shot", "linear") for k in SMALL}

    assert run(many) == 2
    assert "already holds a finished sweep" in capsys.readouterr().err
    assert run([*many, "--resume"]) == 0
    told = capsys.readouterr()
    assert "cell 4 of 4: 4 shots, seed 1" in told.err
    kinds = {row["interval"] for row in said["rows"]}
    assert "few" in kinds
    for row in said["rows"]:
        first, second = (f"{100 * value:.1f}" for value in row["values"])
        cell = f"{100 * row['mean']:.1f} ("
        assert f"{cell}{first}, {second})" in told.out or (row["interval"] == "pictures" and cell in told.out)
    assert "±" not in told.out
    assert "mean over 2 seeds. In brackets: the number of each of 2 seeds, too few for an interval." in told.out
    assert "in distribution" in told.out

    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert run(["report", str(out)]) == 0
    assert (out / "report.html").read_text() == page
    assert run(["report", str(out), str(out / "shots-1" / "seed-0")]) == 2
    assert "is a sweep" in capsys.readouterr().err
    for asked in (["interpolate", str(out)], ["predict", str(out), str(photos)]):
        assert run(asked) == 2
        assert f"It is a sweep: name one of its runs, such as {out}/shots-1/seed-0." in capsys.readouterr().err

    # one run and a sweep do not share a folder, either way
    assert run([*words, "--shots", "4"]) == 2
    assert "not a run of ours" in capsys.readouterr().err
    one = str(out / "shots-1" / "seed-0")
    assert run([*many[:-5], one, *many[-4:]]) == 2
    assert "holds one run, not a sweep" in capsys.readouterr().err

    # what a person put there stays when the sweep is replaced
    (out / "shots-1" / "seed-0" / "notes.txt").write_text("mine")
    assert run([*words, "--shots", "2,4", "--overwrite"]) == 0
    assert (out / "shots-1" / "seed-0" / "notes.txt").read_text() == "mine"
    assert sorted(p.parent.name for p in out.glob("shots-*/seed-*/results.json")) == ["seed-0", "seed-0"]
    assert not (out / "shots-4" / "seed-1").exists()
    capsys.readouterr()


def test_one_cell_is_one_run_as_ever(photos: Path, model: str, tmp_path: Path, capsys: Said) -> None:
    words = ["train", "linear", str(photos), "-e", model, "--shots", "4"]
    assert run([*words, "--seed", "3", "-o", str(tmp_path / "a")]) == 0
    assert run([*words, "--seeds", "3", "-o", str(tmp_path / "b")]) == 0
    capsys.readouterr()
    assert not (tmp_path / "b" / "curves.json").exists()
    assert results(tmp_path / "a")["rows"] == results(tmp_path / "b")["rows"]
    assert "seed: 3\nshots: 4\n" in (tmp_path / "b" / "config.yaml").read_text()
    # several of them by `train`, whose first seed draws the split: cell (4, 3) is that run
    assert run([*words, "--seeds", "3,5", "-o", str(tmp_path / "c"), "--json"]) == 0
    assert {r["n"] for r in json.loads(capsys.readouterr().out)["rows"]} == {2}
    assert results(tmp_path / "c" / cell(4, 3))["rows"] == results(tmp_path / "a")["rows"]


def test_a_dry_run_counts_the_pictures_of_its_shots(photos: Path, model: str, capsys: Said) -> None:
    def steps(*words: str) -> list[str]:
        assert run(["train", "clip-lora", str(photos), "-e", model, "--dry-run", *words]) == 0
        return re.findall(r"(\d+) steps|^(.*) to select on", capsys.readouterr().out, re.MULTILINE)

    # 500 steps a shot, of 16 at most; 20 to train on and 4 to select on, a class
    one, four = ("", "1 shot, 2 to train on, 2"), ("", "4 shots, 8 to train on, 8")
    every = ("", "all pictures, 40 to train on, 8")
    assert steps("--shots", "4") == [four, ("2000", "")]
    assert steps() == [every, ("8000", "")]
    assert steps("--shots", "4,1,2") == [one, ("500", ""), four, ("2000", "")]
    assert steps("--shots", "0,1", "--seeds", "0,1") == [one, ("500", ""), every, ("8000", "")]
    assert steps("--shots", "30", "--allow-short") == [("", "30 shots, 40 to train on, 8"), ("8000", "")]


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["--shots", "1,x"], "error U06: --shots 1,x: «x» is not a whole number", 2),
        (["--shots", "1,-1"], "error U06: --shots 1,-1: -1 is below 0", 2),
        (["--shots", "-1"], "error U06: --shots -1: -1 is below 0", 2),
        (["--shots", "4,2,4"], "error U06: --shots 4,2,4: 4 stands there twice", 2),
        (["--seeds", "0,1,0"], "error U06: --seeds 0,1,0: 0 stands there twice", 2),
        (["--seeds", "0,"], "error U06: --seeds 0,: «» is not a whole number", 2),
        (["--seeds", "0.5"], "«0.5» is not a whole number", 2),
        (["--seed", "0", "--seeds", "0,1"], "error U06: --seed 0 and --seeds 0,1 are both given", 2),
        (["--shots", "1,100"], "error D08: 100 shots asked, but «left» has 20, «right» has 20 of 100 training", 1),
        (["--shots", "1,100", "--dry-run"], "error D08: 100 shots asked", 1),
        (["--shots", "100", "--dry-run"], "error D08: 100 shots asked", 1),
        (["--shots", "1,2", "-o", "/dev/null"], "error R01", 2),
        (["--shots", "1,2", "-o", "."], "is not empty and is not a sweep of ours", 2),
        (["--shots", "1,2", "--resume", "--overwrite", "-o", "new"], "say one of them", 2),
    ],
)
def test_errors_come_before_anything_is_trained(
    words: list[str], said: str, code: int, photos: Path, model: str, tmp_path: Path, capsys: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run(["adapt", str(photos), "-e", model, "--methods", "knn", *words]) == code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("methods"))
    assert (tmp_path / "thesis.txt").exists()
