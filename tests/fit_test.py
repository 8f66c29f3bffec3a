"""The loop and the solver: schedule, sampling, losses, guard; and scikit-learn's objective."""

# B images, C classes, D shared width, N training pictures, T templates.

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from likewise.adapters import Film, Prompt
from likewise.data import views
from likewise.data.batches import Batch
from likewise.data.order import choose, pairs, permutation
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.fit import DivergenceError, Training, Work
from likewise.heads import CosineHead, LinearHead, text_head, unit
from likewise.recipe import AdamW, Lbfgs, Recipe, Sgd, one
from likewise.recipes import RECIPES
from likewise.solve import lbfgs_path
from tiny import TEMPLATES, make_job, shrunk
from works import work_of


def work_for(encoder: Encoder, data: Dataset, name: str, *edits: str) -> Work:
    """The last stage of a recipe, ready to train."""
    return work_of(make_job(encoder, data), shrunk(RECIPES[name], *edits))


Begin = Callable[..., Training]


@pytest.fixture
def begin(encoder_of: Callable[[str], Encoder], data: Dataset) -> Iterator[Begin]:
    """The last stage of a recipe, about to train on the plain encoder; each call begins where the first did."""
    encoder = encoder_of("plain")
    before = encoder.state()

    def go(recipe: str | Recipe, *edits: str) -> Training:
        encoder.grafts.remove()
        encoder.put(before)
        value = shrunk(RECIPES[recipe], *edits) if isinstance(recipe, str) else recipe.edited(*edits)
        return Training(work_of(make_job(encoder, data), value))

    yield go
    encoder.grafts.remove()
    encoder.put(before)


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


def test_features_that_point_much_the_same_way_are_solved_as_well() -> None:
    features_ND, labels_N = problem()
    narrow_ND = features_ND + 1000.0  # cosines of almost 1, as a collapsed or self-distilled encoder gives
    start = LinearHead(torch.zeros(4, 6), torch.zeros(4))
    for solution in lbfgs_path(narrow_ND, labels_N, start, Lbfgs(path=(1e5, 1e7))):
        x_ND = unit(narrow_ND).double().numpy()
        theirs = LogisticRegression(C=solution.c, tol=1e-10, solver="newton-cg", max_iter=1000)
        theirs.fit(x_ND, labels_N.numpy())
        want = objective(theirs.coef_, theirs.intercept_, x_ND, labels_N.numpy(), solution.c)
        assert solution.objective == pytest.approx(want, abs=1e-6)
        assert want < 1.25, "nothing was learned, so nothing is compared"  # log 4 = 1.386 is chance


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


def test_a_stage_of_steps_needs_its_settings() -> None:
    for kind in (AdamW, Sgd):
        with pytest.raises(ValueError, match="lr"):
            kind()  # type: ignore[call-arg]


# -- momentum ---------------------------------------------------------------------------------------------------


def test_sgd_is_momentum_by_hand_and_takes_its_buffer_up_again(begin: Begin) -> None:
    edits = ("stages.0.fit.lr=0.5", "stages.0.fit.decay=0.25", "stages.0.fit.epochs=2", "stages.0.fit.warmup=0")
    training = begin("coop", *edits)
    (name,) = training.trained
    want_NW = training.trained[name].detach().double().clone()
    buffer_NW = torch.zeros_like(want_NW)
    steps, saved = [], {}
    for step in training.run():
        parameter = training.trained[name]
        assert parameter.grad is not None
        buffer_NW = 0.9 * buffer_NW + parameter.grad.double() + 0.25 * want_NW  # the decay is in the gradient
        want_NW = want_NW - step.rate * buffer_NW
        torch.testing.assert_close(parameter.detach().double(), want_NW, rtol=1e-4, atol=1e-6)
        steps.append(step)
        if len(steps) == 2:
            saved = {key: value.clone() for key, value in training.tensors().items()}
    end = {key: value.clone() for key, value in training.tensors().items()}
    assert set(saved) == {f"weight/{name}", f"momentum_buffer/{name}"}
    assert saved[f"momentum_buffer/{name}"].any()
    again = begin("coop", *edits)
    again.restore(saved, 2)
    assert list(again.run()) == steps[2:]
    assert all(torch.equal(value, end[key]) for key, value in again.tensors().items())
    # without the buffer it would be another training
    forgetful = begin("coop", *edits)
    forgetful.restore({f"weight/{name}": saved[f"weight/{name}"]}, 2)
    assert [step.loss for step in forgetful.run()][1:] != [step.loss for step in steps[3:]]


