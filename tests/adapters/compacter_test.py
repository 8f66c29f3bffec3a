"""Compacter against sums of explicit Kronecker products, and its one rule."""

# I inputs, O outputs, N terms, R rank.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from adapter_laws import answers, check_alive, check_alpha, check_keyed, check_removed, check_silent, count, stir
from likewise.adapters import Compacter, grafted
from likewise.encoder import Encoder
from likewise.errors import ConfigError

Encoders = Callable[[str], Encoder]
KIM = Compacter()
BOTH = Compacter(at=("text.*.attention", "image.*.mlp", "image.0.block"), width=6, n=2, rank=3, activation="tanh")
CASES = [(kind, config) for kind in ("plain", "icon", "custom") for config in (KIM, BOTH)] + [("resnet", KIM)]


@pytest.mark.parametrize(("kind", "config"), CASES)
def test_laws(encoder_of: Encoders, kind: str, config: Compacter) -> None:
    encoder = encoder_of(kind)
    check_silent(encoder, config)
    check_removed(encoder, config)
    check_alive(encoder, config)
    check_keyed(encoder, config)


def kronecker(rule: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """W_IO, each term made in full."""
    terms = [
        torch.kron(*(torch.from_numpy(m.copy()) for m in (rule[i], s[i] @ t[i]))).numpy() for i in range(len(rule))
    ]
    return np.sum(terms, axis=0)


@pytest.mark.parametrize(("n", "rank", "width"), [(1, 1, 5), (2, 1, 8), (4, 1, 24), (4, 3, 12), (8, 2, 8)])
@pytest.mark.parametrize("place", ["text.1.mlp", "text.0.attention", "image.1.block"])
def test_it_adds_what_the_kronecker_products_say(
    encoder_of: Encoders, place: str, n: int, rank: int, width: int
) -> None:
    encoder, seen = encoder_of("plain"), []
    child = encoder.children[place].value

    def look(module: object, x: object, y: Tensor | tuple[Tensor, ...]) -> None:
        seen.append((y[0] if isinstance(y, tuple) else y).detach().double().numpy().copy())

    inner = child.register_forward_hook(look)
    config = Compacter(at=(place,), n=n, rank=rank, width=width, activation="relu")
    with grafted(encoder, (config,)), torch.no_grad():
        numbers = {name: p.detach().double().numpy().copy() for name, p in stir(encoder, 0.5).items()}
        outer = child.register_forward_hook(look)
        answers(encoder)
        outer.remove()
    inner.remove()
    y, got = seen
    tower, own = place.split(".")[0], f"adapters.compacter.{place}."
    rule = numbers.pop(f"adapters.compacter.{tower}.rule.matrices")
    n_ = {name.removeprefix(own): value for name, value in numbers.items()}
    down_IO, up_IO = (kronecker(rule, n_[f"{side}.s"], n_[f"{side}.t"]) for side in ("down", "up"))
    assert down_IO.shape == up_IO.shape[::-1] == (y.shape[-1], width)
    want = y + np.maximum(y @ down_IO + n_["down.bias"], 0) @ up_IO + n_["up.bias"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert np.abs(got - y).max() > 0.05


def test_the_rule_is_one_and_all_learn_it(encoder_of: Encoders) -> None:
    """Its gradient is the sum over places: with both, the sum of what either gives."""
    encoder = encoder_of("plain")
    name, gradients = "adapters.compacter.text.rule.matrices", []
    for silenced in ((), ("text.0",), ("text.1",)):
        with grafted(encoder, (KIM,)):
            mine = encoder.grafts.parameters_by_name()
            assert [n for n in mine if "rule" in n] == [name]
            with torch.no_grad():
                for other, parameter in mine.items():
                    if other.endswith("up.t"):
                        parameter.fill_(1e-4)  # so small that one place does not feel the other
            for place in ("text.0", "text.1"):
                if place in silenced:
                    mine[f"adapters.compacter.{place}.mlp.up.t"].data.zero_()
            answers(encoder)[1].square().sum().backward()
            gradient = mine[name].grad
            assert gradient is not None
            gradients.append(gradient)
    both, one, zero = gradients
    assert one.any()
    assert zero.any()
    torch.testing.assert_close(both, one + zero, rtol=0.02, atol=1e-7)


@pytest.mark.parametrize(
    ("at", "tower"),
    [
        (("text.*.mlp",), "text"),
        (("image.*.mlp", "image.0.attention"), "image"),
        (("image.0.mlp", "text.0.mlp"), "both"),
    ],
)
def test_the_rule_belongs_to_the_towers_that_read_it(encoder_of: Encoders, at: tuple[str, ...], tower: str) -> None:
    encoder = encoder_of("plain")
    with grafted(encoder, (Compacter(at=at, n=8),)):
        rules = {n: p.shape for n, p in encoder.grafts.parameters_by_name().items() if "rule" in n}
        assert encoder.grafts.seams[f"compacter.{tower}.rule"] == "shared"
        places = [name for name, seam in encoder.grafts.seams.items() if seam == "token"]
    assert rules == {f"adapters.compacter.{tower}.rule.matrices": (8, 8, 8)}
    assert len(places) == len({name for p in at for name in encoder.children if _is(p, name)})


def _is(pattern: str, name: str) -> bool:
    tower, block, part = name.split(".") if name.count(".") == 2 else ("", "", "")
    return pattern in (f"{tower}.*.{part}", f"{tower}.{block}.{part}")


def test_the_way_from_the_pretrained_model_is_straight_in_what_it_adds(encoder_of: Encoders) -> None:
    encoder = encoder_of("plain")
    mlp, x_BLW = encoder.children["text.1.mlp"].value, torch.linspace(-1, 1, 48).reshape(1, 3, 16)
    check_alpha(encoder, KIM, lambda: mlp(x_BLW).detach())


def test_counts(encoder_of: Encoders, vit_b_16: Encoder) -> None:
    assert count(vit_b_16, KIM) == 19_360
    assert count(vit_b_16, Compacter(at=("image.*.mlp",))) == 28_576
    assert count(vit_b_16, Compacter(at=("text.*.mlp", "image.*.mlp"))) == 19_360 + 28_576 - 4**3
    two = Compacter(at=("text.*.attention", "text.*.mlp"), rank=5, n=2, width=6)
    assert count(encoder_of("plain"), two) == 4 * (2 * 5 * (16 + 6) + 16 + 6) + 2**3


def test_start(encoder_of: Encoders) -> None:
    """The sums start as large as what goes in: the variance is one over the root, not the original's 1e-4."""
    encoder = encoder_of("icon")
    with grafted(encoder, (Compacter(at=("image.*.mlp",), n=8, width=64),)):
        start = {n: p.detach().double().numpy() for n, p in encoder.grafts.parameters_by_name().items()}
    rule = start.pop("adapters.compacter.image.rule.matrices")
    assert abs(rule.std() * np.sqrt(8) - 1) < 0.1
    for name, value in start.items():
        if name.endswith(("bias", "up.t")):
            assert not value.any(), name
        else:
            fans = value.shape[1] + value.shape[2]
            assert 0.9 < np.abs(value).max() / np.sqrt(6 / fans) < 1, name
    drawn = [value.tobytes() for value in start.values() if value.any()]
    assert len(set(drawn)) == len(drawn) == 6 * 3
    x = np.random.default_rng(0).standard_normal((100, 192))
    sizes = [
        (x @ kronecker(rule, start[f"{own}.s"], start[f"{own}.t"])).std()
        for own in {name.rpartition(".")[0] for name in start if ".down." in name}
    ]
    assert 0.3 < np.mean(sizes) < 3


def test_what_cannot_be_says_why(encoder_of: Encoders) -> None:
    with pytest.raises(ConfigError, match="n = 4 must divide width = 22"):
        Compacter.parse({"width": 22})
    for kind, config, why in (
        ("plain", Compacter(n=3), "n = 3 does not divide 16, the width of .*plain at text.0.mlp.*divisors of 8"),
        ("icon", Compacter(at=("image.0.mlp", "text.0.mlp"), n=24, width=24), "n = 24 does not divide"),
        ("resnet", Compacter(at=("image.*.mlp",)), "Compacter has no place .*image tower has no transformer blocks"),
        ("plain", Compacter(at=()), "empty `at`"),
    ):
        encoder = encoder_of(kind)
        with pytest.raises(ConfigError, match=why), grafted(encoder, (config,)):
            pass
        assert not encoder.grafts.seams
