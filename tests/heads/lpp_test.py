"""LP++: its start and steps in NumPy, its gradients by autograd, and that the loss never rises."""

# C classes, D shared width, N training pictures.

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from likewise.heads import Given, LpPlus, LpPlusHead, class_texts, steps


def start(given: Given) -> LpPlusHead:
    head = LpPlus().build(given)
    assert isinstance(head, LpPlusHead)
    return head


def by_hand(given: Given) -> tuple[np.ndarray, np.ndarray]:
    """Unit features and texts, fp64."""
    f_ND = given.features("shared").double().numpy()
    return f_ND / np.linalg.norm(f_ND, axis=1, keepdims=True), class_texts(
        given.encoder, given.prompts
    ).double().numpy()


def gradient_in_logits(logits_NC: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    odds_NC = np.exp(logits_NC - logits_NC.max(1, keepdims=True))
    return (odds_NC / odds_NC.sum(1, keepdims=True) - np.eye(logits_NC.shape[1])[labels_N]) / len(labels_N)


@pytest.mark.parametrize("labels", [(0, 1, 2, 3, 0, 1, 2, 0), (0, 1, 1, 3, 3, 3)])
def test_the_start_by_hand(given_of: Callable[..., Given], labels: tuple[int, ...]) -> None:
    given = given_of(labels=labels)
    head = start(given)
    f_ND, t_CD = by_hand(given)
    cosines = []
    for c in range(4):
        own_ND = f_ND[np.array(labels) == c]
        want_D = own_ND.mean(0) if len(own_ND) else np.zeros(16)
        np.testing.assert_allclose(head.weight[c].detach().numpy(), want_D, atol=1e-6)
        cosines += [(own_ND @ t_CD[c]).mean()] if len(own_ND) else []
    np.testing.assert_allclose(head.blend.detach().numpy(), np.full(4, 250 * np.mean(cosines)), rtol=1e-4)


def test_one_epoch_and_the_tenth_by_hand(given_of: Callable[..., Given]) -> None:
    given = given_of()
    head, mixed_N = start(given), given.labels_N.roll(1)  # mistaken labels: a loss that stays
    labels_N = mixed_N.numpy()
    f_ND, t_CD = by_hand(given)
    w_CD, a_C = (p.detach().double().numpy().copy() for p in (head.weight, head.blend))
    text_NC = f_ND @ t_CD.T
    w_rate = 4 * len(f_ND) / np.linalg.svd(f_ND, compute_uv=False)[0] ** 2
    a_rate = len(f_ND) / (4 * (text_NC**2).sum(0).max())
    velocity_CD = np.zeros_like(w_CD)
    losses = steps(head, given.features("shared"), mixed_N, 10)
    for epoch in range(1, 11):
        loss = next(losses)
        velocity_CD = 0.9 * velocity_CD + gradient_in_logits(f_ND @ w_CD.T + a_C * text_NC, labels_N).T @ f_ND
        w_CD = w_CD - w_rate * velocity_CD
        if epoch == 10:
            start_C = a_C
            a_C = a_C - a_rate * (gradient_in_logits(f_ND @ w_CD.T + a_C * text_NC, labels_N) * text_NC).sum(0)
            assert np.abs(a_C - start_C).max() > 1e-3  # a step that the comparison below can see
        if epoch in (1, 10):
            np.testing.assert_allclose(head.weight.detach().numpy(), w_CD, atol=2e-4)
            np.testing.assert_allclose(head.blend.detach().numpy(), a_C, rtol=0, atol=2e-5)
            logits_NC = f_ND @ w_CD.T + a_C * text_NC
            tops_N = logits_NC.max(1)
            logs_N = tops_N + np.log(np.exp(logits_NC - tops_N[:, None]).sum(1))
            want = (logs_N - logits_NC[np.arange(len(f_ND)), labels_N]).mean()
            np.testing.assert_allclose(loss, want, rtol=1e-3, atol=1e-6)
    assert list(losses) == []


def test_its_gradients_are_autograds(given_of: Callable[..., Given], monkeypatch: pytest.MonkeyPatch) -> None:
    from likewise.heads import lpp

    monkeypatch.setattr(lpp, "EVERY", 1)
    given = given_of()
    head, other = start(given), start(given)
    f_ND, t_CD = by_hand(given)
    rate = 4 * len(f_ND) / np.linalg.norm(f_ND, 2) ** 2
    blend_rate = len(f_ND) / (4 * ((f_ND @ t_CD.T) ** 2).sum(0).max())
    next(steps(head, given.features("shared"), given.labels_N, 1, momentum=0.0))
    F.cross_entropy(other(given.features("shared")), given.labels_N).backward()
    found_CD = (other.weight - head.weight) / rate
    torch.testing.assert_close(found_CD, other.weight.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        other.weight.copy_(head.weight)  # the blend's step comes after the weight's
    other.zero_grad()
    F.cross_entropy(other(given.features("shared")), given.labels_N).backward()
    torch.testing.assert_close((other.blend - head.blend) / blend_rate, other.blend.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("turn", [0, 1])
def test_the_loss_never_rises_without_momentum(given_of: Callable[..., Given], turn: int) -> None:
    given = given_of()
    head, labels_N = start(given), given.labels_N.roll(turn)
    first = F.cross_entropy(head(given.features("shared")), labels_N).item()
    losses = [first, *steps(head, given.features("shared"), labels_N, 60, momentum=0.0)]
    assert all(b <= a + 1e-6 for a, b in itertools.pairwise(losses))
    assert losses[-1] < 0.7 * first
    again = F.cross_entropy(head(given.features("shared")), labels_N).item()
    assert again == pytest.approx(losses[-1])  # what is told is the loss after the step
    assert torch.is_grad_enabled()


def test_more_features_than_pictures_is_the_same_curvature() -> None:
    from likewise.heads.lpp import rates

    f_ND = F.normalize(torch.randn(5, 12, generator=torch.Generator().manual_seed(0)), dim=1)
    for x_ND in (f_ND, torch.cat([f_ND] * 4)):
        top = np.linalg.svd(x_ND.double().numpy(), compute_uv=False)[0] ** 2
        assert rates(x_ND, x_ND[:, :3])[0] == pytest.approx(4 * len(x_ND) / top, rel=1e-6)
