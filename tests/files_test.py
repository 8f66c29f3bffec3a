"""Writing that survives: old or new, never half; reading that notices what was damaged."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
import torch

from likewise import files
from likewise.errors import DataError, UsageError


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_write_and_read_back(tmp_path: Path) -> None:
    files.write_json(tmp_path / "deep" / "a.json", {"é": [1, None, 0.1]})
    assert files.read_json(tmp_path / "deep" / "a.json") == {"é": [1, None, 0.1]}
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"cut": base[:, 1:3], "turned": base.T, "one": torch.tensor(2.0), "flag": torch.tensor([True, False]),
               "half": base.bfloat16(), "wide": torch.ones(1).expand(5)}  # fmt: skip
    files.write_tensors(tmp_path / "t.safetensors", tensors, {"by": "me"})
    back = files.read_tensors(tmp_path / "t.safetensors")
    assert sorted(back) == sorted(tensors)
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in tensors.items())
    assert names(tmp_path) == {"deep", "t.safetensors"}  # nothing left beside them


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    for read in (files.read_json, files.read_tensors):
        with pytest.raises(DataError, match="is missing") as caught:
            read(tmp_path / "none")
        assert caught.value.code == "F01"
    files.write_tensors(tmp_path / "t", {"x": torch.ones(100)})
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-1])
    (tmp_path / "j").write_text('{"a": ')
    for read, name in ((files.read_json, "j"), (files.read_tensors, "t"), (files.read_json, "t")):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert caught.value.code == "F02"
        assert str(tmp_path / name) in str(caught.value)


def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    files.write_text(path, "old")
    for call in ("fsync", "replace"):

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(OSError, match="No space"):
                files.write_text(path, "new")
        assert path.read_text() == "old"
        assert names(tmp_path) == {"a"}


def test_new_folder_is_old_or_new_and_takes_files_away(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with files.new_folder(path) as folder:
        assert not path.exists()
        (folder / "sub").mkdir()
        files.write_text(folder / "sub" / "a", "1")
        files.write_text(folder / "b", "2")
    assert files.whole(path)
    assert set(json.loads((path / files.MANIFEST).read_text())) == {"sub/a", "b"}
    with pytest.raises(RuntimeError, match="half"), files.new_folder(path) as folder:  # noqa: PT012
        files.write_text(folder / "b", "3")
        raise RuntimeError("half")
    assert files.whole(path)
    assert (path / "b").read_text() == "2"
    with files.new_folder(path) as folder:
        files.write_text(folder / "c", "4")
    assert names(path) == {"c", files.MANIFEST}
    assert names(tmp_path) == {"f"}


def spoil_flip(path: Path) -> None:
    data = bytearray((path / "b").read_bytes())
    data[1] ^= 1
    (path / "b").write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_flip,
        lambda path: (path / "b").write_bytes((path / "b").read_bytes()[:-1]),
        lambda path: (path / "b").unlink(),
        lambda path: (path / files.MANIFEST).unlink(),
        lambda path: (path / files.MANIFEST).write_text(""),
        lambda path: (path / files.MANIFEST).write_text("[]"),
        lambda path: (path / files.MANIFEST).write_text("3"),
        lambda path: (path / files.MANIFEST).write_text('{"b": {}}'),
        lambda path: (path / files.MANIFEST).write_text('{"b": 1}'),
        lambda path: (path / files.MANIFEST).write_bytes(b"\xff"),
        lambda path: files.remove(path),
    ],
)
def test_whole_sees_every_damage(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    path = tmp_path / "f"
    with files.new_folder(path) as folder:
        files.write_text(folder / "a", "first")
        files.write_text(folder / "b", "second")
    assert files.whole(path)
    spoil(path)
    assert not files.whole(path)


def test_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the test vector of FIPS 180-4
    assert files.digest(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sweep_and_remove(tmp_path: Path) -> None:
    (tmp_path / "in" / ".f.tmp-1").mkdir(parents=True)
    (tmp_path / "in" / ".f.tmp-1" / "x").write_text("")
    (tmp_path / ".a.tmp-12").write_text("")
    (tmp_path / "in" / ".g.old-3").mkdir()
    (tmp_path / "in" / ".h.gone-3").mkdir()
    (tmp_path / "mine.tmp-1").write_text("")
    files.sweep(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} == {"in", "mine.tmp-1"}
    files.remove(tmp_path / "in")
    files.remove(tmp_path / "never was")
    assert names(tmp_path) == {"mine.tmp-1"}


def test_a_lock_is_one_process_s_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with files.lock(path):
        # the second asks from the same process, which flock tells apart by the opened file
        with pytest.raises(UsageError, match="another process") as caught, files.lock(path):
            pass
        assert caught.value.code == "R01"
    with files.lock(path):
        pass
    with pytest.raises(RuntimeError), files.lock(path):
        raise RuntimeError
    with files.lock(path):
        path.unlink()  # somebody tidied up
        with files.lock(path):  # a new file is a new lock
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a folder"), files.lock(tmp_path / "file" / "lock"):
        pass


def test_a_lock_on_a_file_that_was_taken_away_meanwhile_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The holder removes the file and lets go between another's open and flock: that lock would be on no file at all.
    import fcntl

    path, flock = tmp_path / "lock", fcntl.flock

    def late(file: int, how: int) -> None:
        path.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UsageError, match="another process"), files.lock(path):
        pass


def test_a_waiting_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    held, most, path = [0], [0], tmp_path / "lock"

    def work() -> None:
        for _ in range(20):
            with files.lock(path, wait=True):
                held[0] += 1
                most[0] = max(most[0], held[0])
                time.sleep(0.001)
                held[0] -= 1

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert most == [1]
    assert names(tmp_path) == set()


@pytest.mark.parametrize("number", [38, 95])  # ENOSYS and ENOTSUP, as disks of a network answer
def test_where_the_disk_has_no_locks_the_work_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import fcntl

    def none(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", none)
    with files.lock(tmp_path / "lock"), files.lock(tmp_path / "lock", wait=True):
        pass


# -- several at once -------------------------------------------------------------------------------------------


def test_two_hosts_with_one_process_number_do_not_take_each_other_s_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "f"
    with files.new_folder(path) as first:
        files.write_text(first / "a", "first")
        with files.new_folder(path) as second:
            files.write_text(second / "a", "second")
        assert (path / "a").read_text() == "second"
    assert (path / "a").read_text() == "first"
    assert files.whole(path)
    assert names(tmp_path) == {"f"}


def test_a_folder_that_is_there_by_the_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "lock", lambda *_, **__: contextlib.nullcontext())  # as on a disk without locks
    path = tmp_path / "f"

    def fill(text: str) -> Callable[[Path], None]:
        def go(fresh: Path) -> None:
            if text == "late":
                files.once(path, fill("early"))
            files.write_text(fresh / "a", text)

        return go

    assert files.once(path, fill("late")) == path
    assert (path / "a").read_text() == "early"
    files.once(path, fill("never asked"))
    assert (path / "a").read_text() == "early"
    (path / "a").write_text("damaged")
    files.once(path, fill("mended"))
    assert (path / "a").read_text() == "mended"
    assert names(tmp_path) == {"f"}


RACE = """
import multiprocessing, os, pathlib, sys
from likewise import files

