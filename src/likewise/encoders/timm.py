"""timm's image encoders behind our names. Names accepted, with `timm:` in front:

    vit_base_patch16_224.dino          an architecture and a tag of timm's own tables
    efficientnet_b0                    the architecture alone, for counting
    hf-hub:org/name                    a hub repository with timm's config.json
    local-dir:path                     a folder with timm's config.json and model.safetensors (`timm:` may be left out)

and behind any of them what the tower answers:

    #prelogits   what timm's own forward_head(pre_logits=True) gives; of a CNN the pooled features (the default)
    #class       the class token after the final norm, as DINO's kNN reads it
    #mean        the mean of the patch tokens, or of the last feature map, without class token and registers
    #both        class token and mean joined, as DINO's linear evaluation of ViT-B reads it
"""

# B images, C channels, H height, W width of a picture or of features, N tokens.

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.layers.format import get_spatial_dim
from torch import Tensor, nn

from likewise.encoder import Embedded, Encoder, EncoderSpec, Site
from likewise.encoders import icon_tower  # noqa: F401  (registers a tower with timm)
from likewise.encoders.timm_folder import Record, filled, read_record, read_weights, spec_of, write_timm_folder
from likewise.encoders.timm_names import names_of, place
from likewise.errors import ConfigError, MachineError, UsageError, near, some

__all__ = ["FEATURES", "TimmEncoder", "load", "write_timm_folder"]

FEATURES = ("prelogits", "class", "mean", "both")
OWN_CROP = {"dino": 0.875}
"""By tag, where timm's record is not what the authors evaluate with: DINO's kNN resizes to 256 and crops 224."""


class TimmEncoder(Encoder):
    """One of timm's models without its classifier. `names` maps its parameters and stored buffers to ours."""

    def __init__(self, spec: EncoderSpec, module: nn.Module, names: Mapping[str, str]) -> None:
        self.names = names
        sites = {names[upstream]: Site.at(module, upstream) for upstream, _ in module.named_parameters()}
        super().__init__(spec, module, sites, dict(_children(module, self.names)))
        self._model: Any = module
        self._features: str = spec.config["features"]
        _check_features(spec, self._model)

    def image(self, pixels_BCHW: Tensor) -> Embedded:
        features = self._model.forward_features(pixels_BCHW)
        if self._features == "prelogits":
            pooled_BW = self._model.forward_head(features, pre_logits=True)
        else:
            parts = {"class": self._class, "mean": self._mean}
            wanted = ("class", "mean") if self._features == "both" else (self._features,)
            pooled_BW = torch.cat([self._normed(parts[part](features)) for part in wanted], dim=1)
        if pooled_BW.shape[1:] != (self.pooled_width,):
            raise ConfigError(
                f"{self.spec.name} answers {tuple(pooled_BW.shape)} of {len(pixels_BCHW)} pictures, and not "
                f"{self.pooled_width} numbers each. Ask for other features (#mean), or set global_pool in model_args "
                "of its config.json.", "M02"
            )  # fmt: skip
        return Embedded(pooled_BW, pooled_BW)

    @staticmethod
    def _class(tokens_BNW: Tensor) -> Tensor:
        return tokens_BNW[:, 0]

    def _mean(self, features: Tensor) -> Tensor:
        if features.ndim == 4:
            return features.mean(get_spatial_dim(getattr(self._model, "output_fmt", "NCHW")))
        return features[:, getattr(self._model, "num_prefix_tokens", 0) :].mean(dim=1)

    def _normed(self, pooled_BW: Tensor) -> Tensor:
        """Models made to be averaged have their final norm behind the pooling."""
        norm = getattr(self._model, "fc_norm", None)
        return pooled_BW if norm is None else norm(pooled_BW)

    def project(self, pooled_BW: Tensor) -> Tensor:
        return pooled_BW

    def write(self, folder: Path) -> None:
        write_timm_folder(folder, self)

    @property
    def shared_width(self) -> int:
        return self.pooled_width

    @property
    def pooled_width(self) -> int:
        width = int(self._model.num_features)
        if self._features == "prelogits":
            return int(getattr(self._model, "head_hidden_size", None) or width)
        return 2 * width if self._features == "both" else width


def _children(module: nn.Module, names: Mapping[str, str]) -> Iterator[tuple[str, Site]]:
    """The places of module and token grafts: blocks, their attention and MLP, and each layer that has a weight."""
    blocks = {place(upstream)[0] for upstream, _ in module.named_parameters()} - {""}
    for upstream, layer in module.named_modules():
        block, rest = place(f"{upstream}.")
        kind = {"": "block", "attn.": "attention", "mlp.": "mlp"}.get(rest)
        if block in blocks and kind:
            yield f"{block}.{kind}", Site.at(module, upstream)
        above = module.get_submodule(upstream.rpartition(".")[0])
        read = upstream.endswith(".qkv") and getattr(above, "q_bias", None) is not None  # and never called
        if layer._parameters.get("weight") is not None and upstream and not read:
            yield names[f"{upstream}.weight"].removesuffix(".weight"), Site.at(module, upstream)


