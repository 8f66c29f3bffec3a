"""Which way rooms import: the only place where the order is written down."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEVELS = (
    ("errors",),
    ("config", "names", "keys", "metrics", "files"),
    ("encoder",),
    ("encoders", "adapters", "heads", "losses", "merging", "data"),
    ("recipe", "datasets"),
    ("recipes", "solve"),
    ("fit", "judge", "episodes", "predict", "suites"),
    ("run", "tune"),
    ("report", "export", "serve", "bench", "recommend"),
    ("api",),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room_of(place: str) -> str:
    """`run/adapt.py` -> `run`, `config.py` -> `config`."""
    return place.split("/")[0].removesuffix(".py")


def imported(tree: ast.AST, place: str) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of ours, at any depth: inside functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                folders = ["likewise", *place.split("/")[:-1]]
                base = ".".join([*folders[: len(folders) - node.level + 1], *([base] if base else [])])
            dotted = [f"likewise.{alias.name}" for alias in node.names] if base == "likewise" else [base]
        else:
            continue
        for name in dotted:
            if name == "likewise" or name.startswith("likewise."):
                room = name.split(".")[1] if "." in name else "__init__"
                yield node.lineno, room if room in LEVEL else "__init__"


def offences(sources: Any) -> list[str]:
    out = []
    for place, _, tree in sources:
        mine = room_of(place)
        for line, room in imported(tree, place):
            if room != mine and LEVEL[room] >= LEVEL.get(mine, -1):
                out.append(f"{place}:{line} imports {room} (level {LEVEL[room]}, own {LEVEL.get(mine)})")
    return out


def test_every_module_lies_in_a_room_that_has_a_level(sources: Any) -> None:
    assert [place for place, _, _ in sources if room_of(place) not in LEVEL] == []


def test_the_page_on_the_layout_names_every_room(sources: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reading.md").read_text()
    rooms = {room_of(place) for place, _, _ in sources} - {"__init__", "__main__"}
    assert [room for room in sorted(rooms) if not re.search(rf"`{room}(/|\.py)`", page)] == []


def test_rooms_import_only_lower_rooms(sources: Any) -> None:
    assert offences(sources) == []


def test_the_reader_sees_imports_in_every_form() -> None:
    text = (
        "import likewise.run.adapt\nfrom likewise import files, nothing\nfrom likewise.cli import main\n"
        "def f():\n    from likewise.report import page\n    from .. import serve\n    from ..tune import x\n"
    )
    found = list(imported(ast.parse(text), "data/views.py"))
    assert found == [(1, "run"), (2, "files"), (2, "__init__"), (3, "cli"), (5, "report"), (6, "serve"), (7, "tune")]
    assert len(offences([("data/views.py", text, ast.parse(text))])) == 6  # all but files
    assert offences([("run/adapt.py", "", ast.parse("from likewise.run.method import Job"))]) == []
    assert len(offences([("names.py", "", ast.parse("from likewise.config import Config"))])) == 1
