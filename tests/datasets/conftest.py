"""Small made-up copies of datasets, in the layout that the real ones have on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

Plant = Callable[[Path, Iterable[str]], None]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder under which datasets are looked for, with a cache of its own beside it."""
    place = tmp_path / "data"
    place.mkdir()
    monkeypatch.setattr("likewise.datasets.named.roots", lambda: [place])
    monkeypatch.setenv("LIKEWISE_CACHE", str(tmp_path / "cache"))
    return place


@pytest.fixture
def plant() -> Plant:
    """Pictures at these paths below a folder, no two alike."""
    count = 0

    def go(folder: Path, paths: Iterable[str]) -> None:
        nonlocal count
        for path in paths:
            count += 1
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (count % 256, count // 256 % 256, 90)).save(folder / path)

    return go
