"""Learned words: their characters and ids, where they stand, what they leave alone, and the gradients they get."""

# L tokens, M learned words, W width.

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor

from likewise.adapters import Adapter, Prompt, add
from likewise.adapters.prompt import MOST, LearnedWords
from likewise.config import Config
from likewise.encoder import Encoder, learned
from likewise.encoders import learned_words
from likewise.errors import ConfigError
from likewise.heads import encode
from tiny import everything

KINDS = ("plain", "icon", "custom")
SOT, EOT = 49406, 49407
"""CLIP's ids of the start and the end of text."""
NAMES = ["red fox", "bee", "one very small owl"]
Grow = Callable[..., Encoder]


@pytest.fixture
def grow(encoder_of: Callable[[str], Encoder]) -> Iterator[Grow]:
    """An encoder with a prompt in it, taken out again after the test."""
    grown: list[Encoder] = []

    def graft(kind: str, prompt: Prompt, seed: int = 0) -> Encoder:
        encoder = encoder_of(kind)
        grown.append(encoder)
        add(encoder, [prompt], seed)
        return encoder

    yield graft
    for encoder in grown:
        encoder.grafts.remove()


def said(text: str) -> list[int]:
    """The ids of a text by open_clip's tokenizer, without start, end and padding."""
    row = open_clip.SimpleTokenizer(context_length=77)([text])[0].tolist()
    return row[1 : row.index(EOT)]


def vectors_of(encoder: Encoder) -> Tensor:
    return encoder.grafts.parameters_by_name()["adapters.prompt.text.vectors"]


def text_tower(encoder: Encoder) -> Any:
    return getattr(encoder.module, "text", encoder.module)


def by_hand(encoder: Encoder, rows: list[Tensor]) -> Tensor:
    """The features of a text from its embedded tokens, through open_clip's own modules at full length."""
    tower = text_tower(encoder)
    table_VW = encoder.sites["text.tokens"].value
    x_LW = torch.stack(rows + [table_VW[0]] * (encoder.spec.context - len(rows)))
    x_LW = tower.transformer((x_LW + tower.positional_embedding)[None], attn_mask=tower.attn_mask)[0]
    return tower.ln_final(x_LW)[len(rows) - 1] @ tower.text_projection


