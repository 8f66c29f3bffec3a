"""Kill a run again and again, resume it, and compare what is left with a run that nobody disturbed.

    python benchmarks/kill_resume.py --kills 20

A whole `adapt` over several methods, on tiny encoders and pictures, is killed with SIGKILL at moments drawn by a seed,
and resumed until it ends; then another round begins, until there were enough kills. `--terms` more runs are asked by
SIGTERM to stop: they must end in an orderly way (exit 4, STATUS `interrupted`) and resume as well. Prints one line of
JSON; exit 1 where anything differs: weights, journals, results or the adapted model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import tiny
from likewise import files
from likewise.encoders import load
from likewise.errors import Interrupted
from likewise.recipe import Machine
from likewise.recipes import RECIPES
from likewise.run.adapt import Settings, adapt
from likewise.run.watch import Watch

METHODS = {
    "ln": "stages.0.fit.epochs=4",
    "lp-ft": "stages.1.fit.epochs=4",
    "flyp": "stages.0.fit.epochs=6",
    "coop": "stages.0.fit.epochs=4",  # momentum, learned words
    "kim-init-adapter": "stages.1.fit.epochs=4",  # two that begin alike, and are trained up to there once
    "kim-init-probe": "stages.1.fit.epochs=4",
}


class Marks(Watch):
    """Leaves a file at the first step: the sign that training has begun."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        self.mark.touch()


class Bench:
    """One place with an encoder and pictures; runs are children of this warm process, each with untouched objects."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data = tiny.write_data(place / "data")
        self.encoder = load(f"local-dir:{tiny.write_encoder(place / 'encoder', 'plain')}")
        self.recipes = {name: tiny.shrunk(RECIPES[name], edit) for name, edit in METHODS.items()}
        os.environ["LIKEWISE_CACHE"] = str(place / "cache")

    def start(self, out: Path) -> int:
        """A child that runs, or goes on with, the run in `out`; it exits 0, or 4 when it was interrupted."""
        child = os.fork()
        if child:
            return child
        code = 5
        try:
            watch, settings = Marks(out.with_suffix(".mark")), Settings(resume=True)
            adapt(
                self.encoder,
                self.data,
                self.recipes,
                out,
                settings=settings,
                machine=Machine(save_steps=2),
                watch=watch,
            )
            code = 0
        except Interrupted:
            code = 4
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(code)

    def finish(self, out: Path) -> float:
        """Run to the end; seconds."""
        began = time.monotonic()
        code = wait(self.start(out))
        if code != 0:
            raise SystemExit(f"{out} ended with {code}")
        return time.monotonic() - began


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(out: Path) -> dict[str, Any]:
    """All that a run leaves and that does not tell the time: tensors, journals, plans, results."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".safetensors":
            found[name] = files.read_tensors(path)
        elif path.suffix in (".jsonl", ".yaml", ".txt", ".parquet") or path.name in ("STATUS", "choice.json"):
            found[name] = path.read_bytes()
        elif path.name == "results.json":
            found[name] = {key: files.read_json(path)[key] for key in ("rows", "chosen", "skipped")}
        elif path.is_file() and path.name.startswith("plan"):
            found[name] = files.read_json(path)
        elif path.name.startswith("."):
            found[name] = "a leftover"
    return found


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Names under which two runs differ; tensors by `torch.equal`."""
    out = sorted(set(a) ^ set(b))
    for name in sorted(set(a) & set(b)):
        if name.endswith(".safetensors"):
            same = set(a[name]) == set(b[name]) and all(torch.equal(t, b[name][key]) for key, t in a[name].items())
        else:
            same = a[name] == b[name] or json.dumps(a[name], default=str) == json.dumps(b[name], default=str)  # NaN
        out += [] if same else [name]
    return out


def run(kills: int, terms: int, seed: int, place: Path) -> dict[str, Any]:
    """The whole bench; what happened, and every difference found."""
    bench, rng = Bench(place), random.Random(seed)
    undisturbed = place / "undisturbed"
    seconds = bench.finish(undisturbed)
    shutil.rmtree(place / "cache", ignore_errors=True)
    want = content(undisturbed)
    killed = stopped = resumed = rounds = 0
    differ: list[str] = []
    while killed < kills or stopped < terms:
        out, rounds = place / f"round-{rounds}", rounds + 1
        done = False
        while not done and killed < kills:
            child = bench.start(out)
            time.sleep(rng.uniform(0, 0.6 * seconds))
            os.kill(child, signal.SIGKILL)
            done = wait(child) != -signal.SIGKILL
            killed += not done
            resumed += not done and any(out.glob("methods/*/checkpoints/*/manifest.json"))
        if not done and stopped < terms:
            out.with_suffix(".mark").unlink(missing_ok=True)
            child = bench.start(out)
            deadline = time.monotonic() + 60
            while not out.with_suffix(".mark").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.1 * seconds))
            os.kill(child, signal.SIGTERM)
            code = wait(child)
            status = (out / "STATUS").read_text().strip()
            if code == 4 and status == "interrupted":
                stopped += 1
            elif code != 0:  # 0: it had ended already
                differ.append(f"{out.name}: SIGTERM gave exit {code}, STATUS {status}")
                stopped += 1
        bench.finish(out)
        differ += [f"{out.name}/{name}" for name in differences(want, content(out))]
        shutil.rmtree(out)
    return {
        "kills": killed, "kills_with_a_checkpoint": resumed, "terms": stopped, "rounds": rounds, "equal": not differ,
        "differ": differ[:20], "compared": len(want), "seconds_undisturbed": round(seconds, 2),
    }  # fmt: skip


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs in all (default 20)")
    parser.add_argument("--terms", type=int, default=1, help="SIGTERMs in all (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order, and no threads that a fork would lose
    with tempfile.TemporaryDirectory(prefix="kill-resume-") as place:
        found = run(arguments.kills, arguments.terms, arguments.seed, Path(place))
    print(json.dumps(found))
    return 0 if found["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
