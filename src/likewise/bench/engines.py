"""Who runs the cells: this process, several of this machine, or a Ray cluster. The folders and numbers are the same."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from likewise.bench.cells import How, run_cell
from likewise.errors import Interrupted, MachineError
from likewise.run.watch import Watch
from likewise.suites import Cell

RETRIES = 5
"""How often a cell is begun anew whose worker was lost; each time it goes on from the last checkpoint."""
LOST = "its worker was lost again and again, as where memory runs out; the next run goes on with it"

Done = tuple[Cell, str]
"""A cell, and why it has no numbers ("" where it has)."""
Engine = Callable[[Sequence[Cell], Path, How, int, Watch], Iterator[Done]]


def bench(engine: str, cells: Sequence[Cell], out: Path, how: How, jobs: int, watch: Watch) -> Iterator[Done]:
    """Run the cells, each into its folder below `out`, yielding them as they end. Raises `Interrupted`."""
    for count, (cell, why) in enumerate(ENGINES[engine](cells, out, how, jobs, watch), 1):
        watch.part(f"{count} of {len(cells)}: {cell}" + (f" - {why}" if why else ""))
        yield cell, why


def local(cells: Sequence[Cell], out: Path, how: How, jobs: int, watch: Watch) -> Iterator[Done]:
    """One after the other here, or `jobs` at a time in processes of their own."""
    if jobs == 1:
        for cell in cells:
            yield cell, run_cell(cell, out, how, watch)
        return
    waiting = deque(cells)
    while waiting:
        for cell in (yield from _pooled(waiting, out, how, jobs)):
            # one of these cost the others their pool: alone, it takes nobody with it
            for _ in range(RETRIES):
                if not (yield from _pooled(deque([cell]), out, how, 1)):
                    break
            else:
                yield cell, LOST


def _pooled(waiting: deque[Cell], out: Path, how: How, jobs: int) -> Generator[Done, None, list[Cell]]:
    """Run cells in a pool of processes, each begun when one is free, until none waits or the pool breaks.

    A process that is killed, as for want of memory, breaks its pool. Returns the cells that were at work then.
    """
    running: dict[Future[str], Cell] = {}
    lost: list[Cell] = []
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        try:
            while running or (waiting and not lost):
                while waiting and not lost and len(running) < jobs:
                    try:
                        running[pool.submit(run_cell, waiting[0], out, how)] = waiting[0]
                    except BrokenProcessPool:  # an idle process was killed; those at work, if any, will say so
                        if not running:
                            return lost
                        break
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    cell = running.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        lost.append(cell)
                    else:
                        yield cell, future.result()
        except (Interrupted, KeyboardInterrupt):
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return lost


def end_with_parent() -> None:
    """Let this process end as soon as the one that began it is gone, which a killed one cannot ask for.

    What it was at is whole up to the last checkpoint, as after any kill; left alone it would hold its memory for ever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker has a parent to end with"

    def end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def ray(cells: Sequence[Cell], out: Path, how: How, jobs: int, watch: Watch) -> Iterator[Done]:
    """A task for each cell on the Ray cluster that RAY_ADDRESS names, or on one of `jobs` workers started here.

    The folder must be one that every worker sees. Raises `MachineError` E03 without the library, E01
    where it has less than a cell needs.
    """
    device = how.machine.device.partition(":")[0]  # the one GPU that a worker sees is its first
    how = how._replace(machine=how.machine.model_copy(update={"device": device}))
    with _cluster(jobs * how.threads) as cluster:
        needs, there = _needs(how), cluster.cluster_resources()
        if any(there.get(name, 0) < needs[key] for name, key in (("CPU", "num_cpus"), ("GPU", "num_gpus"))):
            raise MachineError(
                "E01", f"a cell asks Ray for {needs['num_cpus']} cores and {needs['num_gpus']} GPUs, and the cluster "
                f"has {there.get('CPU', 0):g} and {there.get('GPU', 0):g}: it would wait for ever. See --threads, "
                "--device."
            )  # fmt: skip
        task = cluster.remote(**needs, max_retries=RETRIES)(run_cell)
        waiting = {task.remote(cell, out.absolute(), how): cell for cell in cells}
        while waiting:
            ready, _ = cluster.wait(list(waiting), num_returns=1)
            for reference in ready:
                yield waiting.pop(reference), _result(cluster, reference)


def _needs(how: How) -> dict[str, int]:
    """What Ray keeps for a cell: its threads and, on CUDA, a GPU of its own, the only one that the worker sees."""
    return {"num_cpus": how.threads, "num_gpus": int(how.machine.device.startswith("cuda"))}


def _result(cluster: Any, reference: Any) -> str:
    try:
        return str(cluster.get(reference))
    except cluster.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Interrupted) else error from None
    except cluster.exceptions.RayError as error:  # the worker, its node or its memory was lost
        return f"{LOST} ({type(error).__name__})"


@contextlib.contextmanager
def _cluster(cores: int) -> Iterator[Any]:
    try:
        import ray as cluster
    except ImportError:
        raise MachineError(
            "E03", "--engine ray needs Ray, which is not installed: pip install 'likewise[ray]'."
        ) from None
    own = "RAY_ADDRESS" not in os.environ and not cluster.is_initialized()
    if own:
        cluster.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    elif not cluster.is_initialized():
        cluster.init()
    try:
        yield cluster
    finally:
        if own:
            cluster.shutdown()


ENGINES: dict[str, Engine] = {"local": local, "ray": ray}
