"""The losses against NumPy by hand; the contrastive one in the form with a column a sample, duplicates and all."""

# B images, C classes, D shared width, U distinct captions of a batch.

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from likewise.errors import ConfigError
from likewise.losses import Bank, Contrastive, CrossEntropy, contrastive, cross_entropy, pull, sigmoid

Collisions = Literal["none", "mask", "soft"]
KINDS: tuple[Collisions, ...] = ("none", "mask", "soft")


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """9 pictures, 5 captions of 3 classes: repeated captions, and several captions of one class."""
    g = torch.Generator().manual_seed(seed)
    image_BD = torch.nn.functional.normalize(torch.randn(9, 6, generator=g, dtype=torch.float64), dim=1)
    text_UD = torch.nn.functional.normalize(torch.randn(5, 6, generator=g, dtype=torch.float64), dim=1)
    return image_BD, text_UD, torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 4]), torch.tensor([0, 0, 1, 1, 2])


def log_sum(x: np.ndarray) -> float:
    return float(x.max() + np.log(np.exp(x - x.max()).sum()))


def by_hand(score_BB: np.ndarray, class_B: np.ndarray, collisions: Collisions) -> float:
    """B x B, one column a sample, sample by sample and term by term."""
    total, b = 0.0, len(class_B)
    for s_BB in (score_BB, score_BB.T):
        for j in range(b):
            same = [k for k in range(b) if class_B[k] == class_B[j]]
            if collisions == "none":
                total += log_sum(s_BB[j]) - s_BB[j, j]
            elif collisions == "mask":
                kept = [k for k in range(b) if k == j or k not in same]
                total += log_sum(s_BB[j, kept]) - s_BB[j, j]
            else:
                total += log_sum(s_BB[j]) - float(np.mean(s_BB[j, same]))
    return total / (2 * b)


