"""The run folder: entered, resumed, replaced or refused, and held by one process at a time."""

from __future__ import annotations

from pathlib import Path

from likewise import files
from likewise.errors import ConfigError, UsageError
from likewise.recipe import Captioning, Experiment

OURS = (
    "config.yaml", "STATUS", "command.txt", "environment.json", "choice.json", "results.json", "interpolation.json",
    "cell.json", "episodes.json", "neighbours.json", "recommendation.json", "report.html", "report.md", "data",
    "methods", "model",
)  # fmt: skip
"""Everything that a run writes. --overwrite removes these and nothing else."""


Question = Experiment | Captioning

MEND = (
    "Mend what it failed at. Then --resume takes up the same question where it stopped, and --overwrite begins anew, "
    "as another question must."
)
"""What to do about a failed run."""

QUESTION = "sweep.yaml"
"""What tells a sweep's folder from a run's."""


def which(path: Path) -> str:
    """` It is a sweep; name one of its runs, such as ...` for a sweep's folder, and nothing else."""
    if not (path / QUESTION).exists():
        return ""
    run = next(iter(sorted(p.parent for p in path.glob("shots-*/seed-*/results.json"))), None)
    return f" It is a sweep: name one of its runs{f', such as {run}' if run else ''}."


CAPTIONS = "captions"
"""What `results.json` of a run on captions says of its task; the domain of its held pairs has the same name."""


def is_captions(path: Path) -> bool:
    """Whether a finished run on captions lies here."""
    found = path / "results.json"
    return found.exists() and files.read_json(found).get("task") == CAPTIONS


def status(out: Path) -> str:
    """`running`, `done`, `interrupted` or `failed`, as the run left it."""
    return (out / "STATUS").read_text().strip() if (out / "STATUS").exists() else "interrupted"


def held(out: Path, kind: type[Question], *, resume: bool, overwrite: bool) -> Question | None:
    """The question of the run that a folder holds, where it may be entered; None for a new one.

    Raises R01 where something would be lost.
    """
    if resume and overwrite:
        raise UsageError("R01", "--resume keeps what is there and --overwrite replaces it; say one of them.")
    if out.exists() and not out.is_dir():
        raise UsageError("R01", f"{out} is a file. Use -o with another folder.")
    if not out.exists() or all(path.name == LOCK for path in out.iterdir()):
        return None
    try:
        old = kind.read(out / "config.yaml")
    except (OSError, ConfigError):
        raise UsageError("R01", f"{out} is not empty and is not a run of ours. Use -o with another folder.") from None
    if not resume and not overwrite:
        if status(out) == "failed":
            raise UsageError("R01", f"{out} already holds a run that failed. {MEND}")
        stands = "a finished run" if status(out) == "done" else "an unfinished run"
        raise UsageError("R01", f"{out} already holds {stands}. Use -o with another folder, --resume (goes on where "
                         "it stopped), or --overwrite.")  # fmt: skip
    return old


def open_folder(out: Path, experiment: Question, *, resume: bool, overwrite: bool) -> None:
    """Make or enter the run folder. Raises R01 where something would be lost or mixed."""
    old = held(out, type(experiment), resume=resume, overwrite=overwrite)
    if old is not None and overwrite:
        for name in OURS:
            files.remove(out / name)
    elif old is not None:
        same(old, experiment, out)
        files.sweep(out)
    files.write_text(out / "config.yaml", experiment.yaml())


def same(old: Question, new: Question, out: Path) -> None:
    """Raises R01 naming what differs between the experiment a folder holds and another one."""
    before, now = old.tree(), new.tree()
    differ = [key for key in now if before[key] != now[key] and key != "recipes"]
    names = {*before["recipes"], *now["recipes"]}
    differ += [f"recipes.{n}" for n in names if before["recipes"].get(n) != now["recipes"].get(n)]
    if differ:
        raise UsageError("R01", f"{out} holds another experiment; {', '.join(sorted(differ))} differ. "
                         "Use -o with another folder, or --overwrite.")  # fmt: skip


LOCK = ".lock"
