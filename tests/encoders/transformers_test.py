"""transformers' encoders behind our names, against open_clip with the same weights and the models' own answers."""

# B images, D shared width, L tokens, N tokens of a picture, W width.

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapter_laws import answers, check_alive, check_alpha, check_keyed, check_removed, check_silent, count, stir
from likewise.adapters import AdapterConfig, Bottleneck, Compacter, Film, Lora, Maple, Prompt, VisualPrompt, grafted
from likewise.data.views import evaluate
from likewise.encoder import Encoder, learned
from likewise.encoders import open_clip as by_open_clip
from likewise.encoders.hugging import view as hugging_view
from likewise.encoders.transformers import HuggingFace, load
from likewise.errors import ConfigError, LikewiseError, MachineError, UsageError
from likewise.export.peft_format import from_peft, put_peft, to_peft
from likewise.export.twin import hub_name
from likewise.names import packed, select
from likewise.recipes import RECIPES
from tiny import MODELS, VIEW, alive_of, everything, pixels

TEXTS = ["red", "a very long sentence about blue", "a", "", "word " * 30]
_small = {"num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**_small, "hidden_size": 32, "intermediate_size": 128, "image_size": 16, "patch_size": 8}
TEXT = {**_small, "hidden_size": 16, "intermediate_size": 64, "max_position_embeddings": 16, "vocab_size": 49408}
DINO = {**_small, "hidden_size": 32, "image_size": 24, "patch_size": 8, "mlp_ratio": 2}
CROP = {
    "do_resize": True, "size": {"shortest_edge": 16}, "do_center_crop": True, "crop_size": {"height": 16, "width": 16},
    "resample": 3, "image_mean": [0.5, 0.5, 0.4], "image_std": [0.25, 0.2, 0.25], "do_normalize": True,
}  # fmt: skip
SQUASH = {**CROP, "do_center_crop": False, "size": {"height": 16, "width": 16}, "resample": 2}
PROCESSOR = {
    "clip": ("CLIP", CROP), "clip-gelu": ("CLIP", CROP), "clip-old": ("CLIP", CROP), "vision": ("CLIP", CROP),
    "dinov2": ("Bit", CROP), "registers": ("Bit", CROP), "swiglu": ("Bit", CROP), "vit": ("ViT", SQUASH),
    "siglip": ("Siglip", SQUASH), "siglip-vision": ("Siglip", SQUASH),
}  # fmt: skip


def built(kind: str) -> Any:
    """A model of that kind, as transformers builds it."""
    t = transformers
    if kind.startswith("clip"):
        act = {"hidden_act": "gelu" if kind == "clip-gelu" else "quick_gelu"}
        end = {"bos_token_id": 49406, "eos_token_id": 2 if kind == "clip-old" else 49407}
        return t.CLIPModel(t.CLIPConfig(vision_config=VISION | act, text_config=TEXT | act | end, projection_dim=16))
    if kind == "siglip":
        ends = {"bos_token_id": 49406, "eos_token_id": 49407, "hidden_size": 32, "projection_size": 32}
        return t.SiglipModel(t.SiglipConfig(vision_config=VISION, text_config=TEXT | ends))
    if kind in ("registers", "swiglu"):
        more = {"num_register_tokens": 3, "use_swiglu_ffn": kind == "swiglu", "layerscale_value": 0.3}
        return t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**DINO, **more))
    return {
        "vision": lambda: t.CLIPVisionModel(t.CLIPVisionConfig(**VISION)),
        "siglip-vision": lambda: t.SiglipVisionModel(t.SiglipVisionConfig(**VISION)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**DINO, layerscale_value=0.3)),
        "vit": lambda: t.ViTModel(t.ViTConfig(**VISION)),
    }[kind]()


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP's tokenizer in transformers' form, made of open_clip's vocabulary."""
    theirs, folder = SimpleTokenizer(), tmp_path_factory.mktemp("words")
    ends = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {ends.get(token, token): number for token, number in theirs.encoder.items()}
    merges = sorted(theirs.bpe_ranks, key=lambda pair: theirs.bpe_ranks[pair])
    transformers.CLIPTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, words: Path) -> Callable[[str], Path]:
    """The folder that save_pretrained wrote of a kind, with numbers away from the ones and zeros of a birth."""
    root = tmp_path_factory.mktemp("hugging")

    def folder(kind: str) -> Path:
        place = root / kind
        if place.exists():
            return place
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(3)
            model = built(kind)
            for name, parameter in model.named_parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
                if "projection.weight" in name and parameter.ndim == 2:
                    parameter.mul_(3)
        model.save_pretrained(place)
        named, view = PROCESSOR[kind]
        (place / "preprocessor_config.json").write_text(
            json.dumps({"image_processor_type": f"{named}ImageProcessor"} | view)
        )
        if kind.startswith(("clip", "siglip")) and kind != "siglip-vision":
            shutil.copytree(words, place, dirs_exist_ok=True)
        return place

    return folder


@pytest.fixture(scope="session")
def _shared_hugging(folders: Callable[[str], Path]) -> Callable[[str], HuggingFace]:
    made: dict[str, HuggingFace] = {}
    return lambda kind: made.setdefault(kind, made.get(kind) or load(f"hf:{folders(kind)}"))


