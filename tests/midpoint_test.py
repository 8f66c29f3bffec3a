"""Half of the way from the pretrained to the tuned model, for each kind of adapter and head that has one, by hand."""

# B images, C classes, D shared width, L tokens, T templates.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import forward
from forward import Array, Change, Tensors, arrays
from likewise.adapters import AdapterConfig, Bottleneck, CaptionTokens, Compacter, Film, Lora, grafted
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.heads import Cosine, CosineHead, HeadModule, Linear, LinearHead, LpPlus, LpPlusHead
from likewise.keys import key_rng
from likewise.predict import placed
from likewise.recipe import AdamW, Majorize, Recipe, one, then
from likewise.run.tuned import Tuned, points
from tiny import make_job, pixels

FIT = AdamW(lr=1.0)
RELU = {"relu": lambda x: np.maximum(x, 0), "gelu": forward.gelu, "tanh": np.tanh}


def drawn(name: str, like: torch.Tensor, size: float = 0.1) -> torch.Tensor:
    return like + size * torch.from_numpy(key_rng("midpoint", name).standard_normal(tuple(like.shape))).float()


def tuned_of(
    recipe: Recipe, encoder: Encoder, names: tuple[str, ...] = (), head: HeadModule | None = None
) -> tuple[Tuned, dict[str, Array], dict[str, Array]]:
    """What a training might have left, and as arrays: the pretrained numbers, and those that trained."""
    zero = encoder.state()
    with grafted(encoder, recipe.adapters, 0):
        start = encoder.state([*names, *encoder.grafts.parameters_by_name()])
    values = {name: drawn(name, value, 0.3) for name, value in start.items()}
    return Tuned(recipe, values, head, 1, 0.0, {}), arrays(zero), arrays(values)


