"""Encoders behind our names: a bijection, open_clip's own answers, an exact trimmed text path, and what is refused."""

# B images, D shared width, L tokens.

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from likewise.adapters import Lora, Prompt, grafted
from likewise.encoder import Encoder, weights_hash
from likewise.encoders import load
from likewise.errors import ConfigError, LikewiseError, UsageError
from likewise.names import make_plan
from likewise.recipes import RECIPES
from tiny import MODELS, pixels, write_encoder

TEXTS = ["red", "a very long sentence about blue", "a"]


@pytest.mark.parametrize("kind", MODELS)
def test_our_names_cover_every_parameter_once(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    mine = encoder.parameters_by_name()
    theirs = dict(encoder.module.named_parameters())
    assert {id(p) for p in mine.values()} == {id(p) for p in theirs.values()}
    assert len(mine) == len(theirs)
    assert {name.split(".")[0] for name in mine} == {"image", "text", "scale"}
    assert {"image.projection", "text.tokens", "text.positions", "text.projection"} <= set(mine) or kind == "resnet"


def test_the_vocabulary_is_the_same_for_every_transformer(encoder_of: Callable[[str], Encoder]) -> None:
    parts = [
        "norm1.weight",
        "norm1.bias",
        "qkv.weight",
        "qkv.bias",
        "out.weight",
        "out.bias",
        "norm2.weight",
        "norm2.bias",
    ]
    parts += ["up.weight", "up.bias", "down.weight", "down.bias"]
    for kind, depth in (("plain", 2), ("custom", 2), ("icon", 6)):
        encoder = encoder_of(kind)
        assert (encoder.blocks("image"), encoder.blocks("text")) == (depth, 2)
        for tower, count in (("image", depth), ("text", 2)):
            found = {n for n in encoder.sites if n.split(".")[0] == tower and n.split(".")[1].isdigit()}
            assert found == {f"{tower}.{i}.{part}" for i in range(count) for part in parts}
            assert {f"{tower}.0.block", f"{tower}.0.attention", f"{tower}.0.mlp"} <= set(encoder.children)
        assert {"image.norm_post.weight", "text.norm_post.bias"} <= set(encoder.sites)
    assert encoder_of("resnet").blocks("image") == 0


@pytest.fixture
def shape_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Encoder]:
    """A published architecture without its hundred million numbers."""
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: self)  # open_clip's move to the CPU

    def build(name: str) -> Encoder:
        with torch.device("meta"):
            return load(name, weights=False)

    return build


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50"])
def test_a_published_architecture_has_a_name_for_each_parameter(shape_of: Callable[[str], Encoder], name: str) -> None:
    encoder = shape_of(name)
    assert encoder.spec.weights == ""
    sizes = {n: p.numel() for n, p in encoder.parameters_by_name().items()}
    assert sum(sizes.values()) == sum(p.numel() for p in encoder.module.parameters())
    # Radford et al. 2021, table 20, and open_clip's own profile: 151.28 and 102.01 million
    assert sum(sizes.values()) == {"ViT-B-32": 151_277_313, "RN50": 102_007_137}[name]
    assert not [n for n in sizes if n.startswith(("image.other", "text.other", "image.trunk"))]


def test_layer_norms_of_vit_b_16_are_65536_numbers(shape_of: Callable[[str], Encoder]) -> None:
    encoder = shape_of("ViT-B-16")
    plan = make_plan(RECIPES["ln"].stages[0].trains, {n: p.numel() for n, p in encoder.parameters_by_name().items()})
    # image 2 * 768 * (2 * 12 + 2), text 2 * 512 * (2 * 12 + 1)
    assert plan.trainable == 2 * 768 * 26 + 2 * 512 * 25 == 65_536


