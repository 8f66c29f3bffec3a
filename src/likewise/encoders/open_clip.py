"""open_clip models behind our names: releases from 3.3 on, whose attention packs q, k and v into one weight.

The only file that knows open_clip's attribute names. Names accepted:

    ViT-B-16/openai                    a model and a tag of open_clip's own tables (`open_clip:` may stand in front)
    ViT-B-16                           the architecture alone, for `likewise plan`
    hf-hub:org/name                    a hub repository with open_clip_config.json
    local-dir:path                     a folder with open_clip_config.json and open_clip_model.safetensors
"""

# B images, C channels, H height, W width of a picture or of pooled features, D shared width, L tokens, N tokens.

from __future__ import annotations

import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer, text_global_pool
from safetensors import SafetensorError
from torch import Tensor, nn

from likewise import files
from likewise.encoder import Embedded, Encoder, EncoderSpec, Site, weights_hash
from likewise.encoders import icon_tower, learned_words  # noqa: F401  (the first registers a tower with timm)
from likewise.encoders.open_clip_names import TOWERS, rename, rename_any
from likewise.errors import ConfigError, MachineError, UsageError, near, some


def _sites(module: nn.Module) -> dict[str, Site]:
    out: dict[str, Site] = {}
    for upstream, _ in module.named_parameters():
        ours = rename(upstream)
        if ours in out:
            raise ConfigError(
                f"two of open_clip's parameters would be called «{ours}», one of them «{upstream}».", "M02"
            )
        out[ours] = Site.at(module, upstream)
    return out


def _children(module: nn.Module) -> Iterator[tuple[str, Site]]:
    """The places of module and token grafts: blocks, their attention and MLP, and each layer that has a weight."""
    for upstream, layer in module.named_modules():
        for pattern, tower in TOWERS:
            if not (found := re.match(pattern, upstream + ".")):
                continue
            rest = (upstream + ".")[found.end() :].rstrip(".")
            place = {"": "block", "attn": "attention", "mlp": "mlp"}.get(rest)
            if place is not None:
                yield f"{tower}.{found[1]}.{place}", Site.at(module, upstream)
        if "weight" in layer._parameters and layer.weight is not None and upstream:
            yield rename(f"{upstream}.weight").removesuffix(".weight"), Site.at(module, upstream)


