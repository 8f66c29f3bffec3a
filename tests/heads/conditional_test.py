"""The conditional head: each picture's class texts by hand, the gradient by another road, and what it keeps."""

# B images, C classes, D shared width, L tokens, M learned words, W width of the text tower.

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from likewise.adapters import Prompt, add
from likewise.config import Config
from likewise.encoder import Encoder, learned
from likewise.encoders import load
from likewise.errors import ConfigError
from likewise.heads import Conditional, ConditionalHead, Given, Own, conditional, text_head

NAMES = ["red fox", "bee", "owl"]
PROMPT = Prompt(length=4, text="{}.")


def given(encoder: Encoder, prompt: Prompt = PROMPT, seed: int = 0) -> Given:
    """The prompt stands in the encoder, with vectors as large as the tokens around them."""
    encoder.grafts.remove()
    add(encoder, [prompt], 0)
    with torch.no_grad():
        encoder.grafts.parameters_by_name()["adapters.prompt.text.vectors"].mul_(10)
    return Given(encoder, prompt.texts(NAMES), torch.zeros(0), lambda _: torch.zeros(0), seed)


@pytest.fixture
def plain(encoder_of: Callable[[str], Encoder]) -> Iterator[Encoder]:
    encoder = encoder_of("plain")
    yield encoder
    encoder.grafts.remove()


def features(count: int = 5) -> Tensor:
    return 4 * torch.randn(count, 16, generator=torch.Generator().manual_seed(3))


def build(given: Given, config: Conditional | None = None) -> ConditionalHead:
    head = (config or Conditional(reduction=4)).build(given)
    assert isinstance(head, ConditionalHead)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(3)  # large enough to be seen
    return head


def by_hand(head: ConditionalHead, given: Given, features_BD: Tensor) -> Tensor:
    """Picture by picture: the learned words are moved in place, and a text head is made of them."""
    vectors_MW = given.encoder.grafts.parameters_by_name()["adapters.prompt.text.vectors"]
    kept, rows = vectors_MW.clone(), []
    for x_D in F.normalize(features_BD, dim=1):
        hidden_H = (head.down.weight @ x_D + head.down.bias).clamp_min(0)
        vectors_MW.copy_(kept + head.up.weight @ hidden_H + head.up.bias)
        rows.append(text_head(given.encoder, given.prompts)(x_D[None])[0])
    vectors_MW.copy_(kept)
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["plain", "icon", "custom"])
@pytest.mark.parametrize("per_class", [True, False])
def test_scores_are_those_of_a_text_head_of_its_own_for_each_picture(
    encoder_of: Callable[[str], Encoder], kind: str, per_class: bool
) -> None:
    made = given(encoder_of(kind), PROMPT.model_copy(update={"per_class": per_class}).for_classes(3))
    with torch.no_grad():
        head = build(made)
        found = head(features())
        torch.testing.assert_close(found, by_hand(head, made, features()), rtol=1e-5, atol=1e-5)
        still = text_head(made.encoder, made.prompts)(features())
    made.encoder.grafts.remove()
    assert found.shape == (5, 3)
    assert not torch.allclose(found, still, rtol=1e-2, atol=1e-2)


