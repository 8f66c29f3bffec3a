"""Pretrained encoders by name, a module for each library.

icon-clip                         ships with the package, as do icon-vit and icon-dino, which see and do not read
                                  and are timm's: icon-vit#mean (`encoders.timm` says what stands behind a #)
open_clip:ViT-B-16/openai         image-text models of open_clip (the prefix may be left out); hf-hub: ones too
timm:vit_base_patch16_224.dino    vision encoders of timm
hf:facebook/dinov2-base           CLIP, SigLIP, DINO of transformers
st:all-MiniLM-L6-v2               encoders of sentences, of texts alone
local-dir:FOLDER                  a folder of any of them, told by its configuration file
"""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import Tensor

from likewise import files
from likewise.encoder import Encoder
from likewise.errors import DataError, UsageError

ASSETS = Path(__file__).parent.parent / "assets"
BUILT_IN = {name: ASSETS / name for name in ("icon-clip", "icon-vit", "icon-dino")}
"""Models that the package carries, as folders of their libraries."""
BESIDE = {"icon-vit": "icon-clip", "icon-dino": "icon-clip"}
"""The text tower that stands beside a vision encoder of ours where none is named."""
RATE_SCALES = {"icon-clip": 30.0, "icon-vit": 30.0, "icon-dino": 30.0}
"""Recipes name learning rates for encoders of ViT-B size and up. icon-clip is ten times smaller and hardly trained
by their measure: of 10 and 30 times the rates of full fine-tuning, FLYP and LayerNorm tuning, the larger was as good or
better on IconShift's select split for each of the three (one seed). Of 10, 30 and 100 times the rates of LayerNorm
tuning and whole-tower tuning on captions, 30 was best or one picture behind for icon-vit (select split, 2,000 pairs,
one seed); icon-dino, which has its shape, takes the same."""

PREFIXES = {"timm": "timm", "hf": "transformers", "st": "sentences", "open_clip": "open_clip"}
"""Before the colon of a name, and the module that loads it."""


def rate_scale(name: str) -> float:
    """What the rates of recipes are multiplied by for the encoder of that name."""
    return RATE_SCALES.get(name.partition("#")[0], 1.0)


def paired(name: str, text: str = "") -> Encoder:
    """The encoder of that name with a text tower beside it: `text`'s, or for ours `BESIDE`'s; a CLIP has its own.

    Raises what `load` and `encoders.pair.Pair` do, and `UsageError` M03 for a vision encoder that is left without.
    """
    from likewise.encoders.pair import Pair

    encoder = load(name)
    text = text or BESIDE.get(name.partition("#")[0], "")
    if not text and not encoder.has("text"):
        raise UsageError(
            "M03",
            f"{name} has no text tower, so captions mean nothing to it. Put one beside it: --text "
            "open_clip:ViT-B-32/openai (a CLIP's), or --text st:all-MiniLM-L6-v2 (of sentences).",
        )
    return Pair(encoder, load(text)) if text else encoder


def load(name: str = "icon-clip", weights: bool = True) -> Encoder:
    """The encoder of that name, on the CPU, in fp32, in eval mode.

    `weights=False` gives the architecture alone, for counting. Raises `UsageError` M01 for an unknown name,
    `ConfigError` M02 where weights and architecture do not belong together, `MachineError` M01 where a download failed.
    """
    base, mark, features = name.partition("#")
    if base in BUILT_IN:
        library = _library(BUILT_IN[base])
        if mark and library != "timm":
            raise UsageError(
                "M01", f"{name}: {base} is an {library} model, which answers in one way. Leave #{features} out; behind "
                "a # stands what an encoder of timm's answers, as in icon-vit#mean."
            )  # fmt: skip
        encoder = load(f"local-dir:{BUILT_IN[base]}{mark}{features}", weights)
        encoder.spec = encoder.spec.model_copy(update={"name": name})
        encoder.rate_scale = rate_scale(name)
        return encoder
    library = _library(Path(name.partition(":")[2])) if name.startswith("local-dir:") else name.partition(":")[0]
    module = importlib.import_module(f"likewise.encoders.{PREFIXES.get(library, 'open_clip')}")
    found: Encoder = module.load(name, weights)
    return found


def reference(name: str) -> Tensor | None:
    """features_NW of pictures that one of ours was pretrained on, before the projection; None for other encoders."""
    path = BUILT_IN.get(name, Path()) / "reference.safetensors"
    return files.read_tensors(path)["features_NW"].float() if name in BUILT_IN and path.exists() else None


def _library(folder: Path) -> str:
    """Whose folder it is, by its configuration; open_clip's where none tells: its loader then says what is missing."""
    if (folder / "open_clip_config.json").exists():
        return "open_clip"
    if (folder / "modules.json").exists():
        return "st"
    plain = Path(str(folder).partition("#")[0])
    for path in (folder / "config.json", plain / "config.json"):
        try:
            config = files.read_json(path) if path.exists() else {}
        except DataError:  # not JSON: the library's own loader says so
            return "timm"
        if "model_type" in config:
            return "hf"
        if config:
            return "timm"
    return "open_clip"