# -- features computed once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cosine", "coop", "prolip", "kim-probe", "cross-modal"])
def test_features_are_images_in_the_evaluation_view(begin: Begin, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    still = begin(name, "stages.0.fit.epochs=2", "stages.0.fit.lr=0.01")
    assert still.still is not None
    pooled = name in ("prolip", "kim-probe")  # where the projection trains, or the head stands before it
    assert (still.still.pooled_BW is not None) == pooled
    want = [step.loss for step in still.run()]
    end = {key: value.detach().clone() for key, value in still.trained.items()}
    edits = ("stages.0.fit.epochs=2", "stages.0.fit.lr=0.01", "stages.0.fit.sampling=images")
    moving = begin(name, *edits)
    assert moving.still is None
    assert [step.loss for step in moving.run()] != pytest.approx(want, rel=1e-3)  # it draws views of its own
    monkeypatch.setattr(views, "train", lambda image, spec, _: views.evaluate(image, spec))
    plain = begin(name, *edits)
    assert [step.loss for step in plain.run()] == pytest.approx(want, rel=1e-4)
    for key, value in plain.trained.items():
        torch.testing.assert_close(value.detach(), end[key], rtol=1e-3, atol=1e-4, msg=key)


def test_features_are_refused_where_the_trunk_trains(begin: Begin, encoder_of: Callable[[str], Encoder]) -> None:
    fit = AdamW(lr=1.0, sampling="features")
    asked = {
        ("image.*norm*", "text.*norm*"): "image.norm_pre.weight",
        ("image.projection", "image.1.up.bias"): "image.1.up.bias",  # the projection alone would do
        ("text", "image.class"): "image.class",
    }
    for trains, moved in asked.items():
        with pytest.raises(ConfigError, match=f"sampling «features» computes features once, but {moved} trains"):
            begin(one(trains=trains, fit=fit))
    both = one(adapters=(Prompt(length=4), Film()), trains=("adapters",), fit=fit)
    with pytest.raises(ConfigError, match=r"but adapters\.film\.image\.0\.norm1\.gain trains"):
        begin(both)
    begin(one(trains=("image.projection", "text"), fit=fit))
    begin(one(adapters=(Film(at=("text.*.norm1",)),), trains=("adapters", "scale"), fit=fit))


def test_steps_per_shot_walk_through_as_many_epochs_as_they_need(begin: Begin) -> None:
    training = begin("clip-lora", "stages.0.fit.per_shot=2")
    assert training.total == 2 * 6  # 18 pictures of 3 classes
    assert [training._rows(step)[0] for step in range(12)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


# -- what a step minimises --------------------------------------------------------------------------------------


def first_batch(training: Training) -> Batch:
    return next(iter(training._batches()))


def log_softmax(logits_BC: np.ndarray) -> np.ndarray:
    top_B1 = logits_BC.max(1, keepdims=True)
    return logits_BC - top_B1 - np.log(np.exp(logits_BC - top_B1).sum(1, keepdims=True))


def test_one_over_shots_is_the_strength_of_the_pull(begin: Begin) -> None:
    free = begin("prolip", "stages.0.loss.l2_sp=0")
    g = torch.Generator().manual_seed(3)
    step_WD = 0.1 * torch.randn(32, 16, generator=g)
    losses = {}
    for strength in ("0", "1/shots", "0.5"):
        training = begin("prolip", f"stages.0.loss.l2_sp={strength}")
        assert set(training.start) == (set() if strength == "0" else {"image.projection"})
        with torch.no_grad():
            training.trained["image.projection"].add_(step_WD)
        losses[strength] = float(training._loss(first_batch(training), 0).detach())
    far = float(step_WD.double().square().sum())
    assert losses["1/shots"] - losses["0"] == pytest.approx(far / 6, rel=1e-4)  # 18 pictures of 3 classes
    assert losses["0.5"] - losses["0"] == pytest.approx(far / 2, rel=1e-4)
    assert free.start == {}


def test_the_pull_goes_on_to_where_it_first_began(begin: Begin) -> None:
    training = begin("l2-sp")
    saved = {key: value.clone() for key, value in training.tensors().items()}
    other = begin("l2-sp")
    name = "image.norm_post.bias"
    other.start[name] += 1  # as if taken up where something has moved before
    other.restore(saved, 0)
    assert torch.equal(other.start[name], training.start[name])
    assert set(other.start) == set(other.trained)


def test_half_of_a_cross_modal_batch_are_texts(begin: Begin, data: Dataset) -> None:
    training = begin("cross-modal")
    head, encoder = training.work.head, training.work.encoder
    assert isinstance(head, CosineHead)
    with torch.no_grad():  # away from the texts that it starts at
        head.residual.add_(torch.randn(3, 16, generator=torch.Generator().manual_seed(4)))
        tokens_CTL = encoder.tokenize([t.format(name) for name in data.classes.names for t in TEMPLATES])
        text_CTD = encoder.module.encode_text(tokens_CTL).reshape(3, 2, 16).double()
        pixels_NCHW = torch.stack([views.evaluate(data.train.open(i), encoder.spec) for i in range(18)])
        image_ND = encoder.module.encode_image(pixels_NCHW).double().numpy()
    text_CD = (text_CTD / text_CTD.norm(dim=2, keepdim=True)).mean(1)
    rows_CD = (text_CD / text_CD.norm(dim=1, keepdim=True)).numpy()
    seen = set()
    for step, batch in enumerate(training._batches()):
        index_B, b = batch.index_B.numpy(), len(batch.index_B)
        x_BD = image_ND[index_B] / np.linalg.norm(image_ND[index_B], axis=1, keepdims=True)
        weight_CD = head(torch.eye(16)).detach().double().numpy().T  # what it says of each axis: its rows
        class_B = choose(0, step, np.arange(b), 3)
        seen |= set(class_B.tolist())
        of_images = -log_softmax(x_BD @ weight_CD.T)[np.arange(b), data.train.labels_N[index_B]].mean()
        of_texts = -log_softmax(rows_CD[class_B] @ weight_CD.T)[np.arange(b), class_B].mean()
        found = float(training._loss(batch, step).detach())
        assert found == pytest.approx((of_images + of_texts) / 2, rel=1e-4)
        assert abs(of_images - of_texts) > 0.05
    assert seen == {0, 1, 2}


def test_a_heads_penalty_is_part_of_the_loss(begin: Begin) -> None:
    g = torch.Generator().manual_seed(5)
    residual_CD = 0.3 * torch.randn(3, 16, generator=g)
    losses, pulls_C = {}, torch.zeros(3)
    for anchor in ("none", "clap"):
        training = begin("clap", f"stages.0.head.anchor={anchor}")
        head = training.work.head
        assert head is not None
        with torch.no_grad():
            head.get_parameter("residual").copy_(residual_CD)
        losses[anchor] = float(training._loss(first_batch(training), 0).detach())
        pulls_C = head.state_dict().get("pull_C", pulls_C)
    want = (pulls_C * residual_CD.square().sum(1)).mean()
    assert losses["clap"] - losses["none"] == pytest.approx(float(want), rel=1e-4)
    assert want > 0.1


def test_the_scale_trains_beside_texts_that_are_held(begin: Begin) -> None:
    training = begin(one(trains=("image.norm_post", "scale"), fit=AdamW(lr=0.01, epochs=1, batch=8)))
    encoder, batch = training.work.encoder, first_batch(training)
    start = encoder.scale.item()
    training.optimizer.zero_grad()  # another test's
    loss = training._loss(batch, 0)
    loss.backward()
    slope = training.trained["scale"].grad
    assert slope is not None
    with torch.no_grad():  # a number's slope by two looks
        found = []
        for way in (1e-2, -1e-2):
            training.trained["scale"].add_(way)
            found.append(training._loss(batch, 0).item())
            training.trained["scale"].sub_(way)
        rows_CD = text_head(encoder, training.work.prompts).weight / encoder.scale
        image_BD = unit(encoder.image(batch.pixels_BCHW).shared_BD)
        cosine_BC = (image_BD @ rows_CD.T).double().numpy()
    want = -log_softmax(start * cosine_BC)[np.arange(8), batch.labels_B].mean()
    assert loss.item() == pytest.approx(want, rel=1e-4)
    assert slope.item() == pytest.approx((found[0] - found[1]) / 2e-2, rel=1e-2)
    training.optimizer.zero_grad()
    next(iter(training.run()))
    assert encoder.scale.item() != start


def test_a_stages_own_templates_train_and_the_datas_predict(begin: Begin, data: Dataset) -> None:
    training = begin("clip-lora")
    assert training.work.captions == [[f"a photo of a {name}"] for name in data.classes.names]
    assert training.work.prompts == [[t.format(name) for t in TEMPLATES] for name in data.classes.names]
    assert training.texts.tokens_UL.shape == (3, 16)
    coop = begin("coop-words")  # an adapter's texts do both
    assert coop.work.captions == coop.work.prompts
    assert coop.texts.tokens_UL.min() == -4  # four learned words
    assert begin("lora").work.captions == training.work.prompts
