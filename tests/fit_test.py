"""The loop and the solver: schedule, sampling, guard; and scikit-learn's objective."""

# C classes, D shared width, N training pictures.

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from likewise.data.order import pairs, permutation
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.fit import DivergenceError, Training, Work, lbfgs_path
from likewise.heads import LinearHead, text_head, unit
from likewise.recipe import AdamW, Lbfgs
from likewise.recipes import RECIPES
from tiny import make_job, shrunk


def work_for(encoder: Encoder, data: Dataset, name: str, *edits: str) -> Work:
    """The last stage of a recipe, ready to train; a linear head starts from the texts."""
    job = make_job(encoder, data)
    stage = shrunk(RECIPES[name], *edits).stages[-1]
    head = text_head(encoder, job.prompts) if stage.head.kind != "text" else None
    return Work(stage, encoder, head, data.train, job.tokens_CTL(), job.prompts, job.seed)


# -- L-BFGS -----------------------------------------------------------------------------------------------------


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    labels_N = torch.arange(60) % 4
    centres_CD = torch.randn(4, 6, generator=g)
    return centres_CD[labels_N] + 1.5 * torch.randn(60, 6, generator=g), labels_N


def objective(weight_CD: np.ndarray, bias_C: np.ndarray, x_ND: np.ndarray, labels_N: np.ndarray, c: float) -> float:
    logits_NC = x_ND @ weight_CD.T + bias_C
    top_N = logits_NC.max(1, keepdims=True)
    log_p = logits_NC - top_N - np.log(np.exp(logits_NC - top_N).sum(1, keepdims=True))
    return float(-log_p[np.arange(len(labels_N)), labels_N].mean() + (weight_CD**2).sum() / (2 * c * len(labels_N)))


@pytest.mark.parametrize("start", ["zeros", "far"])
def test_the_path_reaches_scikit_learns_objective_at_every_c(start: str) -> None:
    features_ND, labels_N = problem()
    x_ND, labels = unit(features_ND).double().numpy(), labels_N.numpy()
    g = torch.Generator().manual_seed(1)
    far = 5 * torch.randn(4, 7, generator=g) if start == "far" else torch.zeros(4, 7)
    path = (0.1, 1.0, 30.0, 1000.0)
    solutions = list(lbfgs_path(features_ND, labels_N, LinearHead(far[:, :6], far[:, 6]), Lbfgs(path=path)))
    assert [solution.c for solution in solutions] == list(path)
    for solution in solutions:
        theirs = LogisticRegression(C=solution.c, tol=1e-10, max_iter=20_000).fit(x_ND, labels)
        want = objective(theirs.coef_, theirs.intercept_, x_ND, labels, solution.c)
        found = objective(
            solution.weight_CD.double().numpy(), solution.bias_C.double().numpy(), x_ND, labels, solution.c
        )
        assert found == pytest.approx(want, abs=1e-6)
        assert solution.objective == pytest.approx(want, abs=1e-6)


def test_the_solver_leaves_its_start_alone_and_repeats_itself() -> None:
    features_ND, labels_N = problem()
    start = LinearHead(torch.ones(4, 6), torch.ones(4))
    first, second = (list(lbfgs_path(features_ND, labels_N, start, Lbfgs(path=(1.0, 10.0)))) for _ in range(2))
    assert torch.equal(start.weight.detach(), torch.ones(4, 6))
    assert all(torch.equal(a.weight_CD, b.weight_CD) and a.objective == b.objective for a, b in zip(first, second))


# -- AdamW ------------------------------------------------------------------------------------------------------


def test_the_rate_rises_in_a_line_and_falls_in_a_cosine(
    encoder_of: Callable[[str], Encoder], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(work_for(encoder_of("plain"), data, "ln", "stages.0.fit.epochs=4", "stages.0.fit.warmup=0.25"))
    lr = training.fit.lr
    assert training.total == 4 * math.ceil(18 / 8) == 12  # the last batch of an epoch is short, not dropped
    rates = [training.rate(step) for step in range(13)]
    assert rates[:4] == pytest.approx([lr / 3, 2 * lr / 3, lr, lr])
    assert rates[3:] == pytest.approx([lr * (1 + math.cos(math.pi * i / 9)) / 2 for i in range(10)])
    assert rates[12] == pytest.approx(0, abs=1e-12)  # one after the last
    for warmup, first in ((0.0, lr), (1.0, lr / 12)):
        work = work_for(encoder_of("plain"), data, "ln", "stages.0.fit.epochs=4", f"stages.0.fit.warmup={warmup}")
        assert Training(work).rate(0) == pytest.approx(first)
    assert Training(work).rate(11) == pytest.approx(lr)


def test_one_step_is_adamws_by_hand(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    # The first step of AdamW moves each number by the rate against its gradient's sign, after decaying matrices.
    encoder = encoder_of("plain")
    before = encoder.state()
    work = work_for(encoder, data, "ft", "stages.0.fit.lr=0.01", "stages.0.fit.decay=0.5", "stages.0.fit.warmup=0")
    training = Training(work)
    head = {name: p.detach().clone() for name, p in work.parameters().items() if name.startswith("head.")}
    next(iter(training.run()))
    for name, parameter in training.trained.items():
        start = before.get(name, head.get(name))
        assert start is not None
        gradient = parameter.grad
        assert gradient is not None
        decay = 0.5 if parameter.ndim > 1 else 0.0
        want = start * (1 - 0.01 * decay) - 0.01 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), want, rtol=1e-4, atol=1e-6, msg=name)
    encoder.put(before)


