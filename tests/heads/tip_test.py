"""Tip-Adapter against its formula in NumPy, and its choice against every point of a grid."""

# B images, C classes, D shared width, N training pictures.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from likewise.heads import Given, Tip, class_texts, tip


def formula(given: Given, keys_ND: np.ndarray, query_BD: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    text_CD = class_texts(given.encoder, given.prompts).double().numpy()
    out_BC = []
    for x_D in query_BD:
        f_D = x_D / np.linalg.norm(x_D)
        scores_C = float(given.encoder.scale) * text_CD @ f_D
        for key_D, label in zip(keys_ND, given.labels_N.tolist(), strict=True):
            scores_C[label] += alpha * np.exp(-beta * (1 - f_D @ key_D))
        out_BC.append(scores_C)
    return np.array(out_BC)


@pytest.mark.parametrize("tuned", [True, False])
def test_by_hand(given_of: Callable[..., Given], query_BD: Tensor, tuned: bool) -> None:
    given = given_of()
    head = Tip(tuned=tuned).build(given)
    keys_ND = given.features("shared").double().numpy()
    keys_ND /= np.linalg.norm(keys_ND, axis=1, keepdims=True)
    want_BC = formula(given, keys_ND, query_BD.double().numpy(), 1.0, 5.5)
    np.testing.assert_allclose(head(query_BD).detach().numpy(), want_BC, rtol=1e-5, atol=1e-5)
    assert head.keeps == keys_ND.size
    assert head.config.kept is not tuned
    if tuned:  # keys that have trained are not brought back to unit length
        with torch.no_grad():
            head.keys *= 1.3
        want_BC = formula(given, 1.3 * keys_ND, query_BD.double().numpy(), 1.0, 5.5)
        np.testing.assert_allclose(head(query_BD).detach().numpy(), want_BC, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [256, 4])
@pytest.mark.parametrize("turn", [0, 1, 2])
def test_the_choice_is_the_best_of_the_grid(
    given_of: Callable[..., Given], query_BD: Tensor, monkeypatch: pytest.MonkeyPatch, chunk: int, turn: int
) -> None:
    monkeypatch.setattr(tip, "CHUNK", chunk)
    given = given_of()
    config = Tip(alphas=(3.0, 0.0, 30.0, 1.0), betas=(20.0, 1.0, 5.0))
    head = config.build(given)
    near_BD = given.features("shared").roll(1, 0) + 0.3 * torch.randn(
        11, 16, generator=torch.Generator().manual_seed(1)
    )
    select_BD = torch.cat([query_BD, near_BD])
    labels_B = torch.cat([torch.arange(9) % 4, given.labels_N.roll(1 + turn)])
    keys_ND = head.keys.double().numpy()
    right = {}
    for alpha in sorted(config.alphas):
        for beta in sorted(config.betas):
            found_B = formula(given, keys_ND, select_BD.double().numpy(), alpha, beta).argmax(1)
            right[alpha, beta] = (found_B == labels_B.numpy()).sum()
    assert len(set(right.values())) > 1  # else there is nothing to choose
    first = next(pair for pair, count in right.items() if count == max(right.values()))  # of equals the smallest
    assert head.choose(select_BD, labels_B) == {"alpha": first[0], "beta": first[1]}
    want_BC = formula(given, keys_ND, query_BD.double().numpy(), *first)
    np.testing.assert_allclose(head(query_BD).detach().numpy(), want_BC, rtol=1e-5, atol=1e-5)
    assert head.chooses


@pytest.mark.parametrize("config", [Tip(), Tip(alphas=(0.05, 0.0), betas=(5.0, 0.1), tuned=True)])
def test_of_equals_the_smaller_alpha(given_of: Callable[..., Given], config: Tip) -> None:
    given = given_of()
    head = config.build(given)
    features_ND = class_texts(given.encoder, given.prompts)  # right without a cache already
    assert head.choose(features_ND, torch.arange(4)) == {"alpha": 0.0, "beta": 0.1}
