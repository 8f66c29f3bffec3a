"""What encoders of Hugging Face's libraries share: names and folders, quiet reading, tokenizers, views of pictures."""

# L tokens, T texts.

from __future__ import annotations

import contextlib
import importlib
import json
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from likewise import files
from likewise.encoders import learned_words
from likewise.errors import ConfigError, MachineError, UsageError, near

OFFLINE = "Offline? The first use of a named model downloads it; a folder works too: local-dir:PATH."


def library(name: str, asked: str) -> Any:
    """The library, imported when first needed. Raises `MachineError` M01 where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MachineError(
            "M01", f"{asked} needs {name}, which cannot be imported: {error}. Try: pip install 'likewise[hf]'."
        ) from None


def where(name: str, asked: str) -> Path | str:
    """A folder, or a name at the hub. Raises `UsageError` M01 for what is neither."""
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if name.startswith(("local-dir:", ".", "/", "~")) or folder.is_dir():
        if folder.is_dir():
            return folder
        siblings = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        raise UsageError("M01", f"{asked}: {folder} is not a folder.{near(folder.name, siblings)}")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UsageError("M01", f"{asked}: «{name}» is neither a folder nor a name at the hub (organisation/model).")
    return name


def description(place: Path | str, file: str, asked: str) -> Any:
    """What a JSON file of the folder or of the repository holds. Raises M01 where there is none to be had, else M02."""
    path = place / file if isinstance(place, Path) else _fetched(place, file, asked)
    if path is None or not path.exists():
        raise ConfigError(
            f"{place} has no {file}, so what its weights belong to is unknown. Give a folder that save_pretrained "
            "wrote, or a repository with such files.", "M02"
        )  # fmt: skip
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}", "M02") from None


def _fetched(name: str, file: str, asked: str) -> Path | None:
    with _asking(name, asked) as hub:
        try:
            return Path(hub.hf_hub_download(name, file))
        except hub.errors.RemoteEntryNotFoundError:
            return None


def fetch(name: str, patterns: Sequence[str], asked: str) -> Path:
    """The folder in the hub's cache with those files of a repository. Raises M01."""
    with _asking(name, asked) as hub:
        return Path(hub.snapshot_download(name, allow_patterns=list(patterns)))


@contextlib.contextmanager
def _asking(name: str, asked: str) -> Iterator[Any]:
    hub = library("huggingface_hub", asked)
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        yield hub
    except errors.LocalEntryNotFoundError as error:
        raise MachineError("M01", f"{asked} could not be fetched: {error} {OFFLINE}") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UsageError(
            "M01", f"There is no model «{name}» at huggingface.co (or it is private), and no folder {name} here."
        ) from None
    except OSError as error:
        raise MachineError("M01", f"{asked} could not be fetched: {error} {OFFLINE}") from None


def check_safe(folder: Path, asked: str) -> None:
    """Raises `ConfigError` M02 for a folder that holds no weights, or pickled ones."""
    if not list(folder.glob("*.safetensors")):
        raise ConfigError(
            f"{asked}: {folder} has no .safetensors file. Pickled weights (.bin, .pt) can run code when read and are "
            "refused; load them where you trust them and save again with save_pretrained.", "M02"
        )  # fmt: skip


@contextlib.contextmanager
def reading(place: Path | str, asked: str, what: str) -> Iterator[None]:
    """Inside, the libraries are quiet, the global generator is left alone, and errors say `what` cannot be read."""
    log = library("transformers", asked).utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    except ImportError as error:
        raise MachineError("M01", f"{asked} needs a package that is not installed: {error}") from None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        told = str(error).strip() or type(error).__name__
        if isinstance(place, Path):
            raise ConfigError(f"{asked}: {what} cannot be read, or do not belong together: {told}", "M02") from None
        if re.search(r"does not appear to have a file named \S*safetensors", told):
            why = "it has no safetensors file, and pickled weights can run code when read and are refused"
            raise ConfigError(
                f"{asked}: {why}. Load it where you trust it, and save_pretrained a folder.", "M02"
            ) from None
        raise MachineError("M01", f"{asked}: {what} could not be loaded: {told} {OFFLINE}") from None
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()