def _check_features(spec: EncoderSpec, model: Any) -> None:
    features = spec.config["features"]
    prefix = getattr(model, "num_prefix_tokens", None)
    has_class = getattr(model, "cls_token", None) is not None
    if features in ("class", "both") and not (has_class and prefix):
        raise ConfigError(
            f"{spec.name} has no class token: {type(model).__name__} pools what it sees. Leave #{features} out, or "
            "use #mean.", "M02"
        )  # fmt: skip
    if features == "mean" and has_class and prefix is None:
        raise ConfigError(
            f"{spec.name}: timm does not say which of its tokens stand for no patch, so a mean would hold the class "
            "token too. Leave #mean out.", "M02"
        )  # fmt: skip


def load(name: str, weights: bool = True) -> TimmEncoder:
    """The encoder of that name, on the CPU, in fp32, without its classifier. Raises M01 (unknown) and M02 errors.

    Departs from timm: a tag must be named; weights that a folder lacks are an error and never random. Pictures are
    seen at the size of training and not at the larger one that some tags are tested with, and those of DINO through
    its authors' crop (256 to 224 pixels; timm's record says 248).
    """
    asked = name
    name, features = _split(asked, name.removeprefix("timm:"))
    local, hub = name.startswith("local-dir:"), name.startswith("hf-hub:")
    record, tensors = Record(), None
    if local:
        folder = Path(name.removeprefix("local-dir:"))
        record, tensors = read_record(folder), read_weights(folder) if weights else None
    elif not hub:
        record = Record(view=_check_name(name, weights))
    heard = _Heard()
    try:
        with heard, torch.random.fork_rng(devices=[]):  # timm draws its random start from the global generator
            module = timm.create_model(name, pretrained=weights and not local, num_classes=0)
            if tensors is not None:
                module = filled(name, module, tensors)
            if hub:
                record = Record(model_args=timm.models.load_model_config_from_hf(name.partition(":")[2])[2] or {})
    except (RuntimeError, OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        if local:
            raise ConfigError(f"{asked}: the weights do not fit its config.json: {error}", "M02") from None
        offline = " Offline? The first use of a named model downloads it; a folder works too: local-dir:PATH."
        raise MachineError("M01", f"timm could not load {asked}: {error}.{offline}") from None
    if heard.missing:
        raise ConfigError(f"{asked}: {heard.missing} They would be random numbers.", "M02")
    features = features or record.features or FEATURES[0]
    if features not in FEATURES:
        raise ConfigError(f"{asked}: its config.json asks for features «{features}».{near(features, FEATURES)}", "M02")
    names = names_of(module)
    spec = spec_of(asked, module, record, features, names if weights else None)
    return TimmEncoder(spec, module, names)


def _split(asked: str, name: str) -> tuple[str, str]:
    """A name without its `#features`, and these; a folder's own name may have a # in it."""
    base, mark, features = name.rpartition("#")
    if not mark or (name.startswith("local-dir:") and Path(name.removeprefix("local-dir:")).is_dir()):
        return name, ""
    if features not in FEATURES:
        raise UsageError(
            "M01", f"{asked}: there are no features «{features}».{near(features, FEATURES)} "
            f"Behind # stands one of {', '.join(FEATURES)}."
        )  # fmt: skip
    return base, features


def _check_name(name: str, weights: bool) -> dict[str, float]:
    """What is to stand above timm's record of the view. Raises M01 for a model or tag that timm does not have."""
    base, _, tag = name.partition(".")
    models = timm.list_models()
    if base not in models:
        raise UsageError("M01", f"timm has no model «{base}».{near(base, models)} All: python -c 'import timm; "
                                "print(timm.list_models())'.")  # fmt: skip
    tags = [full.partition(".")[2] for full in timm.list_pretrained(base)]
    if tag not in tags and (tag or weights):
        has = f"Available: {some(tags, 12)}." if tags else "timm has none for it; a folder works too: local-dir:PATH."
        if not tag:
            raise UsageError("M01", f"«{base}» names an architecture without weights. Say which: {base}.TAG. {has}")
        raise UsageError("M01", f"No weights «{tag}» for {base}.{near(tag, tags)} {has}")
    return {"crop_pct": OWN_CROP[tag]} if tag in OWN_CROP else {}


class _Heard(logging.Handler):
    """What timm says while it loads. Of weights that a file lacks it only says so, and goes on with random ones."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.missing = ""
        self.logger = logging.getLogger("timm.models._builder")

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if said.startswith("Missing keys"):
            self.missing = said

    def __enter__(self) -> None:
        self.before = self.logger.level, self.logger.propagate
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self.logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.setLevel(self.before[0])
        self.logger.propagate = self.before[1]
