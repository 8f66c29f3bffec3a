"""Cached features and predictions: content decides, and asking changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from likewise.adapters import AdapterConfig, Bottleneck, Compacter, Film, Lora, VisualPrompt, grafted
from likewise.data.prompts import fill
from likewise.data.records import Dataset, Record, Split
from likewise.data.views import evaluate
from likewise.encoder import Encoder
from likewise.errors import ConfigError, DataError
from likewise.files import cache_folder
from likewise.heads import Linear, LinearHead, text_head
from likewise.merging import lerp
from likewise.predict import Candidate, Predictions, features, head_logits, placed, predict
from tiny import TEMPLATES, everything


class Counted:
    """Counts the batches of pictures that go through an encoder."""

    def __init__(self, encoder: Encoder, patch: pytest.MonkeyPatch) -> None:
        self.batches, image = 0, encoder.image

        def counting(pixels_BCHW: torch.Tensor) -> object:
            self.batches += 1
            return image(pixels_BCHW)

        patch.setattr(encoder, "image", counting)


@pytest.fixture
def own(data: Dataset, tmp_path: Path) -> Split:
    """Select's pictures, as files that a test may change."""
    records = []
    for record in data.select.records:
        path = tmp_path / record.key.replace("/", "-")
        path.write_bytes(record.path.read_bytes())
        records.append(Record(record.key, record.label, path))
    return Split("select", "select", tuple(records))


def by_hand(encoder: Encoder, split: Split) -> torch.Tensor:
    with torch.no_grad():
        rows = [encoder.module.encode_image(evaluate(split.open(i), encoder.spec)[None]) for i in range(len(split))]
    return torch.cat(rows)


