"""FiLM on weights, on packed q, k, v and on what modules answer."""

# B pictures, C channels, H height, W width, O output channels.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from adapter_laws import answers, check_alive, check_alpha, check_keyed, check_removed, check_silent, count, same, stir
from likewise.adapters import Adapter, Film, Lora, Prompt, grafted
from likewise.encoder import Encoder
from likewise.errors import ConfigError

NORMS = Film()
SSF = Film(at=("image.patch*", "image.*norm*", "image.*.qkv", "image.*.out", "image.*.up", "image.*.down"))
TOKENS = Film(at=("image.*.block", "text.*.attention", "text.1.mlp", "text.tokens"))
CHANNELS = Film(at=("image.*norm*", "image.*conv*", "image.patch", "image.pool"))
CASES = [(kind, film) for kind in ("plain", "icon", "custom") for film in (NORMS, SSF, TOKENS)] + [("resnet", CHANNELS)]
each_case = pytest.mark.parametrize(("kind", "film"), CASES)
Encoders = Callable[[str], Encoder]


@each_case
def test_laws(encoder_of: Encoders, kind: str, film: Film) -> None:
    encoder = encoder_of(kind)
    check_silent(encoder, film)
    check_removed(encoder, film)
    check_alive(encoder, film)
    check_keyed(encoder, film)


def test_batch_statistics_are_as_before_in_train_mode(fresh: Encoders) -> None:
    """A BatchNorm that counts does not count otherwise when its weights are changed where they are read."""
    plain, changed = fresh("resnet"), fresh("resnet")
    plain.module.train()
    changed.module.train()
    with grafted(changed, (CHANNELS,)), torch.no_grad():
        assert same(answers(plain), answers(changed))
    for (name, buffer), other in zip(plain.module.named_buffers(), changed.module.buffers(), strict=True):
        assert torch.equal(buffer, other), name


def test_minus_zero_keeps_its_sign(fresh: Encoders) -> None:
    encoder = fresh("plain")
    encoder.put({"image.0.norm1.bias": torch.full((32,), -0.0)})
    with grafted(encoder, (NORMS,)):
        assert bool(encoder.folded()["image.0.norm1.bias"].signbit().all())


@pytest.mark.parametrize("place", ["image.1.norm2", "text.norm_post", "text.0.up", "image.1.down"])
def test_changed_weights_are_the_change_of_the_answer(encoder_of: Encoders, place: str) -> None:
    encoder = encoder_of("plain")
    film = Film(at=(place,))
    with grafted(encoder, (film,)), torch.no_grad():
        numbers = {name.split(".")[-1]: p.clone() for name, p in stir(encoder).items()}
        got = answers(encoder)
    handle = encoder.children[place].value.register_forward_hook(
        lambda m, x, y: y * (1 + numbers["gain"]) + numbers["shift"]
    )
    with torch.no_grad():
        want = answers(encoder)
    handle.remove()
    torch.testing.assert_close(got, want)
    assert sorted(numbers) == ["gain", "shift"]


