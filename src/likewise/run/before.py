"""What is looked at before a run writes or trains anything: every plan, and the texts by which classes are told."""

# C classes, L tokens.

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from likewise.adapters import texts_of
from likewise.data.audit import Finding
from likewise.data.prompts import check_lengths, fill
from likewise.data.records import Dataset
from likewise.encoder import Encoder
from likewise.errors import DataError, some
from likewise.heads import HeadConfig
from likewise.recipe import Recipe
from likewise.run.planning import planned

Texts = Sequence[Sequence[str]]
SHOWN = 60
"""Characters of a class name in a message."""


def foresee(encoder: Encoder, data: Dataset, recipes: Mapping[str, Recipe], asked: Container[str]) -> list[Finding]:
    """What the recipes will meet: D11 for prompts that are cut, D16 for classes whose prompts are all the same.

    Raises `ConfigError` naming a method that the encoder cannot have, and `DataError` D16 where one of the `asked`
    methods has nothing but the class texts by which to tell two classes apart, and these are the same.
    """
    planned(recipes, encoder, len(data.classes), len(data.train))
    names = data.classes.names
    prompts = fill(data.templates, names)
    told = {name: texts_of(recipe.adapters, names) or prompts for name, recipe in recipes.items()}
    found: list[Finding] = []
    seen: list[Texts] = []
    for texts in [prompts, *told.values()]:
        if texts in seen:
            continue
        seen.append(texts)
        found += check_lengths(texts, [encoder.lengths(part) for part in texts], encoder.spec.context)
        by_text = [name for name, recipe in recipes.items() if told[name] == texts and _by_text(recipe)]
        found += _check_apart(encoder, names, texts, [name for name in by_text if name in asked])
    return found


def _by_text(recipe: Recipe) -> bool:
    """Whether the class texts alone decide what its model answers."""
    return not isinstance(recipe.head, HeadConfig) or recipe.head.live_text


def _check_apart(encoder: Encoder, names: Sequence[str], texts: Texts, blind: Sequence[str]) -> list[Finding]:
    pairs = twins(encoder, texts)
    if not pairs:
        return []
    shown = some((f"«{_short(names[a])}» and «{_short(names[b])}»" for a, b in pairs), 3)
    cut = any(n > encoder.spec.context for a, _ in pairs for n in encoder.lengths(texts[a]))
    said = (
        f"{shown} are the same tokens to {encoder.spec.name} in every prompt"
        + (f", each cut at {encoder.spec.context}" if cut else "")
        + ", so the text head can never tell them apart"
    )
    mend = "Give such classes other or shorter names with --classes, or put {} at the beginning of the templates"
    if blind:
        raise DataError(
            "D16", f"{said}, and {some(blind)} would have no other way. {mend}; or use methods with a head of their "
            "own alone, such as --methods linear,cosine."
        )  # fmt: skip
    return [Finding("D16", f"{said}; a head that starts at the texts starts with a tie. {mend}.")]


def twins(encoder: Encoder, texts: Texts) -> list[tuple[int, int]]:
    """Pairs of classes whose prompts are, one by one, the same tokens: each class with the first that is like it."""
    first: dict[tuple[bytes, ...], int] = {}
    out = []
    for index, own in enumerate(texts):
        key = tuple(ids_L.numpy().tobytes() for ids_L in encoder.tokenize(own).cpu())
        if first.setdefault(key, index) != index:
            out.append((first[key], index))
    return out


def _short(name: str) -> str:
    return name if len(name) <= SHOWN else f"{name[: SHOWN // 2]}…{name[-SHOWN // 2 :]}"
