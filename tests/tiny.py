"""Stepping stones: encoders of a few hundred thousand numbers and a data set of three colours, both written to disk.

The encoders are ordinary open_clip folders with random weights, so they are loaded by the code that loads a user's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from likewise.data.prompts import fill
from likewise.data.records import ClassTable, Dataset, Record, Role, Split
from likewise.encoder import Encoder
from likewise.encoders import icon_tower  # noqa: F401  (registers the icon tower's name with timm)
from likewise.recipe import Descent, Lbfgs, Machine, Majorize, Recipe
from likewise.run.method import Job
from likewise.run.watch import Stop, Watch

COLOURS = {"red": (210, 40, 30), "green": (40, 190, 60), "blue": (30, 60, 220)}
TEMPLATES = ("a {}.", "one picture of a very {} thing.")
"""Of two lengths, so that trimming has something to trim."""
SPLITS: tuple[tuple[str, Role, int], ...] = (
    ("train", "train", 6), ("select", "select", 3), ("id", "report", 2), ("dark", "report", 2),
)  # fmt: skip
"""Name, role, pictures a class."""

_text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
_image = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"embed_dim": 16, "vision_cfg": _image, "text_cfg": _text},
    "icon": {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": "likewise_icon_vit", "timm_model_pretrained": False, "timm_pool": "avg",
                       "timm_proj": "linear", "image_size": 64},
        "text_cfg": _text,
    },
    "custom": {"embed_dim": 16, "vision_cfg": _image, "text_cfg": _text, "custom_text": True},
    "resnet": {
        "embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}, "text_cfg": _text
    },
}  # fmt: skip
VIEW = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic", "resize_mode": "shortest"}


def write_encoder(folder: Path, kind: str) -> Path:
    """An open_clip folder of that kind with weights that are the same on every call."""
    config = MODELS[kind]
    name = f"tiny-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    view = {"size": config["vision_cfg"]["image_size"], **VIEW}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": view}))
    state = torch.random.get_rng_state()
    torch.manual_seed(7)
    # Built by open_clip from the folder itself, before there are weights in it.
    module = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    with torch.no_grad():  # away from the exact ones and zeros of a fresh model, which would hide mistakes
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for tower in ("visual", "text"):  # larger than at birth, or all texts and all pictures would look alike
            projection = f"{tower}_projection" if tower == "text" else "proj"
            owner = module.visual if tower == "visual" else getattr(module, "text", module)
            if isinstance(getattr(owner, projection, None), torch.nn.Parameter):
                getattr(owner, projection).mul_(3)
        for key, buffer in module.named_buffers():
            if "running_mean" in key:
                buffer.copy_(0.1 * torch.randn_like(buffer))
            if "running_var" in key:
                buffer.copy_(0.5 + torch.rand_like(buffer))
    torch.random.set_rng_state(state)
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "name.txt").write_text(name)
    return folder


def write_data(folder: Path) -> Dataset:
    """Noisy squares of three colours; the other domain is darker."""
    table = ClassTable.of(list(COLOURS))
    rng = np.random.default_rng(3)
    splits: dict[str, Split] = {}
    for name, role, count in SPLITS:
        records = []
        for label, (colour, rgb) in enumerate(COLOURS.items()):
            for number in range(count):
                path = folder / name / colour / f"{number}.png"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    noise_HWC = rng.normal(0, 40, (16, 16, 3)) + np.array(rgb) * (0.4 if name == "dark" else 1.0)
                    Image.fromarray(noise_HWC.clip(0, 255).astype(np.uint8)).save(path)
                records.append(Record(f"{name}/{colour}/{number}", label, path))
        splits[name] = Split(name, role, tuple(records))
    report = [splits["id"], splits["dark"]]
    return Dataset("colours", table, splits["train"], splits["select"], report, templates=TEMPLATES)


def shrunk(recipe: Recipe, *edits: str) -> Recipe:
    """The recipe at a length that a test can bear: 18 pictures, 3 steps an epoch; prompts that fit 16 tokens."""
    short = []
    for index, stage in enumerate(recipe.stages):
        at = f"stages.{index}"
        if isinstance(stage.fit, Descent):
            short += [f"{at}.fit.epochs=1", f"{at}.fit.batch=8", f"{at}.fit.warmup=0.3", f"{at}.fit.per_shot=0"]
        if isinstance(stage.fit, Lbfgs):
            short += [f"{at}.fit.path=[1.0, 100.0]"]
        if isinstance(stage.fit, Majorize):
            short += [f"{at}.fit.epochs=20"]
        for number, adapter in enumerate(stage.adapters):
            if adapter.kind == "prompt" and not adapter.start:
                short += [f"{at}.adapters.{number}.length=5"]
            if adapter.kind == "maple":
                short += [f"{at}.adapters.{number}.depth=2"]
    return recipe.edited(*short, *edits)


def make_job(encoder: Encoder, data: Dataset, machine: Machine | None = None, stop: Stop | None = None) -> Job:
    prompts = fill(data.templates, data.classes.names)
    return Job(encoder, data, prompts, 0, machine or Machine(), Watch(), stop or Stop())


def everything(encoder: Encoder) -> dict[str, torch.Tensor]:
    """A copy of every pretrained parameter by our names, whatever is grafted on it, and of every buffer."""
    buffers = {name: value.detach().clone() for name, value in encoder.module.named_buffers()}
    return encoder.state(list(encoder.sites)) | buffers


def pixels(encoder: Encoder, n: int = 3) -> torch.Tensor:
    size = encoder.spec.image_size
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(5))


def alive_of(
    numbers: Mapping[str, torch.nn.Parameter], answers: Callable[[], tuple[torch.Tensor, torch.Tensor]]
) -> set[str]:
    """Which of the numbers have had a gradient that is not zero within two steps on both towers' answers."""
    alive: set[str] = set()
    optimizer = torch.optim.SGD(numbers.values(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        image_BD, text_BD = answers()
        (image_BD.square().sum() + text_BD.square().sum()).backward()
        alive |= {name for name, p in numbers.items() if p.grad is not None and bool(p.grad.any())}
        optimizer.step()
    return alive
