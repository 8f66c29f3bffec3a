"""Made-up pictures: small, different from each other, and the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def drawing(number: int, size: int = 24) -> Image.Image:
    """Coarse coloured noise: every number is another picture, with a perceptual hash of its own."""
    coarse = np.random.Generator(np.random.PCG64(number)).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BILINEAR)


@pytest.fixture(scope="session")
def draw() -> Callable[..., Image.Image]:
    return drawing


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Path]:
    """Writes class folders: plant("photos", cat=10, dog=8) -> path of photos/."""
    planted = 0

    def put(where: str, **classes: int) -> Path:
        nonlocal planted
        for folder, n in classes.items():
            for i in range(n):
                path = tmp_path / where / folder / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                drawing(planted).save(path)
                planted += 1
        return tmp_path / where

    return put
