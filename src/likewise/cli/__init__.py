"""The command line: `likewise adapt DATA` and its companions. Heavy imports wait until a command needs them."""

from __future__ import annotations

import functools
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import typer

from likewise.cli import advice, again, bench, caption, data, jobs, ship, show
from likewise.errors import LikewiseError

EXAMPLES = """
Adapt pretrained image-text models to your own images without losing what they knew, and prove it.

\b
likewise adapt iconshift                       the whole job on what ships: minutes on a laptop
likewise adapt photos/ --ood winter=winter/    on a folder of class folders
likewise check photos/                         what is wrong with the data
likewise plan ln                               what a method would train, in numbers
likewise train flyp photos/ stages.0.fit.lr=1e-4
likewise predict runs/photos-01 new.jpg        with the adapted model
likewise caption icon-captions --eval iconshift   tune a vision encoder on captions
likewise regime photos/                        how much data, and how like the pretraining
likewise recommend photos/                     which recipe for it, and why
likewise bench offline --jobs 2                every method in every regime, as one table
"""


def _exiting(function: Callable[..., int]) -> Callable[..., None]:
    """A command whose return value is the exit status."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        raise typer.Exit(function(*args, **kwargs))

    return command


app = typer.Typer(help=EXAMPLES, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
for room in (jobs, caption, bench, advice, again, data, ship, show):
    for function in room.COMMANDS:
        further = {"allow_extra_args": function is jobs.adapt}  # which says itself where edits go
        app.command(function.__name__.rstrip("_"), context_settings=further)(_exiting(function))


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 data, 2 usage, 3 machine, 4 interrupted and resumable, 5 a bug of ours."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """The exit status of a command line. Errors for a person go to stderr in one piece, without a traceback."""
    try:
        app(arguments)
        return 0
    except SystemExit as end:  # usage errors are told and ended by typer itself
        return int(end.code or 0)
    except LikewiseError as error:
        print(f"error {error.code}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "error I02: stopped at once; a run folder keeps its last checkpoint and --resume goes on.", file=sys.stderr
        )
        return 4
    except BrokenPipeError:
        return 0
    except OSError as error:
        print(f"error E02: {error}. Is there space, and may this place be written?", file=sys.stderr)
        return 3
    except Exception as error:
        print(f"error X01: a bug of ours: {type(error).__name__}: {error}\n{_kept(error)}", file=sys.stderr)
        return 5


def _kept(error: Exception) -> str:
    """Where the traceback was put, for whoever mends the bug."""
    with tempfile.NamedTemporaryFile("w", prefix="likewise-", suffix=".txt", delete=False) as file:
        traceback.print_exception(error, file=file)
    return f"The traceback is in {file.name}; please send it, with what likewise doctor prints."
