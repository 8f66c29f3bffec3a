"""transformers' CLIPs, SigLIPs, DINOv2s and ViTs behind our names. Needs the extra `hf`.

Names accepted (`hf:` may stand in front of each):

    openai/clip-vit-base-patch32       a repository at huggingface.co with config.json and safetensors
    ./folder, local-dir:folder         what save_pretrained wrote
    facebook/dinov2-base#mean          an encoder of pictures alone, and which features of it: class, mean (of the
                                       patches), both (one behind the other), prelogits (the model's own pooling)
"""

# B images, C channels, H height, W width of a picture or of pooled features, D shared width, L tokens, N tokens.

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from likewise import files
from likewise.encoder import Embedded, Encoder, EncoderSpec, Site, weights_hash
from likewise.encoders import hugging
from likewise.encoders.transformers_names import children, names_of, positional, rename
from likewise.errors import ConfigError, UsageError, near, some

FEATURES = ("class", "mean", "both", "prelogits")


class _Kind(NamedTuple):
    made_of: str
    features: tuple[str, ...] = FEATURES
    """What can be asked for, the default first; none where the encoder has a text tower."""


KINDS = {
    "clip": _Kind("CLIPModel", ()), "siglip": _Kind("SiglipModel", ()), "dinov2": _Kind("Dinov2Model"),
    "dinov2_with_registers": _Kind("Dinov2WithRegistersModel"), "vit": _Kind("ViTModel"),
    "clip_vision_model": _Kind("CLIPVisionModel"),
    "siglip_vision_model": _Kind("SiglipVisionModel", ("prelogits", "mean")),
}  # fmt: skip
"""`model_type` of config.json to the class of transformers."""

_SAID = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "mlp_ratio",
         "hidden_act", "layer_norm_eps", "image_size", "patch_size", "num_channels", "qkv_bias", "use_swiglu_ffn",
         "num_register_tokens", "projection_dim", "projection_size", "vocab_size", "max_position_embeddings",
         "eos_token_id")  # fmt: skip
"""Options that decide the answers: what the spec records, whatever else a version of transformers writes."""