@pytest.fixture
def hugging(_shared_hugging: Callable[[str], HuggingFace]) -> Any:
    """An encoder of a kind that tests share; one that leaves it changed fails."""
    used: dict[str, tuple[Encoder, dict[str, Tensor]]] = {}

    def get(kind: str) -> HuggingFace:
        encoder = _shared_hugging(kind)
        used.setdefault(kind, (encoder, everything(encoder)))
        return encoder

    yield get
    for encoder, before in used.values():
        encoder.module.requires_grad_(False)
        assert all(torch.equal(everything(encoder)[name], value) for name, value in before.items())


def as_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A CLIPModel's numbers by open_clip's names: written out here, apart from the library's tables."""
    out = {"logit_scale": state["logit_scale"], "visual.proj": state["visual_projection.weight"].T,
           "text_projection": state["text_projection.weight"].T}  # fmt: skip
    for name, value in state.items():
        for theirs, ours in (
            ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
            ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
            ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
            ("vision_model.pre_layrnorm.", "visual.ln_pre."), ("vision_model.post_layernorm.", "visual.ln_post."),
            ("text_model.embeddings.token_embedding.", "token_embedding."),
            ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
            ("text_model.final_layer_norm.", "ln_final."),
        ):  # fmt: skip
            if name.startswith(theirs):
                out[name.replace(theirs, ours)] = value
        if found := re.match(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)", name):
            at = f"{'visual.' if found[1] == 'vision' else ''}transformer.resblocks.{found[2]}."
            inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
                     "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
            part, _, which = found[3].rpartition(".")
            if part in inner:
                out[f"{at}{inner[part]}.{which}"] = value
            elif part == "self_attn.q_proj":
                every = [state[name.replace("q_proj", f"{p}_proj")] for p in "qkv"]
                out[f"{at}attn.in_proj_{which}"] = torch.cat(every)
    return {name: value.contiguous().clone() for name, value in out.items()}


@pytest.fixture(scope="session")
def twins(folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Encoder]:
    """The same weights in open_clip, whose query, key and value are packed."""

    def twin(kind: str) -> Encoder:
        folder = tmp_path_factory.mktemp("twin")
        save_file(as_open_clip(load_file(folders(kind) / "model.safetensors")), folder / "open_clip_model.safetensors")
        config = {**MODELS["plain"], "quick_gelu": kind != "clip-gelu"}
        view = {"model_cfg": config, "preprocess_cfg": {"size": 16, **VIEW}}
        (folder / "open_clip_config.json").write_text(json.dumps(view))
        return by_open_clip.load(f"local-dir:{folder}")

    return twin


def close(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], tolerance: float = 1e-5) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


# -- the same numbers as open_clip ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clip", "clip-gelu", "clip-old"])
def test_a_clip_answers_as_its_twin_in_open_clip(hugging: Any, twins: Callable[[str], Encoder], kind: str) -> None:
    encoder, twin = hugging(kind), twins(kind)
    with torch.no_grad():
        mine, theirs = encoder.image(pixels(encoder)), twin.image(pixels(encoder))
        torch.testing.assert_close(mine.shared_BD, theirs.shared_BD, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mine.pooled_BW, theirs.pooled_BW, rtol=1e-5, atol=1e-5)
        assert torch.equal(encoder.project(mine.pooled_BW), mine.shared_BD)
        text_BD = encoder.text(encoder.tokenize(TEXTS))
        torch.testing.assert_close(text_BD, twin.text(twin.tokenize(TEXTS)), rtol=1e-5, atol=1e-5)
        assert float(encoder.scale) == pytest.approx(float(twin.scale))
        assert float(encoder.shift) == 0
    assert mine.shared_BD.std() > 0.05
    assert (encoder.shared_width, encoder.pooled_width) == (twin.shared_width, twin.pooled_width) == (16, 32)
    assert {packed(name) for name in encoder.sites} == set(twin.sites)
    for name, site in twin.sites.items():  # and each name means the same numbers
        parts = (
            [name.replace(".qkv.", f".{part}.") for part in ("query", "key", "value")] if ".qkv." in name else [name]
        )
        mine_OI = torch.cat([encoder.sites[part].value.reshape(-1, *site.value.shape[1:]) for part in parts]
                            if "projection" not in name else [encoder.sites[name].value.T])  # fmt: skip
        assert torch.equal(mine_OI.reshape(site.value.shape), site.value), name
    assert {packed(name) for name in encoder.children} >= set(twin.children)
    assert encoder.lengths(TEXTS) == twin.lengths(TEXTS)
    ids_BL, other_BL = encoder.tokenize(TEXTS), twin.tokenize(TEXTS)
    assert ids_BL.shape == (5, 16)
    for row, other, length in zip(ids_BL, other_BL, encoder.lengths(TEXTS), strict=True):
        assert torch.equal(row[:length], other[:length])
        assert (row[length:] == 49407).all()