def test_every_picture_comes_once_an_epoch(
    encoder_of: Callable[[str], Encoder], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(work_for(encoder_of("plain"), data, "ln", "stages.0.fit.epochs=2"))
    seen = [training._rows(step) for step in range(training.total)]
    assert [len(index_B) for _, index_B, _ in seen] == [8, 8, 2] * 2
    for epoch in range(2):
        order = np.concatenate([index_B for e, index_B, _ in seen if e == epoch])
        assert sorted(order) == list(range(18))
        np.testing.assert_array_equal(order, permutation(0, epoch, 18))


def test_pair_sampling_takes_as_many_steps_and_walks_through_all_pairs(
    encoder_of: Callable[[str], Encoder], data: Dataset
) -> None:
    encoder = encoder_of("plain")
    before = encoder.state()
    training = Training(work_for(encoder, data, "flyp-published", "stages.0.fit.epochs=2"))
    assert training.total == 2 * 3  # epochs are counted in pictures
    rows = [training._rows(step) for step in range(5)]  # 18 pictures x 2 templates = 36 pairs: 4 batches of 8, 1 of 4
    visited = [(i, t) for _, image_B, template_B in rows for i, t in zip(image_B, template_B)]  # type: ignore[arg-type]
    assert sorted(visited) == [(i, t) for i in range(18) for t in range(2)]
    assert len({epoch for epoch, _, _ in rows}) == 5  # each time its own view
    np.testing.assert_array_equal(rows[3][1], pairs(0, 3, 8, 18, 2)[0])
    losses = [step.loss for step in training.run()]
    assert len(losses) == 6
    encoder.put(before)


class Spoiled:
    """A loss that is not finite at chosen steps."""

    def __init__(self, training: Training, at: set[int], patch: pytest.MonkeyPatch) -> None:
        loss = training._loss

        def spoiled(batch: object, step: int) -> torch.Tensor:
            return loss(batch, step) * (float("nan") if step in at else 1.0)  # type: ignore[arg-type]

        patch.setattr(training, "_loss", spoiled)


def test_a_step_without_a_finite_loss_is_not_applied(
    encoder_of: Callable[[str], Encoder], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of("plain")
    before = encoder.state()
    training = Training(work_for(encoder, data, "ln", "stages.0.fit.epochs=3"))
    Spoiled(training, {1, 3, 4}, monkeypatch)
    states = [{name: p.detach().clone() for name, p in training.trained.items()}]
    steps = []
    for step in training.run():
        steps.append(step)
        states.append({name: p.detach().clone() for name, p in training.trained.items()})
    same = [all(torch.equal(a[name], b[name]) for name in a) for a, b in itertools.pairwise(states)]
    assert [i for i, s in enumerate(same) if s] == [1, 3, 4]
    assert [math.isfinite(step.loss) for step in steps] == [i not in (1, 3, 4) for i in range(9)]
    assert training.bad == 0  # a good step forgives
    encoder.put(before)


def test_the_third_strike_ends_the_run(
    encoder_of: Callable[[str], Encoder], data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of("plain")
    before = encoder.state()
    training = Training(work_for(encoder, data, "ln", "stages.0.fit.epochs=3"))
    Spoiled(training, {2, 3, 4}, monkeypatch)
    done: list[int] = []
    with pytest.raises(DivergenceError, match="not finite at step 4") as caught:
        done.extend(step.step for step in training.run())
    assert (caught.value.code, caught.value.exit_code, done) == ("R02", 1, [0, 1, 2, 3])
    assert all(torch.isfinite(p).all() for p in training.trained.values())
    encoder.put(before)


def test_the_clamp_keeps_the_scale_at_100(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = encoder_of("plain")
    before = encoder.state()
    for clamp, holds in (("true", True), ("false", False)):
        encoder.put({"scale": torch.tensor(math.log(100.0))})
        work = work_for(
            encoder, data, "flyp", f"stages.0.loss.clamp={clamp}", "stages.0.fit.lr=0.5", "stages.0.fit.warmup=0"
        )
        work.stage = work.stage.model_copy(update={"trains": ("scale",)})
        training = Training(work)
        encoder.sites["scale"].value.register_hook(lambda g: -g.abs())  # pushes the scale up whatever the loss says
        next(iter(training.run()))
        assert (encoder.scale.item() <= 100.001) is holds
        encoder.sites["scale"].value._backward_hooks.clear()
        encoder.put(before)


def test_gradients_are_clipped_and_their_norm_is_told(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = encoder_of("plain")
    before = encoder.state()
    sizes = {}
    for clip in (0.0, 1e-3):
        training = Training(work_for(encoder, data, "ln", f"stages.0.fit.clip={clip}"))
        step = next(iter(training.run()))
        grads = torch.cat([p.grad.flatten() for p in training.trained.values() if p.grad is not None])
        sizes[clip] = (step.norm, grads.norm().item())
        encoder.put(before)
    assert sizes[0.0][0] == pytest.approx(sizes[0.0][1])
    assert sizes[1e-3] == (pytest.approx(sizes[0.0][0]), pytest.approx(1e-3, rel=1e-2))


def test_an_adamw_stage_needs_its_settings() -> None:
    with pytest.raises(ValueError, match="lr"):
        AdamW()  # type: ignore[call-arg]