class HuggingFace(Encoder):
    """A `CLIPModel` or `SiglipModel` of transformers, or one of its encoders of pictures alone.

    What is only for pretraining is left out: DINOv2's mask token; and ViT's pooler, which DINO's checkpoints lack and
    transformers would draw at random.
    """

    def __init__(self, spec: EncoderSpec, module: nn.Module, view: str, tokens: hugging.Tokens | None = None) -> None:
        self.names = names_of(module)
        sites = {ours: Site.at(module, upstream) for upstream, ours in self.names.items()}
        super().__init__(spec, module, sites, dict(children(module, self.names)))
        self._model: Any = module
        self._view, self._tokens = view, tokens
        for name, site in self.children.items():
            if name.endswith(".attention"):
                site.value.register_forward_pre_hook(positional, with_kwargs=True)

    def image(self, pixels_BCHW: Tensor) -> Embedded:
        if self._tokens is not None:
            pooled_BW = self._model.vision_model(pixel_values=pixels_BCHW, return_dict=True).pooler_output
            return Embedded(pooled_BW, self.project(pooled_BW))
        said = self._model(pixel_values=pixels_BCHW, return_dict=True)
        pooled_BW = self._pool(said.last_hidden_state, said.pooler_output)
        return Embedded(pooled_BW, pooled_BW)

    def _pool(self, x_BNW: Tensor, own_BW: Tensor | None) -> Tensor:
        kind, features = self.spec.config["model_type"], self.spec.config["features"]
        if features == "prelogits" and own_BW is not None:
            return own_BW
        if kind == "clip_vision_model":  # it normalises the class token alone
            x_BNW = self.children["image.norm_post"].value(x_BNW)
        first = self.spec.config.get("num_register_tokens", 0) + (kind != "siglip_vision_model")
        if features in ("class", "prelogits"):
            return x_BNW[:, 0]
        mean_BW = x_BNW[:, first:].mean(dim=1)
        return mean_BW if features == "mean" else torch.cat([x_BNW[:, 0], mean_BW], dim=1)

    def project(self, pooled_BW: Tensor) -> Tensor:
        if "image.projection" in self.children:
            return torch.as_tensor(self._model.visual_projection(pooled_BW))
        return pooled_BW

    @property
    def shared_width(self) -> int:
        config = self.spec.config
        return int(config["projection_dim"]) if "image.projection" in self.children else self.pooled_width

    @property
    def pooled_width(self) -> int:
        width = int(self.spec.config.get("vision_config", self.spec.config)["hidden_size"])
        return 2 * width if self.spec.config.get("features") == "both" else width

    @property
    def trims(self) -> bool:
        """Tokens after the end of text cannot reach the answer. SigLIP's tower sees all, and answers at the last."""
        return bool(self.spec.config["model_type"] == "clip")

    def text(self, tokens_BL: Tensor) -> Tensor:
        if self._tokens is None:
            return super().text(tokens_BL)
        if self.trims:
            tokens_BL = tokens_BL[:, : int(self._ends(tokens_BL).max()) + 1]
        pooled_BW = self._model.text_model(input_ids=tokens_BL, return_dict=True).pooler_output
        return torch.as_tensor(self._model.text_projection(pooled_BW) if self.trims else pooled_BW)

    def _ends(self, tokens_BL: Tensor) -> Tensor:
        """Where CLIPModel reads the answer: at the first end of text, or, of old checkpoints, at the largest id."""
        end = self.spec.config["text_config"]["eos_token_id"]
        return (tokens_BL if end == _OLD_END else (tokens_BL == end).int()).argmax(dim=1)

    def write(self, folder: Path) -> None:
        config = {**json.loads(self._model.config.to_json_string()), "architectures": [type(self._model).__name__]}
        if "features" in self.spec.config:
            config[_OURS] = self.spec.config["features"]
        files.write_json(folder / "config.json", config)
        files.write_text(folder / "preprocessor_config.json", self._view)
        if self._tokens is not None:
            self._tokens.write(folder)
        state = {upstream: self.sites[ours].value.detach() for upstream, ours in self.names.items()}
        files.write_tensors(folder / "model.safetensors", state, {"format": "pt"})

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return super().tokenize(texts) if self._tokens is None else self._tokens.tokenize(texts, self.spec.context)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return super().lengths(texts) if self._tokens is None else self._tokens.lengths(texts)


_HINTS = dict.fromkeys(
    ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert"), " For an encoder of texts alone use st:NAME."
) | {"siglip2": " It is the form for pictures of any size; SigLIP 2 for one size says siglip."}
_OURS = "likewise_features"
"""Where config.json says which features a folder that we wrote is for."""
_OLD_END = 2
"""The end of text in configurations from before 2023, where it is wrong and the largest id is meant."""


def load(name: str, weights: bool = True) -> HuggingFace:
    """The encoder of that name, on the CPU, in fp32. Raises M01 (unknown, missing) and M02 (mismatched) errors.

    Departs from transformers, which draws at random what a checkpoint lacks and warns: we refuse it.
    """
    where, features = _asked(name.removeprefix("hf:"), name)
    library = hugging.library("transformers", name)
    kind, features = _kind(hugging.description(where, "config.json", name), features, name)
    if weights and isinstance(where, Path):
        hugging.check_safe(where, name)
    with hugging.reading(where, name, "its weights and config.json"):
        config = library.AutoConfig.from_pretrained(where, trust_remote_code=False)
        if config.model_type == "siglip_vision_model":
            config.vision_use_head = features == "prelogits"
        made_of = getattr(library, kind.made_of)
        own = {"add_pooling_layer": False} if config.model_type == "vit" else {}
        if weights:
            module, found = made_of.from_pretrained(
                where, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **own
            )
        else:
            module, found = made_of(config, **own), {}
    if missing := sorted(set(found.get("missing_keys", ())) - {"embeddings.mask_token"}):
        raise ConfigError(f"{name}: the weights lack {some(missing, 1)} of {kind.made_of}; they are of another model "
                          "than config.json says.", "M02")  # fmt: skip
    if hasattr(getattr(module, "embeddings", None), "mask_token"):
        module.embeddings.mask_token = None
    tokens = None if kind.features else hugging.tokens(where, name)
    if tokens is not None and config.model_type == "clip":
        _check_words(tokens, config.text_config, name)
    view, said = hugging.view(where, name)
    return HuggingFace(_spec(name, module, features, weights, view), module, said, tokens)


