"""Fixtures for the core's tests: the stepping stones of `tiny.py`, written once a session."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode leaves it out; `tiny` lies here

import tiny
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.encoders import load
from vision import PAIRS, pair_at


@pytest.fixture(scope="session", autouse=True)
def _alone() -> None:
    torch.set_num_threads(1)  # sums in one order, and no threads for a forked child to miss


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's cache is read or written."""
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def stones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoders/<kind>` and `data`."""
    return tmp_path_factory.mktemp("stones")


@pytest.fixture(scope="session")
def folder_of(stones: Path) -> Callable[[str], Path]:
    """The open_clip folder of a kind of tiny encoder."""

    def folder(kind: str) -> Path:
        place = stones / "encoders" / kind
        return place if (place / "open_clip_model.safetensors").exists() else tiny.write_encoder(place, kind)

    return folder


@pytest.fixture(scope="session")
def fresh(folder_of: Callable[[str], Path], stones: Path) -> Callable[[str], Encoder]:
    """A newly loaded encoder of a kind; of `vision.PAIRS`, a vision encoder with a text tower beside it."""
    return lambda kind: pair_at(stones, kind) if kind in PAIRS else load(f"local-dir:{folder_of(kind)}")


@pytest.fixture(scope="session")
def _shared(fresh: Callable[[str], Encoder]) -> Callable[[str], Encoder]:
    made: dict[str, Encoder] = {}
    return lambda kind: made.setdefault(kind, made.get(kind) or fresh(kind))


@pytest.fixture
def encoder_of(_shared: Callable[[str], Encoder]) -> Iterator[Callable[[str], Encoder]]:
    """An encoder of a kind that tests share; one that leaves it changed fails."""
    used: dict[str, tuple[Encoder, dict[str, torch.Tensor]]] = {}

    def get(kind: str) -> Encoder:
        encoder = _shared(kind)
        used.setdefault(kind, (encoder, tiny.everything(encoder)))
        return encoder

    yield get
    for encoder, before in used.values():
        encoder.module.requires_grad_(False)  # a training under test has released some,
        encoder.module.zero_grad()  # and left gradients
        after = tiny.everything(encoder)
        assert list(after) == list(before)
        assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.fixture(scope="session")
def data(stones: Path) -> Dataset:
    return tiny.write_data(stones / "data")