class OpenClip(Encoder):
    """A `CLIP` or `CustomTextCLIP` of open_clip."""

    def __init__(self, spec: EncoderSpec, module: nn.Module, tokenizer: Any) -> None:
        self.names = {upstream: rename_any(upstream) for upstream in module.state_dict()}
        super().__init__(spec, module, _sites(module), dict(_children(module)))
        self._model: Any = module
        self._tokenizer = tokenizer

    def image(self, pixels_BCHW: Tensor) -> Embedded:
        visual = self._model.visual
        if isinstance(visual, TimmModel):
            pooled_BW = visual.trunk(pixels_BCHW)
        elif isinstance(visual, VisionTransformer) and not visual.output_tokens:
            pooled_BW, _ = visual._pool(visual.transformer(visual._embeds(pixels_BCHW)))  # open_clip's own seams
        else:
            return Embedded(None, self._model.encode_image(pixels_BCHW))
        return Embedded(pooled_BW, self.project(pooled_BW))

    def project(self, pooled_BW: Tensor) -> Tensor:
        visual = self._model.visual
        if isinstance(visual, TimmModel):
            return torch.as_tensor(visual.head(pooled_BW))
        if isinstance(visual, VisionTransformer) and not visual.output_tokens:
            return torch.as_tensor(pooled_BW if visual.proj is None else pooled_BW @ visual.proj)
        return super().project(pooled_BW)

    @property
    def shared_width(self) -> int:
        return int(self.spec.config["embed_dim"])

    @property
    def pooled_width(self) -> int:
        visual = self._model.visual
        if isinstance(visual, TimmModel):
            return int(visual.trunk.num_features)
        if isinstance(visual, VisionTransformer) and not visual.output_tokens:
            return int(visual.output_dim if visual.proj is None else visual.proj.shape[0])
        raise ConfigError(
            f"{self.spec.name} gives no features before its projection ({type(visual).__name__}); use features: shared."
        )

    @property
    def trims(self) -> bool:
        """Tokens after the end of text cannot reach the answer: the mask is causal and the pooling at end of text."""
        tower = self._model if isinstance(self._model, CLIP) else self._model.text
        if isinstance(tower, CLIP):
            return bool(tower.text_pool_type == "argmax" and tower.attn_mask is not None)
        plain = isinstance(tower, TextTransformer) and tower.cls_emb is None and not tower.use_pad_mask
        return bool(plain and tower.pool_type == "argmax" and tower.attn_mask is not None and not tower.output_tokens)

    def text(self, tokens_BL: Tensor) -> Tensor:
        if not self.trims:
            return torch.as_tensor(self._model.encode_text(tokens_BL))
        tower = self._model if isinstance(self._model, CLIP) else self._model.text
        longest = int(tokens_BL.argmax(dim=1).max()) + 1
        tokens_BL = tokens_BL[:, :longest]
        x_BLW = tower.token_embedding(tokens_BL) + tower.positional_embedding[:longest]
        x_BLW = tower.ln_final(tower.transformer(x_BLW, attn_mask=tower.attn_mask[:longest, :longest]))
        pooled_BW = text_global_pool(x_BLW, tokens_BL, "argmax")
        projection = tower.text_projection
        if projection is None:
            return torch.as_tensor(pooled_BW)
        return torch.as_tensor(projection(pooled_BW) if isinstance(projection, nn.Linear) else pooled_BW @ projection)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return learned_words.tokenize(self._tokenizer, texts, self.spec.context)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        if hasattr(self._tokenizer, "encode"):
            return learned_words.lengths(self._tokenizer, texts)
        return [int((row != 0).sum()) for row in self.tokenize(texts)]

    def write(self, folder: Path) -> None:
        spec = self.spec
        view = {"size": spec.image_size, "mean": list(spec.mean), "std": list(spec.std),
                "interpolation": spec.interpolation, "resize_mode": spec.resize}  # fmt: skip
        files.write_json(folder / "open_clip_config.json", {"model_cfg": spec.config, "preprocess_cfg": view})
        files.write_tensors(folder / "open_clip_model.safetensors", self.module.state_dict(), {"format": "pt"})


def load(name: str, weights: bool = True) -> OpenClip:
    """The encoder of that name, on the CPU, in fp32. Raises M01 (unknown) and M02 (mismatched) errors.

    Departs from open_clip: it builds `ViT-B-16/openai` with GELU and warns that the weights were trained with
    QuickGELU; we build the activation that the tag records, and refuse a name that contradicts its tag.
    """
    asked, name = name, name.removeprefix("open_clip:")
    arguments: dict[str, Any]
    if name.startswith("local-dir:"):
        _check_folder(Path(name.removeprefix("local-dir:")), weights)
        arguments, base = {"model_name": name}, name
    elif name.startswith("hf-hub:"):
        arguments, base = {"model_name": name}, name
    else:
        base, _, tag = name.partition("/")
        quick = _check_tag(base, tag, weights)
        arguments = {"model_name": base, "pretrained": tag if weights else None, "force_quick_gelu": quick}
    with warnings.catch_warnings(), _quiet():
        warnings.filterwarnings("error", message="QuickGELU mismatch")
        try:
            with torch.random.fork_rng(devices=[]):  # open_clip draws its random start from the global generator
                module = open_clip.create_model(**arguments, load_weights=weights, weights_only=True)
            tokenizer = _tokenizer(base, _config_text(base))
        except UserWarning as warning:
            raise ConfigError(f"{asked}: {warning} Numbers would be wrong without a crash.", "M02") from None
        except ImportError as error:
            raise MachineError(
                "M01", f"{asked} needs a package that is not installed: {error}. Try: pip install transformers."
            ) from None
        except (RuntimeError, OSError, ValueError, SafetensorError) as error:
            if name.startswith("local-dir:"):
                raise ConfigError(
                    f"{asked}: the weights cannot be read, or do not fit open_clip_config.json: {error}", "M02"
                ) from None
            offline = " Offline? The first use of a named model downloads it; a folder works too: local-dir:PATH."
            raise MachineError("M01", f"open_clip could not load {asked}: {error}.{offline}") from None
    return OpenClip(_spec(asked, base, arguments, module, weights), module, tokenizer)


def _config_text(base: str) -> str:
    path = Path(base.removeprefix("local-dir:")) / "open_clip_config.json"
    return path.read_text() if base.startswith("local-dir:") else ""