def _asked(name: str, asked: str) -> tuple[Path | str, str]:
    plain = "#" not in name or Path(name.removeprefix("local-dir:")).expanduser().is_dir()
    bare, _, features = (name, "", "") if plain else name.rpartition("#")
    if features and features not in FEATURES:
        raise UsageError("M01", f"{asked} has no features «{features}».{near(features, FEATURES)} Features: "
                         f"{', '.join(FEATURES)}.")  # fmt: skip
    return hugging.where(bare, asked), features


def _kind(raw: Any, features: str, asked: str) -> tuple[_Kind, str]:
    of = raw.get("model_type") if isinstance(raw, dict) else None
    if of not in KINDS:
        raise ConfigError(
            f"{asked}: config.json says model_type «{of}», which is not supported."
            f"{_HINTS.get(str(of), '')} Supported are {', '.join(KINDS)}.", "M02"
        )  # fmt: skip
    kind = KINDS[of]
    features = features or raw.get(_OURS, "")
    if features and features not in kind.features:
        can = f"has {' and '.join(kind.features)}" if kind.features else "has a text tower and one kind of features"
        raise ConfigError(f"{asked}: a {kind.made_of} {can}; leave «#{features}» out.")
    return kind, features or (kind.features[0] if kind.features else "")


def _check_words(tokens: hugging.Tokens, config: Any, asked: str) -> None:
    """Raises M02 where a CLIP would read the answer at another token than the end of text: at the first, silently."""
    end, last, rule = getattr(tokens, "eot_token_id", None), tokens.largest, config.eos_token_id
    wrong = f"its tokenizer has ids up to {last}, and its table of tokens {config.vocab_size} rows"
    if last < config.vocab_size:
        largest = f" (the largest id, {last})" if rule == _OLD_END else ""
        wrong = f"texts end with the id {end}, and config.json reads the answer at eos_token_id {rule}{largest}"
        if end == (last if rule == _OLD_END else rule):
            return
    raise ConfigError(
        f"{asked}: {wrong}. Tokenizer and weights do not belong together, or config.json is wrong.", "M02"
    )


def _spec(asked: str, module: Any, features: str, weights: bool, view: dict[str, Any]) -> EncoderSpec:
    own = module.config
    config = _described(own)
    for tower in ("vision_config", "text_config"):
        if getattr(own, tower, None) is not None:
            config[tower] = _described(getattr(own, tower))
    size = getattr(own, "vision_config", own).image_size
    if "dinov2" not in own.model_type and size != view["image_size"]:  # DINOv2 interpolates its positions
        raise ConfigError(
            f"{asked}: its pictures are {view['image_size']} px by preprocessor_config.json and {size} px by "
            "config.json. Make them agree.", "M02"
        )  # fmt: skip
    return EncoderSpec(
        family="transformers", name=asked, config=config | ({"features": features} if features else {}),
        weights=weights_hash({rename(key): p for key, p in module.named_parameters()}) if weights else "",
        context=0 if features else int(own.text_config.max_position_embeddings), **view,
    )  # fmt: skip


def _described(config: Any) -> dict[str, Any]:
    return {key: getattr(config, key) for key in _SAID if getattr(config, key, None) is not None}
