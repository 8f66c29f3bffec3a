"""Heads against open_clip's own forward and scikit-learn's neighbours."""

# B images, C classes, D shared width, N training pictures.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from likewise.data.prompts import fill
from likewise.encoder import Encoder
from likewise.errors import ConfigError
from likewise.heads import Linear, LinearHead, Neighbours, NeighboursHead, class_texts, text_head, unit
from tiny import TEMPLATES, pixels

PROMPTS = fill(TEMPLATES, ["red", "very dark and rather greenish blue", "car"])


@pytest.mark.parametrize("kind", ["plain", "icon", "custom", "resnet"])
def test_class_texts_equal_a_forward_by_hand(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    rows_CD = []
    with torch.no_grad():
        for texts in PROMPTS:
            each_TD = encoder.module.encode_text(encoder.tokenize(texts), normalize=True)  # at full length
            mean_D = each_TD.mean(0)
            rows_CD.append(mean_D / mean_D.norm())
    for chunk in (256, 1):
        torch.testing.assert_close(class_texts(encoder, PROMPTS, chunk), torch.stack(rows_CD), rtol=1e-4, atol=2e-6)


def test_each_distinct_prompt_is_encoded_once(
    encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, seen = encoder_of("plain"), 0
    text = encoder.text

    def counting(tokens_BL: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += len(tokens_BL)
        return text(tokens_BL)

    monkeypatch.setattr(encoder, "text", counting)
    rows_CD = class_texts(encoder, [["a", "b"], ["b", "a"], ["a", "c"]])
    assert seen == 3
    assert torch.equal(rows_CD[0], rows_CD[1])
    assert not torch.equal(rows_CD[0], rows_CD[2])


@pytest.mark.parametrize("kind", ["plain", "icon"])
def test_the_text_head_equals_open_clips_logits(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    single = [[texts[0]] for texts in PROMPTS]  # open_clip knows no templates
    with torch.no_grad():
        want_BC, _ = encoder.module.get_logits(pixels(encoder), encoder.tokenize([t for (t,) in single]))
        found_BC = text_head(encoder, single)(encoder.image(pixels(encoder)).shared_BD)
    torch.testing.assert_close(found_BC, want_BC, rtol=1e-4, atol=1e-4)
    assert found_BC.std() > 0.1  # pictures and texts differ, so there is something to compare


def neighbours(k: int, temperature: float = 0.07) -> tuple[np.ndarray, np.ndarray]:
    """(ours_BC, scikit-learn's_BC): the vote's shares."""
    rng = np.random.default_rng(0)
    bank_ND, labels_N = rng.normal(size=(30, 8)), np.arange(30) % 4
    query_BD = rng.normal(size=(12, 8))
    head = NeighboursHead(
        unit(torch.from_numpy(bank_ND)), torch.from_numpy(labels_N), 4, Neighbours(k=k, temperature=temperature)
    )
    sklearn = KNeighborsClassifier(
        min(k, 30), metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature)
    )
    return head(torch.from_numpy(query_BD)).exp().numpy(), sklearn.fit(bank_ND, labels_N).predict_proba(query_BD)


@pytest.mark.parametrize("k", [1, 5, 20, 30, 300])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_neighbours_vote_as_scikit_learns_do(k: int, temperature: float) -> None:
    ours_BC, theirs_BC = neighbours(k, temperature)
    np.testing.assert_allclose(ours_BC, theirs_BC, atol=1e-5 if temperature < 1 else 1e-6)  # 1 / 0.07 amplifies fp32
    assert (ours_BC.argmax(1) == theirs_BC.argmax(1)).all()


def test_a_class_without_a_vote_scores_low_and_finite() -> None:
    head = NeighboursHead(torch.eye(3), torch.tensor([0, 0, 2]), 4, Neighbours(k=1, temperature=1e-3))
    logits_BC = head(torch.eye(3))
    assert torch.isfinite(logits_BC).all()
    assert logits_BC.argmax(1).tolist() == [0, 0, 2]


def test_a_linear_head_is_rows_on_unit_features() -> None:
    g = torch.Generator().manual_seed(0)
    weight_CD, bias_C, x_BD = (
        torch.randn(3, 5, generator=g),
        torch.randn(3, generator=g),
        torch.randn(4, 5, generator=g),
    )
    head = LinearHead(weight_CD, bias_C)
    x, w = x_BD.double().numpy(), weight_CD.double().numpy()
    want = x / np.sqrt((x**2).sum(1, keepdims=True)) @ w.T + bias_C.double().numpy()
    np.testing.assert_allclose(head(x_BD).detach().numpy(), want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head(7 * x_BD), head(x_BD))
    weight_CD += 1  # the head's rows are its own
    assert not torch.equal(head.weight.detach(), weight_CD)
    assert unit(x_BD.bfloat16()).dtype == torch.float32


def test_heads_survive_their_tensors(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("plain")
    x_BD = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    for linear in (LinearHead(x_BD[:3], x_BD[:3, 0]), LinearHead(x_BD[:3], None, Linear(bias=False))):
        assert torch.equal(linear.config.load(linear.state_dict(), encoder, 3)(x_BD), linear(x_BD))
    bank_ND = unit(torch.randn(500, 5, generator=torch.Generator().manual_seed(2)))
    assert not torch.equal(unit(bank_ND), bank_ND)  # unit length twice is not bitwise unit length once, so:
    large = NeighboursHead(bank_ND, torch.zeros(500), 3, Neighbours())
    assert torch.equal(large.config.load(large.state_dict(), encoder, 3).state_dict()["bank_ND"], bank_ND)
    knn = NeighboursHead(unit(x_BD), torch.tensor([0, 1, 2, 1]), 3, Neighbours(k=2))
    assert torch.equal(knn.config.load(knn.state_dict(), encoder, 3)(x_BD), knn(x_BD))


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_head_lies_on_a_line_from_the_text_head(bias: bool) -> None:
    g = torch.Generator().manual_seed(3)
    zero = LinearHead(torch.randn(3, 5, generator=g), torch.full((3,), -9.5))  # a sigmoid-trained model's shift
    own_C = torch.randn(3, generator=g) if bias else None
    head = LinearHead(torch.randn(3, 5, generator=g), own_C, Linear(bias=bias))
    x_BD = torch.randn(4, 5, generator=g)
    assert torch.equal(head.at(0.0, zero)(x_BD), zero(x_BD))
    assert torch.equal(head.at(1.0, zero)(x_BD), head(x_BD))
    assert head.at(1.0, zero).state_dict().keys() == head.state_dict().keys()
    middle = head.at(0.3, zero)
    torch.testing.assert_close(middle(x_BD), 0.7 * zero(x_BD) + 0.3 * head(x_BD))  # scores are linear in the rows
    again = head.config.load(middle.state_dict(), None, 3)  # type: ignore[arg-type]
    assert torch.equal(again(x_BD), middle(x_BD))
    assert middle.config == head.config


def test_a_head_without_a_line_says_why() -> None:
    zero = LinearHead(torch.eye(3), torch.zeros(3))
    pooled = LinearHead(torch.eye(3), None, Linear(features="pooled", start="zeros", bias=False))
    knn = NeighboursHead(torch.eye(3), torch.arange(3), 3, Neighbours())
    for head, said in ((pooled, "before the projection"), (knn, "keeps its training features")):
        with pytest.raises(ConfigError, match=said):
            head.at(0.5, zero)
    with pytest.raises(ConfigError, match=r"\(3, 3\).*\(2, 3\)"):
        LinearHead(torch.ones(2, 3), None).at(0.5, zero)