@lru_cache(maxsize=8)
def _tokenizer(base: str, config: str) -> Any:
    """open_clip's tokenizer; reading its vocabulary takes longer than building a small model."""
    return open_clip.get_tokenizer(base)


class _quiet:
    """open_clip reports each step of a load on the root logger; what matters is in our errors."""

    def __enter__(self) -> None:
        self.level = logging.getLogger().level
        logging.getLogger().setLevel(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().setLevel(self.level)


def _check_folder(folder: Path, weights: bool) -> None:
    if not folder.is_dir():
        siblings = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        raise UsageError("M01", f"local-dir:{folder} is not a folder.{near(folder.name, siblings)}")
    if not (folder / "open_clip_config.json").exists():
        raise ConfigError(
            f"{folder} has no open_clip_config.json, so its architecture and activation are unknown; guesses give "
            "wrong numbers without a crash. Write one (open_clip's push_to_hf_hub saves it) beside the weights.", "M02"
        )  # fmt: skip
    if weights and not list(folder.glob("open_clip_model*.safetensors")) and not list(folder.glob("*.safetensors")):
        raise ConfigError(
            f"{folder} has no .safetensors file. Pickled weights (.pt, .bin) can run code when read and are refused; "
            "save them with safetensors.torch.save_file as open_clip_model.safetensors.", "M02"
        )  # fmt: skip


def _check_tag(base: str, tag: str, weights: bool) -> bool:
    """Whether QuickGELU must be forced; raises for unknown names and for names that contradict their tag."""
    models = open_clip.list_models()
    if base not in models:
        from likewise.encoders import BUILT_IN  # which loads this module

        close = near(base, [*models, *BUILT_IN])
        raise UsageError("M01", f"open_clip has no model «{base}».{close} All: likewise ls models.")
    tags = open_clip.list_pretrained_tags_by_model(base)
    if not tag:
        if weights:
            raise UsageError(
                "M01", f"«{base}» names an architecture without weights. Say which: {base}/{some(tags, 8)}."
            )
        return False
    if tag not in tags:
        if Path(tag).suffix in {".pt", ".pth", ".bin", ".safetensors", ".ckpt"}:
            raise ConfigError(
                f"{tag} has no architecture record; loading it as {base} may use the wrong activation (OpenAI's "
                "weights need QuickGELU), and the results would be wrong, not crash. Put it as "
                "open_clip_model.safetensors beside an open_clip_config.json and load local-dir:FOLDER.", "M02"
            )  # fmt: skip
        raise UsageError("M01", f"No weights «{tag}» for {base}.{near(tag, tags)} Available: {some(tags, 12)}.")
    needs = bool(open_clip.get_pretrained_cfg(base, tag).get("quick_gelu", False))
    says = bool(open_clip.get_model_config(base).get("quick_gelu", False))
    if says and not needs:
        plain = base.replace("-quickgelu", "")
        raise ConfigError(
            f"{base} computes with QuickGELU, but the weights «{tag}» were trained with GELU; results would be wrong, "
            f"not crash. Say {plain}/{tag}.", "M02"
        )  # fmt: skip
    return needs and not says


def _spec(asked: str, base: str, arguments: dict[str, Any], module: nn.Module, weights: bool) -> EncoderSpec:
    if base.startswith("local-dir:"):
        text = (Path(base.removeprefix("local-dir:")) / "open_clip_config.json").read_text()
        config = json.loads(text)["model_cfg"]
    elif base.startswith("hf-hub:"):
        config = deepcopy(open_clip.factory._get_hf_config(base.removeprefix("hf-hub:"))["model_cfg"])
    else:
        config = deepcopy(open_clip.get_model_config(base))
    if arguments.get("force_quick_gelu"):
        config["quick_gelu"] = True
    view = open_clip.get_model_preprocess_cfg(module)
    size = view["size"]
    return EncoderSpec(
        family="open_clip",
        name=asked,
        config=config,
        weights=weights_hash({rename_any(k): v for k, v in module.state_dict().items()}) if weights else "",
        image_size=size if isinstance(size, int) else int(size[0]),
        mean=tuple(view["mean"]),
        std=tuple(view["std"]),
        resize=view.get("resize_mode") or "shortest",
        interpolation=view.get("interpolation") or "bicubic",
        context=int(module.context_length),  # type: ignore[arg-type]
    )