class Tokens:
    """A tokenizer of transformers, asked as `learned_words` asks open_clip's; texts become ids padded on the right."""

    sot_token_id: int
    eot_token_id: int
    """Only where texts are put between two ids; what lacks them cannot read learned words."""

    def __init__(self, tokenizer: Any, asked: str) -> None:
        self._tokenizer = tokenizer
        known = set(tokenizer.get_vocab().values())
        self.largest = max(known)
        if known <= set(tokenizer.all_special_ids):  # transformers makes up an empty one
            raise ConfigError(
                f"{asked}: there are no files of a tokenizer beside its weights, such as tokenizer.json. Save it: "
                "AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER).", "M02"
            )  # fmt: skip
        self.around = [int(i) for i in tokenizer("")["input_ids"]]
        self.specials = len(self.around)
        if self.specials == 2:
            self.sot_token_id, self.eot_token_id = self.around
        if tokenizer.pad_token_id is None:
            raise ConfigError(f"{asked}: its tokenizer has no padding token, so texts of two lengths cannot stand in "
                              "one batch. Set pad_token in tokenizer_config.json.", "M02")  # fmt: skip
        self.pad_token_id = int(tokenizer.pad_token_id)

    def __call__(self, texts: Sequence[str], context_length: int) -> Tensor:
        rows = self._tokenizer(list(texts), truncation=True, max_length=context_length)["input_ids"] if texts else []
        ids_TL = torch.full((len(rows), context_length), self.pad_token_id)
        for index, row in enumerate(rows):
            ids_TL[index, : len(row)] = torch.tensor(row)
        return ids_TL

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text, without those around it."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def tokenize(self, texts: Sequence[str], context: int) -> Tensor:
        """ids_TL, L = `context`; learned word j is -1 - j."""
        return learned_words.tokenize(self, texts, context)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens in each text before cutting, those around it included."""
        return learned_words.lengths(self, texts)

    def write(self, folder: Path) -> None:
        """Its files, as transformers reads them."""
        with tempfile.TemporaryDirectory() as there:
            self._tokenizer.save_pretrained(there)
            for path in Path(there).iterdir():
                files.write_bytes(folder / path.name, path.read_bytes())


def tokens(place: Path | str, asked: str) -> Tokens:
    """The tokenizer of a folder or repository. Raises M02 where a folder has none."""
    with reading(place, asked, "its tokenizer's files"):
        found = library("transformers", asked).AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        return Tokens(found, asked)


def view(place: Path | str, asked: str) -> tuple[dict[str, Any], str]:
    """How its pictures are seen: the fields of an `EncoderSpec`, and `preprocessor_config.json`, which says them.

    Raises `ConfigError` M02 where the file is missing or says what our views cannot do.
    """
    with reading(place, asked, "how it sees pictures (preprocessor_config.json)"):
        processor = library("transformers", asked).AutoImageProcessor.from_pretrained(place, trust_remote_code=False)
        said = processor.to_dict()
    size: dict[str, Any] = said.get("size") or {}
    large: Any = size.get("shortest_edge", size.get("height"))
    shape: dict[str, Any] = said["crop_size"] if said.get("do_center_crop") and said.get("crop_size") else size
    side: Any = shape.get("height")
    how = {0: "nearest", 2: "bilinear", 3: "bicubic"}.get(int(said.get("resample", -1)))
    odd = {
        "a picture that is not a square": not side or side != shape.get("width") or size.get("width", large) != large,
        "a crop larger than the picture": bool(side and large and side > large),
        f"resample {said.get('resample')} (nearest 0, bilinear 2 and bicubic 3 can be)": how is None,
        "no do_resize": not said.get("do_resize", True), "no do_rescale": not said.get("do_rescale", True),
        f"rescale_factor {said.get('rescale_factor')}": abs(said.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6,
    }  # fmt: skip
    if any(odd.values()):
        why = " and ".join(key for key, bad in odd.items() if bad)
        raise ConfigError(f"{asked}: preprocessor_config.json asks for {why}, which our views cannot do.", "M02")
    normal, exact = said.get("do_normalize", True), side / large
    fields = {
        "image_size": int(side), "interpolation": how, "resize": "shortest" if "shortest_edge" in size else "squash",
        "mean": tuple(map(float, said["image_mean"])) if normal else (0.0, 0.0, 0.0),
        "std": tuple(map(float, said["image_std"])) if normal else (1.0, 1.0, 1.0),
        "crop": exact if math.floor(side / exact) == large else side / (large + 0.5),
    }  # fmt: skip
    return fields, processor.to_json_string()
