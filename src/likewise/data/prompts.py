"""Class names in sentences: the prompts of the text head and the captions of contrastive training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from likewise.data.audit import Finding
from likewise.encoder import learned
from likewise.errors import ConfigError, UsageError, some

# Generic on purpose: they say nothing about medium or domain that a person's pictures might contradict.
DEFAULT_TEMPLATES = (
    "a photo of a {}.",
    "a picture showing a {}.",
    "an image of one {}.",
    "a {} seen up close.",
    "a {} in its usual surroundings.",
    "this is a {}.",
)

_PRIVATE = re.compile(f"[{learned(0)}-{learned(65_533)}]")  # the whole plane but for its two noncharacters


def check_templates(templates: Iterable[str]) -> tuple[str, ...]:
    """The templates, each with exactly one `{}` for the class name. Raises `UsageError` naming one without."""
    templates = tuple(templates)
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(
                "U01",
                f"template «{template}» holds {template.count('{}')} places for the class name and needs one, "
                'or every class would have the same prompt. Write it as in "a photo of a {}."',
            )
    return templates


def check_plain(texts: Iterable[str], what: str) -> None:
    """Raises `ConfigError` for a text with a character of the private plane, which is read as a learned word."""
    for text in texts:
        if found := _PRIVATE.search(text):
            raise ConfigError(
                f"the {what} {text!a} has the character U+{ord(found[0]):X} of Unicode's private plane, which stands "
                "for a learned word and has no embedding of its own. Write it in ordinary characters; --classes gives "
                "classes other names."
            )


def fill(templates: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    """One list of prompts for each name, in the order of the templates.

    The name is put in as it is, so braces in it are safe. «a» is not turned into «an» before a vowel: prompts stay
    what the templates say, and the published templates do not either. Raises `ConfigError` as `check_plain` does.
    """
    check_plain(names, "class name")
    check_plain(templates, "template")
    return [[template.replace("{}", name) for template in check_templates(templates)] for name in names]


def check_lengths(prompts: Sequence[Sequence[str]], lengths: Sequence[Sequence[int]], limit: int) -> list[Finding]:
    """A D11 finding when prompts are longer than the text tower reads; an empty list when all fit.

    `lengths` are token counts, start and end tokens included, one for each prompt, by the tokenizer that will be used.
    """
    long = [
        (text, n)
        for texts, counts in zip(prompts, lengths, strict=True)
        for text, n in zip(texts, counts, strict=True)
        if n > limit
    ]
    if not long:
        return []
    shown = some((f"«{text}» ({n})" for text, n in sorted(long, key=lambda pair: -pair[1])), 3)
    verb = "prompt exceeds" if len(long) == 1 else "prompts exceed"
    return [
        Finding(
            "D11",
            f"{len(long)} {verb} the {limit} tokens the text tower reads: {shown}. The end would be cut, and with it "
            "perhaps the class name. Shorten the templates, or the names with --classes.",
        )
    ]