def test_features_equal_a_forward_by_hand_and_come_from_the_cache_the_second_time(
    encoder_of: Callable[[str], Encoder], own: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of("plain")
    want_ND, count = by_hand(encoder, own), Counted(encoder, monkeypatch)
    seen: list[tuple[int, int]] = []
    first_ND = features(encoder, own, batch=4, cache=tmp_path, progress=lambda *at: seen.append(at))
    torch.testing.assert_close(first_ND, want_ND, rtol=1e-4, atol=1e-5)
    assert (count.batches, seen) == (3, [(4, 9), (8, 9), (9, 9)])
    again_ND = features(encoder, own, batch=4, cache=tmp_path, progress=lambda *at: seen.append(at))
    assert torch.equal(again_ND, first_ND)
    assert (count.batches, seen[-1]) == (3, (9, 9))


def test_one_byte_of_a_picture_or_a_weight_or_another_view_is_a_miss(
    encoder_of: Callable[[str], Encoder], own: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of("plain")
    count = Counted(encoder, monkeypatch)

    def misses() -> bool:
        before = count.batches
        found_ND = features(encoder, own, cache=tmp_path)
        fresh_ND = features(encoder, own, cache=tmp_path / "other" / str(before))
        assert torch.equal(found_ND, fresh_ND)  # whatever the cache holds, the answer is that of this encoder
        return count.batches - before == 2

    assert misses()
    assert not misses()
    path = own.records[4].path
    data = bytearray(path.read_bytes())
    stamp = path.stat().st_mtime_ns
    data[-20] ^= 1  # in the checksum of the last chunk, so that the picture still opens
    path.write_bytes(own.records[0].path.read_bytes())
    os.utime(path, ns=(stamp + 1, stamp + 1))
    assert misses()
    assert not misses()
    # a weight moved by training: the spec's hash is still that of the loaded weights
    name = "image.0.qkv.bias"
    before = encoder.state([name])
    moved = before[name].clone()
    moved[-1] = torch.nextafter(moved[-1], torch.tensor(9.0))
    encoder.put({name: moved})
    assert misses()
    encoder.put(before)
    assert not misses()
    spec = encoder.spec
    monkeypatch.setattr(encoder, "spec", spec.model_copy(update={"mean": (0.5, 0.5, 0.4)}))
    assert misses()


def test_what_is_grafted_is_part_of_the_key(
    encoder_of: Callable[[str], Encoder], own: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of("plain")
    count = Counted(encoder, monkeypatch)
    plain_ND = features(encoder, own, cache=tmp_path)
    with grafted(encoder, (VisualPrompt(length=2), Bottleneck(at=("image.1.mlp",)))):
        count.batches = 1  # an adapter may have looked whether it has room
        first_ND = features(encoder, own, cache=tmp_path)
        assert count.batches == 2
        assert not torch.allclose(first_ND, plain_ND)
        assert torch.equal(features(encoder, own, cache=tmp_path), first_ND)
        assert count.batches == 2
        for number, (name, parameter) in enumerate(encoder.grafts.parameters_by_name().items()):
            with torch.no_grad():  # one number of each tensor, by the last bit; `down` then does nothing yet
                parameter.view(-1)[0] = torch.nextafter(parameter.view(-1)[0], torch.tensor(9.0))
            features(encoder, own, cache=tmp_path)
            assert count.batches == 3 + number, name
    with grafted(encoder, (VisualPrompt(length=2),)):  # the same numbers without the rest
        count.batches = 3 + number
        features(encoder, own, cache=tmp_path)
    assert count.batches == 4 + number
    assert torch.equal(features(encoder, own, cache=tmp_path), plain_ND)  # taken out, it is the old key again
    assert count.batches == 4 + number


AT = ("image.0.mlp",)
SETTINGS: tuple[tuple[AdapterConfig, AdapterConfig], ...] = (
    (Bottleneck(at=AT), Bottleneck(at=AT, activation="relu")),
    (Bottleneck(at=AT), Bottleneck(at=AT, factor=2.0)),
    (Bottleneck(at=AT), Bottleneck(at=AT, where="parallel")),
    (Compacter(at=AT), Compacter(at=AT, activation="tanh")),
    (Lora(), Lora(alpha=8.0)),
    (Lora(), Lora(rooted=True)),
)
"""Two adapters of the same numbers that answer otherwise."""


@pytest.mark.parametrize(("first", "second"), SETTINGS)
def test_settings_that_are_no_numbers_are_part_of_the_key(
    encoder_of: Callable[[str], Encoder], own: Split, tmp_path: Path, first: AdapterConfig, second: AdapterConfig
) -> None:
    encoder = encoder_of("plain")
    said, numbers, g = [], dict[str, torch.Tensor](), torch.Generator().manual_seed(1)
    for adapter in (first, second, first):
        with grafted(encoder, (adapter,)):
            own_numbers = encoder.grafts.parameters_by_name().items()
            numbers = numbers or {n: 0.2 * torch.randn(p.shape, generator=g) for n, p in own_numbers}
            assert set(numbers) == set(encoder.grafts.parameters_by_name())
            encoder.put(numbers)
            said.append(features(encoder, own, cache=tmp_path))
            assert torch.equal(said[-1], features(encoder, own, cache=tmp_path / str(len(said))))
    assert not torch.allclose(said[0], said[1])
    assert torch.equal(said[0], said[2])
    assert len(list((tmp_path / "features").iterdir())) == 2


@pytest.mark.parametrize("kind", ["plain", "icon"])
def test_pooled_features_are_those_before_the_projection(
    encoder_of: Callable[[str], Encoder],
    fresh: Callable[[str], Encoder],
    own: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    encoder = encoder_of(kind)
    count = Counted(encoder, monkeypatch)
    shared_ND = features(encoder, own, cache=tmp_path)
    pooled_NW = features(encoder, own, "pooled", cache=tmp_path)
    assert count.batches == 1  # both were kept when the pictures were read
    assert torch.equal(features(encoder, own, "pooled", cache=tmp_path / "other"), pooled_NW)
    assert pooled_NW.shape == (9, encoder.pooled_width)
    torch.testing.assert_close(encoder.project(pooled_NW), shared_ND)
    other = fresh(kind)  # open_clip's own tower without its last step
    if kind == "plain":
        other.module.visual.proj = None
    else:
        other.module.visual.head = torch.nn.Identity()
    torch.testing.assert_close(pooled_NW, by_hand(other, own), rtol=1e-4, atol=1e-5)


def test_an_encoder_without_pooled_features_says_so(
    encoder_of: Callable[[str], Encoder], own: Split, tmp_path: Path
) -> None:
    encoder = encoder_of("resnet")
    features(encoder, own, cache=tmp_path)
    with pytest.raises(ConfigError, match="no features before its projection"):
        features(encoder, own, "pooled", cache=tmp_path)
    with pytest.raises(ConfigError, match="no features before its projection"):
        Linear(start="zeros", features="pooled").sizes(encoder, 3, 9)


def test_another_label_or_order_is_a_miss(data: Dataset) -> None:
    flipped = [dataclasses.replace(r, label=(r.label + 1) % 3) for r in data.select.records]
    assert Split("select", "select", tuple(flipped)).digest != data.select.digest
    assert data.select.subset(range(8, -1, -1)).digest != data.select.digest


@pytest.mark.parametrize("damage", ["flip", "cut", "lost", "manifest"])
def test_a_damaged_entry_is_made_again(
    encoder_of: Callable[[str], Encoder], own: Split, tmp_path: Path, damage: str
) -> None:
    encoder = encoder_of("plain")
    first_ND = features(encoder, own, cache=tmp_path)
    (entry,) = (tmp_path / "features").iterdir()
    path = entry / ("manifest.json" if damage == "manifest" else "features.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(content[:-3] if damage == "cut" else content)
    assert torch.equal(features(encoder, own, cache=tmp_path), first_ND)
    assert [p.name for p in (tmp_path / "features").iterdir()] == [entry.name]


def test_a_cache_that_cannot_be_written_costs_no_truth(
    encoder_of: Callable[[str], Encoder], own: Split, tmp_path: Path
) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    encoder = encoder_of("plain")
    torch.testing.assert_close(features(encoder, own, cache=tmp_path), by_hand(encoder, own), rtol=1e-4, atol=1e-5)


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("LIKEWISE_CACHE")
    assert cache_folder() == Path("/b/likewise")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "likewise"


def candidates(encoder: Encoder) -> list[Candidate]:
    """Models that name different parameters: two of them overlap, one names nothing."""
    head = text_head(encoder, fill(TEMPLATES, ["red", "green", "blue"]))
    image = [name for name in encoder.sites if name.startswith("image.")]
    zero = encoder.state(image)
    g = torch.Generator().manual_seed(2)
    moved = {name: value + 0.05 * torch.randn(value.shape, generator=g) for name, value in zero.items()}
    norms = {name: value * 1.3 for name, value in zero.items() if "norm" in name}
    other = LinearHead(torch.randn(3, 16, generator=g), torch.randn(3, generator=g))
    early = LinearHead(torch.randn(3, 32, generator=g), None, Linear(start="zeros", features="pooled", bias=False))
    added = {f"adapters.visual-prompt.image.{i}.vectors": torch.randn(3, 32, generator=g) for i in range(2)}
    return [
        Candidate(norms, head),
        Candidate(moved, head),
        Candidate({}, other),
        Candidate(lerp(zero, moved, 0.5), head),
        Candidate({}, early),
        Candidate(added, head, (VisualPrompt(length=3),)),
        Candidate({**added, **norms}, early, (VisualPrompt(length=3),)),
    ]


@pytest.mark.parametrize("batch", [4, 256])
def test_several_models_at_once_answer_as_one_at_a_time(
    encoder_of: Callable[[str], Encoder], data: Dataset, batch: int
) -> None:
    encoder = encoder_of("plain")
    asked, before = candidates(encoder), everything(encoder)
    together = predict(encoder, asked, data.select, batch=batch)
    assert all(torch.equal(value, before[name]) for name, value in everything(encoder).items())
    for one, said in zip(asked, together, strict=True):
        (alone,) = predict(encoder, [one], data.select, batch=batch)
        np.testing.assert_array_equal(said.logits_NC, alone.logits_NC)
        np.testing.assert_array_equal(said.labels_N, data.select.labels_N)
        np.testing.assert_array_equal(said.index_N, np.arange(9))
    logits = [said.logits_NC for said in together]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(logits) for b in logits[:i])  # seven different models
    # and the first by hand: its values put, its head asked
    encoder.put(asked[0].values)
    with torch.no_grad():
        want_NC = asked[0].head(by_hand(encoder, data.select))
    encoder.put({name: before[name] for name in asked[0].values})
    np.testing.assert_allclose(logits[0], want_NC.numpy(), rtol=1e-3, atol=1e-4)


def test_predict_puts_the_encoder_back_even_when_a_picture_is_bad(
    encoder_of: Callable[[str], Encoder], own: Split
) -> None:
    encoder = encoder_of("plain")
    asked = candidates(encoder)
    own.records[6].path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be read"):
        predict(encoder, asked, own, batch=4)  # the fixture sees whether anything stayed


def anatomy(encoder: Encoder) -> list[tuple[str, int, type, int, int]]:
    """Modules with identity, class and hooks."""
    modules = encoder.module.named_modules()
    return [(n, id(m), type(m), len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in modules]


BOTH: tuple[AdapterConfig, ...] = (Lora(), Bottleneck(at=("image.*.mlp",)), VisualPrompt(length=2))
"""One on each seam."""


@pytest.mark.parametrize("fault", ["inside", "shape", "name", "place", "none"])
def test_placed_puts_everything_back_whatever_happens(encoder_of: Callable[[str], Encoder], fault: str) -> None:
    encoder = encoder_of("plain")  # the fixture compares every number afterwards
    before, names = anatomy(encoder), list(encoder.parameters_by_name())
    with grafted(encoder, BOTH):
        numbers = {name: p.detach() + 1 for name, p in encoder.grafts.parameters_by_name().items()}
    values = encoder.state(["image.norm_post.bias", "text.norm_post.bias", "scale"])
    moved = {name: value + 1 for name, value in values.items()} | numbers
    if fault == "shape":
        moved["image.0.up.bias"] = torch.zeros(2)  # after the others have been put
    if fault == "name":
        moved["adapters.lora.image.7.qkv.q.up"] = torch.zeros(2)
    adapters = (*BOTH, Film(at=("image.9.norm1",))) if fault == "place" else BOTH
    asked = Candidate(moved, text_head(encoder, [["a"]]), adapters)
    error = {"inside": ZeroDivisionError, "shape": ConfigError, "name": KeyError, "place": ConfigError}.get(fault)
    for _ in range(2):  # and nothing is in the way of a second time
        entered = False
        with contextlib.nullcontext() if error is None else pytest.raises(error), placed(encoder, asked):
            entered = True
            now = encoder.parameters_by_name()
            assert all(torch.equal(now[name].detach(), value) for name, value in moved.items())
            if fault == "inside":
                raise ZeroDivisionError
        assert entered == (fault in ("inside", "none"))
        assert anatomy(encoder) == before
        assert list(encoder.parameters_by_name()) == names
        assert not encoder.grafts.seams
        assert all(torch.equal(value, values[name]) for name, value in encoder.state(list(values)).items())


def test_models_are_not_placed_on_what_is_added_already(encoder_of: Callable[[str], Encoder], data: Dataset) -> None:
    encoder = encoder_of("plain")
    with grafted(encoder, (VisualPrompt(length=2),)):
        seams = dict(encoder.grafts.seams)
        with pytest.raises(AssertionError, match="do not nest"):  # it would be taken out with the rest
            predict(encoder, [Candidate({}, text_head(encoder, [["a"]]))], data.select)
        assert encoder.grafts.seams == seams


def test_head_logits_equal_predict_on_an_untouched_encoder(
    encoder_of: Callable[[str], Encoder], data: Dataset, tmp_path: Path
) -> None:
    encoder = encoder_of("plain")
    head = text_head(encoder, fill(TEMPLATES, ["red", "green", "blue"]))
    cheap = head_logits(head, features(encoder, data.select, cache=tmp_path), data.select, batch=2)
    (dear,) = predict(encoder, [Candidate({}, head)], data.select)
    np.testing.assert_allclose(cheap.logits_NC, dear.logits_NC, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(cheap.labels_N, dear.labels_N)


def test_predictions_survive_their_file(tmp_path: Path) -> None:
    said = Predictions(
        np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), np.array([0, 2, 1, 1]), np.arange(4)
    )
    said.write(tmp_path / "p.safetensors")
    back = Predictions.read(tmp_path / "p.safetensors")
    for a, b in zip(said, back, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
