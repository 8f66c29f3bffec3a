"""PEFT's files for a Hugging Face CLIPModel, and our names: LoRA and LayerNorm tuning, both ways.

Neither peft nor transformers is needed: the format is JSON and safetensors. Our packed qkv are their q_proj, k_proj and
v_proj; a LoRA's `down` is lora_A and its `up` is lora_B, both as they are.
"""

# I columns and O rows of a weight, R rank.

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from likewise import files
from likewise.adapters import AdapterConfig, Lora, add
from likewise.encoder import Encoder
from likewise.errors import ConfigError, UsageError, some
from likewise.export.source import check_base
from likewise.export.twin import check_twin, module_of, place_of

PREFIX = "base_model.model."
_SHARED = {"peft_type", "base_model_name_or_path", "auto_mapping", "revision", "task_type", "inference_mode",
           "peft_version", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform",
           "layers_pattern", "r", "rank_pattern", "lora_alpha", "alpha_pattern", "use_rslora", "lora_dropout", "bias",
           "init_lora_weights", "eva_config", "megatron_core", "qalora_group_size", "ensure_weight_tying"}  # fmt: skip
"""Options that are read here, or that change neither the answers nor what the files hold."""
_STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to begin a LoRA that leave the base's weights alone."""


class Peft(NamedTuple):
    """What a PEFT folder holds, by our names: tuned norms and `adapters.lora.*`, and the adapters these belong to."""

    values: dict[str, Tensor]
    adapters: tuple[Lora, ...]
    base: dict[str, str] | None = None
    """The base by content, where the folder is ours; PEFT itself records no more than a name."""