@pytest.mark.parametrize("collisions", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_contrastive_equals_numpy_in_the_form_with_a_column_a_sample(collisions: Collisions, seed: int) -> None:
    image_BD, text_UD, which_B, class_U = batch(seed)
    for scale in (1.0, 14.3, 100.0):
        found = contrastive(image_BD, text_UD, which_B, class_U, torch.tensor(scale), collisions)
        score_BB = scale * image_BD.numpy() @ text_UD[which_B].numpy().T
        assert float(found) == pytest.approx(by_hand(score_BB, class_U[which_B].numpy(), collisions), rel=1e-5)


def dense(image_BD: Tensor, text_BD: Tensor, class_B: Tensor, scale: Tensor, collisions: Collisions) -> Tensor:
    """The same by autograd in float64: targets and masks over B x B."""
    score_BB = scale * image_BD @ text_BD.T
    same_BB = class_B[:, None] == class_B[None, :]
    own_BB = torch.eye(len(class_B), dtype=torch.bool)
    target_BB = (same_BB / same_BB.sum(1, keepdim=True)).double() if collisions == "soft" else own_BB.double()
    if collisions == "mask":
        score_BB = score_BB.masked_fill(same_BB & ~own_BB, -1e9)
    return 0.5 * sum(  # type: ignore[return-value]
        torch.nn.functional.cross_entropy(s_BB, target_BB) for s_BB in (score_BB, score_BB.T)
    )


@pytest.mark.parametrize("collisions", KINDS)
def test_contrastive_gradients_equal_the_dense_forms_in_float64(collisions: Collisions) -> None:
    image_BD, text_UD, which_B, class_U = batch()
    scale = torch.tensor(5.0, dtype=torch.float64)
    for tensor in (image_BD, text_UD, scale):
        tensor.requires_grad_()
    want = torch.autograd.grad(
        dense(image_BD, text_UD[which_B], class_U[which_B], scale, collisions), (image_BD, text_UD, scale)
    )
    found = torch.autograd.grad(
        contrastive(image_BD, text_UD, which_B, class_U, scale, collisions), (image_BD, text_UD, scale)
    )
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # the loss itself is computed in fp32 (ruling 15)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_n_equal_pairs_cost_log_n(n: int) -> None:
    row_D = torch.nn.functional.normalize(torch.arange(1.0, 5.0), dim=0)
    image_BD, scale = row_D.repeat(n, 1), torch.tensor(30.0)
    apart = contrastive(image_BD, row_D.repeat(n, 1), torch.arange(n), torch.arange(n), scale)
    together = contrastive(
        image_BD, row_D[None], torch.zeros(n, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), scale
    )
    assert float(apart) == pytest.approx(math.log(n), abs=1e-5)
    assert float(together) == pytest.approx(math.log(n), abs=1e-5)


def test_a_batch_of_one_class_costs_nothing_where_collisions_are_masked_and_its_gradient_is_zero() -> None:
    image_BD, text_UD, which_B, _ = batch()
    image_BD.requires_grad_()
    text_UD.requires_grad_()
    loss = contrastive(image_BD, text_UD, which_B, torch.zeros(5, dtype=torch.int64), torch.tensor(50.0), "mask")
    assert float(loss.detach()) == 0
    loss.backward()
    assert image_BD.grad is not None
    assert text_UD.grad is not None
    assert not image_BD.grad.any()
    assert not text_UD.grad.any()  # and not NaN, though every other column is minus infinity


def test_soft_targets_cost_log_n_at_least_and_that_when_all_agree() -> None:
    n = 4
    row_D = torch.tensor([0.6, 0.8])
    zeros = torch.zeros(n, dtype=torch.int64)
    found = contrastive(row_D.repeat(n, 1), row_D[None], zeros, zeros[:1], torch.tensor(9.0), "soft")
    assert float(found) == pytest.approx(math.log(n), abs=1e-5)


def test_cross_entropy_equals_numpy() -> None:
    g = torch.Generator().manual_seed(1)
    logits_BC, labels_B = 3 * torch.randn(6, 4, generator=g), torch.tensor([0, 1, 2, 3, 0, 1])
    log_p = logits_BC.numpy() - np.array([[log_sum(row)] for row in logits_BC.numpy()])
    own = log_p[np.arange(6), labels_B.numpy()]
    assert float(cross_entropy(logits_BC, labels_B)) == pytest.approx(-own.mean(), rel=1e-5)
    smoothed = -(0.9 * own + 0.1 * log_p.mean(1)).mean()
    assert float(cross_entropy(logits_BC, labels_B, 0.1)) == pytest.approx(smoothed, rel=1e-5)
    assert cross_entropy(logits_BC.bfloat16(), labels_B).dtype == torch.float32


def test_pull_is_the_squared_distance_over_all_tensors_and_not_halved() -> None:
    start = {"a": torch.zeros(2, 2), "b": torch.tensor([1.0])}
    now = {
        "a": torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
        "b": torch.tensor([4.0], requires_grad=True),
        "other": torch.ones(9),
    }
    value = pull(now, start)
    assert float(value.detach()) == 1 + 4 + 9
    value.backward()
    assert now["b"].grad is not None
    assert float(now["b"].grad) == 2 * (4 - 1)


def test_what_a_loss_may_be_told() -> None:
    assert CrossEntropy.parse({"l2_sp": "1/shots"}).l2_sp == "1/shots"
    assert CrossEntropy.parse({"l2_sp": 0.5, "texts": True}) == CrossEntropy(l2_sp=0.5, texts=True)
    assert CrossEntropy().l2_sp == 0
    for wrong in ({"l2_sp": -1}, {"l2_sp": "1/classes"}, {"smoothing": 1.0}, {"collisions": "mask"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CrossEntropy.parse(wrong)
    assert Contrastive.couples_batch
    assert not CrossEntropy.couples_batch


def banked(seed: int = 3) -> tuple[Tensor, Tensor]:
    """7 further texts of classes 0, 1 and of three that the batch lacks."""
    g = torch.Generator().manual_seed(seed)
    text_KD = torch.nn.functional.normalize(torch.randn(7, 6, generator=g, dtype=torch.float64), dim=1)
    return text_KD, torch.tensor([0, 1, 5, 5, 6, 7, 0])


@pytest.mark.parametrize("collisions", KINDS)
def test_texts_of_the_bank_are_negatives_of_other_groups_in_the_pictures_sums_alone(collisions: Collisions) -> None:
    image_BD, text_UD, which_B, class_U = batch()
    text_KD, kin_K = banked()
    found = contrastive(
        image_BD, text_UD, which_B, class_U, torch.tensor(5.0), collisions, Bank(text_KD, kin_K)
    )  # fmt: skip
    score_BB = 5.0 * image_BD.numpy() @ text_UD[which_B].numpy().T
    bank_BK = 5.0 * image_BD.numpy() @ text_KD.numpy().T
    class_B, total = class_U[which_B].numpy(), 0.0
    for j in range(9):
        same = [k for k in range(9) if class_B[k] == class_B[j]]
        extra = bank_BK[j][kin_K.numpy() != class_B[j]]
        kept = [k for k in range(9) if collisions != "mask" or k == j or k not in same]
        positive = float(np.mean(score_BB[j, same])) if collisions == "soft" else score_BB[j, j]
        total += log_sum(np.concatenate([score_BB[j, kept], extra])) - positive
        total += log_sum(score_BB.T[j, kept]) - (
            float(np.mean(score_BB.T[j, same])) if collisions == "soft" else score_BB[j, j]
        )
    assert float(found) == pytest.approx(total / 18, rel=1e-5)


@pytest.mark.parametrize("collisions", KINDS)
def test_a_bank_of_the_pictures_own_groups_changes_nothing_and_its_gradient_is_finite(collisions: Collisions) -> None:
    image_BD, text_UD, which_B, _ = batch()
    class_U, kin_K = torch.zeros(5, dtype=torch.long), torch.zeros(7, dtype=torch.long)
    image_BD.requires_grad_()
    bank = Bank(banked()[0], kin_K)
    found = contrastive(image_BD, text_UD, which_B, class_U, torch.tensor(5.0), collisions, bank)
    assert torch.allclose(
        found, contrastive(image_BD, text_UD, which_B, class_U, torch.tensor(5.0), collisions), atol=1e-6
    )
    found.backward()
    assert bool(torch.isfinite(image_BD.grad).all())


@pytest.mark.parametrize("collisions", KINDS)
def test_sigmoid_equals_every_pair_asked_by_hand(collisions: Collisions) -> None:
    image_BD, text_UD, which_B, class_U = batch()
    text_KD, kin_K = banked()
    score_BU, score_BK = 4.0 * image_BD @ text_UD.T - 3.0, 4.0 * image_BD @ text_KD.T - 3.0
    found = sigmoid(score_BU, which_B, class_U, collisions, score_BK, kin_K)
    class_B, total = class_U[which_B], 0.0
    for i in range(9):
        for j in range(9):
            score = float(score_BU[i, which_B[j]])
            yes, no = math.log1p(math.exp(-score)), math.log1p(math.exp(score))
            if i == j:
                total += yes
            elif class_B[i] == class_B[j]:
                total += {"none": no, "mask": 0.0, "soft": yes}[collisions]
            else:
                total += no
        total += sum(
            math.log1p(math.exp(float(s))) for s, kin in zip(score_BK[i], kin_K, strict=True) if kin != class_B[i]
        )
    assert float(found) == pytest.approx(total / 9, rel=1e-6)


def test_the_sigmoid_of_one_hopeless_pair_is_its_score() -> None:
    """Closed form: a picture against its own text at score -s costs about s, against another at -s about nothing."""
    score_BU = torch.tensor([[-30.0, -30.0], [-30.0, -30.0]])
    nothing = torch.empty(2, 0), torch.empty(0, dtype=torch.long)
    assert float(sigmoid(score_BU, torch.arange(2), torch.arange(2), "mask", *nothing)) == pytest.approx(30.0, abs=1e-5)
