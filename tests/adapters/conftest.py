"""The architecture of CLIP ViT-B/16, by which the papers count."""

from __future__ import annotations

import pytest

from likewise.encoder import Encoder
from likewise.encoders import load


@pytest.fixture(scope="session")
def vit_b_16() -> Encoder:
    """Without its weights; built once, for it takes seconds."""
    return load("open_clip:ViT-B-16", weights=False)
