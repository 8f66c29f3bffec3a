"""Published few-shot choices in runs and sweeps: the pictures are the file's, its digest is part of the question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

import likewise as lw
from likewise.api import sweep
from likewise.cli import run
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import DataError, UsageError
from tiny import COLOURS, write_encoder

Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def plain(fresh: Callable[[str], Encoder]) -> Encoder:
    return fresh("plain")


def write_choice(path: Path, train: int, select: int) -> None:
    """Of each colour the training picture and the select picture of these numbers, with paths of another machine."""
    rows = {part: [[f"/elsewhere/{place}/{colour}/{number}", label, colour] for label, colour in enumerate(COLOURS)]
            for part, place, number in (("train", "train", train), ("val", "select", select))}  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One shot, two seeds."""
    for seed, (train, select) in enumerate([(2, 0), (3, 1)]):
        write_choice(tmp_path / "published" / f"shot_1-seed_{seed}.json", train, select)
    return tmp_path / "published"


def keys(out: Path, role: str) -> list[str]:
    table = pq.read_table(out / "data" / "split.parquet").to_pylist()
    return [row["key"] for row in table if row["role"] == role]


def test_a_run_takes_its_pictures_from_the_file_and_answers_for_no_other(
    plain: Encoder, data: Dataset, folder: Path, tmp_path: Path
) -> None:
    file, out = folder / "shot_1-seed_1.json", tmp_path / "out"
    done = lw.adapt(plain, data, {}, out, shots=1, seed=1, alphas=[1.0], shot_index=str(folder))
    assert keys(out, "train") == [f"train/{colour}/3" for colour in COLOURS]
    assert keys(out, "select") == [f"select/{colour}/1" for colour in COLOURS]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert done.results["shot_index"] == digest
    assert f"shot_index: {digest}" in (out / "config.yaml").read_text()
    again = {"shots": 1, "seed": 1, "alphas": [1.0], "resume": True}
    assert lw.adapt(plain, data, {}, out, shot_index=str(file), **again).results == done.results
    file.write_text(file.read_text() + "\n")  # the same pictures, and not the same file
    with pytest.raises(UsageError, match="holds another experiment; shot_index differ"):
        lw.adapt(plain, data, {}, out, shot_index=str(file), **again)
    with pytest.raises(UsageError, match="data_digest, shot_index differ"):
        lw.adapt(plain, data, {}, out, **again)
    own = lw.adapt(plain, data, {}, tmp_path / "own", shots=1, seed=1, alphas=[1.0])
    assert "shot_index" not in own.results


def test_each_cell_of_a_sweep_has_the_file_of_its_shots_and_seed(
    plain: Encoder, data: Dataset, folder: Path, tmp_path: Path
) -> None:
    done = sweep(plain, data, {}, tmp_path / "out", shots=(1, 0), seeds=(0, 1), alphas=[1.0], shot_index=str(folder))
    for seed, number in ((0, 2), (1, 3)):
        want = [f"train/{colour}/{number}" for colour in COLOURS]
        assert keys(done.path / "shots-1" / f"seed-{seed}", "train") == want
        assert len(keys(done.path / "shots-all" / f"seed-{seed}", "train")) == len(data.train)


def test_what_cannot_be_is_told_before_anything_is_written(
    plain: Encoder, data: Dataset, folder: Path, tmp_path: Path
) -> None:
    out, file = tmp_path / "out", str(folder / "shot_1-seed_1.json")
    with pytest.raises(UsageError, match=r"says which pictures one run takes, and 2 are asked"):
        sweep(plain, data, {}, out, shots=(1,), seeds=(0, 1), shot_index=file)
    with pytest.raises(DataError, match=r"shot_1-seed_2.json is not there; there are shot_1-seed_0.json"):
        sweep(plain, data, {}, out, shots=(1,), seeds=(0, 1, 2), shot_index=str(folder))
    with pytest.raises(UsageError, match=r"0 shots asked with the choice in .*say how many, --shots K"):
        lw.adapt(plain, data, {}, out, shot_index=file)
    with pytest.raises(UsageError, match=r"0 shots asked with the choice in"):
        sweep(plain, data, {}, out, shots=(0,), seeds=(0, 1), shot_index=file)
    assert not out.exists()


def test_the_commands_take_it(data: Dataset, tmp_path: Path, capsys: Said) -> None:
    write_encoder(tmp_path / "plain", "plain")
    csv.write_csv(data.manifest().select(["path", "label", "split", "domain"]), tmp_path / "colours.csv")
    opened = Dataset.open(tmp_path / "colours.csv")
    chosen = {part: [[r.key, r.label, ""] for r in split.records[::5]]
              for part, split in (("train", opened.train), ("val", opened.select))}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(chosen))
    words = [str(tmp_path / "colours.csv"), "--shots", "2", "--shot-index", str(tmp_path / "a.json")]
    assert run(["split", *words, "-o", str(tmp_path / "few.csv")]) == 0
    few = Dataset.open(tmp_path / "few.csv")
    assert [r.path for r in few.train.records] == [r.path for r in opened.train.records[::5]]
    encoder = ["-e", f"local-dir:{tmp_path / 'plain'}", "-o", str(tmp_path / "out")]
    capsys.readouterr()
    assert run(["adapt", *words, *encoder, "--methods", "linear", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert f"2 shots, {len(chosen['train'])} to train on, {len(chosen['val'])} to select on" in said.out
    assert run(["train", "linear", *words[:2], "1", *words[3:], *encoder, "--dry-run"]) == 1
    assert "D17" in capsys.readouterr().err