def test_the_activation_is_the_configurations(hugging: Any) -> None:
    quick, plain = hugging("clip"), hugging("clip-gelu")
    assert all(torch.equal(plain.sites[n].value, site.value) for n, site in quick.sites.items())
    assert quick.spec.weights == plain.spec.weights != ""
    assert quick.spec.digest != plain.spec.digest
    assert quick.spec.config["text_config"]["hidden_act"] == "quick_gelu"
    with torch.no_grad():
        assert not torch.allclose(quick.image(pixels(quick)).shared_BD, plain.image(pixels(plain)).shared_BD)


def test_one_lora_means_one_thing_packed_or_apart(hugging: Any, twins: Callable[[str], Encoder]) -> None:
    apart, together = hugging("clip"), twins("clip")
    for config in (
        Lora(), Lora(rank=2, alpha=1.0, rooted=True), Lora(at=("image.0.qkv.weight", "text.*.up.weight"), parts=("v",)),
        Lora(at=("text.-1.qkv.weight",), parts=("q", "k"), rank=3),
    ):  # fmt: skip
        starts, ends = [], []
        for encoder in (apart, together):
            with grafted(encoder, (config,), seed=5), torch.no_grad():
                starts.append({n: p.detach().clone() for n, p in encoder.grafts.parameters_by_name().items()})
                stir(encoder)
                ends.append((encoder.image(pixels(encoder)).shared_BD, encoder.text(together.tokenize(TEXTS))))
        assert starts[0].keys() == starts[1].keys()
        assert all(torch.equal(starts[1][name], value) for name, value in starts[0].items())
        close(*ends, tolerance=1e-4)
        assert count(apart, config) == count(together, config) > 0
        with torch.no_grad():
            assert not torch.allclose(ends[0][1], apart.text(together.tokenize(TEXTS)), atol=1e-3)


def test_parts_by_their_own_names(hugging: Any) -> None:
    encoder = hugging("clip")
    named = Lora(at=("image.*.query.weight", "image.*.value.weight"))
    with grafted(encoder, (named,)):
        mine = list(encoder.grafts.parameters_by_name())
    with grafted(encoder, (Lora(at=("image.*.qkv.weight",), parts=("q", "v")),)):
        assert sorted(mine) == sorted(encoder.grafts.parameters_by_name())
    for lora in (
        Lora(at=("image.*.query.weight",), parts=("k",)),
        Lora(at=("text.*.qkv.weight", "image.0.key.weight"), parts=("v",)),
    ):
        with pytest.raises(ConfigError, match=r"only what `parts` leaves out"), grafted(encoder, (lora,)):
            pass
        assert not encoder.grafts.seams


def test_a_pattern_for_the_packed_weight_chooses_all_three(hugging: Any, twins: Callable[[str], Encoder]) -> None:
    names = list(hugging("clip").sites)
    found = select(["image.*.qkv.bias"], names)
    assert sorted(found) == [f"image.{i}.{part}.bias" for i in range(2) for part in ("key", "query", "value")]
    assert select(["text.1.qkv"], names) == select(["text.-1.q*", "text.1.key", "text.1.value"], names)
    with pytest.raises(ConfigError, match="chooses no parameter"):
        select(["image.*.qkv.gain"], names)
    # a recipe holds and releases the same numbers on either
    for recipe in ("bitfit", "bitfit-no-norm", "ln", "ln-last-2"):
        patterns = RECIPES[recipe].stages[0].trains
        sizes = [
            sum(e.sites[name].value.numel() for name in select(patterns, list(e.sites)))
            for e in (hugging("clip"), twins("clip"))
        ]
        assert sizes[0] == sizes[1] > 0, recipe