@pytest.mark.parametrize("kind", ["plain", "icon"])
def test_packed_query_key_value_is_a_place(encoder_of: Encoders, kind: str) -> None:
    encoder = encoder_of(kind)
    before = encoder.state(["image.1.qkv.weight", "image.1.qkv.bias"])
    weight_OI, bias_O = (value.double().numpy() for value in before.values())
    with grafted(encoder, (Film(at=("image.-5.qkv" if kind == "icon" else "image.-1.qkv",)),)), torch.no_grad():
        numbers = stir(encoder)
        folded = encoder.folded()
    gain_O = numbers["adapters.film.image.1.qkv.gain"].detach().double().numpy()
    shift_O = numbers["adapters.film.image.1.qkv.shift"].detach().double().numpy()
    np.testing.assert_allclose(folded["image.1.qkv.weight"], np.diag(1 + gain_O) @ weight_OI, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(folded["image.1.qkv.bias"], bias_O + gain_O * bias_O + shift_O, rtol=1e-5, atol=1e-7)
    assert list(folded) == list(before)
    assert len(numbers) == 2


def test_folded_weights_answer_alike_without_the_graft(fresh: Encoders) -> None:
    """Norms, linear layers, convolutions with bias and packed q, k, v, of a CNN's channels too."""
    for kind, film in (("icon", SSF), ("custom", Film(at=("image.*.qkv", "text.*norm*"))), ("resnet", NORMS_OF_CNN)):
        encoder = fresh(kind)
        with grafted(encoder, (film,)), torch.no_grad():
            stir(encoder)
            want, folded = answers(encoder), encoder.folded()
        encoder.put(folded)
        with torch.no_grad():
            torch.testing.assert_close(answers(encoder), want)


NORMS_OF_CNN = Film(at=("image.*norm*",))


@pytest.mark.parametrize(
    ("kind", "place"),
    [("plain", "image.patch"), ("plain", "image.0.block"), ("plain", "text.1.attention"), ("icon", "image.0.attention"),
     ("icon", "image.projection"), ("plain", "text.tokens"), ("resnet", "image.stage2.0.conv2")],
)  # fmt: skip
def test_elsewhere_the_answer_is_changed_by_channel(encoder_of: Encoders, kind: str, place: str) -> None:
    encoder = encoder_of(kind)
    child = encoder.children[place].value
    seen: list[Tensor] = []

    def look(module: object, x: object, y: Tensor | tuple[Tensor, ...]) -> None:
        seen.append((y[0] if isinstance(y, tuple) else y).detach().clone())

    first = child.register_forward_hook(look)  # before the graft, so it sees what the module answers by itself
    with grafted(encoder, (Film(at=(place,)),)), torch.no_grad():
        gain, shift = (p.detach().numpy() for p in stir(encoder).values())
        last = child.register_forward_hook(look)
        answers(encoder)
        last.remove()
    first.remove()
    before, after = (y.numpy() for y in seen)
    if before.ndim == 4:  # channels last, for NumPy
        before, after = before.transpose(0, 2, 3, 1), after.transpose(0, 2, 3, 1)
    assert before.shape[-1] == len(gain)
    np.testing.assert_allclose(after, before * (1 + gain) + shift, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("place", ["text.0.attention", "text.0.mlp", "image.patch"])
def test_answers_keep_their_type_under_autocast(encoder_of: Encoders, place: str) -> None:
    """And small gains are not lost in it before they are used: 1 + 0.003 is 1 in bf16."""
    encoder, seen = encoder_of("plain"), []

    def look(module: object, x: object, y: Tensor | tuple[Tensor, ...]) -> None:
        seen.append(y[0] if isinstance(y, tuple) else y)

    child = encoder.children[place].value
    first = child.register_forward_hook(look)
    with grafted(encoder, (Film(at=(place,)),)), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        next(iter(encoder.grafts.parameters_by_name().values())).fill_(0.003)
        last = child.register_forward_hook(look)
        answers(encoder)
        last.remove()
    first.remove()
    before, after = seen
    assert before.dtype == after.dtype == torch.bfloat16
    assert torch.equal(after, (before.float() * (1 + torch.tensor(0.003))).bfloat16())
    assert not torch.equal(before, after)


def test_the_way_from_the_pretrained_model_is_straight(encoder_of: Encoders) -> None:
    encoder = encoder_of("plain")
    for name in ("image.1.norm1.weight", "image.1.norm1.bias", "image.0.qkv.weight"):
        place = name.rpartition(".")[0]
        check_alpha(encoder, Film(at=(place,)), lambda site=encoder.sites[name]: site.value.detach().clone())  # type: ignore[misc]
    x_BLW = torch.ones(1, 4, 32)
    block = encoder.children["image.1.block"].value
    check_alpha(encoder, Film(at=("image.1.block",)), lambda: block(x_BLW).detach())


def test_counts(encoder_of: Encoders, vit_b_16: Encoder) -> None:
    assert count(vit_b_16, NORMS) == 36_864
    assert count(vit_b_16, Film(at=("image.*.block",))) == 18_432
    plain_vit = [at for at in SSF.at if at != "image.*norm*"] + ["image.*.norm?", "image.norm_post"]
    assert count(vit_b_16, SSF.model_copy(update={"at": tuple(plain_vit)})) == 205_824
    assert count(vit_b_16, SSF) == 205_824 + 2 * 768
    assert count(encoder_of("plain"), Film(at=("text.*.norm1", "text.0.qkv"))) == 2 * (2 * 16 + 3 * 16)
    channels = [s.value.numel() for n, s in encoder_of("resnet").sites.items() if "norm" in n and n[:5] == "image"]
    assert count(encoder_of("resnet"), NORMS_OF_CNN) == sum(channels)


def test_it_stands_on_what_else_changes_a_weight(encoder_of: Encoders) -> None:
    encoder = encoder_of("plain")
    lora = Lora(at=("image.0.qkv.weight",))
    with grafted(encoder, (lora, Film(at=("image.0.qkv",)))), torch.no_grad():
        numbers = stir(encoder)
        both = encoder.folded()["image.0.qkv.weight"]
        gain_O = numbers["adapters.film.image.0.qkv.gain"].detach().clone()
    with grafted(encoder, (lora,)), torch.no_grad():
        stir(encoder)
        one = encoder.folded()["image.0.qkv.weight"]
    torch.testing.assert_close(both, one * (1 + gain_O)[:, None])


def test_it_stands_on_a_table_of_tokens_with_learned_words(encoder_of: Encoders) -> None:
    encoder = encoder_of("plain")
    with grafted(encoder, (Prompt(length=2),)), torch.no_grad():
        before = answers(encoder)
    with grafted(encoder, (Prompt(length=2), Film(at=("text.tokens",)))), torch.no_grad():
        assert same(before, answers(encoder))


def test_what_cannot_be_says_why(encoder_of: Encoders) -> None:
    resnet = encoder_of("resnet")
    for at, why in (
        (("image.*.block",), "no place «image.*.block» in .*image tower has no transformer blocks.*image.stem.norm1"),
        (("image.*norm*", "image.stage1.0.nrom1"), "Did you mean image.stage1.0.norm1"),
        ((), "empty `at`"),
    ):
        with pytest.raises(ConfigError, match=why), grafted(resnet, (Film(at=at),)):
            pass
        assert not resnet.grafts.seams
    with (
        pytest.raises(ConfigError, match=r"no place «image\.projection»"),
        grafted(encoder_of("plain"), (Film(at=("image.projection",)),)),
    ):
        pass  # a bare matrix, which has no channel that a gain could follow


def test_it_is_one_of_the_adapters() -> None:
    assert TypeAdapter[Film](Adapter).validate_python({"kind": "film", "at": ["image.*.norm1"]}) == Film(
        at=("image.*.norm1",)
    )
    assert Film.scales == (".gain", ".shift")
