"""Read, select and render icons from the npm package `@iconify/json`, for the builders beside this file.

npm install @iconify/json@2.2.535 && pip install resvg-py
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

HERE = Path(__file__).parent
SIZE = 64
PERMISSIVE = {
    "MIT", "Apache-2.0", "ISC", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "OFL-1.1", "BSD-3-Clause", "MPL-2.0", "Unlicense",
}  # fmt: skip


@dataclass(frozen=True)
class Icon:
    """One drawing: `set` and `name` find it in the package, `family` is the lineage of its designers."""

    set: str
    name: str
    family: str
    body: str
    width: float
    height: float
    left: float = 0.0
    top: float = 0.0

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(w for w in re.split(r"[-_\s]+", self.name.lower()) if w)


@cache
def sources() -> dict:
    """The choices that a person made: families, domains, style words, synonyms (`sources.yaml`)."""
    return yaml.safe_load((HERE / "sources.yaml").read_text())


@cache
def collections(package: Path) -> dict:
    return json.loads((package / "collections.json").read_text())


def family(package: Path, prefix: str) -> str:
    """The lineage of a set: a named family of forks and siblings, or everything by the same author."""
    for name, members in sources()["families"].items():
        if prefix in members:
            return name
    return collections(package)[prefix]["author"]["name"]


def permissive(package: Path, prefix: str) -> bool:
    return collections(package)[prefix]["license"].get("spdx") in PERMISSIVE


def held_out(package: Path) -> set[str]:
    """The families that IconShift uses, on any side."""
    chosen = sources()
    sets = [*chosen["train"], *chosen["select"], *chosen["report"], *(s for of in chosen["ood"].values() for s in of)]
    return {family(package, prefix) for prefix in sets}


def pretraining_sets(package: Path) -> list[str]:
    """The sets that may be pretrained on: permissive, of no family that IconShift uses, no logos, no flags."""
    chosen, about, kin = sources(), collections(package), held_out(package)
    return [
        prefix for prefix in about
        if permissive(package, prefix) and family(package, prefix) not in kin
        and about[prefix].get("category") not in chosen["pretrain_without_categories"]
        and prefix not in chosen["pretrain_without"]
    ]  # fmt: skip


def read(package: Path, prefix: str) -> Iterator[Icon]:
    """The set's own drawings; aliases are other names of the same picture and are left out."""
    data = json.loads((package / "json" / f"{prefix}.json").read_text())
    kin = family(package, prefix)
    for name, icon in data["icons"].items():
        if icon.get("hidden"):
            continue
        yield Icon(
            prefix, name, kin, icon["body"],
            icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16)),
            icon.get("left", data.get("left", 0)), icon.get("top", data.get("top", 0)),
        )  # fmt: skip


def aliases(package: Path, prefix: str) -> dict[str, list[str]]:
    """Name of a drawing -> its other plain names in the same set (rotated or flipped ones left out)."""
    data = json.loads((package / "json" / f"{prefix}.json").read_text())
    out: dict[str, list[str]] = {}
    for name, alias in data.get("aliases", {}).items():
        if set(alias) <= {"parent", "hidden"}:
            out.setdefault(alias["parent"], []).append(name)
    return out


def concept(words: tuple[str, ...]) -> str:
    """A name without its style words: `alarm-clock-outline-24` -> `alarm clock`."""
    style = set(sources()["style_words"])
    return " ".join(w for w in words if w not in style and not w.isdigit())


def render(icon: Icon, size: int = SIZE) -> np.ndarray:
    """The drawing as rgba_HW4 (uint8), its ink black where the set says `currentColor`, centred on a square."""
    import resvg_py

    side = max(icon.width, icon.height)
    left = icon.left - (side - icon.width) / 2
    top = icon.top - (side - icon.height) / 2
    body = icon.body.replace("currentColor", "#000000")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{size}" height="{size}" viewBox="{left} {top} {side} {side}">{body}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def on_white(rgba_HW4: np.ndarray) -> np.ndarray:
    """The drawing on white paper, as rgb_HW3 (uint8)."""
    alpha = rgba_HW4[..., 3:].astype(np.float32) / 255
    return (rgba_HW4[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