def test_clip_lora_on_vit_b_16(tmp_path: Path, words: Path) -> None:
    wide = {"vision_config": {"patch_size": 16}, "text_config": {}, "projection_dim": 512, "model_type": "clip"}
    (tmp_path / "config.json").write_text(json.dumps(wide))
    view = {**CROP, "size": 224, "crop_size": 224, "feature_extractor_type": "CLIPFeatureExtractor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(view))
    shutil.copytree(words, tmp_path, dirs_exist_ok=True)
    with torch.device("meta"):
        encoder = load(str(tmp_path), weights=False)
    assert sum(p.numel() for p in encoder.parameters_by_name().values()) == 149_620_737  # Radford et al. 2021
    assert count(encoder, Lora(rank=2, alpha=1.0, rooted=True)) == 184_320
    assert count(encoder, Film()) == 36_864
    ssf = RECIPES["ssf"].stages[0].adapters[0]
    assert count(encoder, ssf) == 207_360
    assert encoder.spec.weights == ""
    assert (encoder.spec.image_size, encoder.spec.context) == (224, 77)


# -- text: trimming, the end of text, learned words ---------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clip", "clip-old"])
def test_trimmed_text_is_the_models_own_answer(hugging: Any, kind: str) -> None:
    encoder, seen = hugging(kind), []
    assert encoder.trims
    handle = encoder.children["text.tokens"].value.register_forward_hook(lambda m, x, y: seen.append(y.shape[1]))
    mine = {n: p for n, p in encoder.parameters_by_name().items() if n.startswith("text.")}
    tokens_BL = encoder.tokenize(TEXTS[:4])
    for parameter in mine.values():
        parameter.requires_grad_()
    grads, said = [], []
    for forward in (encoder.text, lambda ids: encoder.module.get_text_features(input_ids=ids).pooler_output):
        said.append(forward(tokens_BL))
        grads.append(torch.autograd.grad(said[-1].square().sum(), list(mine.values())))
    handle.remove()
    assert seen == [max(encoder.lengths(TEXTS[:4])), 16]
    torch.testing.assert_close(*said, rtol=1e-5, atol=1e-5)
    for name, trimmed, full in zip(mine, *grads, strict=True):
        largest = max(float(grad.abs().max()) for grad in grads[1])  # of a key's bias it is 0 but for rounding
        torch.testing.assert_close(trimmed, full, rtol=1e-4, atol=1e-6 * largest, msg=name)


def test_the_old_and_the_new_end_of_text_are_one_where_the_tokenizer_is_clips(hugging: Any) -> None:
    old, new = hugging("clip-old"), hugging("clip")
    assert (old.module.text_model.eos_token_id, new.module.text_model.eos_token_id) == (2, 49407)
    with torch.no_grad():
        assert torch.equal(old.text(old.tokenize(TEXTS)), new.text(new.tokenize(TEXTS)))


def test_a_tokenizer_with_another_end_of_text_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("clip"), tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 49406
    (folder / "config.json").write_text(json.dumps(config))
    refused(f"hf:{folder}", ConfigError, "M02", "texts end with the id 49407", "at eos_token_id 49406")
    # an id more: there is no row for it; and with one, the old rule would look for it
    folder = shutil.copytree(folders("clip-old"), tmp_path / "old")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["☕mine☕"])
    tokenizer.save_pretrained(folder)
    refused(f"hf:{folder}", ConfigError, "M02", "has ids up to 49408, and its table of tokens 49408 rows")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["vocab_size"] = 49409
    (folder / "config.json").write_text(json.dumps(config))
    weights, key = load_file(folder / "model.safetensors"), "text_model.embeddings.token_embedding.weight"
    weights[key] = torch.cat([weights[key], weights[key][:1]])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    refused(f"hf:{folder}", ConfigError, "M02", "eos_token_id 2 (the largest id, 49408)")


def test_learned_words_become_negative_ids(hugging: Any, twins: Callable[[str], Encoder]) -> None:
    encoder, twin = hugging("clip"), twins("clip")
    texts = [f"{learned(0)}{learned(7)} red bus.", "red", f"a {learned(2)} thing " + "word " * 30]
    ids_BL = encoder.tokenize(texts)
    assert ids_BL.shape == (3, 16)
    assert ids_BL[0, 1:3].tolist() == [-1, -8]
    assert (ids_BL < 0).sum(dim=1).tolist() == [2, 0, 1]
    lengths = encoder.lengths(texts)
    assert lengths == twin.lengths(texts)
    for row, other, length in zip(ids_BL, twin.tokenize(texts), lengths, strict=True):
        assert torch.equal(row[:length], other[:length])
        assert (row[length:] == 49407).all()


# -- other architectures, against their own answers ---------------------------------------------------------------


def test_siglip_answers_as_transformers_does(hugging: Any) -> None:
    encoder = hugging("siglip")
    assert not encoder.trims
    tokens_BL = encoder.tokenize(TEXTS)
    with torch.no_grad():
        found = encoder.image(pixels(encoder))
        theirs = encoder.module.get_image_features(pixel_values=pixels(encoder)).pooler_output
        assert torch.equal(found.shared_BD, theirs)
        assert torch.equal(found.pooled_BW, theirs)
        assert torch.equal(encoder.project(theirs), theirs)
        theirs = encoder.module.get_text_features(input_ids=tokens_BL).pooler_output
        assert torch.equal(encoder.text(tokens_BL), theirs)
        # the answer is read at the last place, padding or not: trimmed, it would be another
        cut = encoder.module.get_text_features(input_ids=tokens_BL[:1, :4]).pooler_output
        assert not torch.allclose(cut, theirs[:1], atol=1e-3)
        logits = encoder.module(input_ids=tokens_BL, pixel_values=pixels(encoder)).logits_per_image
        unit = torch.nn.functional.normalize
        ours = unit(found.shared_BD, dim=1) @ unit(theirs, dim=1).T * encoder.scale + encoder.shift
        torch.testing.assert_close(ours, logits)
    assert (encoder.shared_width, encoder.pooled_width) == (32, 32)
    # its pooling's packed weight is no block's: one recipe chooses the blocks' alone
    pool = {n for n in encoder.sites if n.startswith("image.pool.")}
    assert {"image.pool.latent", "image.pool.in.weight", "image.pool.norm.weight"} <= pool
    blocks = [f"image.*.{part}.weight" for part in ("qkv", "out", "up", "down")]
    assert not pool & set(select(blocks, list(encoder.sites)))
    assert {"scale", "shift", "text.projection.weight", "text.projection.bias"} <= set(encoder.sites)


