"""Suites: cells are run folders, only missing ones run, failures keep their reason, engines agree, tables are means."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import scipy.stats

from likewise import suites
from likewise.bench import checks, lines, markdown, pick, shard, state
from likewise.bench.cells import ASKED, FAILED, How, question, run_cell
from likewise.bench.engines import LOST, _needs, bench
from likewise.cli import run
from likewise.data.records import Dataset
from likewise.datasets import DATASETS
from likewise.datasets.corruptions import corrupting
from likewise.encoders import RATE_SCALES
from likewise.errors import ConfigError, Interrupted, MachineError, UsageError
from likewise.keys import key_rng
from likewise.recipe import Machine
from likewise.run.adapt import adapt
from likewise.run.folder import LOCK
from likewise.run.watch import Watch
from likewise.suites import Suite
from tiny import write_data, write_encoder

Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny CLIP and pictures of three colours, as a table."""
    folder = tmp_path_factory.mktemp("bench")
    write_encoder(folder / "plain", "plain")
    table = write_data(folder / "colours").manifest()
    csv.write_csv(table.select(["path", "label", "split", "domain"]), folder / "colours.csv")
    return folder


def suite_of(place: Path, **more: object) -> Suite:
    block = {
        "encoders": [f"local-dir:{place / 'plain'}"], "datasets": [str(place / "colours.csv")],
        "methods": ["zero-shot", {"use": "ln", "alpha": 1.0}], "seeds": [0, 1, 2], "epochs": 2, "batch": 8,
        "alphas": [0, 1],
    }  # fmt: skip
    return Suite.parse({"title": "colours", "blocks": [block | more]})


@pytest.fixture(scope="module")
def done(place: Path) -> tuple[Suite, Path]:
    """The suite run here, cell by cell."""
    suite, out = suite_of(place), place / "out"
    assert [why for _, why in bench("local", suite.cells, out, How(), 1, Watch())] == [""] * 6
    return suite, out


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())["rows"]
    return rows


def varied(out: Path, place: Path) -> Path:
    """A copy of finished cells in which no two numbers are the same: the tiny model's often are."""
    shutil.copytree(out, place)
    for path in place.rglob("results.json"):
        found = json.loads(path.read_text())
        for number, row in enumerate(found["rows"]):
            row["value"] = float(key_rng(str(path.relative_to(place)), number).uniform())
        path.write_text(json.dumps(found))
    return place


def test_every_cell_is_a_run_folder_and_done_ones_are_not_run_again(done: tuple[Suite, Path]) -> None:
    suite, out = done
    assert len({cell.folder for cell in suite.cells}) == 6
    for cell in suite.cells:
        folder = out / cell.folder
        assert state(cell, out).kind == "done"
        assert (folder / "STATUS").read_text() == "done\n"
        assert not (folder / "model").exists()
        assert (folder / "config.yaml").exists()
    before = [(out / cell.folder / "results.json").stat().st_mtime_ns for cell in suite.cells]
    assert run_cell(suite.cells[0], out, How()) == ""
    assert [(out / cell.folder / "results.json").stat().st_mtime_ns for cell in suite.cells] == before


def test_the_table_is_the_mean_over_seeds_with_students_interval(done: tuple[Suite, Path]) -> None:
    suite, out = done
    values = []
    for cell in suite.cells:
        if cell.method.use == "ln":
            rows = json.loads((out / cell.folder / "results.json").read_text())["rows"]
            values += [r["value"] for r in rows if (r["method"], r["alpha"], r["domain"], r["metric"], r["split"])
                       == ("ln", 1.0, "dark", "accuracy", "report")]  # fmt: skip
    assert len(values) == 3
    line = next(line for line in lines(suite.cells, out) if (line.method, line.domain) == ("ln", "dark"))
    assert (line.mean, line.seeds) == (pytest.approx(np.mean(values)), 3)
    half = scipy.stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    assert line.half == pytest.approx(half)
    text = markdown(suite, suite.cells, out)
    assert f"{100 * line.mean:.1f} ± {100 * line.half:.1f}" in text
    assert "Not in the tables" not in text