@pytest.mark.parametrize("kind", MODELS)
def test_towers_answer_as_open_clips_do(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    tokens_BL = encoder.tokenize(TEXTS)
    with torch.no_grad():
        found = encoder.image(pixels(encoder))
        torch.testing.assert_close(found.shared_BD, encoder.module.encode_image(pixels(encoder)), rtol=0, atol=0)
        torch.testing.assert_close(encoder.text(tokens_BL), encoder.module.encode_text(tokens_BL), rtol=1e-5, atol=1e-5)
        assert float(encoder.scale) == pytest.approx(float(encoder.module.logit_scale.exp()))
        assert float(encoder.shift) == 0
        if found.pooled_BW is not None:
            weight = encoder.sites["image.projection"].value
            weight_WD = weight.T if kind == "icon" else weight
            torch.testing.assert_close(found.pooled_BW @ weight_WD, found.shared_BD, rtol=1e-4, atol=1e-5)
    assert found.shared_BD.shape == (3, encoder.shared_width)
    assert (found.pooled_BW is None) == (kind == "resnet")
    assert not encoder.module.training


@pytest.mark.parametrize("kind", ["plain", "custom"])
def test_trimmed_text_has_the_gradients_of_full_length(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    assert encoder.trims
    tokens_BL = encoder.tokenize(TEXTS)
    lengths = encoder.lengths(TEXTS)
    assert max(lengths) < tokens_BL.shape[1]  # there is something to trim
    mine = {n: p for n, p in encoder.parameters_by_name().items() if n.startswith("text.")}
    for parameter in mine.values():
        parameter.requires_grad_()
    grads = []
    for forward in (encoder.text, encoder.module.encode_text):
        loss = forward(tokens_BL).square().sum()
        grads.append(torch.autograd.grad(loss, list(mine.values())))
    for parameter in mine.values():
        parameter.requires_grad_(False)
    for name, trimmed, full in zip(mine, *grads, strict=True):
        torch.testing.assert_close(trimmed, full, rtol=1e-4, atol=1e-4 * float(full.abs().max()), msg=name)
    positions = grads[0][list(mine).index("text.positions")]
    assert positions[max(lengths) :].abs().sum() == 0


def test_only_what_is_exact_is_trimmed(tmp_path: Path) -> None:
    # with a mask that looks ahead, padding does reach the answer
    config = json.loads((write_encoder(tmp_path / "a", "custom") / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] = {**config["model_cfg"]["text_cfg"], "no_causal_mask": True}
    (tmp_path / "a" / "open_clip_config.json").write_text(json.dumps(config))
    encoder = load(f"local-dir:{tmp_path / 'a'}")
    assert not encoder.trims
    tokens_BL = encoder.tokenize(TEXTS)
    with torch.no_grad():
        assert torch.equal(encoder.text(tokens_BL), encoder.module.encode_text(tokens_BL))


@pytest.mark.parametrize("text", [*TEXTS, "", "word " * 40])
def test_lengths_count_tokens_before_cutting(encoder_of: Callable[[str], Encoder], text: str) -> None:
    encoder = encoder_of("plain")
    assert encoder.lengths([text]) == [int((open_clip.SimpleTokenizer(context_length=200)([text]) != 0).sum())]
    assert encoder.tokenize([text]).shape == (1, 16)


def test_state_and_put(encoder_of: Callable[[str], Encoder]) -> None:
    encoder = encoder_of("plain")
    state = encoder.state(["scale", "image.0.up.bias"])
    assert list(state) == ["scale", "image.0.up.bias"]
    encoder.put({name: value + 1 for name, value in state.items()})
    assert encoder.scale.item() == pytest.approx(float((state["scale"] + 1).exp()))
    encoder.put(state)  # the fixture compares every bit
    with pytest.raises(ConfigError, match=r"scale is \(\) here and \(2,\) there") as caught:
        encoder.put({"scale": torch.zeros(2)})
    assert caught.value.code == "M02"


def test_the_spec_identifies_weights_and_view_but_not_the_name(
    encoder_of: Callable[[str], Encoder], folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    spec = encoder_of("plain").spec
    assert (spec.image_size, spec.context, spec.resize, spec.interpolation) == (16, 16, "shortest", "bicubic")
    assert (spec.mean, spec.std) == ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    copy = shutil.copytree(folder_of("plain"), tmp_path / "copy")
    assert load(f"open_clip:local-dir:{copy}").spec.digest == spec.digest
    view = json.loads((copy / "open_clip_config.json").read_text())
    for key, value in (("mean", [0.5, 0.5, 0.4]), ("std", [0.25, 0.2, 0.25]), ("resize_mode", "squash")):
        changed = {**view, "preprocess_cfg": {**view["preprocess_cfg"], key: value}}
        (copy / "open_clip_config.json").write_text(json.dumps(changed))
        assert load(f"local-dir:{copy}").spec.digest != spec.digest, key
    changed = {**view, "model_cfg": {**view["model_cfg"], "quick_gelu": True}}
    (copy / "open_clip_config.json").write_text(json.dumps(changed))
    quick = load(f"local-dir:{copy}")
    assert quick.spec.digest != spec.digest
    with torch.no_grad():  # and it is another function
        assert not torch.allclose(
            quick.image(pixels(quick)).shared_BD, encoder_of("plain").image(pixels(quick)).shared_BD
        )
    (copy / "open_clip_config.json").write_text(json.dumps(view))
    weights = load_file(copy / "open_clip_model.safetensors")
    weights["logit_scale"] = torch.nextafter(weights["logit_scale"], torch.tensor(9.0))
    save_file(weights, copy / "open_clip_model.safetensors")
    assert load(f"local-dir:{copy}").spec.digest != spec.digest


def test_weights_hash_sees_names_types_shapes_and_bytes() -> None:
    a = {"x": torch.arange(4.0), "y": torch.tensor(1)}
    others = [
        {"x": torch.arange(4.0), "z": torch.tensor(1)}, {"x": torch.arange(4.0).reshape(2, 2), "y": torch.tensor(1)},
        {"x": torch.arange(4).to(torch.float64), "y": torch.tensor(1)}, {"x": -torch.arange(4.0), "y": torch.tensor(1)},
        {"x": torch.arange(4.0)},
    ]  # fmt: skip
    assert len({weights_hash(a), *map(weights_hash, others)}) == 1 + len(others)
    assert weights_hash(dict(reversed(a.items()))) == weights_hash(a)


@pytest.mark.parametrize("kind", MODELS)
def test_the_projection_is_the_last_step(encoder_of: Callable[[str], Encoder], kind: str) -> None:
    encoder = encoder_of(kind)
    if kind == "resnet":
        for ask in (lambda: encoder.project(torch.zeros(1, 4)), lambda: encoder.pooled_width):
            with pytest.raises(ConfigError, match="no features before its projection"):
                ask()
        return
    with torch.no_grad():
        found = encoder.image(pixels(encoder))
        assert found.pooled_BW is not None
        assert found.pooled_BW.shape == (3, encoder.pooled_width)
        assert torch.equal(encoder.project(found.pooled_BW), found.shared_BD)
    assert encoder.sites["image.projection"].value.numel() == encoder.pooled_width * encoder.shared_width


def test_the_content_is_every_number_and_what_is_added(fresh: Callable[[str], Encoder]) -> None:
    encoder = fresh("resnet")
    seen = [encoder.content()]
    assert encoder.content() == seen[0] == fresh("resnet").content()
    encoder.put({"scale": torch.nextafter(encoder.state(["scale"])["scale"], torch.tensor(9.0))})
    seen.append(encoder.content())
    next(b for n, b in encoder.module.named_buffers() if n.endswith("running_mean"))[0] += 1
    seen.append(encoder.content())
    with grafted(encoder, (Lora(at=("text.*.qkv.weight",)), Prompt(length=2))):
        names = list(encoder.parameters_by_name())
        assert names[: len(encoder.sites)] == list(encoder.sites)  # what is added comes last
        assert names[len(encoder.sites) :] == list(encoder.grafts.parameters_by_name())
        seen.append(encoder.content())
        for name in names[len(encoder.sites) :]:
            encoder.put({name: encoder.state([name])[name] + 1})
            seen.append(encoder.content())
    assert len(set(seen)) == len(seen) == 4 + 2 * 3 * 2 + 1
    assert encoder.content() == seen[2]


def test_a_loaded_encoder_is_frozen(fresh: Callable[[str], Encoder]) -> None:
    # whether a weight wants a gradient can decide which kernel multiplies, and so move the last bit of an answer
    encoder = fresh("plain")
    assert not encoder.module.training
    assert not any(p.requires_grad for p in encoder.module.parameters())


def test_loading_leaves_the_global_generator_alone(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("plain")
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    load(f"local-dir:{folder}")
    assert torch.equal(torch.rand(3), want)


def refused(name: str, kind: type[LikewiseError], code: str, *said: str, weights: bool = True) -> None:
    with pytest.raises(kind) as caught:
        load(name, weights)
    assert caught.value.code == code
    for part in said:
        assert part in str(caught.value)


def test_unknown_names_are_refused_with_the_near_miss() -> None:
    refused("ViT-B-61/openai", UsageError, "M01", "no model «ViT-B-61»", "ViT-B-16")
    refused("open_clip:ViT-B-16/opnai", UsageError, "M01", "No weights «opnai» for ViT-B-16", "Did you mean openai")
    refused("ViT-B-16", UsageError, "M01", "an architecture without weights", "ViT-B-16/openai")
    refused("ViT-B-16/mine.pt", ConfigError, "M02", "no architecture record", "QuickGELU")


def test_a_name_that_contradicts_its_tag_is_refused() -> None:
    pairs = [
        (model, tag)
        for model in open_clip.list_models()
        for tag in open_clip.list_pretrained_tags_by_model(model)
        if open_clip.get_model_config(model).get("quick_gelu")
        and not open_clip.get_pretrained_cfg(model, tag).get("quick_gelu")
    ]
    assert pairs  # from open_clip's own tables
    for model, tag in pairs:
        refused(f"{model}/{tag}", ConfigError, "M02", "QuickGELU", "were trained with GELU")


def test_the_activation_is_the_tags_and_not_the_names(shape_of: Callable[[str], Encoder]) -> None:
    # «ViT-B-32/openai» means QuickGELU though the architecture of that name says nothing; and nothing is downloaded
    encoder = shape_of("ViT-B-32/openai")
    assert type(encoder.module.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    assert encoder.spec.config["quick_gelu"] is True


def test_folders_that_do_not_say_what_they_are_are_refused(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("plain"), tmp_path / "model")
    refused(f"local-dir:{tmp_path / 'modle'}", UsageError, "M01", "is not a folder", "Did you mean model")
    weights = folder / "open_clip_model.safetensors"
    weights.rename(folder / "open_clip_pytorch_model.pt")
    refused(f"local-dir:{folder}", ConfigError, "M02", "no .safetensors file", "Pickled weights")
    load(f"local-dir:{folder}", weights=False)  # the architecture alone needs none
    (folder / "open_clip_pytorch_model.pt").rename(weights)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 24
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    refused(f"local-dir:{folder}", ConfigError, "M02", "size mismatch")
    (folder / "open_clip_config.json").unlink()
    refused(f"local-dir:{folder}", ConfigError, "M02", "no open_clip_config.json")


def test_an_unreadable_safetensors_file_is_no_crash(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("plain"), tmp_path / "model")
    path = folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    refused(f"local-dir:{folder}", ConfigError, "M02", str(folder), "cannot be read")