VISION_ONLY = {"dinov2": 0, "registers": 3, "swiglu": 3, "vit": 0, "vision": 0}
"""Kind to registers."""


@pytest.mark.parametrize("kind", VISION_ONLY)
def test_an_encoder_of_pictures_gives_the_models_own_features(folders: Callable[[str], Path], kind: str) -> None:
    folder, extra = folders(kind), VISION_ONLY[kind]
    theirs = type(built(kind)).from_pretrained(folder).eval()
    for features in ("", "class", "mean", "both", "prelogits"):
        encoder = load(f"local-dir:{folder}" + (f"#{features}" if features else ""))
        assert not encoder.module.training
        assert encoder.spec.config["features"] == (features or "class")
        with torch.no_grad():
            said = theirs(pixel_values=pixels(encoder))
            x_BNW = theirs.post_layernorm(said.last_hidden_state) if kind == "vision" else said.last_hidden_state
            assert x_BNW.shape[1] == 1 + extra + 4
            class_BW, mean_BW = x_BNW[:, 0], x_BNW[:, 1 + extra :].sum(dim=1) / 4
            if kind != "vit":  # whose pooler is left out
                torch.testing.assert_close(said.pooler_output, class_BW, rtol=0, atol=0)
            want = {"mean": mean_BW, "both": torch.cat([class_BW, mean_BW], dim=1)}.get(features, class_BW)
            found = encoder.image(pixels(encoder))
            torch.testing.assert_close(found.shared_BD, want, rtol=1e-6, atol=1e-6)
        assert found.pooled_BW is found.shared_BD
        assert torch.equal(encoder.project(found.pooled_BW), found.pooled_BW)
        assert encoder.shared_width == encoder.pooled_width == want.shape[1]
        assert (encoder.has("image"), encoder.has("text"), encoder.spec.context) == (True, False, 0)
        for ask in (encoder.text, encoder.tokenize, encoder.lengths):
            with pytest.raises(ConfigError, match="has no text tower"):
                ask(torch.zeros(1, 1, dtype=torch.long) if ask == encoder.text else ["a"])
    one, other = (load(f"hf:{folder}#{features}").spec for features in ("class", "mean"))
    assert one.weights == other.weights
    assert one.digest != other.digest


def test_siglips_pictures_alone(folders: Callable[[str], Path]) -> None:
    theirs = transformers.SiglipVisionModel.from_pretrained(folders("siglip-vision")).eval()
    pooled, mean = (load(f"hf:{folders('siglip-vision')}{how}") for how in ("", "#mean"))
    with torch.no_grad():
        said = theirs(pixel_values=pixels(pooled))
        torch.testing.assert_close(pooled.image(pixels(pooled)).shared_BD, said.pooler_output)
        torch.testing.assert_close(mean.image(pixels(mean)).shared_BD, said.last_hidden_state.mean(dim=1))
    assert any(name.startswith("image.pool.") for name in pooled.sites)
    assert not any(name.startswith("image.pool.") for name in mean.sites)  # it decides nothing there
    for features in ("class", "both"):
        with pytest.raises(ConfigError, match="has prelogits and mean"):
            load(f"hf:{folders('siglip-vision')}#{features}")


@pytest.mark.parametrize("kind", PROCESSOR)
def test_our_names_cover_every_parameter_and_each_decides(hugging: Any, kind: str) -> None:
    encoder = hugging(kind)
    mine, theirs = encoder.parameters_by_name(), dict(encoder.module.named_parameters())
    assert {id(p) for p in mine.values()} == {id(p) for p in theirs.values()}
    assert len(mine) == len(theirs)
    assert not [name for name in mine if ".other." in name or "mask" in name]
    inside = {"norm1", "query", "key", "value", "out", "norm2", "up", "down", "gain1", "gain2", "gate"}
    assert {n.split(".")[2] for n in mine if n.split(".")[1:2] and n.split(".")[1].isdigit()} <= inside
    assert encoder.blocks("image") == 2
    theirs_of = {ours: upstream for upstream, ours in encoder.names.items()}
    ends = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "norm1": "norm1|layernorm_before", "gain1": "scale1",
            "up": "fc1|up_proj", "down": "fc2|down_proj", "out": "o(ut)?_proj", "gate": "gate_proj", "gain2": "scale2",
            "norm2": "norm2|layernorm_after"}  # fmt: skip
    for ours, upstream in theirs_of.items():
        if (parts := ours.split("."))[1:2] and parts[1].isdigit():
            assert re.search(ends[parts[2]], upstream.partition(f".{parts[1]}.")[2]), (ours, upstream)
    # no number without a gradient: what is held for pretraining alone is not among them
    for parameter in mine.values():
        parameter.requires_grad_()
    total = encoder.image(pixels(encoder)).shared_BD.square().sum()
    if encoder.has("text"):
        total = total + encoder.text(encoder.tokenize(TEXTS)).square().sum()
    total.backward()
    still = {name for name, parameter in mine.items() if parameter.grad is None or not parameter.grad.any()}
    for parameter in mine.values():
        parameter.grad = None
    # a shift of all keys is none to softmax
    assert {name for name in still if not name.endswith(".key.bias")} <= {"scale", "shift"}


