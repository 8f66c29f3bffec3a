"""What the runtime never does (ruling 14): unpickle, run text as code, or read YAML that builds objects."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest

MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save", "yaml.load",
    "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "np.load", "numpy.load", "torch.jit.load", "torch.hub.load",
    "pd.read_pickle",
}  # fmt: skip


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if base.split(".")[0] in MODULES:
                yield node.lineno, base
            yield from ((node.lineno, f"{base}.{a.name}") for a in node.names if f"{base}.{a.name}" in CALLS)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            plain = {"yaml.SafeLoader", "yaml.CSafeLoader", "yaml.BaseLoader"} & {
                ast.unparse(k.value) for k in node.keywords
            }
            if called in CALLS and not (called in ("yaml.load", "yaml.load_all") and plain):
                yield node.lineno, called
            if any(k.arg == "shell" and getattr(k.value, "value", False) is True for k in node.keywords):
                yield node.lineno, f"{called}(shell=True)"
            if any(k.arg == "allow_pickle" and getattr(k.value, "value", True) is not False for k in node.keywords):
                yield node.lineno, f"{called}(allow_pickle=True)"
            if any(k.arg == "weights_only" and getattr(k.value, "value", None) is not True for k in node.keywords):
                yield node.lineno, f"{called}(weights_only=False)"


def test_nothing_unsafe_in_the_runtime(sources: Any) -> None:
    assert [f"{place}:{line} {what}" for place, _, tree in sources for line, what in unsafe(tree)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import torch\ntorch.load('x')", "from torch import load",
        "eval('1')", "yaml.load(text)", "yaml.load(text, Loader=yaml.Loader)", "subprocess.run('ls', shell=True)",
        "np.load(path)", "f(path, weights_only=False)", "f(path, allow_pickle=True)", "def g():\n    exec('x')",
    ],
)  # fmt: skip
def test_each_form_is_seen(text: str) -> None:
    assert list(unsafe(ast.parse(text)))


def test_what_is_safe_passes() -> None:
    text = (
        "yaml.safe_load(t)\nyaml.load(t, Loader=yaml.BaseLoader)\nmodel.eval()\nre.compile('x')\n"
        "f(path, weights_only=True)\nsubprocess.run(['ls'])"
    )
    assert list(unsafe(ast.parse(text))) == []