def test_several_points_of_a_path_are_of_one_training(done: tuple[Suite, Path], tmp_path: Path) -> None:
    suite, out = done[0], varied(done[1], tmp_path / "out")
    (block,) = suite.blocks
    ln = {"use": "ln", "alpha": [1, None, 0]}
    both = Suite.parse({"title": "x", "blocks": [{**block.tree(), "methods": ["zero-shot", ln]}]})
    assert [cell.folder for cell in both.cells] == [cell.folder for cell in suite.cells]
    assert all(state(cell, out).kind == "done" for cell in both.cells)
    found = [line for line in lines(both.cells, out) if (line.method, line.domain) == ("ln", "dark")]
    assert [line.alpha for line in found] == [1.0, None, 0.0]
    own = next(line for line in lines(suite.cells, out) if (line.method, line.domain) == ("ln", "dark"))
    assert found[0] == own
    ends = [[r["value"] for cell in both.cells if cell.method.use == "ln" for r in rows_of(out / cell.folder)
             if (r["method"], r["alpha"], r["split"], r["domain"], r["metric"]) ==
             ("ln", alpha, "report", "dark", "accuracy")] for alpha in (1.0, 0.0)]  # fmt: skip
    assert [found[0].mean, found[2].mean] == [pytest.approx(np.mean(values)) for values in ends]
    text = markdown(both, both.cells, out)
    assert "| data | | n | zero-shot | ln at 1 | ln | ln at 0 |" in text
    said = " | ".join(f"{100 * line.mean:.1f} ± {100 * line.half:.1f}" for line in found)
    assert f" | {said} |" in text
    expect = {"value": 100 * own.mean, "source": "x", "method": "ln", "dataset": block.datasets[0], "domain": "dark"}
    (check,) = checks(Suite.parse({**both.tree(), "expect": [expect]}), both.cells, out)
    assert check.difference == pytest.approx(0)  # of the first point
    for wrong in ([], [1, None, 1.0]):
        with pytest.raises(ConfigError, match="several that differ"):
            suite_of(Path(), methods=[{"use": "ln", "alpha": wrong}])


def test_processes_and_ray_give_the_same_folders_and_numbers(done: tuple[Suite, Path]) -> None:
    suite, out = done
    pytest.importorskip("ray")
    asked = [cell for cell in suite.cells if cell.seed == 1]
    want = markdown(suite, asked, out)
    for engine in ("local", "ray"):
        elsewhere = out.with_name(engine)
        assert [why for _, why in bench(engine, asked, elsewhere, How(), 2, Watch())] == ["", ""]
        assert markdown(suite, asked, elsewhere) == want


def test_a_lost_worker_of_ray_costs_its_cell_nothing(done: tuple[Suite, Path], tmp_path: Path) -> None:
    """The worker is killed as soon as its cell has begun; the task is begun anew and ends with the same numbers."""
    ray = pytest.importorskip("ray")
    suite, out = done
    (cell,) = [c for c in suite.cells if c.seed == 2 and c.method.use == "ln"]
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        folder = tmp_path / cell.folder
        killer = subprocess.Popen([sys.executable, "-c", KILL, str(folder)], stdout=subprocess.PIPE, text=True)
        assert [why for _, why in bench("ray", [cell], tmp_path, How(), 1, Watch())] == [""]
        killed = killer.communicate(timeout=60)[0].strip()
    finally:
        ray.shutdown()
    assert killed == "killed"
    assert markdown(suite, [cell], tmp_path) == markdown(suite, [cell], out)


KILL = """
import os, pathlib, signal, sys, time
lock, end = pathlib.Path(sys.argv[1]) / "STATUS", time.monotonic() + 60

def ancestors(entry):  # a worker of somebody else's cluster is left alone
    while entry.name != "0":
        entry = entry.parent / (entry / "stat").read_text().rpartition(")")[2].split()[1]
        yield int(entry.name)

while not lock.exists() and time.monotonic() < end:
    time.sleep(0.002)
for entry in pathlib.Path("/proc").iterdir():
    try:
        said = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
    except OSError:
        continue
    if said.startswith(b"ray::run_cell") and os.getppid() in ancestors(entry):
        os.kill(int(entry.name), signal.SIGKILL)
        print("killed")
        break
"""