def to_peft(
    encoder: Encoder, adapters: Sequence[AdapterConfig], values: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """`adapter_config.json` and the tensors of `adapter_model.safetensors` for tuned norms and LoRA numbers.

    Every name of `values` must be one that `unfit` lets pass. Norms beside a LoRA go as its `modules_to_save`.
    """
    tensors: dict[str, Tensor] = {}
    norms = sorted({name.rpartition(".")[0] for name in values if not name.startswith("adapters.")})
    loras = [adapter for adapter in adapters if isinstance(adapter, Lora)]
    own = "" if loras else "ln_tuning_layers."
    before = encoder.state([f"{place}.{kind}" for place in norms for kind in ("weight", "bias")])
    for place in norms:  # PEFT keeps the whole layer: what did not train is the base's
        for kind in ("weight", "bias"):
            name = f"{place}.{kind}"
            tensors[f"{PREFIX}{module_of(place)}.{own}{kind}"] = values.get(name, before[name])
    config: dict[str, Any] = {
        "base_model_name_or_path": None, "task_type": None, "revision": None, "inference_mode": True,
        "auto_mapping": {"base_model_class": "CLIPModel", "parent_library": "transformers.models.clip.modeling_clip"},
    }  # fmt: skip
    modules = [str(module_of(place)) for place in norms]
    if not loras:
        return {"peft_type": "LN_TUNING", "target_modules": modules, "modules_to_save": None, **config}, tensors
    ranks, strengths = {}, {}
    for lora in loras:
        for place in _places(lora, encoder):
            module = str(module_of(place))
            tensors[f"{PREFIX}{module}.lora_A.weight"] = values[f"adapters.lora.{place}.down"]
            tensors[f"{PREFIX}{module}.lora_B.weight"] = values[f"adapters.lora.{place}.up"]
            ranks[module], strengths[module] = lora.rank, lora.alpha
    first = loras[0]
    config |= {
        "peft_type": "LORA", "r": first.rank, "lora_alpha": first.alpha, "use_rslora": first.rooted,
        "target_modules": list(ranks), "modules_to_save": modules or None, "lora_dropout": 0.0, "bias": "none",
        "fan_in_fan_out": False, "rank_pattern": {m: r for m, r in ranks.items() if r != first.rank},
        "alpha_pattern": {m: a for m, a in strengths.items() if a != first.alpha},
    }  # fmt: skip
    return config, tensors


def _places(lora: Lora, encoder: Encoder) -> list[str]:
    """The places of its numbers: `image.3.out`, `image.3.qkv.q`."""
    return list(lora.stands(encoder))


def unfit(encoder: Encoder, adapters: Sequence[AdapterConfig], trained: Sequence[str]) -> str:
    """Why PEFT's format cannot hold this; "" where it can."""
    others = sorted({adapter.kind for adapter in adapters} - {"lora"})
    if others:
        return f"it adds {' and '.join(others)}, which PEFT has not for CLIP"
    loras = [adapter for adapter in adapters if isinstance(adapter, Lora)]
    if len({lora.rooted for lora in loras}) > 1:
        return "of its LoRAs some divide alpha by the root of the rank, and PEFT has one such setting for all"
    places = [place for lora in loras for place in _places(lora, encoder)]
    odd = [place for place in places if module_of(place) is None]
    odd += [name for name in trained if not name.startswith("adapters.") and _norm(name) is None]
    if odd:
        return f"it trains {some(odd, 3)}, and PEFT holds LoRA on the blocks' linear layers and LayerNorms here"
    return "" if trained else "it trains nothing in the towers, and PEFT holds nothing else"


def _norm(name: str) -> str | None:
    place, _, kind = name.rpartition(".")
    return module_of(place) if kind in ("weight", "bias") and ".norm" in place else None


def read_peft(folder: Path | str) -> Peft:
    """A PEFT folder of a Hugging Face CLIPModel by our names. `put_peft` puts it on an encoder.

    LORA, also with LayerNorms in `modules_to_save`, and LN_TUNING. Raises M01 for no such folder, `ConfigError` naming
    an option or a tensor that has no place with us. Departs: dropout is left out; our LoRA has none.
    """
    folder = Path(folder)
    if not (folder / "adapter_config.json").exists():
        raise UsageError(
            "M01", f"{folder} holds no adapter_config.json. Give the folder that PEFT's save_pretrained wrote."
        )
    if not (folder / "adapter_model.safetensors").exists():
        raise ConfigError(
            f"{folder} has no adapter_model.safetensors. Pickled weights (.bin) can run code when read and are "
            "refused; save again with save_pretrained(..., safe_serialization=True).", "M02"
        )  # fmt: skip
    config = files.read_json(folder / "adapter_config.json")
    found = from_peft(config, files.read_tensors(folder / "adapter_model.safetensors"), str(folder))
    ours = folder / "head.json"
    return found._replace(base=files.read_json(ours).get("base")) if ours.exists() else found


def from_peft(config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> Peft:
    """As `read_peft`, from what the two files hold."""
    _check_options(config, where)
    values: dict[str, Tensor] = {}
    parts: dict[tuple[str, int, float], list[str]] = {}
    strange = []
    for key, tensor in sorted(tensors.items()):
        module, _, kind = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
        place = place_of(module) if module else None
        if place and kind in ("A", "B") and ".norm" not in place:
            values[f"adapters.lora.{place}.{'down' if kind == 'A' else 'up'}"] = tensor.float()
            if kind == "A":
                stem, _, part = place.rpartition(".") if ".qkv." in place else (place, "", "")
                parts.setdefault((stem, len(tensor), _strength(config, module, where)), []).append(part)
        else:
            layer, _, kind = key.removeprefix(PREFIX).replace(".ln_tuning_layers.", ".").rpartition(".")
            place = place_of(layer)
            if not place or ".norm" not in place or kind not in ("weight", "bias"):
                strange.append(key)
            values[f"{place}.{kind}"] = tensor.float()
    pairs = {"down": "up", "up": "down"}
    ends = [(name, *name.rpartition(".")[::2]) for name in values if name.startswith("adapters.")]
    if halves := [name for name, place, end in ends if f"{place}.{pairs[end]}" not in values]:
        raise ConfigError(f"{where} holds one of lora_A and lora_B without the other: {some(halves, 3)}.", "M02")
    if strange:
        raise ConfigError(
            f"{where}: {some(strange, 3)} have no place with us. Read are LoRA on q, k, v, out_proj, fc1 and fc2, and "
            "LayerNorms, of transformers' CLIPModel."
        )
    return Peft(values, _adapters(parts, bool(config.get("use_rslora"))))


def _check_options(config: Mapping[str, Any], where: str) -> None:
    kind = config.get("peft_type")
    if kind not in ("LORA", "LN_TUNING"):
        raise ConfigError(f"{where} is of PEFT's type {kind}; LORA and LN_TUNING can be read.")
    odd = [f"{key}={value!r}" for key, value in config.items() if value and key not in _SHARED]
    if config.get("bias", "none") != "none":
        odd.append(f"bias={config['bias']!r}")
    if odd:
        raise ConfigError(
            f"{where}: {some(odd, 3)} may change the answers, and our LoRA has no such option. Merge it into the model "
            "with merge_and_unload(), or train without it."
        )
    if config.get("init_lora_weights", True) not in _STARTS:
        raise ConfigError(
            f"{where}: init_lora_weights={config['init_lora_weights']!r} moves the base's weights as well, which these "
            "files do not hold. Convert it: save_pretrained(..., path_initial_model_for_weight_conversion=...)."
        )


def _strength(config: Mapping[str, Any], module: str, where: str) -> float:
    """lora_alpha of a module. PEFT's patterns are regular expressions; ends of names are read, nothing else."""
    for pattern, alpha in (config.get("alpha_pattern") or {}).items():
        if not re.fullmatch(r"[\w.]+", pattern):
            raise ConfigError(f"{where}: alpha_pattern «{pattern}» is not a module's name; write the names out.")
        if f".{module}".endswith(f".{pattern}"):
            return float(alpha)
    return float(config.get("lora_alpha", 8))


def _adapters(parts: Mapping[tuple[str, int, float], Sequence[str]], rooted: bool) -> tuple[Lora, ...]:
    """As few LoRAs as can be: places of like rank, strength and parts share one."""
    groups: dict[tuple[int, float, tuple[str, ...]], list[str]] = {}
    for (place, rank, alpha), own in parts.items():
        groups.setdefault((rank, alpha, tuple(sorted(own))), []).append(f"{place}.weight")
    return tuple(
        Lora.parse(
            {"at": at, "rank": rank, "alpha": alpha, "rooted": rooted} | ({"parts": own} if own != ("",) else {})
        )
        for (rank, alpha, own), at in groups.items()
    )


def put_peft(encoder: Encoder, found: Peft) -> None:
    """Put it on the encoder: LoRA as grafts (`encoder.grafts.remove()` takes these out), norms in place.

    Raises `ConfigError` where the encoder has no twin at Hugging Face or lacks a place, and M02 where the folder names
    its base and this is another.
    """
    check_twin(encoder)
    if found.base is not None:
        check_base(encoder, found.base, "the PEFT folder")
    assert not encoder.grafts.seams, "grafts do not nest"
    try:
        add(encoder, found.adapters, 0)
        mine = encoder.parameters_by_name()
        lacking = sorted(
            found.values.keys() ^ ({n for n in mine if n not in encoder.sites} | found.values.keys() & mine)
        )
        wrong = [name for name, value in found.values.items() if name in mine and mine[name].shape != value.shape]
        if lacking or wrong:
            raise ConfigError(
                f"{encoder.spec.name} has no such {some(lacking or wrong, 3)}: the PEFT folder is of a model of "
                "another size. Use the encoder that it was trained on.", "M02"
            )  # fmt: skip
        encoder.put(found.values)
    except ConfigError:
        encoder.grafts.remove()
        raise