def test_a_text_with_learned_words_is_its_pieces_joined(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("plain")
    fox = said("red fox")
    texts = ["\U000f0000\U000f0001 red fox", "red fox", "red \U000f0005 fox.", "\U000ffffd", ""]
    rows = [[SOT, -1, -2, *fox, EOT], [SOT, *fox, EOT], [SOT, *said("red"), -6, *said("fox."), EOT],
            [SOT, -65534, EOT], [SOT, EOT]]  # fmt: skip
    assert encoder.tokenize(texts).tolist() == [row + [0] * (16 - len(row)) for row in rows]
    assert encoder.tokenize(texts).dtype == torch.long
    assert encoder.lengths(texts) == [len(row) for row in rows]
    plain = ["red fox", "word " * 40]
    assert torch.equal(encoder.tokenize(plain), open_clip.SimpleTokenizer()(plain, context_length=16))


def test_a_text_that_is_too_long_is_cut_before_its_end(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("plain")
    text = learned(0) + "word " * 20 + learned(1)
    assert encoder.tokenize([text])[0].tolist() == [SOT, -1, *said("word") * 13, EOT]
    assert encoder.lengths([text]) == [24]


def test_a_tokenizer_that_cannot_join_words_is_refused() -> None:
    class Other:
        """As the wrappers of other libraries' tokenizers."""

        def __call__(self, texts: list[str], context_length: int) -> Tensor:
            return torch.ones(len(texts), context_length, dtype=torch.long)

    assert learned_words.tokenize(Other(), ["red"], 4).tolist() == [[1, 1, 1, 1]]
    with pytest.raises(ConfigError, match="words can be joined, and Other has no encode and no sot_token_id") as caught:
        learned_words.tokenize(Other(), ["red", learned(0)], 4)
    assert "own tokenizer" in str(caught.value)


@pytest.mark.parametrize(
    ("position", "text", "want"),
    [
        ("end", "{}", "012 a bee"), ("front", "{}", "a bee 012"), ("middle", "{}", "0 a bee 12"),
        ("end", "{}.", "012 a bee."), ("front", "{}.", "a bee 012."), ("middle", "so {}!", "so 0 a bee 12!"),
    ],
)  # fmt: skip
def test_where_the_class_name_stands(position: Any, text: str, want: str) -> None:
    for digit in "012":
        want = want.replace(digit, learned(int(digit)))
    assert Prompt(length=3, position=position, text=text).texts(["a bee"]) == [[want]]


def test_each_class_may_have_words_of_its_own() -> None:
    mine = Prompt(length=2, per_class=True).texts(["a", "b{}"])
    assert mine == [[f"{learned(0)}{learned(1)} a"], [f"{learned(2)}{learned(3)} b{{}}"]]
    assert Prompt(length=1, position="middle").texts(["a"]) == [[f"a {learned(0)}"]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", ["front", "middle", "end"])
def test_features_are_those_of_a_forward_by_hand(grow: Grow, kind: str, position: Any) -> None:
    prompt = Prompt(length=4, position=position, text="{}.")
    encoder = grow(kind, prompt)
    with torch.no_grad():
        vectors_of(encoder).mul_(20)  # as large as the tokens around them, or nothing would be seen
        vectors = list(vectors_of(encoder))
        found = encoder.text(encoder.tokenize([texts[0] for texts in prompt.texts(NAMES)]))
        encoder.grafts.remove()
        table_VW = encoder.sites["text.tokens"].value
        for row, name in zip(found, NAMES, strict=True):
            spoken = list(table_VW[said(name)])
            middle = {"front": spoken + vectors, "middle": vectors[:2] + spoken + vectors[2:], "end": vectors + spoken}
            want = by_hand(encoder, [table_VW[SOT], *middle[position], *table_VW[said(".")], table_VW[EOT]])
            torch.testing.assert_close(row, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gradient", [True, False])
def test_other_texts_are_left_alone(encoder_of: Callable[[str], Encoder], kind: str, gradient: bool) -> None:
    encoder = encoder_of(kind)
    ids = encoder.tokenize(["red fox", "a", "one two three four"])
    encoder.module.requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        before = encoder.text(ids)
        embedded = text_tower(encoder).token_embedding(ids)
        add(encoder, [Prompt()], 0)
        after = encoder.text(ids)
        inside = text_tower(encoder).token_embedding(ids)
        encoder.grafts.remove()
    assert torch.equal(before, after)
    assert torch.equal(embedded, inside)


def test_ids_of_any_shape_and_offsets() -> None:
    inside = torch.nn.Embedding(5, 3)
    words = LearnedWords(inside, torch.nn.Parameter(torch.randn(2, 3)))
    ids = torch.tensor([[1, -1, -2], [-2, 0, 4]])
    rows = [*words.vectors, *inside.weight]  # of id -1, -2, 0, 1, ...
    place = [[3, 0, 1], [1, 2, 6]]
    want = torch.stack([torch.stack([rows[i] for i in line]) for line in place])
    assert torch.equal(words(ids), want)
    assert torch.equal(words(ids[0]), want[0])
    assert torch.equal(words(ids[0, 1]), want[0, 1])
    assert torch.equal(words(ids[None]), want[None])
    own = (ids < 0).float()[..., None]
    both = torch.randn(3)
    for offset, shifts in (
        (both, both.expand(2, 3, 3)),
        (torch.stack([both, 2 * both]), torch.tensor([[0, 1, 2], [2, 0, 0]])[..., None] * both),
        (torch.stack([both, 3 * both])[:, None], torch.tensor([1, 3])[:, None, None] * both),
    ):
        words.offset = offset
        torch.testing.assert_close(words(ids), want + own * shifts)
        assert torch.equal(words(ids)[ids >= 0], want[ids >= 0])


def test_gradients_reach_the_vectors_and_the_table_apart() -> None:
    inside = torch.nn.Embedding(5, 3)
    words = LearnedWords(inside, torch.nn.Parameter(torch.randn(4, 3)))
    words(torch.tensor([1, -3, 1, -3, -3, 4])).sum().backward()  # type: ignore[no-untyped-call]
    assert words.vectors.grad is not None
    assert inside.weight.grad is not None
    assert words.vectors.grad[:, 0].tolist() == [0, 0, 3, 0]
    assert inside.weight.grad[:, 0].tolist() == [0, 2, 0, 0, 1]


def test_a_start_of_words(grow: Grow) -> None:
    encoder = grow("plain", Prompt(length=4, start="a photo of a"))
    want = encoder.sites["text.tokens"].value[said("a photo of a")]
    assert torch.equal(vectors_of(encoder), want)
    with torch.no_grad():  # untrained, it is the template of these words
        learned_BD = encoder.text(encoder.tokenize([texts[0] for texts in Prompt(length=4).texts(NAMES)]))
        words_BD = encoder.text(encoder.tokenize([f"a photo of a {name}" for name in NAMES]))
    assert torch.equal(learned_BD, words_BD)
    encoder.grafts.remove()
    grow("plain", Prompt(length=4, start="a photo of a", per_class=True).for_classes(3))
    assert torch.equal(vectors_of(encoder), want.repeat(3, 1))


def test_the_start_is_drawn_by_key(grow: Grow) -> None:
    starts = {}
    for seed in (0, 0, 1):
        encoder = grow("plain", Prompt(per_class=True).for_classes(40), seed)
        again = starts.setdefault(seed, vectors_of(encoder).detach().clone())
        assert torch.equal(again, vectors_of(encoder))
        encoder.grafts.remove()
    assert not torch.equal(starts[0], starts[1])
    assert starts[0].shape == (320, 16)
    assert float(starts[0].std()) == pytest.approx(0.02, rel=0.03)
    assert abs(float(starts[0].mean())) < 0.002


def test_numbers_on_vit_b_16(vit_b_16: Encoder) -> None:
    for prompt, want in (
        (Prompt(), 4096), (Prompt(length=16, text="{}."), 8192), (Prompt(length=4, start="a photo of a"), 2048),
        (Prompt(length=16, per_class=True).for_classes(37), 37 * 16 * 512),
    ):  # fmt: skip
        add(vit_b_16, [prompt], 0)
        found = {name: p.numel() for name, p in vit_b_16.grafts.parameters_by_name().items()}
        vit_b_16.grafts.remove()
        assert found == {"adapters.prompt.text.vectors": want}


@pytest.mark.parametrize("kind", KINDS)
def test_removal_leaves_no_trace(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    modules = [(name, id(module)) for name, module in encoder.module.named_modules()]
    values, names = everything(encoder), list(encoder.parameters_by_name())
    add(encoder, [Prompt()], 0)
    assert isinstance(encoder.children["text.tokens"].value, LearnedWords)
    assert list(encoder.parameters_by_name()) == [*names, "adapters.prompt.text.vectors"]
    encoder.grafts.remove()
    assert [(name, id(module)) for name, module in encoder.module.named_modules()] == modules
    assert list(encoder.parameters_by_name()) == names
    assert list(everything(encoder)) == list(values)


@pytest.mark.parametrize("per_class", [True, False])
def test_recomputation_gives_the_gradient_of_one_pass(grow: Grow, per_class: bool) -> None:
    prompt = Prompt(length=4, per_class=per_class).for_classes(3)
    encoder = grow("plain", prompt)
    ids = encoder.tokenize([texts[0] for texts in prompt.texts(NAMES)])
    weight = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    gradients = []
    for chunk in (1, 2, 128):
        vectors_of(encoder).grad = None
        (encode(encoder, ids, chunk) * weight).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append(vectors_of(encoder).grad)
    assert gradients[2] is not None
    assert bool((gradients[2] != 0).any(dim=1).all())  # alive: every vector
    for gradient in gradients[:2]:
        torch.testing.assert_close(gradient, gradients[2], rtol=1e-4, atol=2e-5)


def refused(encoder: Encoder, prompt: Prompt, *parts: str) -> None:
    modules = [(name, id(module)) for name, module in encoder.module.named_modules()]
    with pytest.raises(ConfigError) as caught:
        add(encoder, [prompt], 0)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert [(name, id(module)) for name, module in encoder.module.named_modules()] == modules


def test_what_cannot_be_is_refused(encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("plain")
    refused(encoder, Prompt(per_class=True), "for_classes(n) first")
    refused(encoder, Prompt(length=3, start="a photo of a"), "«a photo of a» is 4 tokens", "its length 3")
    refused(encoder, Prompt(length=14), "14 learned words leave no room", "reads 16 tokens", "at most 13")
    add(encoder, [Prompt(length=13)], 0)  # start, thirteen, a name of one token, end
    encoder.grafts.remove()
    many = Prompt(per_class=True, length=8)
    refused(encoder, many.for_classes(MOST // 8 + 1), "8,192 classes of 8 learned words each are 65,536", "65,534")
    add(encoder, [many.for_classes(MOST // 8)], 0)
    with pytest.raises(ConfigError, match=r"two grafts are called «prompt\.text»"):
        add(encoder, [Prompt()], 0)
    encoder.grafts.remove()
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "_tokenizer", lambda texts, context_length: torch.zeros(len(texts), context_length))
        refused(encoder, Prompt(), "function has no encode", "own tokenizer")
        patch.setattr(encoder, "children", {})
        refused(encoder, Prompt(), "no table of tokens")


def test_a_value_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"text needs one \{\}"):
        Prompt.parse({"text": "a photo"})
    with pytest.raises(ConfigError, match="at"):
        Prompt.parse({"at": ["text"]})
    with pytest.raises(ConfigError, match=r"the class name '\\U000f0003' has a character"):
        Prompt().texts(["fox", learned(3)])
    assert Prompt.scales is None
    assert "no pretrained counterpart" in Prompt.refuses
    assert Prompt(per_class=False).for_classes(7) == Prompt()

    class Holder(Config):
        """A tree with an adapter in it."""

        adapter: Adapter

    tree = Prompt(length=4, position="middle").tree()
    assert Holder.parse({"adapter": tree}).adapter == Prompt(length=4, position="middle")
