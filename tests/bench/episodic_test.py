"""Episodes in a suite: rows equal to a loop over the same episodes on the towers' own features; results and tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow.csv as csv
import pytest
import scipy.stats
import torch
from PIL import Image
from safetensors.torch import load_file

from likewise import suites
from likewise.bench import checks, lines, markdown, state
from likewise.bench.cells import How, run_cell
from likewise.bench.episodic import EPISODES
from likewise.data.decode import picture
from likewise.data.records import Dataset
from likewise.data.views import evaluate
from likewise.encoders import load
from likewise.errors import ConfigError
from likewise.keys import key_rng
from likewise.suites import Suite
from tiny import write_data, write_encoder

WAYS, QUERIES, COUNT, SEED = 3, 4, 10, 5
NEW = {"ochre": (190, 120, 40), "teal": (20, 120, 120), "pink": (250, 160, 190), "grey": (90, 90, 90)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny CLIP, pictures of three colours to train on, and of four others; from here, so that names are the same."""
    folder, rng = tmp_path_factory.mktemp("episodes"), np.random.default_rng(1)
    write_encoder(folder / "plain", "plain")
    table = write_data(folder / "colours").manifest()
    csv.write_csv(table.select(["path", "label", "split", "domain"]), folder / "colours.csv")
    for colour, rgb in NEW.items():
        (folder / "new" / colour).mkdir(parents=True)
        for number in range(8):
            pixels_HWC = (rng.normal(0, 90, (16, 16, 3)) + rgb).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels_HWC).save(folder / "new" / colour / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def suite_of(place: Path, **asked: object) -> Suite:
    base = "colours.csv"
    block = {
        "encoders": [f"local-dir:{place / 'plain'}"], "datasets": [base], "seeds": [SEED], "epochs": 3, "batch": 8,
        "methods": ["zero-shot", {"use": "ln", "edits": ["stages.0.fit.lr=0.05"], "alpha": 1.0}], "alphas": [0, 1],
    }  # fmt: skip
    own = {"of": "new", "shots": [1, 2], "ways": WAYS, "queries": QUERIES, "count": COUNT}
    return Suite.parse({"title": "new colours", "blocks": [block], "episodes": {base: own | asked}})


@pytest.fixture(scope="module")
def done(place: Path) -> tuple[Suite, Path]:
    suite, out = suite_of(place), place / "out"
    assert [run_cell(cell, out, How(keep=True)) for cell in suite.cells] == ["", ""]
    return suite, out


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((out / EPISODES).read_text())["rows"]
    return rows


def by_hand(x_ND: np.ndarray, labels_N: np.ndarray, shots: int, of: str) -> list[float]:
    """Accuracy of each episode: each query to the mean of largest cosine, one picture at a time."""
    found = []
    for number in range(COUNT):
        rng = key_rng("episode", SEED, of, shots, number)
        chosen = rng.choice(len(NEW), WAYS, replace=False)
        drawn = [rng.choice(np.flatnonzero(labels_N == c), shots + QUERIES, replace=False) for c in chosen]
        means = [sum(x_ND[i] / np.linalg.norm(x_ND[i]) for i in own[:shots]) for own in drawn]
        right = 0
        for place, own in enumerate(drawn):
            for i in own[shots:]:
                cosines = [x_ND[i] @ mean / np.linalg.norm(mean) for mean in means]
                right += int(np.argmax(cosines) == place)
        found.append(right / (WAYS * QUERIES))
    return found


@torch.no_grad()
def features_by_hand(place: Path, delta: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Open_clip's own image features of the new pictures, with these numbers put into its tower."""
    encoder, data = load(f"local-dir:{place / 'plain'}"), Dataset.open(place / "new")
    records = [r for split in (data.train, data.select, *data.read_report("test").values()) for r in split.records]
    encoder.put(delta)
    plain = open_clip.create_model(f"local-dir:{place / 'plain'}").eval()
    plain.load_state_dict(encoder.module.state_dict())
    pixels_NCHW = torch.stack([evaluate(picture(r.path, r.row), encoder.spec) for r in records])
    return plain.encode_image(pixels_NCHW).double().numpy(), np.array([r.label for r in records])


def test_rows_are_a_loop_over_the_same_episodes_of_each_tower(done: tuple[Suite, Path], place: Path) -> None:
    suite, out = done
    of, values = "new", {}
    for cell in suite.cells:
        name, folder = cell.method.called, out / cell.folder
        rows = rows_of(folder)
        deltas: dict[Any, dict[str, torch.Tensor]] = {None: {}}
        if name == "ln":
            deltas = {0.0: {}, 1.0: load_file(folder / "methods" / "ln" / "tuned" / "delta.safetensors")}
        assert [(r["alpha"], r["metric"]) for r in rows] == [(a, f"3-way-{k}-shot") for a in deltas for k in (1, 2)]
        for row in rows:
            shots = int(row["metric"][6])
            want = by_hand(*features_by_hand(place, deltas[row["alpha"]]), shots, of)
            assert row["value"] == pytest.approx(np.mean(want), abs=1e-12)
            half = scipy.stats.t.ppf(0.975, COUNT - 1) * np.std(want, ddof=1) / np.sqrt(COUNT)
            low, high = row["value"] - half, row["value"] + half
            assert (row["low"], row["high"]) == pytest.approx((max(0, low), min(1, high)))
            assert (row["method"], row["split"], row["domain"], row["n"]) == (name, "report", of, COUNT)
            values[name, row["alpha"], shots] = row["value"]
        readings = json.loads((folder / "data" / "access.json").read_text())
        assert "episodes of new classes" in readings[-1]["why"]
    assert values["ln", 0.0, 1] == values["zero-shot", None, 1]  # of every method the same episodes
    assert values["ln", 1.0, 2] != values["ln", 0.0, 2]


def test_they_stand_in_the_tables_with_their_interval_and_beside_published_numbers(
    done: tuple[Suite, Path], place: Path
) -> None:
    suite, out = done
    of, (base,) = "new", suite.episodes
    (line,) = [x for x in lines(suite.cells, out) if (x.method, x.metric) == ("ln", "3-way-1-shot")]
    row = next(r for r in rows_of(out / suite.cells[1].folder) if (r["alpha"], r["metric"]) == (1.0, "3-way-1-shot"))
    assert (line.domain, line.mean, line.seeds, line.n) == (of, row["value"], 1, COUNT)
    assert line.half == pytest.approx((row["high"] - row["low"]) / 2)
    text = markdown(suite, suite.cells, out)
    assert f"| {100 * line.mean:.1f} ± {100 * line.half:.1f} |" in text
    assert f"| {base} | {of} 3-way-1-shot | {COUNT:,} |" in text
    assert "of episodes from one seed, over these" in text
    own = {"value": 100 * line.mean + 0.2, "source": "table 3", "method": "ln", "dataset": base, "domain": of,
           "metric": "3-way-1-shot"}  # fmt: skip
    whole = Suite.parse({**suite.tree(), "expect": [own]})
    (check,) = checks(whole, whole.cells, out)
    assert (check.verdict, check.difference) == ("within", pytest.approx(-0.2))


def test_a_cell_is_done_when_its_episodes_are_and_others_are_asked_anew(done: tuple[Suite, Path], place: Path) -> None:
    suite, out = done
    cell = suite.cells[1]
    assert state(cell, out).kind == "done"
    assert ", then episodes of " in str(cell)
    before, results = rows_of(out / cell.folder), (out / cell.folder / "results.json").read_text()
    other = suite_of(place, count=4).cells[1]
    assert state(other, out).kind == "begun"
    assert run_cell(other, out, How()) == ""  # whose weights are then removed
    assert (state(other, out).kind, state(cell, out).kind) == ("done", "begun")
    assert [row["n"] for row in rows_of(out / cell.folder)] == [4] * 4
    assert run_cell(cell, out, How()) == ""  # trained once more, to the same end
    assert rows_of(out / cell.folder) == before
    assert (out / cell.folder / "results.json").read_text() == results
    gone = suite_of(place, of="gone").cells[0]
    assert state(gone, place / "elsewhere").kind == "no data"
    assert "gone» is neither a built-in data set nor a path" in state(gone, place / "elsewhere").why


def test_what_cannot_be_an_episode_is_told_before_anything_is_trained(place: Path, tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, object], str]] = [
        ({"ways": 5}, "episodes of 5 classes are asked of new, which has 4"),
        ({"queries": 7}, "takes 9 pictures of a class .*«grey» has 8, «ochre» has 8, «pink» has 8 and 1 more"),
        ({"of": "colours.csv", "queries": 1}, "has blue, green, red, which are trained on"),
    ]
    for number, (asked, said) in enumerate(wrong):
        cell = suite_of(place, **asked).cells[0]
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(run_cell(cell, tmp_path / str(number), How()))
        assert not (tmp_path / str(number) / cell.folder / "results.json").exists()
    with pytest.raises(ConfigError, match="episodes come after «other», which is not among the data"):
        Suite.parse({**suite_of(place).tree(), "episodes": {"other": {"of": "x"}}})


def test_kims_tables_ask_for_kims_episodes() -> None:
    asked = {"mini-imagenet": "mini-imagenet-novel", "cub-base": "cub-novel"}  # Tables 3 and 4
    _, suite = suites.load("kim-tables-2-4")
    assert {base: episodes.of for base, episodes in suite.episodes.items()} == asked
    assert all((e.ways, e.shots, e.queries, e.count) == (5, (1, 5), 15, 600) for e in suite.episodes.values())
    after = {cell.dataset for cell in suite.cells if cell.episodes}
    assert after == set(asked)