def test_a_shift_is_added(plain: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    head = build(given(plain))
    with torch.no_grad():
        before = head(features())
        monkeypatch.setattr(type(plain), "shift", property(lambda self: torch.tensor(-3.0)))
        torch.testing.assert_close(head(features()), before - 3)


@pytest.mark.parametrize("chunk", [2, 4, 7])
def test_recomputation_gives_the_gradient_of_one_pass(
    plain: Encoder, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    made = given(plain)
    head = build(made)
    vectors_MW = plain.grafts.parameters_by_name()["adapters.prompt.text.vectors"]
    labels_B = torch.tensor([0, 1, 2, 0, 1])
    inputs_BD = features().requires_grad_()

    def gradients() -> list[Tensor]:
        leaves = [vectors_MW, inputs_BD, *head.parameters()]
        return list(torch.autograd.grad(F.cross_entropy(head(inputs_BD), labels_B), leaves))

    calls = []
    text = plain.text
    monkeypatch.setattr(plain, "text", lambda tokens_BL: calls.append(len(tokens_BL)) or text(tokens_BL))
    monkeypatch.setattr(conditional, "checkpoint", lambda run, *args, **_: run(*args))
    want = gradients()
    assert calls == [15]  # pictures times classes, at once
    assert all(bool(w.any()) for w in want)
    monkeypatch.setattr(conditional, "checkpoint", torch.utils.checkpoint.checkpoint)
    monkeypatch.setattr(conditional, "CHUNK", chunk)
    calls.clear()
    found = gradients()
    assert sum(calls) == 30  # each a second time for the gradient
    assert max(calls) == chunk
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


def test_a_gradient_by_finite_differences(plain: Encoder) -> None:
    # the towers count in single precision, so a wide step and a loose bound
    head = build(given(plain))
    loss = head(features())[:, 0].sum()
    loss.backward()
    assert head.up.bias.grad is not None
    for index in range(4):
        with torch.no_grad():
            ends = []
            for step in (1e-2, -2e-2):
                head.up.bias[index] += step
                ends.append(float(head(features())[:, 0].sum()))
            head.up.bias[index] += 1e-2
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float(head.up.bias.grad[index]), rel=0.05, abs=0.02)


def test_the_offset_is_always_taken_back(plain: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    made = given(plain)
    head = build(made)
    words = plain.children["text.tokens"].value
    ids = plain.tokenize([texts[0] for texts in made.prompts])
    with torch.no_grad():
        before = plain.text(ids)
    head(features()).sum().backward()
    assert words.offset is None
    with torch.no_grad():
        assert torch.equal(plain.text(ids), before)

    def broken(_: Tensor) -> Tensor:
        assert words.offset is not None
        raise KeyboardInterrupt

    monkeypatch.setattr(plain, "text", broken)
    with pytest.raises(KeyboardInterrupt):
        head(features())
    assert words.offset is None


def test_the_state_makes_the_head_again(plain: Encoder) -> None:
    made = given(plain)
    head = build(made)
    state = head.state_dict()
    assert sorted(state) == ["down.bias", "down.weight", "tokens_CL", "up.bias", "up.weight"]
    assert torch.equal(state["tokens_CL"], plain.tokenize([texts[0] for texts in made.prompts]))
    with torch.no_grad():
        again = Conditional(reduction=4).load(state, plain, 3)
        assert torch.equal(again(features()), head(features()))
    assert not {t.data_ptr() for t in state.values()} & {t.data_ptr() for t in again.state_dict().values()}
    assert [name for name, _ in again.named_modules()] == ["", "down", "up"]  # and not the encoder


def test_the_start_is_pytorchs_by_key(plain: Encoder) -> None:
    state = torch.random.get_rng_state()
    a, b, other = (Conditional(reduction=2).build(given(plain, seed=seed)).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert {name for name in a if not torch.equal(a[name], other[name])} == set(a) - {"tokens_CL"}
    for name, fan_in in (("down", 16), ("up", 8)):
        for part in ("weight", "bias"):
            values = a[f"{name}.{part}"]
            assert 0.7 / math.sqrt(fan_in) < float(values.abs().max()) <= 1 / math.sqrt(fan_in)


def test_numbers() -> None:
    encoder = load("open_clip:ViT-B-16", weights=False)
    sizes = Conditional().sizes(encoder, 1000, 16_000)
    # Zhou et al. 2022: 512 -> 32 -> 512; with four words of the prompt 35,360
    assert sum(sizes.values()) == 512 * 32 + 32 + 32 * 512 + 512 == 35_360 - 4 * 512
    add(encoder, [Prompt(length=4)], 0)
    head = Conditional().build(Given(encoder, [[learned(0)]], torch.zeros(0), lambda _: torch.zeros(0)))
    assert {name: p.numel() for name, p in head.named_parameters()} == sizes


def test_what_cannot_be_is_refused(plain: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    made = given(plain)
    head = build(made)
    several = Given(plain, [["a", "b"], ["c"]], made.labels_N, made.features)
    with pytest.raises(ConfigError, match="one prompt a class and one has 2: «a, b»"):
        Conditional().build(several)
    with pytest.raises(ConfigError, match="reduction 17 leaves nothing of the 16"):
        Conditional(reduction=17).build(made)
    plain.grafts.remove()
    for act in (lambda: Conditional(reduction=4).build(made), lambda: head(features())):
        with pytest.raises(ConfigError, match=r"has none at text\.tokens\. Give the stage a Prompt"):
            act()
    with monkeypatch.context() as patch:
        patch.setattr(plain, "sites", {})
        with pytest.raises(ConfigError, match="no table of tokens"):
            Conditional().sizes(plain, 3, 3)
    assert not Conditional.path
    assert "others for every picture" in Conditional.refuses

    class Holder(Config):
        """A tree with a head in it."""

        head: Own

    assert Holder.parse({"head": Conditional(reduction=8).tree()}).head == Conditional(reduction=8)
