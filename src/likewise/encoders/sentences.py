"""sentence-transformers models behind our names: encoders of texts alone. Needs the extra `hf`.

Names accepted (`st:` in front, but for folders):

    all-MiniLM-L6-v2                   a model of the library's own organisation at huggingface.co
    BAAI/bge-small-en-v1.5             any repository there with modules.json and safetensors
    ./folder, local-dir:folder         what SentenceTransformer.save wrote
"""

# B texts, D shared width, L tokens.

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from likewise.encoder import Encoder, EncoderSpec, Site, weights_hash
from likewise.encoders import hugging
from likewise.encoders.transformers_names import children, names_of, positional
from likewise.errors import ConfigError, some

MODULES = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout", "LayerNorm")
"""What a model may be made of; the first is a Transformer."""
CONTEXT = 512
"""Longer contexts are cut to this: captions and prompts are short, and ids are kept at full length."""
_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
_OF_A_VERSION = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures"}


class Sentences(Encoder):
    """A `SentenceTransformer`, up to the vector of a text before it is made one long: unit length is the heads' doing.

    The pooler of a BERT, which the library does not read, is left out. What is put before each text by default (a
    prompt) is put here too. Padding is masked, so texts are trimmed to the longest of a batch.
    """

    def __init__(self, spec: EncoderSpec, module: nn.Module, tokens: hugging.Tokens, names: Mapping[str, str]) -> None:
        self.names = names
        sites = {ours: Site.at(module, upstream) for upstream, ours in names.items()}
        super().__init__(spec, module, sites, dict(children(module, names)))
        self._tokens = tokens
        self._prompt = str(spec.config["prompt"])
        self._steps = list(module.children())
        while type(self._steps[-1]).__name__ == "Normalize":
            self._steps.pop()
        for name, site in self.children.items():
            if name.endswith(".attention"):
                site.value.register_forward_pre_hook(positional, with_kwargs=True)
        with torch.no_grad():
            self._width = self.text(self.tokenize(["a"])).shape[1]

    def text(self, tokens_BL: Tensor) -> Tensor:
        lengths_B = (tokens_BL != self._tokens.pad_token_id).sum(dim=1)
        tokens_BL = tokens_BL[:, : int(lengths_B.max())]
        said: dict[str, Any] = {
            "input_ids": tokens_BL, "attention_mask": (tokens_BL != self._tokens.pad_token_id).long()
        }  # fmt: skip
        for step in self._steps:
            said = step(said)
        return torch.as_tensor(said["sentence_embedding"])[:, : self.spec.config["truncate_dim"]]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return self._tokens.tokenize([self._prompt + text for text in texts], self.spec.context)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return self._tokens.lengths([self._prompt + text for text in texts])

    @property
    def shared_width(self) -> int:
        return self._width

    @property
    def pooled_width(self) -> int:
        raise ConfigError(f"{self.spec.name} has no image tower, so it has no features of pictures.", "M03")


def load(name: str, weights: bool = True) -> Sentences:
    """The encoder of that name, on the CPU, in fp32. Raises M01 (unknown, missing) and M02 (mismatched) errors.

    Departs: the library cannot build a model without its weights, so `weights=False` reads them too and only does not
    vouch for them. It refuses pickled weights and modules of a repository's own code.
    """
    where = hugging.where(name.removeprefix("st:"), name)
    where = f"sentence-transformers/{where}" if isinstance(where, str) and "/" not in where else where
    library = hugging.library("sentence_transformers", name)
    parts = hugging.description(where, "modules.json", name)
    kinds = _kinds(parts, name)
    folder = where if isinstance(where, Path) else hugging.fetch(where, _FILES, name)
    for part, kind in zip(parts, kinds, strict=True):
        if kind in ("Transformer", "Dense", "LayerNorm"):
            hugging.check_safe(folder / part["path"], name)
    with hugging.reading(folder, name, "its modules"):
        own = {"dtype": torch.float32, "use_safetensors": True}
        module = library.SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, trust_remote_code=False, model_kwargs=own
        )
        inner: Any = next(module[0].children())
        _, found = type(inner).from_pretrained(folder / parts[0]["path"], output_loading_info=True, **own)
        if missing := sorted(key for key in found["missing_keys"] if not key.startswith("pooler.")):
            raise ConfigError(f"{name}: the weights lack {some(missing, 1)} of {type(inner).__name__}; they are of "
                              "another model than config.json says.", "M02")  # fmt: skip
        if getattr(inner, "pooler", None) is not None and isinstance(inner.pooler, nn.Module):
            inner.pooler = None
        tokens = _tokens(module, name)
    names = _names(module)
    return Sentences(_spec(name, folder, parts, module, names if weights else {}), module, tokens, names)


