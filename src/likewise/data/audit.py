"""What was found in somebody's data: errors, warnings and notices, each with its code and what to do about it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from likewise.errors import DataError, near, some

FEW_TO_SELECT = 5  # pictures of a class below which a choice on them is mostly luck
UNEVEN = 10  # ratio of the largest class to the smallest from which it is worth a word


class Finding(NamedTuple):
    """One thing found: a code, as errors have, and a sentence."""

    code: str
    message: str


@dataclass
class Audit:
    """Findings about one dataset; `counts` is split -> class folder -> pictures."""

    about: str = ""
    errors: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    notices: list[Finding] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)  # file, reason
    duplicates: list[tuple[str, str]] = field(default_factory=list)  # dropped key, key of the copy that stayed
    pixels: dict[str, str] = field(default_factory=dict)  # key to pixel hash, of what was opened; for comparisons only

    @property
    def ok(self) -> bool:
        """Whether nothing forbids training on this data."""
        return not self.errors

    def error(self, code: str, message: str) -> None:
        self.errors.append(Finding(code, message))

    def warn(self, code: str, message: str) -> None:
        self.warnings.append(Finding(code, message))

    def note(self, code: str, message: str) -> None:
        self.notices.append(Finding(code, message))

    def tree(self) -> dict[str, Any]:
        """Plain data for `data/audit.json`."""
        return {
            "about": self.about,
            "ok": self.ok,
            **{kind: [f._asdict() for f in getattr(self, kind)] for kind in ("errors", "warnings", "notices")},
            "counts": self.counts,
            "bad": [{"file": file, "reason": reason} for file, reason in self.bad],
            "duplicates": [{"dropped": dropped, "kept": kept} for dropped, kept in self.duplicates],
        }

    def text(self) -> str:
        """Lines for a terminal: what there is, then every finding, the worst first."""
        lines = [f"check     {self._summary()}"]
        if self.counts:
            lines.append("          " + ", ".join(f"{s} {sum(c.values()):,}" for s, c in self.counts.items()))
        for kind in ("errors", "warnings", "notices"):
            lines += [f"{kind[:-1]:9} {code} {message}" for code, message in getattr(self, kind)]
        return "\n".join(lines)

    def _summary(self) -> str:
        total: Counter[str] = Counter()
        for name in ("train", "select", "id"):
            total.update(self.counts.get(name, {}))
        parts = [f"{self.about}: {sum(sum(c.values()) for c in self.counts.values()):,} images"]
        if total:
            (least, low), (most, high) = min(total.items(), key=lambda i: i[1]), max(total.items(), key=lambda i: i[1])
            parts.append(f", {len(total)} classes (min {low:,} «{least}», max {high:,} «{most}»")
            parts.append(f"; ratio {high / low:.0f})" if low else ")")
        if self.bad:
            parts.append(f"   {len(self.bad)} unreadable skipped" if self.ok else f"   {len(self.bad)} unreadable")
        if self.duplicates:
            parts.append(f"   {len(self.duplicates)} copies dropped")
        return "".join(parts)


class AuditError(DataError):
    """The data failed its audit. Every error is in the message, and everything else in `audit`."""

    def __init__(self, audit: Audit) -> None:
        super().__init__(audit.errors[0].code, "\n".join(message for _, message in audit.errors))
        self.audit = audit


def missing(path: Path) -> DataError:
    """D01: what a person pointed at is not there."""
    parent = path.absolute().parent
    siblings = [p.name for p in parent.iterdir()] if parent.is_dir() else []
    place = "the current folder" if parent == Path.cwd() else str(parent)
    looked = f"looked in {place}" if parent.is_dir() else f"there is no folder {parent} either"
    return DataError("D01", f"{path} not found ({looked}).{near(path.name, siblings)}")


# -- checks on names and counts --------------------------------------------------------------------------------

# no run of three letters (0001, a320), a few letters and a number (n02123045, class_3), or hexadecimal
_CODE = re.compile(r"(?!.*[a-z]{3}).*|[a-z]{1,5}[ _-]?[0-9]+|(?=.*[0-9])[0-9a-f]{8,}", re.IGNORECASE)
_SHORT_WORDS = frozenset(("ox", "tv", "pc", "no", "ok", "go", "up", "in", "on", "pi"))


def looks_like_code(name: str) -> bool:
    """Whether a class name can hardly be a word to a text tower. Words of other scripts are words."""
    return name.isascii() and name.lower() not in _SHORT_WORDS and _CODE.fullmatch(name) is not None


def check_names(audit: Audit, folders: Sequence[str], names: Sequence[str]) -> None:
    """D09 warnings: names that are codes, and names shared by two classes."""
    codes = [name for name in names if looks_like_code(name)]
    if codes:
        verb = "name looks like a code" if len(codes) == 1 else "names look like codes"
        audit.warn(
            "D09",
            f"{len(codes)} of {len(names)} class {verb} ({some(codes, 4)}). Zero-shot and text heads read the names "
            f"and need words. Give --classes names.yaml with a line a class, such as «{folders[0]}: red squirrel».",
        )
    shared = [name for name, n in Counter(names).items() if n > 1]
    if shared:
        audit.warn(
            "D09",
            f"{some(f'«{s}»' for s in shared)} names more than one class, so their prompts are the same and a text "
            "head cannot tell them apart. Give them different words with --classes names.yaml.",
        )


def check_classes(audit: Audit, train: Sequence[str], others: Mapping[str, Sequence[str]]) -> None:
    """D04: an error for classes of a split that train lacks, a warning for classes of train that it lacks."""
    for split, folders in others.items():
        unknown, absent = [f for f in folders if f not in set(train)], [f for f in train if f not in set(folders)]
        if unknown:
            hint = next((h for f in unknown if (h := near(f, absent or train, 1))), "")
            count = f"{len(unknown)} class{'es' * (len(unknown) > 1)}"
            audit.error(
                "D04",
                f"{split} has {count} that train lacks: {some(unknown, 8)}; train has "
                f"{len(absent)} that {split} lacks{': ' * bool(absent)}{some(absent, 8)}. A class without training "
                f"pictures can never be predicted.{hint} Move or rename the pictures so that the names agree.",
            )
        elif absent:
            audit.warn(
                "D04",
                f"{split} has no picture of {len(absent)} of train's {len(train)} classes ({some(absent, 8)}). "
                "Labels stay fixed by name, but nothing is measured about them there.",
            )


def check_counts(audit: Audit) -> None:
    """Warnings about classes that are uneven in train or too small in select."""
    train, select = audit.counts.get("train", {}), audit.counts.get("select", {})
    if train and min(train.values()) and max(train.values()) / min(train.values()) > UNEVEN:
        least, most = min(train, key=lambda c: train[c]), max(train, key=lambda c: train[c])
        audit.warn(
            "D08",
            f"the classes of train are uneven: «{most}» has {train[most]:,} images, «{least}» {train[least]:,}. "
            "Accuracy will mostly be about the large ones; read the balanced accuracy, or take equal --shots.",
        )
    small = [c for c, n in select.items() if n < FEW_TO_SELECT]
    if small:
        audit.warn(
            "D08",
            f"{len(small)} of {len(select)} classes have under {FEW_TO_SELECT} images in select "
            f"({some(f'«{c}» {select[c]}' for c in small)}). Choices made there are uncertain; add images.",
        )
