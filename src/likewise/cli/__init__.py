"""The command line: `likewise adapt DATA` and its companions. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys
from typing import Any

import typer

from likewise.cli import data, jobs, show
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
"""

app = typer.Typer(help=EXAMPLES, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
for room in (jobs, data, show):
    for function in room.COMMANDS:
        app.command(function.__name__.rstrip("_"))(function)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 data, 2 usage, 3 machine, 4 interrupted and resumable, 5 a bug of ours."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """The exit status of a command line. Errors for a person go to stderr in one piece, without a traceback."""
    import click

    try:
        code: Any = app(arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except LikewiseError as error:
        print(f"error {error.code}: {error}", file=sys.stderr)
        return error.exit_code
    except (click.ClickException, typer.Abort) as error:
        if isinstance(error, click.ClickException):
            error.show()
        return 2
    except KeyboardInterrupt:
        print(
            "error I02: stopped at once; a run folder keeps its last checkpoint and --resume goes on.", file=sys.stderr
        )
        return 4
    except BrokenPipeError:
        return 0
