"""How large a module, a signature and a configuration may be, and that what is public says what it does.

Raising a number is a reviewed change with a reason beside it.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from typing import Any

MODULE_LINES = 250
"""Lines that are not blank: code, docstrings and comments."""
PARAMETERS = 7
FIELDS = 10
LARGER_CONFIGS = {"EncoderSpec": 11}
"""What must be known to use weights rightly is what it is."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    a = function.args
    named = [arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + (a.vararg is not None) + (a.kwarg is not None)


def test_modules_are_small(sources: Any) -> None:
    counts = {place: sum(bool(line.strip()) for line in text.splitlines()) for place, text, _ in sources}
    assert {place: n for place, n in counts.items() if n > MODULE_LINES} == {}


def test_functions_take_few_parameters(sources: Any) -> None:
    found = {
        f"{place}:{function.lineno} {function.name}": parameters(function)
        for place, _, tree in sources
        for function in functions(tree)
        if parameters(function) > PARAMETERS and not (place.startswith("cli/") and command(function))
    }
    assert found == {}


def command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A command returns its exit code, and its parameters are flags: one reads them in `--help`, not at a call."""
    return function.returns is not None and ast.unparse(function.returns) == "int" and not function.name.startswith("_")


def test_a_parameter_is_counted_wherever_it_stands() -> None:
    text = "class A:\n def f(self, a, /, b, *rest, c=1, **more): ...\n def g(h) -> int: ...\n def _i(j) -> int: ..."
    found = {f.name: (parameters(f), command(f)) for f in functions(ast.parse(text))}
    assert found == {"f": (5, False), "g": (1, True), "_i": (1, False)}


def test_configs_have_few_fields(sources: Any) -> None:
    from likewise.config import Config

    for place, text, _ in sources:
        if "Config" in text and not place.startswith(("cli", "__")):
            importlib.import_module("likewise." + place.removesuffix(".py").removesuffix("/__init__").replace("/", "."))

    def below(kind: type[Config]) -> Iterator[type[Config]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    ours = [kind for kind in below(Config) if kind.__module__.startswith("likewise.")]
    assert len(ours) > 10
    large = {kind.__qualname__: len(kind.model_fields) for kind in ours}
    assert {name: n for name, n in large.items() if n > LARGER_CONFIGS.get(name, FIELDS)} == {}


def undocumented(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Public functions and classes of a module without a docstring. Methods speak through their class."""
    for node in tree.body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ):
            yield node.lineno, node.name


def test_what_is_public_is_documented(sources: Any) -> None:
    assert [f"{place}:{line} {name}" for place, _, tree in sources for line, name in undocumented(tree)] == []


def test_a_missing_docstring_is_seen() -> None:
    text = 'def a(): ...\ndef _b(): ...\nclass C:\n    """Said."""\n    def d(self): ...\nclass E: ...'
    assert list(undocumented(ast.parse(text))) == [(1, "a"), (6, "E")]


def test_modules_are_documented(sources: Any) -> None:
    assert [place for place, text, tree in sources if text.strip() and ast.get_docstring(tree) is None] == []
