"""CLIP-Adapter by hand, and its start."""

# B images, D shared width, H hidden width.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from torch import Tensor

from likewise.errors import ConfigError
from likewise.heads import ClipAdapter, Given, class_texts


@pytest.mark.parametrize(("reduction", "share"), [(4, 0.2), (3, 0.7), (16, 0.9)])
def test_by_hand(given_of: Callable[..., Given], query_BD: Tensor, reduction: int, share: float) -> None:
    given = given_of()
    head = ClipAdapter(reduction=reduction, share=share).build(given)
    down_HD, up_DH = (head.state_dict()[name].double().numpy() for name in ("down", "up"))
    assert down_HD.shape == (16 // reduction, 16)
    text_CD = class_texts(given.encoder, given.prompts).double().numpy()
    want_BC = []
    for x_D in query_BD.double().numpy():
        f_D = x_D / np.sqrt(x_D @ x_D)
        new_D = np.maximum(up_DH @ np.maximum(down_HD @ f_D, 0), 0)
        mixed_D = share * new_D + (1 - share) * f_D
        want_BC.append(float(given.encoder.scale) * text_CD @ mixed_D / np.sqrt(mixed_D @ mixed_D))
    np.testing.assert_allclose(head(query_BD).detach().numpy(), want_BC, rtol=1e-4, atol=1e-5)


def test_its_start_and_size(given_of: Callable[..., Given], monkeypatch: pytest.MonkeyPatch) -> None:
    given = given_of()
    head = ClipAdapter(reduction=2).build(given)
    for name, fan_in in (("down", 16), ("up", 8)):
        most = head.state_dict()[name].abs().max()
        assert 0.8 * fan_in**-0.5 < most <= fan_in**-0.5
    assert abs(head.state_dict()["down"].mean()) < 0.1
    with pytest.raises(ConfigError, match=r"^a reduction of 17 leaves nothing.*at most 16"):
        ClipAdapter(reduction=17).build(given)
    monkeypatch.setattr(type(given.encoder), "shared_width", 512)
    assert sum(ClipAdapter().sizes(given.encoder, 1000, 16_000).values()) == 131_072  # as published for CLIP
