"""sentence-transformers models behind our names, against the library's own `encode`."""

# B texts, D shared width, L tokens.

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from likewise.adapters import AdapterConfig, Bottleneck, Compacter, Film, Lora, Prompt, VisualPrompt, grafted
from likewise.encoder import Encoder, learned
from likewise.encoders.sentences import Sentences, load
from likewise.errors import ConfigError, LikewiseError, MachineError, UsageError
from likewise.heads import unit
from likewise.names import packed
from tiny import alive_of, everything

WORDS = [*("a", "the", "red", "blue", "green", "very", "long", "sentence", "about", "of", "thing", "picture", "small"),
         *("one", ".", ",", "query", ":")]  # fmt: skip
TEXTS = ["red", "a very long sentence about a small blue thing .", "the  Unknown  RED ", "", "red " * 40]
_small = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
SIZES: dict[str, dict[str, Any]] = {
    "bert": {**_small, "max_position_embeddings": 24}, "roberta": {**_small, "max_position_embeddings": 26},
    "mpnet": {**_small, "max_position_embeddings": 26},
    "distilbert": {"n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 24},
    "albert": {**_small, "embedding_size": 8, "max_position_embeddings": 24},
}  # fmt: skip
MADE = {"bert": transformers.BertModel, "roberta": transformers.RobertaModel, "mpnet": transformers.MPNetModel,
        "distilbert": transformers.DistilBertModel, "albert": transformers.AlbertModel}  # fmt: skip
KINDS = {"bert": "mean", "roberta": "cls", "mpnet": "mean", "distilbert": "max", "dense": "mean", "prompted": "mean",
         "albert": "mean"}  # fmt: skip
"""Kind to pooling; `dense` and `prompted` are BERTs."""


def tokenizer() -> Any:
    """Of whole words, with a padding that is not the first id."""
    specials = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(specials + WORDS)}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    ends = [("[CLS]", 0), ("[SEP]", 2)]
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair=None, special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        model_max_length=20,
    )  # fmt: skip