place, how, rounds = pathlib.Path(sys.argv[1]), sys.argv[2], 40

def write(fresh):
    (place / f"filled-{os.getpid()}-{fresh.name.split('.')[1]}").touch()
    files.write_text(fresh / "a", "text" * 1000)

def work(start):
    for k in range(rounds):
        start.wait()
        if how == "once":
            folder = files.once(place / f"r{k}", write)
            assert (folder / "a").read_text() == "text" * 1000
        else:
            with files.new_folder(place / f"r{k}") as fresh:
                write(fresh)

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")  # one import for all
    start = fork.Barrier(4, timeout=60)
    workers = [fork.Process(target=work, args=(start,)) for _ in range(4)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert all(files.whole(place / f"r{k}") for k in range(rounds))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize(("how", "fills"), [("once", 1), ("new_folder", 4)])
def test_processes_that_want_one_folder_at_once(tmp_path: Path, how: str, fills: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE, str(tmp_path), how], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    filled = [name for name in names(tmp_path) if name.startswith("filled-")]
    assert len(filled) == 40 * fills
    assert names(tmp_path) - set(filled) == {f"r{k}" for k in range(40)}  # and nothing beside them


# -- killed between any two steps ------------------------------------------------------------------------------


class Dead(BaseException):
    """From a chosen call on, every call that would touch the disk raises this instead: so nothing cleans up either."""


class Death:
    """Audit hooks cannot be taken back, so there is one, which sleeps unless `left` counts down."""

    left = -1

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.left >= 0 and event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"):
            if self.left == 0:
                raise Dead
            self.left -= 1


HOOK = Death()
sys.addaudithook(HOOK)


@pytest.fixture
def death(monkeypatch: pytest.MonkeyPatch) -> Death:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # against power cuts, which are not tried here, and slow

    def opened(path: Path, mode: str = "r") -> IO[str] | IO[bytes]:
        file = open(path, mode)  # noqa: SIM115 (its opener closes it)
        try:
            HOOK("open", ())  # a file that was opened to be written is empty now: dying here is a step of its own
        except Dead:
            file.close()
            raise
        return file

    monkeypatch.setattr(files, "open", opened, raising=False)
    return HOOK


def killed_at(death: Death, step: int, work: Callable[[], None]) -> bool:
    """Do `work`, dying before its step-th call that opens, makes, renames or removes; whether it died."""
    death.left = step - 1
    try:
        work()
    except Dead:
        return True
    finally:
        death.left = -1
    return False


def kills(death: Death, prepare: Callable[[], None], work: Callable[[], None], check: Callable[[], None]) -> int:
    step = 0
    while True:
        prepare()
        step += 1
        died = killed_at(death, step, work)
        check()
        if not died:
            return step - 1


def test_a_kill_at_any_step_leaves_the_old_file_or_the_new(death: Death, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    seen = set()

    def check() -> None:
        seen.add(files.read_json(path))
        files.sweep(tmp_path)
        assert names(tmp_path) == {"a.json"}

    assert kills(death, lambda: files.write_json(path, "old"), lambda: files.write_json(path, "new"), check) >= 3
    assert seen == {"old", "new"}


@pytest.mark.parametrize("first", [True, False])
def test_a_kill_at_any_step_leaves_the_old_folder_or_the_new_one(death: Death, tmp_path: Path, first: bool) -> None:
    path = tmp_path / "f"
    seen = set()

    def write(text: str) -> None:
        with files.new_folder(path) as folder:
            files.write_text(folder / "a", text)
            files.write_text(folder / "sub" / "b", text)

    def prepare() -> None:
        files.remove(path)
        if not first:
            write("old")

    def check() -> None:
        files.sweep(tmp_path)  # what a resumed run does before it reads
        if path.exists():
            assert files.whole(path)
            assert (path / "a").read_text() == (path / "sub" / "b").read_text()
            seen.add((path / "a").read_text())
        else:
            seen.add(None)
        assert names(tmp_path) <= {"f"}

    assert kills(death, prepare, lambda: write("new"), check) >= 5
    assert seen == ({None, "new"} if first else {"old", "new"})


def test_a_kill_while_removing_leaves_all_or_nothing(death: Death, tmp_path: Path) -> None:
    path = tmp_path / "f"
    seen = set()

    def prepare() -> None:
        with files.new_folder(path) as folder:
            for name in "abc":
                files.write_text(folder / name, name)

    def check() -> None:
        assert not path.exists() or files.whole(path)
        seen.add(path.exists())
        files.sweep(tmp_path)
        assert not path.exists() or files.whole(path)

    assert kills(death, prepare, lambda: files.remove(path), check) >= 4
    assert seen == {True, False}
