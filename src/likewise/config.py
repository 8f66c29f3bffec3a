"""Configuration trees: frozen, typed, refused early, edited by `path=value`, identified by a fingerprint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from likewise.errors import ConfigError, near


class Config(BaseModel):
    """A node of a tree: immutable, and an unknown key is an error that names the near miss."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    @classmethod
    def parse(cls, tree: Any, where: str = "config") -> Self:
        """A value from plain data. Raises `ConfigError` naming the path, the near miss and the choices."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ConfigError(_explain(error, cls, where)) from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """A value from a YAML or JSON file."""
        try:
            tree = _Loader(path.read_text()).get_single_data()
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not YAML: {error}") from None
        return cls.parse(tree, str(path))

    def tree(self) -> Any:
        """Plain data: dictionaries, lists, strings and numbers."""
        return self.model_dump(mode="json")

    def yaml(self) -> str:
        """The tree as YAML, which `read` takes back."""
        tree = self.tree()
        readable = "\x85" not in json.dumps(tree, ensure_ascii=False)  # the one character PyYAML loses unescaped
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=readable, width=120)

    def edited(self, *edits: str) -> Self:
        """The tree with `path=value` edits, e.g. `stages.0.fit.lr=3e-4`. Values are YAML."""
        tree = self.tree()
        for edit in edits:
            path, equals, text = edit.partition("=")
            if not equals:
                raise ConfigError(f"«{edit}» is not an edit. Write path=value, for example stages.0.fit.lr=3e-4.")
            _put(tree, path.split("."), _value(text), path)
        return type(self).parse(tree, "edits")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that stands twice in one mapping: the first would be lost unsaid."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        if again := next((key for i, key in enumerate(keys) if key in keys[:i]), None):
            raise yaml.constructor.ConstructorError(None, None, f"«{again}» stands twice", node.start_mark)
        return node


def fingerprint(value: Any) -> str:
    """64 bits of SHA-256, as 16 hex digits, of plain data or a Config; equal trees have equal fingerprints."""
    plain = value.tree() if isinstance(value, Config) else value
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _value(text: str) -> Any:
    try:
        return float(text) if "e" in text.lower() else _plain(text)  # YAML reads 1e-4 as a string
    except ValueError:
        return _plain(text)


def _plain(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"«{text}» is not a YAML value: {error}") from None


def _put(tree: Any, keys: list[str], value: Any, path: str) -> None:
    for depth, key in enumerate(keys):
        here = ".".join(keys[:depth]) or "the tree"
        last = depth + 1 == len(keys)
        if isinstance(tree, list):
            if not key.isdigit() or int(key) >= len(tree):
                raise ConfigError(f"{path}: {here} is a list of {len(tree)}; «{key}» is not an index into it.")
            index: Any = int(key)
        elif isinstance(tree, dict):
            if key not in tree:
                raise ConfigError(f"{path}: no field «{key}» in {here}.{near(key, tree)} Fields: {', '.join(tree)}.")
            index = key
        else:
            raise ConfigError(f"{path}: {here} is the value {tree!r} and has no field «{key}».")
        if last:
            tree[index] = value
        else:
            tree = tree[index]


def _explain(error: ValidationError, cls: type[BaseModel], where: str) -> str:
    lines = []
    found = error.errors()
    inner = {item["loc"][:n] for item in found for n in range(len(item["loc"]))}
    for item in found:
        if item["type"] == "too_short" and item["loc"] in inner:
            continue  # short of what is wrong with its parts
        steps = [str(step) for step in item["loc"]]
        path = ".".join(steps)
        if item["type"] == "extra_forbidden":
            fields = _fields_at(cls, item["loc"][:-1])
            hint = near(steps[-1], fields) + (f" Fields: {', '.join(fields)}." if fields else "")
            if ":" in steps[-1]:  # YAML reads {kind:greedy} as a key
                hint = f" A space is missing: write {steps[-1].replace(':', ': ', 1)}."
            lines.append(f"{where}: unknown key «{path}».{hint}")
        elif item["type"] == "missing":
            lines.append(f"{where}: «{path}» is missing.")
        else:
            said = item["msg"].removeprefix("Value error, ")
            whole = isinstance(item["input"], dict | list)  # a tree says less than its path
            given = path if whole else f"{path}={item['input']!r}"
            said += "" if said.endswith((".", "?")) else "."
            lines.append(": ".join(part for part in (where, given, said) if part))
    return "\n".join(lines)


def _fields_at(cls: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The field names at a place in the tree, found by walking the annotations; none where unions leave it open."""
    here = [cls]
    for step in loc:
        tagged = [kind for kind in here if getattr(kind.model_fields.get("kind"), "default", None) == step]
        fields = [kind.model_fields[step] for kind in here if isinstance(step, str) and step in kind.model_fields]
        if tagged:  # which member of a union it is
            here = tagged
        elif fields:
            here = [kind for field in fields for kind in _models(field.annotation)]
        # else an index of a list, or a key of a dictionary: the type inside it is known already
    return list(here[0].model_fields) if len(here) == 1 else []


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for inner in get_args(annotation) for kind in _models(inner)]
