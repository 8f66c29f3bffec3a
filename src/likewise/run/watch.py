"""How a run tells somebody what it does; silent by default."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Watch:
    """Listens to a run. The command line draws bars; the library's default does nothing."""

    def say(self, text: str) -> None:
        """A line worth reading."""

    def part(self, text: str) -> None:
        """A job of several parts begins the next: bars of the one before have ended."""
        self.say(text)

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units of `name`; the last call of a bar has them equal."""


class Stop:
    """While entered, SIGINT and SIGTERM ask for an orderly end (`asked`); a second signal ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, signal._HANDLER] = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
