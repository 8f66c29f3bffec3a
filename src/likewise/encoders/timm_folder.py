"""timm's record of a model (its `pretrained_cfg`, the config.json of a folder) to our spec and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import timm
from torch import Tensor, nn

from likewise import files
from likewise.encoder import EncoderSpec, weights_hash
from likewise.errors import ConfigError, DataError, UsageError, near

if TYPE_CHECKING:
    from likewise.encoders.timm import TimmEncoder

WEIGHTS = "model.safetensors"
MODES: dict[str, Any] = {"center": "shortest", "squash": "squash"}
"""timm's crop_mode to our resize."""
_SOURCE = {"url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict", "label_names", "label_descriptions"}
"""Of timm's record: where released weights lie and what their classes are, which is not true of what we write."""


class Record(NamedTuple):
    """What a config.json, or we, know of a model beside timm's tables."""

    architecture: str = ""
    model_args: Mapping[str, Any] = {}
    features: str = ""
    """Ours: what the tower answers where nobody says otherwise."""
    view: Mapping[str, Any] = {}
    """Of `pretrained_cfg`, what is to stand above timm's own."""


def read_record(folder: Path) -> Record:
    """Raises M01 for what is no folder, M02 for one that timm could not read safely or would not know."""
    if not folder.is_dir():
        siblings = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        raise UsageError("M01", f"local-dir:{folder} is not a folder.{near(folder.name, siblings)}")
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"{folder} has no config.json, so its architecture is unknown. timm's save_for_hf writes one beside the "
            "weights.", "M02"
        )  # fmt: skip
    try:
        config = files.read_json(folder / "config.json")
    except DataError as error:
        raise ConfigError(str(error), "M02") from None
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(architecture, str):
        raise ConfigError(
            f"{folder / 'config.json'} names no «architecture», so this is no folder of timm's. One of transformers' "
            "(«model_type») is loaded with hf: in front.", "M02"
        )  # fmt: skip
    if not timm.is_model(architecture):
        raise ConfigError(
            f"{folder}: timm {timm.__version__} has no architecture «{architecture}»."
            f"{near(architecture, timm.list_models())} A newer timm may.", "M02"
        )  # fmt: skip
    features, model_args = config.get("features") or "", config.get("model_args") or {}
    return Record(architecture, model_args, features, config.get("pretrained_cfg") or {})


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The folder's tensors. Raises M02 where there are none in safetensors: pickles are not read."""
    found = sorted(folder.glob("*.safetensors"))
    chosen = [path for path in found if path.name == WEIGHTS] or found
    if not chosen:
        raise ConfigError(
            f"{folder} has no .safetensors file. Pickled weights (.bin, .pth) can run code when read and are refused; "
            f"save them with safetensors.torch.save_file as {WEIGHTS}.", "M02"
        )  # fmt: skip
    if len(chosen) > 1:
        raise ConfigError(f"{folder} has {len(chosen)} .safetensors files; call the right one {WEIGHTS}.", "M02")
    try:
        return files.read_tensors(chosen[0])
    except DataError as error:
        raise ConfigError(f"the weights cannot be read: {error}", "M02") from None


def filled(name: str, module: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """The folder's model with these weights: each of them but the classifier's, and no random ones. Or RuntimeError.

    Weights under older names, or for another picture size, go through timm's own conversion.
    """
    own = module.state_dict()
    record = getattr(module, "pretrained_cfg", None) or {}
    tables: Any = timm.get_pretrained_cfg(record.get("architecture", ""))
    known = record.get("classifier") or getattr(tables, "classifier", None) or ()
    heads = tuple(f"{head.partition('.')[0]}." for head in ((known,) if isinstance(known, str) else known))
    tensors = {key: value for key, value in tensors.items() if key in own or not key.startswith(heads)}
    native = tensors.keys() == own.keys() and all(own[key].shape == value.shape for key, value in tensors.items())
    if native or not record:
        module.load_state_dict(tensors)
        return module
    # timm is strict where there is no classifier to leave out
    about = {"source": None, "file": None, "state_dict": tensors, "num_classes": 0, "classifier": None}
    about |= {"custom_load": False, "label_offset": None}
    converted: nn.Module = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=about)
    converted.pretrained_cfg.pop("state_dict", None)  # type: ignore[operator, union-attr]
    return converted


def spec_of(asked: str, module: Any, record: Record, features: str, names: Mapping[str, str] | None) -> EncoderSpec:
    """The spec of timm's model; `names` of its numbers by ours, or None where it has no pretrained weights.

    Raises M02 for a view that ours cannot show: pictures that are no squares of three colours, other interpolations
    or crops.
    """
    view = {**(getattr(module, "pretrained_cfg", None) or module.default_cfg), **record.view}
    data = timm.data.resolve_data_config(pretrained_cfg=view)
    colours, *sides = data["input_size"]
    size = record.model_args.get("img_size") or sides
    height, width = (size, size) if isinstance(size, int) else size
    how = data["interpolation"]
    wrong = {
        "size of pictures": (height, width) if height != width else None,
        "number of colours": colours if colours != 3 else None,
        "interpolation": how if how not in ("bicubic", "bilinear", "nearest") else None,
        "crop_pct": data["crop_pct"] if not 0 < data["crop_pct"] <= 1 else None,
        "crop_mode": data["crop_mode"] if data["crop_mode"] not in MODES else None,
    }
    for what, value in wrong.items():
        if value is not None:
            raise ConfigError(
                f"{asked}: its {what} is {value}; pictures here are squares of three colours, resized by bicubic, "
                f"bilinear or nearest, and cropped by {' or '.join(MODES)}.", "M02"
            )  # fmt: skip
    state = module.state_dict() if names is not None else {}
    return EncoderSpec(
        family="timm",
        name=asked,
        config={
            "architecture": view.get("architecture") or record.architecture,
            "features": features,
            "model_args": dict(record.model_args),
        },
        weights=weights_hash({names[key]: value for key, value in state.items()}) if names is not None else "",
        image_size=height,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        resize=MODES[data["crop_mode"]],
        crop=data["crop_pct"],
        interpolation=how,
        context=0,
    )


def write_timm_folder(folder: Path, encoder: TimmEncoder) -> None:
    """config.json and model.safetensors into a folder, which `timm.create_model("local-dir:...", num_classes=0)` reads.

    The encoder is written as it now is: grafts on weights folded in, the others left out. Write inside
    `files.new_folder`, so that the two files are there together or not at all.
    """
    module: Any = encoder.module
    spec = encoder.spec
    stored = module.state_dict()
    state: dict[str, Tensor] = {
        upstream: stored[upstream] if upstream in stored else encoder.sites[ours].value  # under a graft on the weight
        for upstream, ours in encoder.names.items()
    }
    source = getattr(module, "pretrained_cfg", None) or module.default_cfg
    kept = {key: value for key, value in source.items() if key not in _SOURCE}
    config = {
        "architecture": spec.config["architecture"],
        "num_classes": 0,
        "num_features": module.num_features,
        "features": spec.config["features"],
        "model_args": spec.config["model_args"],
        "pretrained_cfg": kept | {
            "num_classes": 0, "classifier": None, "custom_load": False, "label_offset": None,
            "input_size": [3, spec.image_size, spec.image_size], "mean": list(spec.mean), "std": list(spec.std),
            "interpolation": spec.interpolation, "crop_pct": spec.crop,
            "crop_mode": next(theirs for theirs, ours in MODES.items() if ours == spec.resize),
        },
    }  # fmt: skip
    files.write_json(folder / "config.json", config)
    files.write_tensors(folder / WEIGHTS, state, {"format": "pt"})