def check(encoder: Encoder, data: Dataset, tuned: Tuned, want: Callable[[Tensors], tuple[Array, Array]]) -> None:
    """Features and scores at alpha 0.5 are what `want` makes of the pictures, and not those of the ends."""
    job = make_job(encoder, data)
    path = points(tuned, job, [0.0, 0.5, 1.0])
    said = {}
    for alpha, candidate in path.items():
        with placed(encoder, candidate), torch.no_grad():
            embedded = encoder.image(pixels(encoder))
            said[alpha] = embedded.shared_BD.numpy(), candidate.head.answer(embedded).numpy()
    shared_BD, logits_BC = want({"pixels": pixels(encoder).double().numpy()})
    np.testing.assert_allclose(said[0.5][0], shared_BD, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(said[0.5][1], logits_BC, rtol=2e-4, atol=1e-3)
    for end in (0.0, 1.0):
        assert np.abs(said[end][1] - said[0.5][1]).max() > 0.05


def tokens_of(encoder: Encoder, data: Dataset) -> Array:
    """The class prompts' ids_CTL."""
    job = make_job(encoder, data)
    return np.stack([encoder.tokenize(texts).numpy() for texts in job.prompts])


def by_text(
    p: Tensors, encoder: Encoder, data: Dataset, change: Change = forward.plain
) -> Callable[[Tensors], tuple[Array, Array]]:
    """The features and the text head's scores of a CLIP of these tensors, with what is added."""

    def answer(given: Tensors) -> tuple[Array, Array]:
        _, shared_BD = forward.image(p, given["pixels"], change)
        return shared_BD, forward.unit(shared_BD) @ forward.class_rows(p, tokens_of(encoder, data), change).T

    return answer


def test_the_forward_by_hand_is_open_clips(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = encoder_of("plain")
    p, tokens_BL = arrays(encoder.state()), tokens_of(encoder, data).reshape(-1, 16)
    with torch.no_grad():
        image_BD = encoder.module.encode_image(pixels(encoder)).numpy()
        text_BD = encoder.module.encode_text(torch.from_numpy(tokens_BL)).numpy()
        pooled_BW = encoder.image(pixels(encoder)).pooled_BW
    found_BW, found_BD = forward.image(p, pixels(encoder).double().numpy())
    np.testing.assert_allclose(found_BD, image_BD, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found_BW, pooled_BW, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(forward.text(p, tokens_BL), text_BD, rtol=1e-4, atol=1e-4)


# -- adapters under the text head -------------------------------------------------------------------------------


def adapted(*adapters: AdapterConfig) -> Recipe:
    return one(adapters=adapters, trains=("adapters",), fit=FIT)


def test_norms_stand_half_way(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = encoder_of("plain")
    names = tuple(name for name in encoder.sites if "norm" in name)
    assert len(names) == 2 * (6 + 5)
    recipe = one(trains=("image.*norm*", "text.*norm*"), fit=FIT)
    tuned, zero, end = tuned_of(recipe, encoder, names)
    half = zero | {name: (zero[name] + end[name]) / 2 for name in names}
    check(encoder, data, tuned, by_text(half, encoder, data))


@pytest.mark.parametrize("rooted", [False, True])
def test_of_lora_half_the_product_is_added(encoder_of: Callable[[str], Encoder], data: Dataset, rooted: bool) -> None:
    encoder = encoder_of("plain")
    lora = Lora(at=("image.*.qkv.weight", "text.1.up.weight", "text.0.qkv.weight"), parts=("q", "v"), rank=2, alpha=6.0,
                rooted=rooted)  # fmt: skip
    tuned, zero, end = tuned_of(adapted(lora), encoder)
    half = dict(zero)
    for name in ("image.0.qkv", "image.1.qkv", "text.0.qkv", "text.1.up"):
        weight_OI = zero[f"{name}.weight"].copy()
        third = len(weight_OI) // 3
        places = {"q": slice(0, third), "v": slice(2 * third, None)} if name.endswith("qkv") else {"": slice(None)}
        for part, rows in places.items():
            own = ".".join(filter(None, ("adapters.lora", name, part)))
            weight_OI[rows] += 0.5 * 6.0 / (2**0.5 if rooted else 2) * end[f"{own}.up"] @ end[f"{own}.down"]
        half[f"{name}.weight"] = weight_OI
    check(encoder, data, tuned, by_text(half, encoder, data))


def test_of_film_half_of_gain_and_shift(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = encoder_of("plain")
    film = Film(at=("image.*.norm1", "image.1.mlp", "image.0.block", "text.1.norm2", "text.0.attention", "image.1.qkv"))
    tuned, zero, end = tuned_of(adapted(film), encoder)
    assert len(end) == 2 * 7

    def halves(place: str) -> tuple[Array, Array]:
        own = f"adapters.film.{place}"
        return 1 + 0.5 * end[f"{own}.gain"], 0.5 * end[f"{own}.shift"]

    half = dict(zero)
    for place in ("image.0.norm1", "image.1.norm1", "text.1.norm2", "image.1.qkv"):
        gain, shift = halves(place)
        weight = zero[f"{place}.weight"]
        half[f"{place}.weight"] = (gain if weight.ndim == 1 else gain[:, None]) * weight
        half[f"{place}.bias"] = gain * zero[f"{place}.bias"] + shift

    def change(place: str, _: Array, y: Array) -> Array:
        if place not in ("image.1.mlp", "image.0.block", "text.0.attention"):
            return y
        gain, shift = halves(place)
        return np.asarray(gain * y + shift)

    check(encoder, data, tuned, by_text(half, encoder, data, change))


BOTTLENECKS = [
    Bottleneck(at=("image.*.attention", "text.*.mlp"), width=3),
    Bottleneck(at=("image.*.mlp", "text.0.mlp"), width=5, where="parallel", factor=4.0, activation="relu"),
    Bottleneck(at=("image.1.block", "text.*.block"), width=2, activation="tanh", factor=0.5),
]


@pytest.mark.parametrize("adapter", BOTTLENECKS)
def test_of_a_bottleneck_half_the_residual(
    encoder_of: Callable[[str], Encoder], data: Dataset, adapter: Bottleneck
) -> None:
    encoder = encoder_of("plain")
    tuned, zero, end = tuned_of(adapted(adapter), encoder)

    def change(place: str, x: Array, y: Array) -> Array:
        own = f"adapters.bottleneck.{place}"
        if f"{own}.down.weight" not in end:
            return y
        inside = RELU[adapter.activation](forward.linear(end, f"{own}.down", x if adapter.where == "parallel" else y))
        return np.asarray(y + 0.5 * adapter.factor * forward.linear(end, f"{own}.up", inside))

    check(encoder, data, tuned, by_text(zero, encoder, data, change))


def test_of_a_compacter_half_the_residual(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = encoder_of("plain")
    adapter = Compacter(at=("image.*.mlp", "text.1.attention"), width=8, n=2, rank=2, activation="relu")
    tuned, zero, end = tuned_of(adapted(adapter), encoder)
    rule = end["adapters.compacter.both.rule.matrices"]

    def matrix(own: str) -> Array:
        """W_IO, the sum of Kronecker products written out."""
        parts = zip(rule, end[f"{own}.s"], end[f"{own}.t"], strict=True)
        return np.sum([np.kron(a, s @ t) for a, s, t in parts], axis=0)

    def change(place: str, _: Array, y: Array) -> Array:
        own = f"adapters.compacter.{place}"
        if f"{own}.down.s" not in end:
            return y
        inside = np.maximum(y @ matrix(f"{own}.down") + end[f"{own}.down.bias"], 0)
        return np.asarray(y + 0.5 * (inside @ matrix(f"{own}.up") + end[f"{own}.up.bias"]))

    check(encoder, data, tuned, by_text(zero, encoder, data, change))


# -- heads, with the image tower half way -----------------------------------------------------------------------

NORMS = ("image.0.norm1.weight", "image.norm_post.bias")


def by_rows(p: Tensors, rows_CD: Array, bias_C: Array | float = 0.0) -> Callable[[Tensors], tuple[Array, Array]]:
    def answer(given: Tensors) -> tuple[Array, Array]:
        _, shared_BD = forward.image(p, given["pixels"])
        return shared_BD, forward.unit(shared_BD) @ rows_CD.T + bias_C

    return answer


def halved(zero: Tensors, end: Tensors) -> dict[str, Array]:
    return dict(zero) | {name: (zero[name] + end[name]) / 2 for name in end}


@pytest.mark.parametrize("bias", [True, False])
def test_of_a_linear_head_half_of_its_rows_and_half_of_the_texts(
    encoder_of: Callable[[str], Encoder], data: Dataset, bias: bool
) -> None:
    encoder = encoder_of("plain")
    config = Linear(bias=bias)
    head = LinearHead(drawn("rows", torch.zeros(3, 16), 5.0), drawn("bias", torch.zeros(3)) if bias else None, config)
    recipe = one(trains=(*NORMS, "head"), head=config, fit=FIT)
    tuned, zero, end = tuned_of(recipe, encoder, NORMS, head)
    mine = arrays(head.state_dict())
    rows_CD = (forward.class_rows(zero, tokens_of(encoder, data)) + mine["weight"]) / 2
    check(encoder, data, tuned, by_rows(halved(zero, end), rows_CD, mine["bias"] / 2 if bias else 0.0))


def anchored(zero: Tensors, encoder: Encoder, data: Dataset, **more: torch.Tensor) -> dict[str, Any]:
    """Tensors of a head made from the texts of a text tower that an earlier stage moved."""
    text_CD = torch.from_numpy(forward.class_rows(zero, tokens_of(encoder, data))).float()
    return {"text_CD": drawn("text", text_CD, 1.0), "shift_C": torch.zeros(3), **more}


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_of_a_cosine_head_half_the_residual_on_texts_half_way(
    encoder_of: Callable[[str], Encoder], data: Dataset, step: float
) -> None:
    encoder = encoder_of("plain")
    config = Cosine(step=step)
    first = one(trains=("text.*norm*",), fit=FIT)
    recipe = then(first, one(trains=(*NORMS, "head"), head=config, fit=FIT))
    names = (*NORMS, "text.0.norm1.weight")
    zero = arrays(encoder.state())
    tensors = anchored(zero, encoder, data, residual=drawn("residual", torch.zeros(3, 16), 0.5))
    tuned, zero, end = tuned_of(recipe, encoder, names, CosineHead(tensors, config))
    text_CD = (forward.class_rows(zero, tokens_of(encoder, data)) + tensors["text_CD"].double().numpy()) / 2
    length_C1 = np.linalg.norm(text_CD, axis=1, keepdims=True)
    residual_CD = tensors["residual"].double().numpy() / 2
    rows_CD = length_C1 * forward.unit(text_CD + step * length_C1 * residual_CD)
    check(encoder, data, tuned, by_rows(halved(zero, end), rows_CD))


def test_of_an_lpp_head_half_of_its_rows_and_half_of_the_texts(
    encoder_of: Callable[[str], Encoder], data: Dataset
) -> None:
    encoder = encoder_of("plain")
    recipe = then(one(trains=NORMS, fit=FIT), one(trains=("head",), head=LpPlus(), fit=Majorize()))
    zero = arrays(encoder.state())
    more = {"weight": drawn("weight", torch.zeros(3, 16), 2.0), "blend": torch.tensor([3.0, 5.0, 9.0])}
    tensors = anchored(zero, encoder, data, **more)
    tuned, zero, end = tuned_of(recipe, encoder, NORMS, LpPlusHead(tensors, LpPlus()))
    number = arrays(tensors)
    own_CD = number["weight"] + number["blend"][:, None] * forward.unit(number["text_CD"])
    rows_CD = (forward.class_rows(zero, tokens_of(encoder, data)) + own_CD) / 2
    check(encoder, data, tuned, by_rows(halved(zero, end), rows_CD))


def test_every_kind_that_has_a_path_is_here() -> None:
    """So that a new adapter with a path gets a forward by hand here."""
    from typing import get_args

    from likewise.adapters import Adapter
    from likewise.heads import Own

    kinds = [kind for kind in get_args(get_args(Adapter)[0]) if kind.scales is not None]
    on_timm = {CaptionTokens}  # by hand in tests/adapters/caption_tokens_test.py
    assert set(kinds) - on_timm == {Bottleneck, Compacter, Film, Lora}
    assert {kind for kind in get_args(get_args(Own)[0]) if kind.path} == {Cosine, Linear, LpPlus}
