"""The cosine head: its start, TaskRes by hand, CLAP's weights and pull by hand."""

# B images, C classes, D shared width, N training pictures.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from likewise.heads import Cosine, Given, class_texts, text_head


def units(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


@pytest.mark.parametrize("kind", ["plain", "custom"])
@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("step", [0.5, 1.0])
def test_it_starts_as_the_text_head(
    given_of: Callable[..., Given], query_BD: Tensor, kind: str, gradient: bool, step: float
) -> None:
    given = given_of(kind)
    zero = text_head(given.encoder, given.prompts)
    head = Cosine(step=step).build(given)
    with torch.set_grad_enabled(gradient):
        assert torch.equal(head(query_BD), zero(query_BD))
    # unit length once more would not have been the same bits
    rows_CD = class_texts(given.encoder, given.prompts)
    assert not torch.equal(torch.nn.functional.normalize(rows_CD, dim=1), rows_CD)


@pytest.mark.parametrize("step", [0.5, 1.0])
def test_task_residuals_by_hand(given_of: Callable[..., Given], query_BD: Tensor, step: float) -> None:
    given = given_of()
    head = Cosine(step=step).build(given)
    residual_CD = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.residual.copy_(residual_CD)
    text_CD = class_texts(given.encoder, given.prompts).double().numpy()
    rows_CD = units(text_CD + step * residual_CD.double().numpy())
    scale = float(given.encoder.scale)
    want_BC = scale * units(query_BD.double().numpy()) @ rows_CD.T
    np.testing.assert_allclose(head(query_BD).detach().numpy(), want_BC, rtol=1e-5, atol=1e-5)
    at_third = scale * units(query_BD.double().numpy()) @ units(text_CD + step / 3 * residual_CD.double().numpy()).T
    third = head.at(1 / 3, text_head(given.encoder, given.prompts))
    np.testing.assert_allclose(third(query_BD).detach().numpy(), at_third, rtol=1e-5, atol=1e-5)
    assert head.penalty() is None


@pytest.mark.parametrize("labels", [(0, 1, 2, 3, 0, 1, 2, 0), (0, 1, 1, 3, 3, 3)])
def test_claps_weights_and_pull_by_hand(given_of: Callable[..., Given], labels: tuple[int, ...]) -> None:
    given = given_of(labels=labels)
    head = Cosine(anchor="clap", step=0.5).build(given)
    text_CD = class_texts(given.encoder, given.prompts).double().numpy()
    logits_NC = float(given.encoder.scale) * units(given.features("shared").double().numpy()) @ text_CD.T
    odds_NC = np.exp(logits_NC - logits_NC.max(1, keepdims=True))
    chance_NC = odds_NC / odds_NC.sum(1, keepdims=True)
    pull_C = [
        np.mean([chance_NC[n, c] for n, label in enumerate(labels) if label == c]) if c in labels else 1.0
        for c in range(4)
    ]
    np.testing.assert_allclose(head.pull_C.numpy(), pull_C, rtol=1e-5)
    start = head.penalty()
    assert start is not None
    assert start.item() == 0
    residual_CD = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.residual.copy_(residual_CD)
    moved_CD = (text_CD + 0.5 * residual_CD.double().numpy()) - text_CD
    want = np.mean([pull_C[c] * np.sum(moved_CD[c] ** 2) for c in range(4)])
    np.testing.assert_allclose(head.penalty().item(), want, rtol=1e-5)