# -- adapters ---------------------------------------------------------------------------------------------------

SILENT: list[AdapterConfig] = [
    Lora(rank=2), Film(), RECIPES["ssf"].stages[0].adapters[0],
    Film(at=("image.*.block", "text.1.attention", "text.tokens")),
    Bottleneck(at=("text.*.mlp", "image.*.attention"), width=4),
    Compacter(at=("text.*.attention", "image.*.mlp"), width=8),
    Bottleneck(at=("image.*.attention", "text.*.mlp"), width=4, where="parallel", factor=4.0),
]  # fmt: skip


@pytest.mark.parametrize("config", SILENT, ids=lambda c: f"{c.kind}-{c.at[0]}")
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_laws_of_silent_adapters(hugging: Any, config: AdapterConfig, kind: str) -> None:
    encoder = hugging(kind)
    check_silent(encoder, config)
    check_removed(encoder, config)
    check_alive(encoder, config)
    check_keyed(encoder, config)


def test_the_way_to_alpha_is_straight(hugging: Any) -> None:
    encoder = hugging("clip")
    check_alpha(
        encoder, Lora(at=("text.0.qkv.weight",)), lambda: encoder.sites["text.0.query.weight"].value.detach().clone()
    )


PROMPTS: list[AdapterConfig] = [
    Prompt(length=3),
    VisualPrompt(length=2),
    VisualPrompt(length=2, depth=1),
    Maple(depth=2),
]


@pytest.mark.parametrize("config", PROMPTS, ids=lambda c: f"{c.kind}-{getattr(c, 'depth', 0)}")
def test_prompts_answer_as_in_open_clip(hugging: Any, twins: Callable[[str], Encoder], config: AdapterConfig) -> None:
    encoder, twin = hugging("clip"), twins("clip")
    texts = config.texts(["red", "light blue"]) or [["red"], ["light blue"]]
    said = []
    for own in (encoder, twin):
        with grafted(own, (config,)):
            with torch.no_grad():
                stir(own)
                said.append((own.image(pixels(own)).shared_BD, own.text(own.tokenize([row[0] for row in texts]))))
            numbers = own.grafts.parameters_by_name()
            ids_BL = own.tokenize([row[0] for row in texts])
            alive = alive_of(
                numbers, lambda own=own, ids_BL=ids_BL: (own.image(pixels(own)).shared_BD, own.text(ids_BL))
            )
            assert alive == set(numbers)
    close(*said, tolerance=1e-4)
    with torch.no_grad():
        plain = answers(encoder)
        with grafted(encoder, (config,)):
            stir(encoder)
        assert all(torch.equal(a, b) for a, b in zip(plain, answers(encoder), strict=True))


