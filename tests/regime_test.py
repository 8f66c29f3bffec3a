"""The plane of amount and similarity: numbers by another road, thresholds at their edges, report splits never read."""

# M pictures asked about, N reference pictures, W feature width.

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from likewise.cli import run
from likewise.cli.advice import told
from likewise.data.records import ClassTable, Dataset
from likewise.encoder import Encoder
from likewise.encoders import BUILT_IN, load, reference
from likewise.errors import UsageError
from likewise.metrics import proportion
from likewise.recommend import Regime, distance, regime


def test_the_distance_is_scikit_learns_and_one_among_the_reference_itself() -> None:
    rng = np.random.default_rng(0)
    reference_NW = rng.normal(size=(60, 8)).astype(np.float32)
    query_MW = (rng.normal(size=(25, 8)) + 2).astype(np.float32)
    own = NearestNeighbors(n_neighbors=6, metric="cosine").fit(reference_NW)
    inside = own.kneighbors(reference_NW)[0][:, 5].mean()
    want = own.kneighbors(query_MW, n_neighbors=5)[0][:, 4].mean() / inside
    found = distance(torch.from_numpy(query_MW), torch.from_numpy(reference_NW), k=5)
    assert found == pytest.approx(want, rel=1e-5)
    far = torch.from_numpy(-3 - rng.random((25, 8)).astype(np.float32))
    near = torch.from_numpy(reference_NW[:30] + 0.01)
    assert distance(far, torch.from_numpy(3 + rng.random((60, 8)).astype(np.float32)), 5) > 10
    assert distance(near, torch.from_numpy(reference_NW), 5) < 1
    with pytest.raises(UsageError, match="two pictures"):
        distance(far, far[:1])


@pytest.mark.parametrize(
    ("per_class", "kim", "ours"),
    [(16, "few", "few"), (17, None, "few"), (63, None, "few"), (64, None, "many"), (256, "many", "many")],
)
def test_amounts_at_their_thresholds(per_class: int, kim: str | None, ours: str) -> None:
    found = Regime(per_class * 3, 3, per_class, None, None)
    assert (found.kim_amount, found.amount) == (kim, ours)
    assert found.likeness is found.kim_likeness is None


def test_two_classes_are_not_similar_by_being_two() -> None:
    found = Regime(20, 2, 10, proportion(60, 100), None)
    assert found.kim_likeness == "similar"
    assert found.above_chance == pytest.approx(0.2)
    assert found.likeness == "dissimilar"
    assert Regime(20, 2, 10, None, 1.0).likeness == "similar"
    assert Regime(20, 2, 10, None, 2.0).likeness == "dissimilar"


def test_the_regime_of_data_is_its_own(fresh: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = fresh("plain")
    before = len(data.access_log)
    found = regime(encoder, data, None)
    assert found.pictures == len(data.train)
    assert found.per_class == float(np.median(list(data.train.counts(data.classes).values())))
    assert found.zero_shot is not None
    assert found.zero_shot.n == len(data.select)
    assert found.distance is None
    assert len(data.access_log) == before
    assert json.loads(json.dumps(found.tree()))["ours"]["amount"] == "few"
    assert found.doubt == ""
    alike = copy.copy(data)
    alike.classes = ClassTable(names=("red", "colour", "colour"), folders=data.classes.folders)
    doubted = regime(encoder, alike, None)
    assert doubted.doubt.startswith("2 classes share a name")
    assert doubted.doubt in told(doubted, "plain")
    assert regime(fresh("with-vit").vision, data, torch.eye(32)).zero_shot is None  # type: ignore[attr-defined]


def test_what_ships_says_what_it_was_pretrained_on() -> None:
    for name in BUILT_IN:
        found_NW = reference(name)
        assert found_NW is not None
        assert found_NW.shape == (2000, load(name).pooled_width)
    assert reference("open_clip:ViT-B-32/openai") is None


def test_the_command_says_where_digits_lie(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["regime", "digits", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ours"] == {"amount": "many", "similarity": "dissimilar"}
    assert found["kim"] == {"amount": None, "similarity": "dissimilar"}
    assert found["distance"] > 1.07
    assert run(["regime", "digits"]) == 0
    assert "100 training pictures a class" in capsys.readouterr().out
