"""What leaves a run: deltas, PEFT's files and whole models, against Hugging Face's own CLIPModel and peft."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from peft import LNTuningConfig, LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

import likewise
from likewise import files
from likewise.adapters import Film, Lora, add
from likewise.cli import run as command
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.encoders import load
from likewise.errors import ConfigError, DataError, UsageError
from likewise.export import put_peft, read_delta, read_peft, write_delta, write_merged, write_peft
from likewise.export.merged import by_open_clip
from likewise.export.peft_format import from_peft, to_peft, unfit
from likewise.export.twin import HUB, check_twin, hub_name, module_of, place_of
from likewise.heads import Text, unit
from likewise.recipe import joint, lines, one, then
from likewise.recipes import RECIPES
from likewise.run.adapt import Settings, adapt
from likewise.run.artifact import Predictor
from tiny import VIEW, pixels, shrunk

pytestmark = [
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),  # peft, of any LayerNorm
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ACT = "quick_gelu"
SIZES = {
    "text_config": {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                    "max_position_embeddings": 16, "hidden_act": ACT, "projection_dim": 16, "vocab_size": 49408,
                    "bos_token_id": 49406, "eos_token_id": 49407},
    "vision_config": {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
                      "image_size": 16, "patch_size": 8, "hidden_act": ACT, "projection_dim": 16},
}  # fmt: skip
OPEN_CLIP = {
    "embed_dim": 16, "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}  # fmt: skip
EVERYWHERE = tuple(f"{t}.*.{part}.weight" for t in ("image", "text") for part in ("qkv", "out", "up", "down"))
FAST = ("stages.0.fit.lr=3e-2", "stages.0.fit.epochs=2")
ROOTED = one(
    "LoRA everywhere", adapters=(Lora(at=EVERYWHERE, parts=("q", "v"), rank=3, alpha=2.5, rooted=True),),
    trains=("adapters",), head=Text(), fit=RECIPES["lora"].stages[0].fit,
)  # fmt: skip
LINES = lines(RECIPES["lora"], 0.0)
METHODS = {
    "lora": shrunk(RECIPES["lora"], *FAST),
    "rooted": shrunk(ROOTED, *FAST),
    "ln": shrunk(RECIPES["ln"], *FAST),
    "norm-weights": shrunk(RECIPES["ln"], *FAST, 'stages.0.trains=["image.*norm*.weight"]'),
    "joint": shrunk(joint(RECIPES["ln"], RECIPES["lora"]), *FAST),
    "probed": shrunk(then(RECIPES["lora"], RECIPES["linear"]), *FAST),
    "lines": shrunk(LINES, *FAST),
    "linear": shrunk(RECIPES["linear"]),
    "knn": RECIPES["knn"],
    "tip-adapter-f": shrunk(RECIPES["tip-adapter-f"]),
    "flyp": shrunk(RECIPES["flyp"], "stages.0.fit.lr=1e-3"),
    "bitfit": shrunk(RECIPES["bitfit"]),
    "houlsby": shrunk(RECIPES["houlsby"], *FAST),
    "coop": shrunk(RECIPES["coop"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def hugging() -> CLIPModel:
    """A CLIPModel of Hugging Face with random weights, away from the ones and zeros of its birth."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = CLIPModel(CLIPConfig(projection_dim=16, **SIZES)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            for projection in (model.visual_projection, model.text_projection):
                projection.weight.mul_(3)
    return model.requires_grad_(False)