def test_learned_words_are_refused_where_texts_have_no_start(hugging: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = hugging("siglip")
    for name in ("sot_token_id", "eot_token_id"):  # SigLIP's own tokenizer puts an end alone
        monkeypatch.delattr(encoder._tokens, name)
    with pytest.raises(ConfigError, match=r"has no sot_token_id and no eot_token_id"), grafted(encoder, (Prompt(),)):
        pass


@pytest.mark.parametrize("kind", ["dinov2", "registers", "vit", "siglip-vision"])
def test_adapters_on_pictures_alone(hugging: Any, kind: str) -> None:
    encoder = hugging(kind)
    configs = (
        Lora(at=("image.*.qkv.weight",)), Film(), Bottleneck(at=("image.*.attention",), where="parallel"),
        VisualPrompt(length=2),
    )  # fmt: skip
    for config in configs:
        with grafted(encoder, (config,)):
            numbers = encoder.grafts.parameters_by_name()
            image = lambda: (encoder.image(pixels(encoder)).shared_BD,) * 2
            assert alive_of(numbers, image) == set(numbers), config.kind
    for config in (Prompt(), Maple(), Lora()):
        with pytest.raises(ConfigError, match=r"text"), grafted(encoder, (config,)):
            pass


def test_peft_files_both_ways(hugging: Any, folders: Callable[[str], Path], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    warnings.simplefilter("ignore")  # peft asks transformers by names of before version 5
    encoder, adapters = hugging("clip"), (Lora(rank=2), Lora(at=("image.*.up.weight",), rank=3))
    with grafted(encoder, adapters), torch.no_grad():
        stir(encoder)
        values = encoder.state(list(encoder.grafts.parameters_by_name()))
        config, tensors = to_peft(encoder, adapters, values)
        want = answers(encoder)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    model = peft.PeftModel.from_pretrained(transformers.CLIPModel.from_pretrained(folders("clip")), tmp_path).eval()
    inner = model.base_model.model
    with torch.no_grad():
        image_BD = inner.get_image_features(pixel_values=pixels(encoder)).pooler_output
        ids_BL = encoder.tokenize(["red", "one very blue thing"])
        close(want, (image_BD, inner.get_text_features(input_ids=ids_BL).pooler_output))
        put_peft(encoder, from_peft(config, tensors, "here"))
        close(want, answers(encoder))
        encoder.grafts.remove()
        assert not torch.allclose(want[0], answers(encoder)[0], atol=1e-3)
    assert hub_name("hf:openai/clip-vit-base-patch32") == "openai/clip-vit-base-patch32"
    assert hub_name("hf:./here/there") is hub_name("hf:/tmp/x") is None
    with pytest.raises(ConfigError, match="it is transformers' siglip"):
        put_peft(hugging("siglip"), from_peft(config, tensors, "here"))


# -- what is read, and what is refused --------------------------------------------------------------------------


def test_a_loaded_encoder_is_frozen_and_moves_nothing(folders: Callable[[str], Path]) -> None:
    torch.manual_seed(1)
    want = torch.rand(3)
    level = transformers.utils.logging.get_verbosity()
    torch.manual_seed(1)
    encoder, bare = load(f"hf:{folders('clip')}"), load(f"hf:{folders('clip')}", weights=False)
    assert torch.equal(torch.rand(3), want)
    assert transformers.utils.logging.get_verbosity() == level
    assert not encoder.module.training
    assert not any(p.requires_grad for p in encoder.module.parameters())
    assert bare.spec.weights == ""
    assert list(bare.sites) == list(encoder.sites)
    assert encoder.content() == load(f"local-dir:{folders('clip')}").content()


def test_half_precision_is_read_in_full(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("dinov2"), tmp_path / "half")
    tensors = {n: t.half() for n, t in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    assert {p.dtype for p in load(f"hf:{folder}").module.parameters()} == {torch.float32}


def test_a_checkpoint_of_a_larger_model_is_read_without_its_head(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """Weights under a prefix, a classifier beside them, and no pooler, as DINO's and Google's ViTs come."""
    folder = tmp_path / "task"
    base = transformers.ViTModel.from_pretrained(folders("vit"), add_pooling_layer=False)
    with torch.random.fork_rng(devices=[]):
        model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=5))
    model.vit.load_state_dict(base.state_dict())
    model.save_pretrained(folder)
    shutil.copy(folders("vit") / "preprocessor_config.json", folder)
    encoder = load(f"hf:{folder}")
    assert encoder.spec.weights == load(f"hf:{folders('vit')}").spec.weights


def test_how_pictures_are_seen(folders: Callable[[str], Path], tmp_path: Path) -> None:
    for kind, resize, how in (("clip", "shortest", "bicubic"), ("vit", "squash", "bilinear")):
        spec = load(f"hf:{folders(kind)}").spec
        assert (spec.resize, spec.interpolation, spec.image_size) == (resize, how, 16)
        assert spec.mean == (0.5, 0.5, 0.4)
        assert spec.std == (0.25, 0.2, 0.25)
    folder = shutil.copytree(folders("dinov2"), tmp_path / "view")
    path = folder / "preprocessor_config.json"
    view = json.loads(path.read_text())

    def seen(**changes: Any) -> Any:
        path.write_text(json.dumps(view | changes))
        return load(f"hf:{folder}").spec

    # DINOv2's own form: larger than what is cropped; it interpolates its positions, so any size will do
    for large in range(18, 40):
        larger = {"size": {"shortest_edge": large}, "crop_size": {"height": 18, "width": 18}}
        path.write_text(json.dumps(view | larger))
        fields, _ = hugging_view(folder, "here")
        assert (fields["resize"], fields["image_size"], math.floor(18 / fields["crop"])) == ("shortest", 18, large)
    noise_HWC = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    path.write_text(json.dumps(view | {"size": {"shortest_edge": 21}}))
    mine_CHW = evaluate(Image.fromarray(noise_HWC), load(f"hf:{folder}").spec)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    theirs_CHW = processor(Image.fromarray(noise_HWC), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(mine_CHW, theirs_CHW, rtol=1e-4, atol=1e-4)
    path.write_text(json.dumps(view))
    assert seen(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).image_size == 24
    assert seen(do_normalize=False).mean == (0, 0, 0)
    assert seen(resample=0).interpolation == "nearest"
    for changes, said in (
        ({"crop_size": {"height": 16, "width": 24}}, "not a square"), ({"resample": 1}, "resample 1"),
        ({"do_center_crop": False}, "not a square"),
        ({"size": {"shortest_edge": 8}}, "larger than the picture"), ({"rescale_factor": 0.5}, "rescale_factor 0.5"),
        ({"do_resize": False}, "no do_resize"),
    ):  # fmt: skip
        path.write_text(json.dumps(view | changes))
        refused(f"hf:{folder}", ConfigError, "M02", said)
    path.unlink()
    refused(f"hf:{folder}", ConfigError, "M02", "how it sees pictures (preprocessor_config.json)")
    folder = shutil.copytree(folders("clip"), tmp_path / "size")
    (folder / "preprocessor_config.json").write_text(
        json.dumps(view | {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}})
    )
    refused(f"hf:{folder}", ConfigError, "M02", "24 px by preprocessor_config.json and 16 px by config.json")


@pytest.mark.parametrize("kind", ["clip", "siglip", "vision", "swiglu", "vit", "dinov2#mean", "siglip-vision#mean"])
def test_what_is_written_is_the_encoder_as_it_was(folders: Callable[[str], Path], kind: str, tmp_path: Path) -> None:
    kind, _, features = kind.partition("#")
    encoder = load(f"hf:{folders(kind)}" + (f"#{features}" if features else ""))
    both = ("image", "text") if encoder.has("text") else ("image",)
    lora = Lora(at=tuple(f"{tower}.*.qkv.weight" for tower in both))
    said: list[Tensor] = []
    with grafted(encoder, (lora,)), torch.no_grad():
        stir(encoder)
        encoder.write(tmp_path / "model")
        again = load(f"local-dir:{tmp_path / 'model'}")
        for own in (encoder, again):
            said.append(own.image(pixels(own)).shared_BD)
            said += [own.text(own.tokenize(TEXTS))] if encoder.has("text") else []
    torch.testing.assert_close(said[: len(both)], said[len(both) :], rtol=1e-5, atol=1e-5)
    assert again.spec.config == encoder.spec.config
    assert again.spec.weights != encoder.spec.weights
    theirs = type(encoder.module).from_pretrained(
        tmp_path / "model", **({"add_pooling_layer": False} if kind == "vit" else {})
    )
    assert {n for n, _ in theirs.named_parameters()} - set(encoder.names) <= {"embeddings.mask_token"}
    encoder.write(tmp_path / "plain")
    assert load(f"local-dir:{tmp_path / 'plain'}").spec.digest == encoder.spec.digest


def refused(name: str, kind: type[LikewiseError], code: str, *said: str, weights: bool = True) -> None:
    with pytest.raises(kind) as caught:
        load(name, weights)
    assert caught.value.code == code
    for part in said:
        assert part in str(caught.value), str(caught.value)


def test_folders_that_do_not_say_what_they_are_are_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("clip"), tmp_path / "model")
    refused(f"hf:{tmp_path}/modle", UsageError, "M01", "is not a folder", "Did you mean model")
    refused(f"local-dir:{tmp_path}/modle", UsageError, "M01", "Did you mean model")
    refused(f"hf:{folder}#clas", UsageError, "M01", "no features «clas»", "Did you mean class")
    refused(f"hf:{folder}#class", ConfigError, "C01", "has a text tower")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(f"hf:{folder}", ConfigError, "M02", "no .safetensors file", "Pickled weights", "save_pretrained")
    load(f"hf:{folder}", weights=False)  # the architecture alone needs none
    few = {n: t for n, t in weights.items() if "layers.1.mlp" not in n}
    save_file(few, folder / "model.safetensors", {"format": "pt"})
    refused(f"hf:{folder}", ConfigError, "M02", "the weights lack", "layers.1.mlp.fc1.bias and 7 more of CLIPModel")
    wide = weights | {"visual_projection.weight": torch.zeros(24, 32)}
    save_file(wide, folder / "model.safetensors", {"format": "pt"})
    refused(f"hf:{folder}", ConfigError, "M02", "do not belong together")
    (folder / "model.safetensors").write_bytes(b"cut")
    refused(f"hf:{folder}", ConfigError, "M02", "cannot be read")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(f"hf:{folder}", ConfigError, "M02", "tokenizer")
    config = json.loads((folder / "config.json").read_text())
    for kind, said in (
        ("siglip2", "form for pictures of any size"), ("bert", "use st:NAME"),
        ("blip", "Supported are clip, siglip, dinov2"), (None, "model_type «None»"),
    ):  # fmt: skip
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
        refused(f"hf:{folder}", ConfigError, "M02", "is not supported", said)
    (folder / "config.json").write_text("{")
    refused(f"hf:{folder}", ConfigError, "M02", "is not JSON")
    (folder / "config.json").unlink()
    refused(f"hf:{folder}", ConfigError, "M02", "has no config.json")


def test_names_at_the_hub(folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline: what was fetched before is found, what was not says so. Names that cannot be are not asked for."""
    from huggingface_hub import constants, errors

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(transformers.utils.hub, "is_offline_mode", lambda: True)
    refused("hf:us/nothing", MachineError, "M01", "could not be fetched", "Offline?")
    refused("hf:a/b/c", UsageError, "M01", "neither a folder nor a name at the hub")
    repository = tmp_path / "models--us--small"
    shutil.copytree(folders("dinov2"), repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    encoder = load("hf:us/small#mean")
    assert encoder.spec.name == "hf:us/small#mean"
    assert encoder.spec.weights == load(f"hf:{folders('dinov2')}").spec.weights
    weights = repository / "snapshots" / ("a" * 40) / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    refused("hf:us/small", ConfigError, "M02", "has no safetensors file", "pickled weights", "save_pretrained")

    class Missing(errors.RepositoryNotFoundError):
        def __init__(self) -> None: ...

    def missing(*_: object, **__: object) -> str:
        raise Missing

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", missing)
    refused("hf:us/smal", UsageError, "M01", "no model «us/smal» at huggingface.co")


def test_without_the_library(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(f"hf:{folders('clip')}", MachineError, "M01", "needs transformers", "pip install 'likewise[hf]'")
