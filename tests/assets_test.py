"""What ships is what its cards say: sizes, counts, and no designer or drawing on two sides."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image

from likewise.data.hashing import distances, perceptual_hash
from likewise.datasets import DATASETS, iconshift
from likewise.encoders import BUILT_IN, load, paired
from likewise.errors import UsageError
from likewise.judge import Labelled, knn
from likewise.metrics import accuracy
from likewise.predict import features

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def pictures() -> Rows:
    rows: Rows = pq.read_table(iconshift.FOLDER / "images.parquet").to_pylist()
    return rows


@pytest.fixture(scope="module")
def pretraining() -> Rows:
    rows: Rows = pq.read_table(BUILT_IN["icon-clip"] / "pretraining.parquet").to_pylist()
    return rows


def test_no_designer_family_is_on_two_sides(pictures: Rows, pretraining: Rows) -> None:
    sides: dict[str, set[str]] = {}
    for row in pictures:
        sides.setdefault(row["family"], set()).add(row["side"])
    for row in pretraining:
        sides.setdefault(row["family"], set()).add("pretraining")
    assert {side for found in sides.values() for side in found} == {"train", "select", "report", "ood", "pretraining"}
    assert [family for family, found in sides.items() if len(found) > 1] == []


def test_no_drawing_is_near_another_side(pictures: Rows, pretraining: Rows) -> None:
    codes = np.array([int(row["phash"], 16) for row in pictures], dtype=np.uint64)
    sides = np.array([row["side"] for row in pictures])
    for code, side in zip(codes, sides, strict=True):
        assert distances(codes[sides != side], int(code)).min() > 2
    for row in pretraining:
        assert distances(codes, int(row["phash"], 16)).min() > 4


def test_the_table_of_hashes_is_of_these_pictures(pictures: Rows) -> None:
    for row in pictures[::40]:
        assert perceptual_hash(Image.open(io.BytesIO(row["image"]))) == int(row["phash"], 16)


def test_counts_and_sizes(pictures: Rows) -> None:
    counts = Counter(row["domain"] if row["side"] == "ood" else row["side"] for row in pictures)
    assert counts["train"] >= 1200
    assert min(counts["select"], counts["report"]) >= 300
    assert min(counts[style] for style in iconshift.STYLES) >= 150
    assert size(iconshift.FOLDER) <= 15e6
    assert size(BUILT_IN["icon-clip"]) <= 40e6
    data = DATASETS["iconshift"]()
    assert len(data.train) == counts["train"]
    assert data.domains == ("id", *iconshift.STYLES)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_model_has_blocks_with_norms_and_no_running_statistics() -> None:
    encoder = load("icon-clip")
    assert encoder.blocks("image") == 6
    assert encoder.blocks("text") == 4
    assert "image.3.norm1.weight" in encoder.sites
    assert list(encoder.module.visual.buffers()) == []  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("name", ["icon-vit", "icon-dino"])
def test_the_vision_encoders_are_timm_folders_with_nothing_of_text(name: str) -> None:
    encoder = load(name)
    assert size(BUILT_IN[name]) <= 15e6
    assert encoder.blocks("image") == 6
    assert not encoder.has("text")
    assert encoder.pooled_width == 192
    upstream = timm.create_model(f"local-dir:{BUILT_IN[name]}", pretrained=True).eval()
    picture_BCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = encoder.image(picture_BCHW).pooled_BW
        assert found is not None
        torch.testing.assert_close(found, upstream(picture_BCHW), rtol=1e-4, atol=1e-4)
    both = paired(name)
    assert both.has("text")
    assert both.new == {"image.projection", "scale", "shift"}


@pytest.mark.parametrize("name", ["icon-vit", "icon-dino"])
def test_the_cards_scores_are_theirs(name: str) -> None:
    """Neighbours on the select split, as the card says them to a decimal."""
    data, encoder = DATASETS["iconshift"](), load(name)
    bank, select = (Labelled(features(encoder, split, "pooled"), split.labels_N) for split in data.splits())
    share = accuracy(knn(bank, select.features_ND, len(data.classes), (20,))[20].logits_MC, select.labels_N).value
    card = (BUILT_IN[name] / "card.md").read_text()
    said = re.search(r"\| select \| ([\d.]+) \|", card)
    assert said is not None
    assert 100 * share == pytest.approx(float(said[1]), abs=0.7)  # two pictures: another machine, another last bit


def test_ours_answer_as_is_asked_behind_a_hash() -> None:
    """As timm's encoders do, by timm's own tokens; the CLIP says whose it is."""
    plain, mean = load("icon-vit"), paired("icon-vit#mean").vision  # type: ignore[attr-defined]
    assert (mean.spec.name, mean.rate_scale) == ("icon-vit#mean", plain.rate_scale)
    pixels_BCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens_BNW = plain._model.forward_features(pixels_BCHW)  # type: ignore[attr-defined]
        want_BW = tokens_BNW[:, plain._model.num_prefix_tokens :].mean(1)  # type: ignore[attr-defined]
        torch.testing.assert_close(mean.image(pixels_BCHW).pooled_BW, want_BW)
    with pytest.raises(UsageError, match=r"icon-vit#men: there are no features «men»\. Did you mean mean"):
        load("icon-vit#men")
    with pytest.raises(UsageError, match="icon-clip is an open_clip model, which answers in one way"):
        load("icon-clip#mean")