def test_workers_end_when_the_suite_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKERS], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"at work\n"
        parent.kill()
        assert parent.stdout.read() == b""  # nobody holds the other end any more


WORKERS = """
import multiprocessing, time
from likewise.bench.engines import end_with_parent

def work():
    end_with_parent()
    print("at work", flush=True)
    time.sleep(60)
    print("still here", flush=True)

multiprocessing.get_context("fork").Process(target=work).start()
time.sleep(120)
"""


def test_a_failure_is_kept_with_its_reason_and_never_scored(place: Path, tmp_path: Path) -> None:
    suite = suite_of(place, shots=[50], seeds=[0])
    assert all("50 shots asked" in why for _, why in bench("local", suite.cells, tmp_path, How(), 1, Watch()))
    for cell in suite.cells:
        found = state(cell, tmp_path)
        assert found.kind == "failed"
        assert "50 shots asked" in found.why
        assert "50 shots" in json.loads((tmp_path / cell.folder / FAILED).read_text())["reason"]
    assert lines(suite.cells, tmp_path) == []
    assert "failed - 50 shots asked" in markdown(suite, suite.cells, tmp_path)


def test_numbers_of_another_question_are_neither_scored_nor_lost(done: tuple[Suite, Path]) -> None:
    suite, out = done
    other = Suite.parse({"title": "x", "blocks": [{**suite.blocks[0].tree(), "epochs": 1}]})
    zero, ln = (cell for cell in other.cells if cell.seed == 0)
    assert state(zero, out).kind == "done"  # which has no epochs
    found = state(ln, out)
    assert found.kind == "other"
    assert "run with recipe.stages.0.fit.epochs 2, not 1. Use -o with another folder" in found.why
    before = (out / ln.folder / "results.json").read_text()
    assert "left alone" in run_cell(ln, out, How())
    assert (out / ln.folder / "results.json").read_text() == before
    begun = out.with_name("begun") / ln.folder
    begun.mkdir(parents=True)
    shutil.copy(out / ln.folder / "config.yaml", begun)  # as a run that was killed leaves it
    assert "epochs 2, not 1" in state(ln, out.with_name("begun")).why
    assert {line.method for line in lines(other.cells, out)} == {"zero-shot"}
    assert "seed 0: ln: other - it was run with" in markdown(other, other.cells, out)
    for change in ({"alphas": [0, 0.5, 1]}, {"most": {"train": 5, "select": 5, "id": 5}}):
        changed = Suite.parse({"title": "x", "blocks": [{**suite.blocks[0].tree(), **change}]})
        assert {state(cell, out).kind for cell in changed.cells} == {"other"}
    assert "at most: train 5, select 5, id 5.\n" in markdown(changed, changed.cells, out)
    assert "at most" not in markdown(suite, suite.cells, out)


def test_a_finished_cell_that_lost_its_question_is_asked_again_and_not_run(
    done: tuple[Suite, Path], tmp_path: Path
) -> None:
    """Killed between its run's end and its own; or a run that somebody else put there."""
    suite, out = done[0], tmp_path / "out"
    shutil.copytree(done[1], out)
    cell = suite.cells[1]
    before = (out / cell.folder / "results.json").stat().st_mtime_ns
    (out / cell.folder / ASKED).unlink()
    assert state(cell, out).kind == "begun"
    assert run_cell(cell, out, How()) == ""
    assert state(cell, out).kind == "done"
    assert (out / cell.folder / "results.json").stat().st_mtime_ns == before


