"""What a person may be told: every error names what was wrong, where, why it matters and how to mend it.

LikewiseError           code (D04, M02, ...) and the exit status of the command line
  DataError      1      the data failed a check
  UsageError     2      a name, a path or a value that cannot be
    ConfigError  2      the same, in a configuration tree
  MachineError   3      something this machine lacks
  Interrupted    4      stopped in an orderly way; `--resume` goes on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class LikewiseError(Exception):
    """Base of all errors meant for a person: shown without a traceback, with `code` in front."""

    exit_code = 5

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is, whatever its `__init__` takes: an error travels between processes."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[LikewiseError], args: tuple[Any, ...], fields: dict[str, Any]) -> LikewiseError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class DataError(LikewiseError):
    """The data failed a check."""

    exit_code = 1


class UsageError(LikewiseError):
    """A name, a path or a value that cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration tree that cannot be."""

    def __init__(self, message: str, code: str = "C01") -> None:
        super().__init__(code, message)


class MachineError(LikewiseError):
    """Something that this machine lacks."""

    exit_code = 3


class Interrupted(LikewiseError):
    """Stopped in an orderly way; `--resume` goes on."""

    exit_code = 4


def near(word: str, choices: Iterable[str], n: int = 3) -> str:
    """` Did you mean a or b?` for the nearest choices, or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=n, cutoff=0.5)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def some(names: Iterable[str], n: int = 5) -> str:
    """`a, b, c and 7 more`."""
    names = list(names)
    rest = len(names) - n
    return ", ".join(names[:n]) + (f" and {rest} more" if rest > 0 else "")
