"""The package's source, parsed once: the shape tests read files and import nothing of them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

import pytest


class Source(NamedTuple):
    """One module: its place under the package, e.g. `run/adapt.py`, its text and its tree."""

    place: str
    text: str
    tree: ast.Module


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    root = Path(__file__).parents[2] / "src" / "likewise"
    paths = sorted(root.rglob("*.py"))
    assert len(paths) > 20
    texts = [(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in paths]
    return [Source(place, text, ast.parse(text)) for place, text in texts]