def test_what_nobody_foresaw_ends_one_cell_and_is_kept_with_its_traceback(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = suite_of(place, seeds=[0])

    def unlucky(*args: Any, **rest: Any) -> Any:
        if "ln" in args[2]:
            raise RuntimeError("no more memory")
        return adapt(*args, **rest)

    monkeypatch.setattr("likewise.bench.cells.adapt", unlucky)
    ln, zero = (why for _, why in bench("local", suite.cells[::-1], tmp_path, How(), 1, Watch()))
    assert zero == ""
    assert ln.startswith("RuntimeError: no more memory")
    kept = json.loads((tmp_path / suite.cells[1].folder / FAILED).read_text())
    assert "in unlucky" in kept["traceback"]
    assert state(suite.cells[1], tmp_path) == ("failed", kept["reason"])


def test_what_the_machine_lacks_is_no_failure_of_the_cell(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = suite_of(place, methods=["zero-shot"], seeds=[0]).cells[0]

    def lacks(*args: Any, **rest: Any) -> Any:
        raise MachineError("E03", "h5py is not installed")

    with monkeypatch.context() as patch:
        patch.setattr("likewise.bench.cells.adapt", lacks)
        assert "h5py is not installed" in run_cell(cell, tmp_path, How())
    assert state(cell, tmp_path).kind == "to do"
    assert run_cell(cell, tmp_path, How()) == ""


def test_a_worker_that_is_killed_again_and_again_costs_its_own_cell_alone_its_numbers(
    done: tuple[Suite, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where memory runs out. The pool is lost with it; what else was at work goes on, the next run with the cell."""
    suite, out = done
    asked = [cell for cell in suite.cells if cell.method.use == "ln"]
    monkeypatch.setattr("likewise.bench.engines.RETRIES", 1)
    killer = subprocess.Popen([sys.executable, "-c", KILL_HOLDER, str(tmp_path / asked[0].folder / LOCK)],
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        found = {cell.key: why for cell, why in bench("local", asked, tmp_path, How(), 2, Watch())}
    finally:
        killer.kill()
    assert killer.communicate()[0] == "killed\nkilled\n"
    assert [found[cell.key] for cell in asked] == [LOST, "", ""]
    assert [why for _, why in bench("local", asked[:1], tmp_path, How(), 1, Watch())] == [""]
    assert markdown(suite, asked, tmp_path) == markdown(suite, asked, out)


KILL_HOLDER = """
import os, signal, sys, time
done = set()
while True:
    time.sleep(0.001)
    try:
        inode = os.stat(sys.argv[1]).st_ino
        held = [line.split() for line in open("/proc/locks")]
        for pid in {int(words[4]) for words in held if words[1] == "FLOCK" and words[5].endswith(f":{inode}")} - done:
            os.kill(pid, signal.SIGKILL)
            done.add(pid)
            print("killed", flush=True)
    except OSError:
        continue
"""


def test_a_worker_that_is_asked_to_stop_stops_the_suite_in_order(place: Path, tmp_path: Path) -> None:
    suite = suite_of(place, methods=[{"use": "ln", "alpha": 1.0}], seeds=[0, 1, 2], epochs=4000)
    folder = tmp_path / suite.cells[0].folder
    stopper = subprocess.Popen([sys.executable, "-c", STOP_HOLDER, str(folder / LOCK), str(folder / "methods")])
    with pytest.raises(Interrupted):
        list(bench("local", suite.cells[:1], tmp_path, How(), 2, Watch()))
    assert stopper.wait(60) == 0
    assert state(suite.cells[0], tmp_path).kind == "begun"


STOP_HOLDER = """
import os, signal, sys, time
end = time.monotonic() + 60
while not os.path.exists(sys.argv[2]) and time.monotonic() < end:
    time.sleep(0.01)
inode = os.stat(sys.argv[1]).st_ino
for words in map(str.split, open("/proc/locks")):
    if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
        os.kill(int(words[4]), signal.SIGTERM)
"""


def test_a_cell_on_cuda_asks_ray_for_a_gpu_of_its_own() -> None:
    pytest.importorskip("ray")
    with pytest.raises(MachineError, match="asks Ray for 1 cores and 1 GPUs, and the cluster has 2 and 0"):
        list(bench("ray", [], Path(), How(Machine(device="cuda")), 2, Watch()))
    assert _needs(How(threads=3)) == {"num_cpus": 3, "num_gpus": 0}
    assert _needs(How(Machine(device="cuda:1"), threads=2)) == {"num_cpus": 2, "num_gpus": 1}


def test_cells_take_a_published_choice_or_wait_for_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = suite_of(place, methods=["zero-shot"], shots=[1, 0], seeds=[7])
    (name,) = plain.blocks[0].datasets
    suite = Suite.parse({**plain.tree(), "shot_index": {name: "choices/colours"}})
    few, every = suite.cells
    monkeypatch.setenv("LIKEWISE_DATA", str(tmp_path))
    waits = state(few, tmp_path / "out")
    assert waits.kind == "no data"
    assert f"looked in choices/colours, {tmp_path}/choices/colours" in waits.why
    assert "cross_modal_adaptation" in waits.why
    assert state(every, tmp_path / "out").kind == "to do"
    folder = tmp_path / "choices" / "colours"
    folder.mkdir(parents=True)
    assert "shot_1-seed_7.json is not there" in state(few, tmp_path / "out").why
    data = Dataset.open(Path(name))
    chosen = {part: [[r.key, r.label, ""] for r in {r.label: r for r in split.records}.values()]
              for part, split in (("train", data.train), ("val", data.select))}  # fmt: skip
    (folder / "shot_1-seed_7.json").write_text(json.dumps(chosen))
    assert state(few, tmp_path / "out").kind == "to do"
    assert run_cell(few, tmp_path / "out", How()) == run_cell(every, tmp_path / "out", How()) == ""
    table = pq.read_table(tmp_path / "out" / few.folder / "data" / "split.parquet").to_pylist()
    assert [row["key"] for row in table if row["role"] == "train"] == [key for key, _, _ in chosen["train"]]
    assert len(pq.read_table(tmp_path / "out" / every.folder / "data" / "split.parquet")) > len(table)
    (folder / "shot_1-seed_7.json").write_text(json.dumps({"train": chosen["train"]}))
    assert "data_digest, shot_index differ" in run_cell(few, tmp_path / "out", How())
    with pytest.raises(ConfigError, match="shots are published for «other»"):
        Suite.parse({**plain.tree(), "shot_index": {"other": "x"}})


def test_published_numbers_stand_beside_ours_and_what_nobody_read_never_decides(done: tuple[Suite, Path]) -> None:
    suite, out = done
    dataset = suite.blocks[0].datasets[0]
    ours = next(100 * line.mean for line in lines(suite.cells, out) if (line.method, line.domain) == ("ln", "id"))
    expected = [
        {"value": ours + 0.4, "source": "table 1", "method": "ln", "dataset": dataset},
        {"value": ours + 30, "source": "table 1", "method": "ln", "dataset": dataset},
        {"value": ours + 30, "source": "memory", "method": "ln", "dataset": dataset},
        {"value": 50, "source": "table 2", "method": "ln", "dataset": dataset, "domain": "drak"},
    ]
    whole = Suite.parse({**suite.tree(), "expect": expected})
    found = checks(whole, whole.cells, out)
    assert [c.verdict for c in found] == ["within", "outside", "outside (unverified)", "no such number"]
    assert found[0].difference == pytest.approx(-0.4)
    assert not found[3].within
    assert {c.verdict for c in checks(whole, whole.cells, out / "elsewhere")} == {"not run"}
    for part in ([c for c in suite.cells if c.method.use == "ln"], suite.cells[1:2]):  # of fewer seeds it is said too
        assert len(checks(whole, part, out)) == 4
    assert checks(whole, [c for c in suite.cells if c.method.use != "ln"], out) == []
    zero = next(100 * line.mean for line in lines(suite.cells, out) if line[3:5] == ("zero-shot", "dark"))
    start = {"value": zero, "source": "table 3", "method": "ln", "dataset": dataset, "domain": "dark", "alpha": 0.0}
    (check,) = checks(Suite.parse({**suite.tree(), "expect": [start]}), suite.cells, out)
    assert check.difference == pytest.approx(0)  # of the path's beginning, not of the table's alpha 1
    assert "| -0.4 | 1 | within | table 1 |" in markdown(whole, whole.cells, out)


def test_a_published_mean_stands_beside_the_mean_of_its_lines_where_all_are_done(
    done: tuple[Suite, Path], place: Path, tmp_path: Path
) -> None:
    suite, out = done
    (first,) = suite.blocks[0].datasets
    second = str(tmp_path / "copy.csv")
    Path(second).write_text("\n".join(Path(first).read_text().splitlines()[:-1]) + "\n")  # without a dark picture
    block = suite.blocks[0].tree()
    both = {"title": "x", "blocks": [{**block, "datasets": [first, second]}]}
    mean = {"value": 50, "source": "x", "method": "ln", "datasets": [first, second], "domains": ["id", "dark"]}
    whole = Suite.parse({**both, "expect": [mean]})
    (check,) = checks(whole, whole.cells, out)
    assert (check.verdict, check.line) == ("not run", None)  # of the second there is nothing
    again = [cell for cell in whole.cells if (cell.dataset, cell.method.use) == (second, "ln")]
    assert [why for _, why in bench("local", again, out, How(), 1, Watch())] == [""] * 3
    out = varied(out, tmp_path / "out")
    (check,) = checks(whole, whole.cells, out)
    values: dict[int, list[float]] = {}
    for cell in whole.cells:
        if cell.method.use == "ln":
            values.setdefault(cell.seed, []).extend(
                r["value"] for r in rows_of(out / cell.folder) if r["domain"] in ("id", "dark")
                and (r["method"], r["alpha"], r["split"], r["metric"]) == ("ln", 1.0, "report", "accuracy")
            )  # fmt: skip
    by_seed = [np.mean(own) for own in values.values()]
    assert [len(own) for own in values.values()] == [4, 4, 4]
    assert check.line is not None
    assert check.line.mean == pytest.approx(np.mean(by_seed))
    assert check.line.half == pytest.approx(scipy.stats.t.ppf(0.975, 2) * np.std(by_seed, ddof=1) / np.sqrt(3))
    assert check.difference == pytest.approx(100 * np.mean(by_seed) - 50)
    text = markdown(whole, whole.cells, out)
    assert f"| ln | mean of {first}, {second} id, dark | 50.0 | {100 * np.mean(by_seed):.1f} ± " in text
    other = Suite.parse({**both, "expect": [mean | {"domains": ["id", "fog"]}]})
    assert [c.verdict for c in checks(other, other.cells, out)] == ["no such number"]
    picked = pick(whole.cells, [f"dataset={first}"])
    assert checks(whole, picked, out) == []  # of a part there is no such mean
    for wrong, said in (
        ({"dataset": first}, "dataset and datasets are both given"),
        ({"datasets": [first, "y"]}, "data set «y», which is not in the suite"),
        ({"shots": [0, 4]}, "shots «4», which is not in the suite"),
    ):
        with pytest.raises(ConfigError, match=said):
            Suite.parse({**both, "expect": [mean | wrong]})


def test_cells_are_picked_and_sharded(place: Path) -> None:
    cells = suite_of(place).cells
    assert [c.seed for c in pick(cells, ["method=ln", "seed=0,2"])] == [0, 2]
    parts = [shard(cells, f"{i}/4") for i in (1, 2, 3, 4)]
    assert sorted(c.key for part in parts for c in part) == sorted(c.key for c in cells)
    assert max(map(len, parts)) - min(map(len, parts)) == 1
    for wrong in ("method=lm", "metod=ln", "ln"):
        with pytest.raises(UsageError, match="--only"):
            pick(cells, [wrong])
    for wrong in ("0/4", "5/4", "2", "a/b"):
        with pytest.raises(UsageError, match="--shard"):
            shard(cells, wrong)


def test_what_a_suite_cannot_be_is_said(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recipe «lm».*ln"):
        suite_of(place, methods=["lm"])
    with pytest.raises(ConfigError, match="asked twice"):
        suite_of(place, methods=["ln", {"use": "ln", "edits": ["stages.0.fit.lr=1"]}])
    dataset = suite_of(place).blocks[0].datasets[0]
    expected = {"value": 1, "source": "x", "method": "ln", "dataset": dataset}
    for wrong, said in (
        ({"method": "lnn"}, "method «lnn», which is not in the suite. Did you mean ln"),
        ({"dataset": "y"}, "data set «y», which is not in the suite"),
        ({"shots": 4}, "shots «4», which is not in the suite"),
        ({"encoder": "icon-clop"}, "encoder «icon-clop», which"),
        ({"alpha": 0.3}, "at alpha 0.3, and its runs ask about 0, 1; add it to alphas"),
        ({"method": "zero-shot", "alpha": 1}, "at alpha 1, and it has no path"),
        ({"metric": "acuracy"}, "by «acuracy», which nothing is measured by. Did you mean accuracy"),
    ):
        with pytest.raises(ConfigError, match=said):
            Suite.parse({**suite_of(place).tree(), "expect": [expected | wrong]})
    for more, said in (
        ({"methods": [{"use": "ln", "alpha": 0.5}]}, "«ln» is asked at alpha 0.5, and its runs ask about 0, 1; add it"),
        ({"methods": [{"use": "zero-shot", "alpha": 1}]}, "«zero-shot» is asked at alpha 1, and it has no path"),
        ({"methods": [{"use": "ln", "edits": ["stages.0.fit.lrr=1"]}]}, "«ln».*lrr.*lr"),
        ({"methods": [{"use": "ln", "name": "../../x"}]}, "name"),
        ({"most": {"train": 5}}, "most says nothing of select"),
        ({"most": {"train": 0, "select": 1}}, "most.train"),
        ({"alphas": [0, 2]}, "alphas.1"), ({"alphas": []}, "alphas"), ({"epochs": -3}, "epochs"),
        ({"shots": [-1]}, "shots.0"), ({"seeds": [-1]}, "seeds.0"),
        ({"datasets": ["a/b", "a-b"]}, "would share .*a-b"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            suite_of(place, **more)
    with pytest.raises(UsageError, match=r"no suite «ofline».*offline"):
        suites.load("ofline")


@pytest.mark.parametrize("name", suites.names())
def test_every_shipped_suite_lists_its_cells_and_what_is_missing(name: str, tmp_path: Path, capsys: Said) -> None:
    assert run(["bench", name, "--dry-run", "--json", "-o", str(tmp_path / "out")]) == 0
    rows = json.loads(capsys.readouterr().out)
    _, suite = suites.load(name)
    assert len(rows) == len(suite.cells) > 0
    assert {row["kind"] for row in rows} <= {"to do", "no data"}
    assert not (tmp_path / "out").exists()
    for cell in suite.cells:
        assert corrupting(cell.dataset)[0] in DATASETS, cell.dataset
        cell.method.recipe(RATE_SCALES.get(cell.encoder, 1.0), cell.block.epochs, cell.block.batch)
    for expected in suite.expect:
        assert {cell.dataset for cell in expected.among(suite.cells)} == {*expected.datasets}


def test_the_command_runs_what_is_missing_and_is_strict_where_asked(place: Path, tmp_path: Path, capsys: Said) -> None:
    suite = suite_of(place, methods=["zero-shot"], seeds=[0])
    dataset = suite.blocks[0].datasets[0]
    wrong = {
        "value": 0.0,
        "source": "table 1",
        "method": "zero-shot",
        "dataset": dataset,
        "tolerance": 0.0,
        "domain": "dark",
    }
    file = tmp_path / "mine.yaml"
    file.write_text(Suite.parse({**suite.tree(), "expect": [{**wrong, "source": "memory"}]}).yaml())
    out = tmp_path / "out"
    assert run(["bench", str(file), "-o", str(out), "--strict"]) == 0
    assert "| outside (unverified) |" in capsys.readouterr().out
    assert json.loads((out / "table.json").read_text())[0]["method"] == "zero-shot"
    file.write_text(Suite.parse({**suite.tree(), "expect": [{**wrong, "value": 200.0}]}).yaml())
    assert run(["bench", str(file), "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["published"][0]["verdict"] == "outside"
    assert run(["bench", str(file), "-o", str(out), "--strict"]) == 1


def test_a_part_is_printed_and_judged_and_the_table_stays_whole(
    place: Path, done: tuple[Suite, Path], tmp_path: Path, capsys: Said
) -> None:
    suite, out = done[0], tmp_path / "out"
    shutil.copytree(done[1], out)
    (block,) = suite.blocks
    never = {"value": 0, "source": "x", "method": "ln", "dataset": block.datasets[0], "tolerance": 0, "domain": "fog"}
    file = tmp_path / "mine.yaml"
    file.write_text(Suite.parse({**suite.tree(), "expect": [never]}).yaml())
    common = ["bench", str(file), "-o", str(out), "--strict"]
    assert run(common) == 1
    whole = (out / "table.md").read_text()
    assert "no such number" in whole
    for part in (["--only", "method=zero-shot"], ["--only", "method=zero-shot", "--shard", "1/3"]):
        capsys.readouterr()
        assert run([*common, *part]) == 0
        assert "ln" not in capsys.readouterr().out.replace("colours", "").split("table  ")[0].split("##")[1]
        assert (out / "table.md").read_text() == whole
    assert run(["bench", str(file), "-o", str(tmp_path / "none"), "--only", "seed=0", "--dry-run"]) == 0


def test_where_nothing_has_numbers_the_command_says_so_by_its_exit(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(suite_of(place, methods=["zero-shot"], seeds=[0], shots=[50]).yaml())
    assert run(["bench", str(file), "-o", str(tmp_path / "out")]) == 1


def test_a_retry_begins_anew_but_keeps_a_run_that_had_ended(
    place: Path, done: tuple[Suite, Path], tmp_path: Path
) -> None:
    suite, out = done[0], tmp_path / "out"
    shutil.copytree(done[1], out)
    ended, other = suite.cells[0], suite.cells[1]
    times = [(out / cell.folder / "results.json").stat().st_mtime_ns for cell in (ended, other)]
    (out / other.folder / ASKED).unlink()
    file = tmp_path / "mine.yaml"
    file.write_text(suite.yaml())
    for cell in (ended, other):
        failed = {"reason": "its episodes could not be drawn", "question": question(cell)}
        (out / cell.folder / FAILED).write_text(json.dumps(failed))
        assert state(cell, out) == ("failed", failed["reason"])
    assert run(["bench", str(file), "-o", str(out), "--strict"]) == 1
    assert run(["bench", str(file), "-o", str(out), "--strict", "--retry"]) == 0
    same = [(out / cell.folder / "results.json").stat().st_mtime_ns for cell in (ended, other)]
    assert [before == after for before, after in zip(times, same, strict=True)] == [True, False]


def test_a_method_that_was_left_out_has_no_numbers_and_is_asked_again_where_the_suite_was_mended(
    place: Path, tmp_path: Path, capsys: Said
) -> None:
    file, out = tmp_path / "mine.yaml", tmp_path / "out"
    common = ["bench", str(file), "-o", str(out)]
    for rate, word in (("1e30", "not finite"), ("1e30", "not finite"), ("1e-4", "")):
        ln = {"use": "ln", "edits": [f"stages.0.fit.lr={rate}"]}
        file.write_text(suite_of(place, methods=["zero-shot", ln], seeds=[0]).yaml())
        assert run([*common, *(["--retry"] if (out / "table.md").exists() and word else [])]) == 0
        _, cell = suites.load(str(file))[1].cells
        assert word in state(cell, out).why
        assert (state(cell, out).kind == "failed") == bool(word)
        assert {line.method for line in lines([cell], out)} == (set() if word else {"ln"})
    assert run([*common, "--shard", "3/3"]) == 0  # which has no cell


def test_a_stop_ends_in_order_and_the_next_run_goes_on(place: Path, tmp_path: Path) -> None:
    suite = suite_of(place, methods=[{"use": "ln", "alpha": 1.0}], seeds=[0, 1], epochs=400)
    file = tmp_path / "long.yaml"
    file.write_text(suite.yaml())
    words = [sys.executable, "-m", "likewise", "bench", str(file), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "out" / suite.cells[0].folder
    end = time.monotonic() + 60
    while not (folder / "methods" / "ln" / "plan-0.json").exists() and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 4
    assert state(suite.cells[0], tmp_path / "out").kind == "begun"
    assert state(suite.cells[1], tmp_path / "out").kind == "to do"