def write(folder: Path, kind: str) -> Path:
    """A folder as the library saves one."""
    base = kind if kind in SIZES else "bert"
    plain = folder.with_name(f"{folder.name}-plain")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(4)
        config = MADE[base].config_class(vocab_size=4 + len(WORDS), pad_token_id=1, **SIZES[base])
        model = MADE[base](config)
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(plain)
        tokenizer().save_pretrained(plain)
        steps: list[Any] = [Transformer(str(plain))]
        steps.append(Pooling(16, pooling_mode=KINDS[kind]))
        if kind == "dense":
            steps += [Dense(16, 12), Dense(12, 10, activation_function=torch.nn.Identity())]
        steps.append(Normalize())
        prompts = {"prompts": {"query": "query : "}, "default_prompt_name": "query"} if kind == "prompted" else {}
        SentenceTransformer(modules=steps, device="cpu", **prompts).save(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("sentences")
    return lambda kind: root / kind if (root / kind).exists() else write(root / kind, kind)


@pytest.fixture(scope="session")
def _shared_sentences(folders: Callable[[str], Path]) -> Callable[[str], Sentences]:
    made: dict[str, Sentences] = {}
    return lambda kind: made.setdefault(kind, made.get(kind) or load(f"st:{folders(kind)}"))


@pytest.fixture
def sentences(_shared_sentences: Callable[[str], Sentences]) -> Iterator[Callable[[str], Sentences]]:
    """An encoder of a kind that tests share; one that leaves it changed fails."""
    used: dict[str, tuple[Encoder, dict[str, Tensor]]] = {}

    def get(kind: str) -> Sentences:
        encoder = _shared_sentences(kind)
        used.setdefault(kind, (encoder, everything(encoder)))
        return encoder

    yield get
    for encoder, before in used.values():
        encoder.module.requires_grad_(False)
        assert all(torch.equal(everything(encoder)[name], value) for name, value in before.items())


Get = Callable[[str], Sentences]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_what_the_library_says(sentences: Get, folders: Callable[[str], Path], kind: str) -> None:
    encoder = sentences(kind)
    theirs = SentenceTransformer(str(folders(kind)), device="cpu")
    want_BD = torch.from_numpy(theirs.encode(TEXTS))
    ids_BL = encoder.tokenize(TEXTS)
    assert ids_BL.shape == (5, encoder.spec.context) == (5, 20)
    with torch.no_grad():
        said_BD = encoder.text(ids_BL)
        torch.testing.assert_close(unit(said_BD), want_BD, rtol=1e-6, atol=1e-6)
        assert (said_BD.norm(dim=1) - 1).abs().min() > 0.01  # before it is made one long
        for index in range(5):  # whatever stands beside it in a batch
            alone_BD = encoder.text(ids_BL[index : index + 1])
            torch.testing.assert_close(alone_BD, said_BD[index : index + 1], rtol=1e-6, atol=1e-6)
        assert (said_BD[0] - said_BD[1]).abs().max() > 0.05
    assert encoder.shared_width == said_BD.shape[1] == (10 if kind == "dense" else 16)
    # the mask is had from the ids
    own = theirs.preprocess(TEXTS, prompt="query : " if kind == "prompted" else None)
    assert (ids_BL != 1).sum(dim=1).tolist() == own["attention_mask"].sum(dim=1).tolist()
    assert all(torch.equal(row[:20], ids[: len(row)]) for row, ids in zip(own["input_ids"], ids_BL, strict=True))
    extra = 2 if kind == "prompted" else 0
    assert encoder.lengths(TEXTS) == [3 + extra, 12 + extra, 5 + extra, 2 + extra, 42 + extra]


def test_padding_is_not_paid_for(sentences: Get) -> None:
    encoder, seen = sentences("bert"), []
    handle = encoder.children["text.tokens"].value.register_forward_hook(lambda m, x, y: seen.append(y.shape[1]))
    with torch.no_grad():
        encoder.text(encoder.tokenize(TEXTS[:3]))
        long_BD = encoder.text(encoder.tokenize(TEXTS)[:3])
        full_BD = encoder.text(encoder.tokenize(TEXTS))[:3]
    handle.remove()
    assert seen == [12, 12, 20]
    torch.testing.assert_close(long_BD, full_BD, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet", "distilbert", "dense"])
def test_names(sentences: Get, kind: str) -> None:
    encoder = sentences(kind)
    mine, theirs = encoder.parameters_by_name(), dict(encoder.module.named_parameters())
    assert {id(p) for p in mine.values()} == {id(p) for p in theirs.values()}
    parts = ("query", "key", "value", "out", "norm1", "up", "down", "norm2")
    want = {f"text.{i}.{part}.{end}" for i in range(2) for part in parts for end in ("weight", "bias")}
    want |= {"text.tokens", "text.positions", "text.norm_pre.weight", "text.norm_pre.bias"}
    if kind == "dense":
        want |= {f"text.projection.{end}" for end in ("weight", "bias")}
        want |= {f"text.other.2.linear.{end}" for end in ("weight", "bias")}
    table = "text.other.embeddings.token_type_embeddings.weight"
    want |= {"mpnet": {"text.other.encoder.relative_attention_bias.weight"}, "distilbert": set()}.get(kind, {table})
    assert set(mine) == want
    assert {packed(n).removesuffix(".weight") for n in want if n.endswith(".weight")} <= {
        packed(n) for n in encoder.children
    }
    assert {f"text.1.{part}" for part in ("block", "attention", "mlp")} | {"text.tokens"} <= set(encoder.children)
    assert (encoder.has("image"), encoder.has("text"), encoder.blocks("text")) == (False, True, 2)
    for ask in (lambda: encoder.image(torch.zeros(1, 3, 8, 8)), lambda: encoder.pooled_width):
        with pytest.raises(ConfigError, match="has no image tower"):
            ask()
    for upstream, ours in encoder.names.items():
        if ".query." in ours or ".key." in ours or ".value." in ours:
            assert re.search(rf"[._]{ours.split('.')[2][0]}", upstream.partition("attention.")[2].join("..")), upstream
    # the norms stand where the names say: behind the attention and behind the MLP
    order: list[str] = []
    wanted = ("out", "norm1", "up", "down", "norm2")
    handles = [
        encoder.children[f"text.0.{part}"].value.register_forward_hook(lambda m, x, y, part=part: order.append(part))
        for part in wanted
    ]
    with torch.no_grad():
        encoder.text(encoder.tokenize(["red"]))
    for handle in handles:
        handle.remove()
    assert tuple(order) == wanted


def test_what_has_no_name_of_ours_keeps_its_own(sentences: Get) -> None:
    encoder = sentences("albert")
    assert encoder.blocks("text") == 0
    assert all(name in ("text.tokens", "text.positions") or ".other." in name or ".norm_pre." in name
               for name in encoder.sites)  # fmt: skip
    with (
        pytest.raises(ConfigError, match="text tower has no transformer blocks"),
        grafted(encoder, (Lora(at=("text.*.qkv",)),)),
    ):
        pass


ADAPTERS: list[AdapterConfig] = [
    Lora(at=("text.*.qkv.weight", "text.*.up.weight")),
    Film(at=("text.*norm*", "text.*.qkv", "text.*.mlp", "text.tokens")),
    Bottleneck(at=("text.*.mlp", "text.*.attention", "text.*.block"), width=3),
    Compacter(at=("text.*.attention",), width=8),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet", "distilbert"])
@pytest.mark.parametrize("config", ADAPTERS, ids=lambda c: c.kind)
def test_adapters(sentences: Get, kind: str, config: AdapterConfig) -> None:
    encoder = sentences(kind)
    ids_BL = encoder.tokenize(TEXTS)
    with torch.no_grad():
        before = encoder.text(ids_BL)
        with grafted(encoder, (config,)):
            assert torch.equal(encoder.text(ids_BL), before)
    with grafted(encoder, (config,)):
        numbers = encoder.grafts.parameters_by_name()
        assert alive_of(numbers, lambda: (encoder.text(ids_BL),) * 2) == set(numbers)
        assert not torch.allclose(encoder.text(ids_BL), before, atol=1e-3)
    with torch.no_grad():
        assert torch.equal(encoder.text(ids_BL), before)


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_a_bottleneck_stands_before_the_sum(sentences: Get, kind: str) -> None:
    """What it adds is added to the residual sum, ahead of the norm: by hand from what goes into that norm."""
    encoder, seen = sentences(kind), []
    norm = encoder.children["text.1.norm1"].value
    look = norm.register_forward_pre_hook(lambda m, x: seen.append(x[0].detach().clone()))
    with grafted(encoder, (Bottleneck(at=("text.1.attention",), width=3),)), torch.no_grad():
        numbers = encoder.grafts.parameters_by_name()
        encoder.text(encoder.tokenize(["red"]))
        numbers["adapters.bottleneck.text.1.attention.up.bias"].fill_(0.5)
        encoder.text(encoder.tokenize(["red"]))
    look.remove()
    torch.testing.assert_close(seen[1], seen[0] + 0.5)


def test_what_needs_the_whole_sub_layer_is_refused_where_it_is_not(sentences: Get) -> None:
    config = Bottleneck(at=("text.*.mlp",), where="parallel")
    for adapter, why in (
        (config, r"reads what goes into text\.0\.mlp.*where: after"),
        (VisualPrompt(), "no transformer blocks in its image tower"),
    ):
        with pytest.raises(ConfigError, match=why), grafted(sentences("bert"), (adapter,)):
            pass
        assert not sentences("bert").grafts.seams


def test_learned_words(sentences: Get) -> None:
    encoder = sentences("bert")
    ids_BL = encoder.tokenize([f"{learned(0)}{learned(1)} red thing.", "red", learned(3) + " red" * 30])
    assert ids_BL[0].tolist() == [0, -1, -2, *(4 + WORDS.index(w) for w in ("red", "thing", ".")), 2] + [1] * 13
    assert ids_BL[2, [0, 1, -1]].tolist() == [0, -4, 2]
    assert encoder.lengths([f"{learned(0)} red"]) == [4]
    prompt = Prompt(length=2, start="a picture")
    texts = [row[0] for row in prompt.texts(["red", "very small"])]
    with torch.no_grad():
        want_BD = encoder.text(encoder.tokenize(["a picture red", "a picture very small"]))
        with grafted(encoder, (prompt,)):
            torch.testing.assert_close(encoder.text(encoder.tokenize(texts)), want_BD)
    with grafted(encoder, (Prompt(length=2),)):
        numbers = encoder.grafts.parameters_by_name()
        assert alive_of(numbers, lambda: (encoder.text(encoder.tokenize(texts)),) * 2) == set(numbers)


def test_every_number_decides(sentences: Get) -> None:
    for kind in ("bert", "roberta", "mpnet", "distilbert", "dense"):
        encoder = sentences(kind)
        mine = encoder.parameters_by_name()
        for parameter in mine.values():
            parameter.requires_grad_()
        encoder.text(encoder.tokenize(TEXTS)).square().sum().backward()
        still = {name for name, p in mine.items() if p.grad is None or not p.grad.any()}
        for parameter in mine.values():
            parameter.grad = None
        assert not {name for name in still if not name.endswith(".key.bias")}, kind


def test_the_spec(sentences: Get, folders: Callable[[str], Path], tmp_path: Path) -> None:
    spec = sentences("bert").spec
    assert (spec.family, spec.image_size, spec.context) == ("sentences", 0, 20)
    assert [part["type"] for part in spec.config["modules"]] == ["Transformer", "Pooling", "Normalize"]
    assert spec.config["modules"][0]["hidden_act"] == "gelu"
    copy = shutil.copytree(folders("bert"), tmp_path / "copy")
    assert load(f"local-dir:{copy}").spec.digest == spec.digest
    bare = load(f"st:{copy}", weights=False)
    assert bare.spec.weights == ""
    assert list(bare.sites) == list(sentences("bert").sites)
    weights = load_file(copy / "model.safetensors")
    key = next(key for key in weights if key.endswith("layer.1.output.dense.bias"))
    save_file({**weights, key: weights[key] + 1e-6}, copy / "model.safetensors", {"format": "pt"})
    assert load(f"st:{copy}").spec.digest != spec.digest
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    pooling = json.loads((copy / "1_Pooling" / "config.json").read_text())
    (copy / "1_Pooling" / "config.json").write_text(json.dumps({**pooling, "pooling_mode": "cls"}))
    assert load(f"st:{copy}").spec.digest != spec.digest
    assert not any(p.requires_grad for p in sentences("bert").module.parameters())


def test_loading_leaves_the_global_generator_alone(folders: Callable[[str], Path]) -> None:
    torch.manual_seed(1)
    want = torch.rand(3)
    torch.manual_seed(1)
    load(f"st:{folders('bert')}")
    assert torch.equal(torch.rand(3), want)


def refused(name: str, kind: type[LikewiseError], code: str, *said: str) -> None:
    with pytest.raises(kind) as caught:
        load(name)
    assert caught.value.code == code
    for part in said:
        assert part in str(caught.value), str(caught.value)


def test_what_cannot_be_read_says_why(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("dense"), tmp_path / "model")
    refused(f"st:{tmp_path}/modle", UsageError, "M01", "is not a folder", "Did you mean model")
    refused("st:a/b/c", UsageError, "M01", "neither a folder nor a name at the hub")
    refused(f"local-dir:{tmp_path}", ConfigError, "M02", "has no modules.json")
    weights = load_file(folder / "model.safetensors")
    few = {n: t for n, t in weights.items() if "layer.1." not in n}
    save_file(few, folder / "model.safetensors", {"format": "pt"})
    refused(f"st:{folder}", ConfigError, "M02", "the weights lack", "more of BertModel")
    save_file({n: t for n, t in weights.items() if "pooler" not in n}, folder / "model.safetensors", {"format": "pt"})
    assert load(f"st:{folder}").spec.digest == load(f"st:{folders('dense')}").spec.digest  # the pooler is not read
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    refused(f"st:{folder}", ConfigError, "M02", "2_Dense has no .safetensors file", "Pickled weights")
    (folder / "2_Dense" / "pytorch_model.bin").rename(folder / "2_Dense" / "model.safetensors")
    parts = json.loads((folder / "modules.json").read_text())

    def made_of(*changed: Any) -> None:
        (folder / "modules.json").write_text(json.dumps(list(changed)))

    made_of(*parts[:2], {**parts[2], "type": "mine.Own"})
    refused(f"st:{folder}", ConfigError, "M02", "made of mine.Own", "own code is not run")
    made_of({**parts[0], "type": "sentence_transformers.models.CLIPModel"}, *parts[1:])
    refused(f"st:{folder}", ConfigError, "M02", "made of sentence_transformers.models.CLIPModel")
    made_of(*parts[1:])
    refused(f"st:{folder}", ConfigError, "M02", "a Transformer first")
    made_of({**parts[0], "path": "../other"}, *parts[1:])
    refused(f"st:{folder}", ConfigError, "M02", "Transformer")
    made_of()
    refused(f"st:{folder}", ConfigError, "M02", "made of nothing")
    made_of(*parts)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(f"st:{folder}", ConfigError, "M02", "tokenizer")
    (folder / "model.safetensors").unlink()
    refused(f"st:{folder}", ConfigError, "M02", "no .safetensors file")


def test_a_padding_that_ends_texts_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("bert"), tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "[SEP]"}))
    refused(f"st:{folder}", ConfigError, "M02", "padding token ends its texts too")


def test_a_prompt_left_out_of_the_mean_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders("prompted"), tmp_path / "model")
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**config, "include_prompt": False}))
    refused(f"st:{folder}", ConfigError, "M02", "puts «query : » before each text")


def test_names_at_the_hub(folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refused("st:us/nothing", MachineError, "M01", "could not be fetched", "Offline?")
    repository = tmp_path / "models--sentence-transformers--small"
    shutil.copytree(folders("bert"), repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    assert load("st:small").spec.digest == load(f"st:{folders('bert')}").spec.digest


def test_without_the_library(folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    refused(f"st:{folders('bert')}", MachineError, "M01", "needs sentence_transformers", "pip install 'likewise[hf]'")
