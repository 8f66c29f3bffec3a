"""A vision encoder with a text tower beside it: both answer as they did alone; what is new is named, counted, keyed."""

# B images, D shared width, W width of the image tower's features.

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from likewise.encoder import Encoder
from likewise.encoders import load
from likewise.encoders.pair import SCALE, Pair
from likewise.errors import ConfigError
from tiny import pixels
from vision import KINDS, write_vision


def vision(stones: Path, kind: str) -> Encoder:
    return load(f"local-dir:{write_vision(stones / 'vision' / kind, kind)}")


@pytest.mark.parametrize("kind", KINDS)
def test_both_towers_answer_as_they_did_alone(fresh: Callable[[str], Encoder], stones: Path, kind: str) -> None:
    pair, image, text = fresh(f"with-{kind}"), vision(stones, kind), fresh("plain")
    with torch.no_grad():
        found = pair.image(pixels(pair))
        pooled_BW = image.image(pixels(image)).pooled_BW
        tokens_BL = text.tokenize(["red", "one very blue thing"])
        assert found.pooled_BW is not None
        assert pooled_BW is not None
        assert torch.equal(found.pooled_BW, pooled_BW)
        assert torch.equal(pair.tokenize(["red", "one very blue thing"]), tokens_BL)
        assert torch.equal(pair.text(tokens_BL), text.text(tokens_BL))
    assert found.shared_BD.shape == (3, 16) == (3, pair.shared_width)
    torch.testing.assert_close(found.shared_BD, pooled_BW @ pair.state(["image.projection"])["image.projection"])
    assert pair.lengths(["red"]) == text.lengths(["red"])
    assert pair.spec.context == text.spec.context


def test_its_names_are_both_parts_and_what_is_new(fresh: Callable[[str], Encoder], stones: Path) -> None:
    pair, image, text = fresh("with-vit"), vision(stones, "vit"), fresh("plain")
    read = {name for name in text.sites if name.startswith("text.")}
    assert set(pair.sites) == set(image.sites) | read | pair.new
    assert pair.new == {"image.projection", "scale", "shift"}
    assert not any(p.numel() for n, p in pair.module.named_parameters() if "visual" in n)  # the other CLIP's eyes
    sizes = {name: p.numel() for name, p in pair.parameters_by_name().items()}
    assert sizes["image.projection"] == 32 * 16
    assert float(pair.scale) == pytest.approx(1 / 0.07)
    assert (float(pair.state(["scale"])["scale"]), float(pair.shift)) == pytest.approx((SCALE, 0.0))


def test_it_begins_the_same_every_time_and_its_weights_name_both_parts(
    fresh: Callable[[str], Encoder], stones: Path
) -> None:
    one, two = fresh("with-vit"), fresh("with-vit")
    assert all(torch.equal(value, two.state([name])[name]) for name, value in one.state().items())
    assert one.spec.digest == two.spec.digest
    assert one.spec.weights == one.weights_now()
    for name in ("image.0.norm1.weight", "text.0.norm1.weight"):
        before = two.state([name])
        two.put({name: before[name] + 1})
        assert two.weights_now() != one.spec.weights
        two.put(before)
    two.put({"image.projection": torch.zeros(32, 16)})  # no part of the pretrained weights
    assert two.weights_now() == one.spec.weights


def test_what_cannot_be_paired_is_said(fresh: Callable[[str], Encoder], stones: Path) -> None:
    image, clip = vision(stones, "vit"), fresh("plain")
    with pytest.raises(ConfigError, match=r"has a text tower of its own.*Leave --text out") as caught:
        Pair(clip, fresh("plain"))
    assert caught.value.code == "M03"
    with pytest.raises(ConfigError, match="has no text tower; name an encoder of texts for --text"):
        Pair(image, vision(stones, "resnet"))
    with pytest.raises(ConfigError, match="has no text tower, so classes cannot be told"):
        image.tokenize(["red"])
    with pytest.raises(ConfigError, match="has no text tower"):
        image.text(torch.zeros(1, 3, dtype=torch.long))


def test_it_is_written_as_its_image_encoder(fresh: Callable[[str], Encoder], stones: Path, tmp_path: Path) -> None:
    pair = fresh("with-dinov2")
    pair.put({"image.0.norm1.weight": pair.state(["image.0.norm1.weight"])["image.0.norm1.weight"] + 0.5})
    pair.write(tmp_path)
    back = load(f"local-dir:{tmp_path}")
    assert not back.has("text")
    with torch.no_grad():
        ours, theirs = pair.image(pixels(pair)).pooled_BW, back.image(pixels(back)).pooled_BW
    assert ours is not None
    assert theirs is not None
    assert torch.equal(ours, theirs)
