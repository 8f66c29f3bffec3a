"""Every byte that must survive goes through here: atomic, checksummed, manifest-last; reading is safe.

A file is written beside its place, synced and renamed. A folder is written under a temporary name, its
`manifest.json` (sizes and SHA-256) last, and renamed; a reader accepts only a folder whose manifest verifies.
No pickle: tensors are safetensors, everything else is JSON or text.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors.torch
from torch import Tensor

from likewise.errors import DataError, MachineError, UsageError

MANIFEST = "manifest.json"
ELSEWHERE = "Use another folder: -o, or LIKEWISE_CACHE for what is only kept."


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # on Windows a folder cannot be opened, and the rename is durable by itself
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _beside(path: Path, kind: str) -> Path:
    """A name in the same folder that is nobody else's: two hosts that share it can have processes of one number."""
    return path.with_name(f".{path.name}.{kind}-{secrets.token_hex(8)}")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, "tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_bytes` of JSON; NaN and infinities are written as JavaScript names them."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=True) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """A safetensors file; `about` becomes its string metadata."""
    flat = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_bytes(path, safetensors.torch.save(flat, metadata=dict(about or {})))


def read_json(path: Path) -> Any:
    """Raises `DataError` F01 (missing) or F02 (damaged)."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError("F01", f"{path} is missing.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError("F02", f"{path} is not readable JSON ({error}); it may have been cut off. Remove it.") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Raises `DataError` F01 (missing) or F02 (damaged)."""
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
        return tensors
    except FileNotFoundError:
        raise DataError("F01", f"{path} is missing.") from None
    except Exception as error:  # the Rust reader's own error type is private
        raise DataError("F02", f"{path} is not a readable safetensors file ({error}).") from None


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder; when the block ends well it becomes `path`, manifest last, replacing what was there.

    Of several that write one path at once, each ends well, and the last one stays.
    """
    with _filled(path) as temporary:
        yield temporary
        _seal(temporary)
        _put(temporary, path)


def once(path: Path, fill: Callable[[Path], None], there: Callable[[Path], bool] | None = None) -> Path:
    """The folder `path`, filled by one process while others that want it wait; `there` (`whole`) says that it is.

    For what anybody would fill alike, such as a cache. Where the disk knows no locks, all fill, and the first stays.
    """
    there = there or whole
    if not there(path):
        with lock(path.with_name(f".{path.name}.lock"), wait=True):
            if not there(path):
                with _filled(path) as temporary:
                    fill(temporary)
                    _seal(temporary)
                    _put(temporary, path, there)
    return path


@contextlib.contextmanager
def _filled(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, of which nothing is left afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, "tmp")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _seal(folder: Path) -> None:
    members = sorted(p for p in folder.rglob("*") if p.is_file())
    manifest = {str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": digest(p)} for p in members}
    write_json(folder / MANIFEST, manifest)
    _sync_folder(folder)


def _put(temporary: Path, path: Path, there: Callable[[Path], bool] = lambda _: False) -> None:
    """Rename a folder into a place where others may do so at the same time; what is `there` is left alone."""
    while not there(path):
        old = _beside(path, "old")
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, old)  # killed before the next line, `sweep` puts it back
        try:
            os.replace(temporary, path)
        except OSError as error:
            if not (error.errno in (errno.EEXIST, errno.ENOTEMPTY) or path.exists()):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(old, path)
                raise
            shutil.rmtree(old, ignore_errors=True)  # another came first, with a newer one
        else:
            shutil.rmtree(old, ignore_errors=True)
            _sync_folder(path.parent)
            return


def whole(path: Path) -> bool:
    """Whether `path` is a folder written by `new_folder` that nobody has damaged since."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        return all(
            (path / name).stat().st_size == entry["bytes"] and digest(path / name) == entry["sha256"]
            for name, entry in manifest.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def sweep(path: Path) -> None:
    """Mend what a killed writer left in a folder and below: what it was replacing is put back, the rest removed."""
    for left in [left for kind in ("old", "gone", "tmp") for left in path.rglob(f".*.{kind}-*")]:
        place = left.with_name(left.name[1:].rpartition(".")[0])
        if ".old-" in left.name and not place.exists() and whole(left):
            os.replace(left, place)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Take a file or a folder away, so that no reader takes half of it for whole: renamed first, then deleted."""
    if path.is_file():
        path.unlink()
    elif path.exists():
        gone = _beside(path, "gone")
        os.replace(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a place for this process alone, however it ends; where another holds it, `wait` or raise `UsageError` R01.

    Where there are no such locks (Windows, some network disks), processes are not told apart.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    while True:
        with _lockable(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    raise BlockingIOError  # its holder took the file away just now: this lock would be on none
            except (BlockingIOError, FileNotFoundError):
                if wait:
                    continue
                raise UsageError(
                    "R01", f"another process is at work in {path.parent}. Wait for it, or use -o."
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                    raise
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _lockable(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "w")
    except (FileExistsError, NotADirectoryError):
        raise UsageError("R01", f"{path.parent} is not a folder and cannot become one. {ELSEWHERE}") from None
    except OSError as error:
        raise MachineError("E02", f"{path.parent} cannot be written: {error.strerror}. {ELSEWHERE}") from None


def cache_folder() -> Path:
    """`$LIKEWISE_CACHE`, or the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("LIKEWISE_CACHE") or f"{base}/likewise")
