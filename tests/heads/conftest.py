"""What heads are made from: a tiny encoder, and features that stand for the training pictures'."""

# D shared width, N training pictures.

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from likewise.data.prompts import fill
from likewise.encoder import Encoder
from likewise.heads import Given
from tiny import TEMPLATES

NAMES = ("red", "very dark blue", "green", "car")
LABELS = (0, 1, 2, 3, 0, 1, 2, 0, 0, 3, 3)


@pytest.fixture
def given_of(encoder_of: Callable[[str], Encoder]) -> Callable[..., Given]:
    """The `Given` of a kind of tiny encoder: four classes, eleven pictures around four means."""

    def given(kind: str = "plain", seed: int = 0, labels: tuple[int, ...] = LABELS) -> Given:
        encoder, labels_N = encoder_of(kind), torch.tensor(labels)
        g = torch.Generator().manual_seed(11)
        means_CD = torch.randn(len(NAMES), encoder.shared_width, generator=g)
        noise_ND = torch.randn(len(labels), encoder.shared_width, generator=g)
        features_ND = 3 * (means_CD[labels_N] + 0.7 * noise_ND)  # not of unit length
        return Given(encoder, fill(TEMPLATES, NAMES), labels_N, lambda reads: features_ND, seed)

    return given


@pytest.fixture
def query_BD() -> torch.Tensor:
    """Pictures to be scored, of the plain encoder's width."""
    return 5 * torch.randn(9, 16, generator=torch.Generator().manual_seed(12))