def _kinds(parts: Any, asked: str) -> list[str]:
    """What the modules are. Raises M02 for one that is not the library's own, or that we do not know."""
    told = [str(part.get("type", "")) for part in parts] if isinstance(parts, list) and parts else []
    kinds = [kind.rpartition(".")[2] for kind in told]
    odd = [
        kind for kind in told if not kind.startswith("sentence_transformers.") or kind.rpartition(".")[2] not in MODULES
    ]
    if odd or kinds[:1] != ["Transformer"] or any(".." in Path(str(part.get("path", ""))).parts for part in parts):
        raise ConfigError(
            f"{asked}: modules.json is made of {some(odd or told, 3) or 'nothing'}, and we know the library's own "
            f"{', '.join(MODULES)}, a Transformer first. A model's own code is not run.", "M02"
        )  # fmt: skip
    return kinds


def _tokens(module: Any, asked: str) -> hugging.Tokens:
    tokens = hugging.Tokens(module.tokenizer, asked)
    if tokens.pad_token_id in tokens.around:
        raise ConfigError(f"{asked}: its padding token ends its texts too, so padding cannot be told from text. Use "
                          "an encoder whose tokenizer has a padding token of its own.", "M02")  # fmt: skip
    prompt = _prompt(module)
    if prompt and not all(getattr(step, "include_prompt", True) for step in module.children()):
        raise ConfigError(f"{asked}: it puts «{prompt}» before each text and leaves that out of the mean, which we "
                          "do not. Use another encoder.", "M02")  # fmt: skip
    return tokens


def _prompt(module: Any) -> str:
    return str(module.prompts.get(module.default_prompt_name) or "") if module.default_prompt_name else ""


def _names(module: nn.Module) -> dict[str, str]:
    """Upstream names to ours; the last linear layer behind the pooling is the way to the shared space."""
    names = names_of(module)
    linear = [found[1] for upstream in names if (found := re.match(r"(\d+)\.linear\.", upstream))]
    return {
        upstream: upstream.replace(f"{linear[-1]}.linear.", "text.projection.", 1)
        if linear and upstream.startswith(f"{linear[-1]}.linear.") else ours
        for upstream, ours in names.items()
    }  # fmt: skip


def _spec(asked: str, folder: Path, parts: Any, module: Any, names: Mapping[str, str]) -> EncoderSpec:
    """`names` are those of the weights that it vouches for."""
    made = []
    for part in parts:
        there = folder / part["path"]
        about = hugging.description(there, "config.json", asked) if (there / "config.json").exists() else {}
        made.append(
            {"type": part["type"].rpartition(".")[2]} | {k: v for k, v in about.items() if k not in _OF_A_VERSION}
        )
    longest = module.max_seq_length
    own = dict(module.named_parameters())
    return EncoderSpec(
        family="sentences", name=asked,
        config={"modules": made, "prompt": _prompt(module), "truncate_dim": module.truncate_dim},
        weights=weights_hash({ours: own[upstream] for upstream, ours in names.items()}) if names else "",
        image_size=0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="squash", interpolation="bicubic",
        context=min(int(longest), CONTEXT) if longest else CONTEXT,
    )  # fmt: skip