def as_open_clip(model: CLIPModel) -> dict[str, Tensor]:
    """Its numbers by open_clip's names: written out here, apart from the library's table."""
    theirs = model.state_dict()
    out = {
        "logit_scale": theirs["logit_scale"],
        "visual.class_embedding": theirs["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": theirs["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": theirs["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": theirs["visual_projection.weight"].T,
        "token_embedding.weight": theirs["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": theirs["text_model.embeddings.position_embedding.weight"],
        "text_projection": theirs["text_projection.weight"].T,
    }
    for kind in ("weight", "bias"):
        out[f"visual.ln_pre.{kind}"] = theirs[f"vision_model.pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = theirs[f"vision_model.post_layernorm.{kind}"]
        out[f"ln_final.{kind}"] = theirs[f"text_model.final_layer_norm.{kind}"]
        for mine, tower in (("visual.transformer", "vision_model"), ("transformer", "text_model")):
            for block in range(2):
                at, there = f"{mine}.resblocks.{block}", f"{tower}.encoder.layers.{block}"
                packed = [theirs[f"{there}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
                out[f"{at}.attn.in_proj_{kind}"] = torch.cat(packed)
                out[f"{at}.attn.out_proj.{kind}"] = theirs[f"{there}.self_attn.out_proj.{kind}"]
                out[f"{at}.ln_1.{kind}"] = theirs[f"{there}.layer_norm1.{kind}"]
                out[f"{at}.ln_2.{kind}"] = theirs[f"{there}.layer_norm2.{kind}"]
                out[f"{at}.mlp.c_fc.{kind}"] = theirs[f"{there}.mlp.fc1.{kind}"]
                out[f"{at}.mlp.c_proj.{kind}"] = theirs[f"{there}.mlp.fc2.{kind}"]
    return {name: tensor.contiguous().clone() for name, tensor in out.items()}


@pytest.fixture(scope="module")
def base(hugging: CLIPModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same model as an open_clip folder, by name."""
    folder = tmp_path_factory.mktemp("twin")
    save_file(as_open_clip(hugging), folder / "open_clip_model.safetensors")
    config = {"model_cfg": OPEN_CLIP, "preprocess_cfg": {"size": 16, **VIEW}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def trained(base: str, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all METHODS."""
    out = tmp_path_factory.mktemp("runs") / "run"
    adapt(load(base), data, METHODS, out, settings=Settings(alphas=(0.0, 1.0)))
    return out


Features = tuple[Tensor, Tensor]


def of_hugging(model: nn.Module, encoder: Encoder) -> Features:
    """Image and text features of a CLIPModel, whether or not peft stands around it; ids come from our tokenizer."""
    inner: Any = model.base_model.model if isinstance(model, PeftModel) else model
    with torch.no_grad():
        image_BD = inner.visual_projection(inner.vision_model(pixel_values=pixels(encoder)).pooler_output)
        return image_BD, inner.text_projection(inner.text_model(input_ids=words(encoder)).pooler_output)


def of_ours(encoder: Encoder) -> Features:
    with torch.no_grad():
        return encoder.image(pixels(encoder)).shared_BD, encoder.text(words(encoder))


def words(encoder: Encoder) -> Tensor:
    return encoder.tokenize(["a red.", "one picture of a very blue thing."])


def same(a: Features, b: Features) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def moved(a: Features, b: Features, which: tuple[bool, bool] = (True, True)) -> None:
    """What a comparison would be empty without."""
    assert tuple(float((x - y).abs().max()) > 1e-3 for x, y in zip(a, b, strict=True)) == which


def test_the_twins_answer_alike(hugging: CLIPModel, base: str) -> None:
    encoder = load(base)
    same(of_hugging(hugging, encoder), of_ours(encoder))
    check_twin(encoder)


def test_names_go_both_ways(hugging: CLIPModel, base: str) -> None:
    modules = {name.removesuffix(".weight") for name, p in hugging.named_parameters() if name.endswith(".weight")}
    places = {place: module for module in modules if (place := place_of(module))}
    assert all(module_of(place) == module for place, module in places.items())
    left = {m.rpartition(".")[2] for m in modules - set(places.values())}
    assert left == {"token_embedding", "position_embedding", "patch_embedding", "visual_projection", "text_projection"}
    ours = {name.rpartition(".")[0] for name in load(base).sites if name.endswith(".bias")}
    assert {place.replace(".qkv." + place[-1], ".qkv") for place in places} == ours


@pytest.mark.parametrize(
    ("method", "alpha", "towers"),
    [("lora", 1.0, (True, True)), ("rooted", 0.6, (True, True)), ("ln", 1.0, (True, True)),
     ("norm-weights", 0.7, (True, False)), ("joint", 0.4, (True, True)), ("probed", 0.5, (True, True)),
     ("lines", 0.8, (True, True))],
)  # fmt: skip
def test_peft_loads_what_we_write(
    method: str, alpha: float, towers: tuple[bool, bool], trained: Path, hugging: CLIPModel, base: str, tmp_path: Path
) -> None:
    write_peft(trained, tmp_path / "peft", method, alpha)
    write_merged(trained, tmp_path / "merged", method, alpha)
    theirs = PeftModel.from_pretrained(copy.deepcopy(hugging), tmp_path / "peft").eval()
    merged = Predictor.load(tmp_path / "merged")
    said = of_hugging(theirs, merged.encoder)
    same(said, of_ours(merged.encoder))
    moved(said, of_hugging(hugging, merged.encoder), towers)
    assert set(get_peft_model_state_dict(theirs)) == set(load_file(tmp_path / "peft" / "adapter_model.safetensors"))
    with theirs.disable_adapter():  # it stands beside the pretrained numbers, norms too
        same(of_hugging(theirs, merged.encoder), of_hugging(hugging, merged.encoder))
    # the head beside it is for their features
    head = load_file(tmp_path / "peft" / "head.safetensors")
    about = json.loads((tmp_path / "peft" / "head.json").read_text())
    logits_BC = unit(said[0]) @ head["weight"].T + head["bias"]
    torch.testing.assert_close(logits_BC, merged.head(of_ours(merged.encoder)[0]), rtol=1e-4, atol=1e-4)
    assert about["classes"]["names"] == list(merged.classes.names)
    assert (about["method"], about["alpha"]) == (method, alpha)
    # and what was written is read again
    encoder = load(base)
    put_peft(encoder, read_peft(tmp_path / "peft"))
    same(of_ours(encoder), said)


def test_peft_names_just_what_trained(trained: Path, tmp_path: Path) -> None:
    write_peft(trained, tmp_path / "lora", "lora", 1.0)
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"], config["use_rslora"]) == ("LORA", 4, 4.0, False)
    ends = {m.rpartition(".")[2] for m in config["target_modules"]}
    assert (len(config["target_modules"]), ends) == (12, {"q_proj", "k_proj", "v_proj"})
    assert config["base_model_name_or_path"] is None
    write_peft(trained, tmp_path / "norm", "norm-weights", 1.0)
    config = json.loads((tmp_path / "norm" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LN_TUNING"
    assert len(config["target_modules"]) == 6
    assert all(m.startswith("vision_model.") for m in config["target_modules"])


def test_published_twins_are_named() -> None:
    assert hub_name("open_clip:ViT-B-16/openai") == hub_name("ViT-B-16-quickgelu/openai") == HUB["ViT-B-16/openai"]
    assert hub_name("ViT-B-16/laion2b_s34b_b88k") is None


def test_several_loras_in_one_file(hugging: CLIPModel, base: str, tmp_path: Path) -> None:
    """Of other rank, strength and parts: PEFT has patterns for these."""
    encoder = load(base)
    adapters = (
        Lora(at=("image.0.qkv.weight", "image.*.up.weight"), parts=("k",), rank=2, alpha=3.0),
        Lora(at=("image.1.qkv.weight", "text.*.out.weight"), rank=4, alpha=0.5),
        Lora(at=("text.1.qkv.weight",), parts=("q", "v"), rank=2, alpha=7.0),
    )
    add(encoder, adapters, 0)
    values = scrambled(encoder, "adapters")
    assert unfit(encoder, adapters, list(values)) == ""
    config, tensors = to_peft(encoder, adapters, values)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    theirs = PeftModel.from_pretrained(copy.deepcopy(hugging), tmp_path).eval()
    said = of_hugging(theirs, encoder)
    same(said, of_ours(encoder))
    moved(said, of_hugging(hugging, encoder))
    assert set(get_peft_model_state_dict(theirs)) == set(tensors)
    found = read_peft(tmp_path)
    assert found.values.keys() == values.keys()
    assert all(torch.equal(found.values[name], value) for name, value in values.items())
    encoder.grafts.remove()
    put_peft(encoder, found)
    same(said, of_ours(encoder))


def scrambled(encoder: Encoder, beginning: str) -> dict[str, Tensor]:
    """Random numbers in all parameters whose names begin so; they are returned, and put."""
    rng = torch.Generator().manual_seed(2)
    names = [name for name in encoder.parameters_by_name() if name.startswith(beginning)]
    values = {n: v + 0.1 * torch.randn(v.shape, generator=rng) for n, v in encoder.state(names).items()}
    encoder.put(values)
    return values


CONFIGS = {
    "plain": LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "v_proj"], init_lora_weights=False),
    "everywhere": LoraConfig(
        r=3, lora_alpha=2, use_rslora=True, target_modules=["k_proj", "out_proj", "fc1", "fc2"],
        init_lora_weights=False, lora_dropout=0.1,
    ),
    "patterns": LoraConfig(
        r=2, lora_alpha=3, target_modules=["q_proj", "k_proj", "fc1"], init_lora_weights=False,
        rank_pattern={"fc1": 5}, alpha_pattern={"fc1": 1, "layers.1.self_attn.q_proj": 9},
    ),
    "with norms": LoraConfig(
        r=2, lora_alpha=3, target_modules=r"text_model.*\.(q|v)_proj", init_lora_weights=False,
        modules_to_save=["layer_norm2", "pre_layrnorm", "final_layer_norm"],
    ),
    "norms": LNTuningConfig(
        target_modules=["pre_layrnorm", "post_layernorm", "layer_norm1", "layer_norm2", "final_layer_norm"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_we_read_what_peft_writes(kind: str, hugging: CLIPModel, base: str, tmp_path: Path) -> None:
    encoder = load(base)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        theirs = get_peft_model(copy.deepcopy(hugging), CONFIGS[kind]).train()
        optimizer = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], lr=0.1)
        for _ in range(3):
            theirs(input_ids=words(encoder), pixel_values=pixels(encoder, 2), return_loss=True).loss.backward()
            optimizer.step()
    theirs.eval().save_pretrained(tmp_path)
    said = of_hugging(theirs, encoder)
    before = encoder.state()
    put_peft(encoder, read_peft(tmp_path))
    same(of_ours(encoder), said)
    moved(said, of_hugging(hugging, encoder), (True, True))
    encoder.grafts.remove()
    after = encoder.state()
    assert all(torch.equal(after[name], value) for name, value in before.items() if "norm" not in name)


@pytest.mark.parametrize("method", METHODS)
def test_a_delta_is_the_model_on_a_fresh_base(method: str, trained: Path, base: str, tmp_path: Path) -> None:
    alpha = 0.7 if METHODS[method].merge else None
    write_delta(trained, tmp_path / "delta", method, alpha)
    write_merged(trained, tmp_path / "merged", method, alpha)
    there, whole = read_delta(tmp_path / "delta", load(base)), Predictor.load(tmp_path / "merged")
    assert (there.card.method, there.card.alpha) == (method, alpha) == (whole.card.method, whole.card.alpha)
    mine, theirs = there.encoder.parameters_by_name(), whole.encoder.parameters_by_name()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    assert all(torch.equal(a, b) for a, b in zip(of_ours(there.encoder), of_ours(whole.encoder), strict=True))
    said: list[Tensor] = []
    assert there.classes == whole.classes
    picture = pixels(there.encoder)
    for model in (there, whole):
        embedded = model.encoder.image(picture)
        said.append(model.head(embedded.pooled_BW if model.head.config.reads == "pooled" else embedded.shared_BD))
    assert torch.equal(*said)


def test_a_delta_reads_at_any_alpha(trained: Path, base: str, tmp_path: Path) -> None:
    write_delta(trained, tmp_path / "delta", "lora", 0.2)
    write_merged(trained, tmp_path / "merged", "lora", 0.9)
    there, whole = read_delta(tmp_path / "delta", alpha=0.9), Predictor.load(tmp_path / "merged")
    assert all(torch.equal(a, b) for a, b in zip(of_ours(there.encoder), of_ours(whole.encoder), strict=True))
    zero = read_delta(tmp_path / "delta", alpha=0.0)
    assert all(torch.equal(a, b) for a, b in zip(of_ours(zero.encoder), of_ours(load(base)), strict=True))
    held = load_file(tmp_path / "delta" / "delta.safetensors")
    assert set(held) == {n for n in held if n.startswith("adapters.lora.")}
    # q, k, v of two blocks in towers 32 and 16 wide: rank 4 times rows and columns
    assert sum(t.numel() for t in held.values()) == 4 * 2 * 3 * (2 * 32 + 2 * 16)


def test_what_was_chosen_is_the_default(trained: Path, base: str, tmp_path: Path) -> None:
    chosen = json.loads((trained / "choice.json").read_text())
    done = write_merged(trained, tmp_path / "merged")
    assert (done.method, done.alpha) == (chosen["method"], chosen["alpha"])
    kept = load_file(trained / "model" / "open_clip_model.safetensors")
    mine = load_file(tmp_path / "merged" / "open_clip_model.safetensors")
    assert all(torch.equal(mine[name], value) for name, value in kept.items())
    own = write_delta(trained, tmp_path / "delta", "ln")
    assert own.alpha == chosen["alphas"]["ln"]
    assert "alpha 0 is the pretrained model" in write_delta(trained, tmp_path / "zero", "ln", 0.0).note


def test_open_clip_reads_what_is_merged(
    trained: Path, base: str, tmp_path: Path, folder_of: Callable[[str], Path]
) -> None:
    write_merged(trained, tmp_path / "merged", "rooted", 1.0)
    loose = write_merged(trained, tmp_path / "loose", "houlsby", 1.0)
    assert "without bottleneck" in loose.note
    assert "create_model" not in loose.load
    probed = write_merged(trained, tmp_path / "probed", "linear", 1.0)
    assert probed.note == "open_clip would read it without its linear head, as the pretrained encoder that it began as"
    tip = write_merged(trained, tmp_path / "tip", "tip-adapter-f")
    assert "without its tip head" in tip.note
    assert "create_model" not in probed.load + tip.load
    both = write_merged(trained, tmp_path / "both", "probed", 1.0)
    assert both.note == "open_clip would read it without its linear head"
    assert "open_clip.create_model" in write_merged(trained, tmp_path / "hint", "ln", 1.0).load
    assert by_open_clip(folder_of("icon")).startswith(
        "import likewise.encoders.icon_tower, then open_clip.create_model"
    )
    assert by_open_clip(folder_of("plain")).startswith("open_clip.create_model")
    module, _ = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'merged'}")
    encoder = Predictor.load(tmp_path / "merged").encoder
    with torch.no_grad():
        same((module.encode_image(pixels(encoder)), module.encode_text(words(encoder))), of_ours(encoder))
    moved(of_ours(encoder), of_ours(load(base)))


def test_another_base_is_refused(trained: Path, base: str, fresh: Callable[[str], Encoder], tmp_path: Path) -> None:
    write_delta(trained, tmp_path / "delta", "ln", 1.0)
    write_peft(trained, tmp_path / "peft", "ln", 1.0)
    for use in (lambda e: read_delta(tmp_path / "delta", e), lambda e: put_peft(e, read_peft(tmp_path / "peft"))):
        with pytest.raises(ConfigError, match=r"stands on local-dir:.*twin.*likewise\.load") as told:
            use(fresh("plain"))
        assert told.value.code == "M02"
        used = load(base)
        scrambled(used, "image.norm_post")
        with pytest.raises(ConfigError, match="changed after it was loaded"):
            use(used)
        view = load(base)
        view.spec = view.spec.model_copy(update={"resize": "squash"})
        with pytest.raises(ConfigError, match="has its weights, but is described differently"):
            use(view)
    read_delta(tmp_path / "delta", encoder := load(base))
    with pytest.raises(ConfigError, match="changed after it was loaded"):
        read_delta(tmp_path / "delta", encoder)


def test_a_damaged_or_strange_delta_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no delta"):
        read_delta(tmp_path)
    write_delta(trained, tmp_path / "delta", "coop")
    with pytest.raises(ConfigError, match=r"no point at alpha 0\.5"):
        read_delta(tmp_path / "delta", alpha=0.5)
    write_delta(trained, tmp_path / "norms", "ln")
    for alpha in (3.0, -0.5, float("nan")):
        with pytest.raises(UsageError, match="outside 0 to 1") as caught:
            read_delta(tmp_path / "norms", alpha=alpha)
        assert caught.value.code == "U01"
    with files.new_folder(tmp_path / "later") as later:
        tree = files.read_json(tmp_path / "delta" / "delta.json")
        files.write_json(later / "delta.json", {**tree, "format": 2})
    with pytest.raises(ConfigError, match="has format 2; this version reads 1"):
        read_delta(tmp_path / "later")
    (tmp_path / "delta" / "delta.safetensors").write_bytes(b"cut")
    with pytest.raises(ConfigError, match="manifest does not verify"):
        read_delta(tmp_path / "delta")


@pytest.mark.parametrize(
    ("method", "why"),
    [("linear", "trains nothing in the towers"), ("knn", "trains nothing"), ("flyp", "image.0.down.bias"),
     ("bitfit", "image.0.down.bias"), ("houlsby", "adds bottleneck"), ("coop", "adds prompt")],
)  # fmt: skip
def test_peft_cannot_hold_everything(method: str, why: str, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{method} cannot be written as PEFT.*{why}.*--format merged"):
        write_peft(trained, tmp_path / "peft", method)
    assert not (tmp_path / "peft").exists()


def test_what_peft_has_no_setting_for(base: str) -> None:
    encoder = load(base)
    two = (Lora(), Lora(at=("image.0.up.weight",), rooted=True))
    assert "root of the rank" in unfit(encoder, two, ["adapters.lora.image.0.up.up"])
    assert "image.projection" in unfit(
        encoder, (Lora(at=("image.projection",)),), ["adapters.lora.image.projection.up"]
    )
    assert "adds film" in unfit(encoder, (Film(),), ["adapters.film.image.norm_pre.scale"])
    assert "trains scale" in unfit(encoder, (), ["scale"])


@pytest.mark.parametrize(
    ("kind", "why"), [("icon", "image tower is timm's likewise_icon_vit"), ("resnet", "image tower is a ResNet")]
)
def test_an_encoder_without_a_twin(kind: str, why: str, encoder_of: Callable[[str], Encoder]) -> None:
    with pytest.raises(ConfigError, match=f"no twin.*{why}.*--format merged"):
        check_twin(encoder_of(kind))


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [("vision_cfg.final_ln_after_pool", True, "does not know vision_cfg.final_ln_after_pool=True"),
     ("vision_cfg.pool_type", "avg", "vision_cfg.pool_type='avg'"),
     ("text_cfg.norm_kwargs", {"eps": 1e-6}, "norm_kwargs"),
     ("text_cfg.hf_model_name", "roberta-base", "text tower is roberta-base"),
     ("vision_cfg.ls_init_value", 1e-4, "ls_init"),
     ("text_cfg.pool_type", "last", "pool_type='last'"), ("multimodal_cfg", {"layers": 2}, "multimodal_cfg")],
)  # fmt: skip
def test_an_option_that_the_twin_lacks(path: str, value: Any, why: str, base: str) -> None:
    encoder = load(base)
    config = copy.deepcopy(encoder.spec.config)
    *above, last = path.split(".")
    (config[above[0]] if above else config)[last] = value
    encoder.spec = encoder.spec.model_copy(update={"config": config})
    with pytest.raises(ConfigError, match=why):
        check_twin(encoder)


def test_numbers_that_the_twin_lacks(fresh: Callable[[str], Encoder]) -> None:
    check_twin(fresh("custom"))  # another class of open_clip's, the same towers
    encoder = fresh("plain")
    encoder.sites["image.0.gain1"] = encoder.sites.pop("image.norm_pre.bias")
    with pytest.raises(ConfigError, match=r"has no image.0.gain1 and it lacks image.norm_pre.bias"):
        check_twin(encoder)
    other = fresh("custom")
    other.module.text.pool_type = "last"  # whatever the configuration says
    with pytest.raises(ConfigError, match="not causal"):
        check_twin(other)


@pytest.mark.parametrize(
    ("config", "why"),
    [({"peft_type": "IA3"}, "type IA3"), ({"use_dora": True}, "use_dora=True"), ({"bias": "all"}, "bias='all'"),
     ({"init_lora_weights": "pissa"}, "moves the base's weights"), ({"some_new_thing": {"a": 1}}, "some_new_thing"),
     ({"alpha_pattern": {".*fc1": 2}}, "is not a module's name"), ({"fan_in_fan_out": True}, "fan_in_fan_out")],
)  # fmt: skip
def test_options_that_we_lack(config: dict[str, Any], why: str) -> None:
    lora_A_RI = torch.zeros(2, 32)
    tensors = {f"base_model.model.vision_model.encoder.layers.0.mlp.fc1.lora_{k}.weight": lora_A_RI for k in "AB"}
    with pytest.raises(ConfigError, match=why):
        from_peft({"peft_type": "LORA", "r": 2, **config}, tensors, "here")


@pytest.mark.parametrize(
    "key",
    ["visual_projection.lora_A.weight", "encoder.layers.0.self_attn.q_proj.lora_A.weight", "logit_scale",
     "vision_model.encoder.layers.0.mlp.fc1.weight", "text_model.embeddings.token_embedding.lora_embedding_A"],
)  # fmt: skip
def test_tensors_that_have_no_place(key: str) -> None:
    with pytest.raises(ConfigError, match="no place with us"):
        from_peft({"peft_type": "LORA"}, {f"base_model.model.{key}": torch.zeros(2, 2)}, "here")


def test_peft_folders_that_cannot_be_read(base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no adapter_config.json"):
        read_peft(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="Pickled weights"):
        read_peft(tmp_path)
    at = "base_model.model.vision_model.encoder.layers.{}.mlp.fc1.lora_{}.weight".format
    with pytest.raises(ConfigError, match="one of lora_A and lora_B without the other"):
        from_peft({"peft_type": "LORA"}, {at(0, "A"): torch.zeros(2, 32)}, "here")
    encoder = load(base)
    shapes = {"A": (2, 32), "B": (128, 2)}
    for block, wide in ((7, 32), (0, 48)):
        shapes["A"] = (2, wide)
        found = from_peft({"peft_type": "LORA"}, {at(block, k): torch.zeros(s) for k, s in shapes.items()}, "here")
        with pytest.raises(ConfigError):
            put_peft(encoder, found)
        assert not encoder.grafts.seams
    norm = {"base_model.model.vision_model.encoder.layers.5.layer_norm1.ln_tuning_layers.weight": torch.zeros(32)}
    with pytest.raises(ConfigError, match=r"no such image.5.norm1.weight"):
        put_peft(encoder, from_peft({"peft_type": "LN_TUNING"}, norm, "here"))


def test_the_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, loads in (("delta", "read_delta"), ("peft", "PeftModel"), ("merged", "likewise predict")):
        out = str(tmp_path / kind)
        assert command(["export", str(trained), "--method", "lora", "--alpha", "0.5", "--format", kind, "-o", out]) == 0
        said = capsys.readouterr().out
        assert f"written {out}: lora at alpha 0.5" in said
        assert loads in said
        assert "safetensors" in said
    assert likewise.__getattr__("export") is sys.modules["likewise.export"]  # as the hint for a delta has it
    assert command(["predict", str(tmp_path / "delta"), str(tmp_path)]) == 2  # no pictures
    with pytest.raises(UsageError, match=r"It holds a delta.*read_delta.*--format merged"):
        Predictor.load(tmp_path / "delta")
    capsys.readouterr()
    assert command(["export", str(trained), "-o", str(tmp_path / "plain"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["method"] == json.loads((trained / "choice.json").read_text())["method"]
    assert "open_clip_model.safetensors" in said["files"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [(["--format", "onnx"], 2, "Formats: delta, peft, merged"), (["--method", "lara"], 2, "Did you mean lora"),
     (["--method", "coop", "--alpha", "0.5"], 2, "no point at alpha 0.5"),
     (["--alpha", "1.5", "--method", "ln"], 2, "outside 0 to 1"),
     (["--format", "peft", "--method", "flyp"], 2, "cannot be written as PEFT")],
)  # fmt: skip
def test_the_command_refuses(
    words: list[str], code: int, told: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["export", str(trained), "-o", str(tmp_path / "out"), *words]) == code
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_runs_that_cannot_be_exported(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no finished run"):
        write_merged(tmp_path, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for write in (write_delta, write_peft, write_merged):
        with pytest.raises(UsageError, match="already holds something"):
            write(trained, tmp_path / "full", "lora")
    broken = tmp_path / "run"
    for name in ("results.json", "config.yaml"):
        files.write_bytes(broken / name, (trained / name).read_bytes())
    with pytest.raises(DataError, match="cut off or changed"):
        write_delta(broken, tmp_path / "out", "lora")
    results = json.loads((trained / "results.json").read_text())
    results["skipped"]["ln"] = "time ran out"
    del results["methods"]["ln"]
    files.write_json(broken / "results.json", results)
    with pytest.raises(UsageError, match="nothing of ln to export: time ran out"):
        write_delta(broken, tmp_path / "out", "ln")
