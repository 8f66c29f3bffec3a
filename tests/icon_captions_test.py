"""icon-captions are what their card says: no designer or drawing of IconShift, real names, small, licensed."""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from likewise.data.captions import PairOptions
from likewise.data.hashing import distances, perceptual_hash
from likewise.datasets import CAPTIONS, icon_captions, iconshift

Rows = list[dict[str, Any]]
LICENCES = ("MIT", "Apache", "ISC", "CC0", "CC BY", "Open Font", "BSD", "Mozilla", "Unlicense")


@pytest.fixture(scope="module")
def pictures() -> Rows:
    rows: Rows = pq.read_table(icon_captions.FOLDER / "images.parquet").to_pylist()
    return rows


@pytest.fixture(scope="module")
def shift() -> Rows:
    columns = ["family", "set", "phash"]
    rows: Rows = pq.read_table(iconshift.FOLDER / "images.parquet", columns=columns).to_pylist()
    return rows


def codes(rows: Rows) -> np.ndarray:
    return np.array([int(row["phash"], 16) for row in rows], dtype=np.uint64)


def test_no_designer_family_of_iconshift_and_none_of_its_drawings(pictures: Rows, shift: Rows) -> None:
    for column in ("family", "set"):
        assert {row[column] for row in pictures} & {row[column] for row in shift} == set()
    mine = codes(pictures)
    assert min(distances(mine, int(code)).min() for code in codes(shift)) > 4


def test_no_drawing_is_there_twice_and_the_hashes_are_of_these_pictures(pictures: Rows) -> None:
    mine = codes(pictures)
    assert min(distances(mine[i + 1 :], int(mine[i])).min() for i in range(len(mine) - 1)) > 2
    for row in pictures[::100]:
        image = Image.open(io.BytesIO(row["image"]))
        assert image.size == (64, 64)
        assert perceptual_hash(image.convert("RGB")) == int(row["phash"], 16)


def test_captions_are_names_in_words(pictures: Rows) -> None:
    words = Counter(word for row in pictures for word in " ".join(row["captions"]).split())
    for row in pictures:
        own = row["captions"]
        assert own
        assert len(set(own)) == len(own)
        assert all(re.fullmatch(r"[^\W\d_]{2,}(?: [^\W\d_]{2,})*", text.replace("'", "")) for text in own), own
        assert set(own[0].split()) <= set(re.split(r"[-_\s]+", row["name"].lower())), (row["name"], own)
        assert any(len(word) > 2 for word in own[0].split())
    assert not words.keys() & {"logo", "brand", "skin", "facebook", "github", "google", "twitter", "ibm"}
    assert sum(len(row["captions"]) > 1 for row in pictures) >= 200


def test_counts_sizes_and_diversity(pictures: Rows) -> None:
    assert len(pictures) == 10_000
    assert sum(path.stat().st_size for path in icon_captions.FOLDER.iterdir()) <= 12e6
    assert len({row["family"] for row in pictures}) >= 40
    assert max(Counter(row["set"] for row in pictures).values()) <= 200
    assert len({row["captions"][0] for row in pictures}) >= 7_500


def test_every_set_is_attributed_with_a_permissive_licence(pictures: Rows) -> None:
    table = {}
    for line in CAPTIONS["icon-captions"].card().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[-1].isdigit():
            table[cells[0]] = cells
    assert {name: int(cells[-1]) for name, cells in table.items()} == Counter(row["set"] for row in pictures)
    for cells in table.values():
        assert cells[2].startswith("[")
        assert any(cells[3].startswith(f"[{licence}") for licence in LICENCES), cells


def test_opening_them_holds_whole_groups_for_retrieval(pictures: Rows) -> None:
    pairs = CAPTIONS["icon-captions"]()
    assert (len(pairs), len(pairs.held)) == (9_500, 500)
    by_key = {f"{row['set']}:{row['name']}": row for row in pictures}
    for i in (0, 4_000, 9_499):
        row = by_key[pairs.split.records[i].key]
        assert pairs.captions[i] == tuple(row["captions"])
        want = Image.open(io.BytesIO(row["image"])).convert("RGB")
        assert pairs.split.open(i).tobytes() == want.tobytes()
    trained = {text for own in pairs.captions for text in own}
    assert not trained & {text for own in pairs.held_captions for text in own}
    texts = pairs.groups()
    assert np.bincount(texts.group_U).max() <= 10  # no chain of aliases ties much together
    assert len(CAPTIONS["icon-captions"](PairOptions(pairs=100, held=0.01))) == 100
