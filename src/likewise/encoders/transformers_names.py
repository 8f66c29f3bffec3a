"""transformers' names of parameters, and ours: the only tables of them, for CLIPs, ViTs and encoders of texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import nn

from likewise.encoder import Site
from likewise.encoders.timm_names import within
from likewise.errors import ConfigError, some

CLIP_TOWERS = {"image": "vision_model", "text": "text_model"}
CLIP_BLOCK = {
    "norm1": "layer_norm1", "norm2": "layer_norm2", "query": "self_attn.q_proj", "key": "self_attn.k_proj",
    "value": "self_attn.v_proj", "out": "self_attn.out_proj", "up": "mlp.fc1", "down": "mlp.fc2",
}  # fmt: skip
CLIP_OUTSIDE = {
    "image.norm_pre": "vision_model.pre_layrnorm", "image.norm_post": "vision_model.post_layernorm",
    "text.norm_post": "text_model.final_layer_norm",
}  # fmt: skip
"""Our place to the module of a `CLIPModel`; a block's modules are behind `<tower>.encoder.layers.<number>.` (`layrnorm`
is theirs)."""

_BLOCK = (
    *((re.escape(theirs) + r"\.", f"{ours}.") for ours, theirs in CLIP_BLOCK.items()),
    # DINOv2 and ViT, then as they were before transformers 5
    (r"norm([12])\.", r"norm\1."), (r"layernorm_before\.", "norm1."), (r"layernorm_after\.", "norm2."),
    (r"attention\.q_proj\.", "query."), (r"attention\.k_proj\.", "key."), (r"attention\.v_proj\.", "value."),
    (r"attention\.o_proj\.", "out."), (r"layer_scale([12])\.lambda1", r"gain\1"), (r"mlp\.gate_proj\.", "gate."),
    (r"mlp\.up_proj\.", "up."), (r"mlp\.down_proj\.", "down."), (r"mlp\.weights_in\.", "up."),
    (r"mlp\.weights_out\.", "down."), (r"attention\.attention\.(query|key|value)\.", r"\1."),
    # BERT and RoBERTa, MPNet, DistilBERT: their norms stand behind the sums
    (r"attention\.self\.(query|key|value)\.", r"\1."), (r"attention\.output\.dense\.", "out."),
    (r"attention\.(?:output\.)?LayerNorm\.", "norm1."), (r"intermediate\.dense\.", "up."),
    (r"output\.dense\.", "down."), (r"output\.LayerNorm\.", "norm2."),
    (r"attention\.(?:attn\.q|q_lin)\.", "query."), (r"attention\.(?:attn\.k|k_lin)\.", "key."),
    (r"attention\.(?:attn\.v|v_lin)\.", "value."), (r"attention\.(?:attn\.o|out_lin)\.", "out."),
    (r"sa_layer_norm\.", "norm1."), (r"ffn\.lin1\.", "up."), (r"ffn\.lin2\.", "down."),
    (r"output_layer_norm\.", "norm2."),
)  # fmt: skip
"""Inside a transformer block."""

_TEXT = r"(?:0\.(?:auto_)?model\.)"
_OUTSIDE = (
    (r"logit_scale", "scale"), (r"logit_bias", "shift"), (r"visual_projection\.weight", "image.projection"),
    (r"text_projection\.weight", "text.projection"), (r"text_model\.head\.", "text.projection."),
    (r"text_model\.embeddings\.token_embedding\.weight", "text.tokens"),
    (r"text_model\.embeddings\.position_embedding\.weight", "text.positions"),
    *((re.escape(theirs) + r"\.", f"{ours}.") for ours, theirs in CLIP_OUTSIDE.items()),
    (r"text_model\.", "text.other."),
    (_TEXT + r"embeddings\.word_embeddings\.weight", "text.tokens"),
    (_TEXT + r"embeddings\.position_embeddings\.weight", "text.positions"),
    (_TEXT + r"embeddings\.LayerNorm\.", "text.norm_pre."), (_TEXT, "text.other."), (r"(\d+)\.", r"text.other.\1."),
    (r"(?:vision_model\.)?embeddings\.(?:class_embedding|cls_token)", "image.class"),
    (r"(?:vision_model\.)?embeddings\.(?:patch_embedding|patch_embeddings\.projection)\.", "image.patch."),
    (r"(?:vision_model\.)?embeddings\.(?:position_embedding\.weight|position_embeddings)", "image.positions"),
    (r"embeddings\.register_tokens", "image.registers"), (r"pre_layrnorm\.", "image.norm_pre."),
    (r"(?:post_layernorm|layernorm)\.", "image.norm_post."),
    # as timm calls the parts of SigLIP's attention pooling, but that query, key and value are one matrix here
    (r"(?:vision_model\.)?head\.probe", "image.pool.latent"),
    (r"(?:vision_model\.)?head\.attention\.in_proj_(weight|bias)", r"image.pool.in.\1"),
    (r"(?:vision_model\.)?head\.attention\.out_proj\.", "image.pool.proj."),
    (r"(?:vision_model\.)?head\.layernorm\.", "image.pool.norm."), (r"(?:vision_model\.)?head\.", "image.pool."),
    (r"", "image.other."),
)  # fmt: skip
"""Everything else; the first match wins, and what has no name of ours keeps its own behind `other`."""

_TOWERS = (
    (_TEXT + r"(?:encoder|transformer)\.layer\.(\d+)\.", "text"),
    (r"text_model\.encoder\.layers\.(\d+)\.", "text"),
    (r"(?:vision_model\.)?(?:encoder\.)?layers?\.(\d+)\.", "image"),
)
_PLACES = {"": "block", "self_attn": "attention", "attention": "attention", "mlp": "mlp"}
_SENTENCE_PLACES = {
    "": "block", "attention.output.dense": "attention", "output.dense": "mlp", "attention.attn": "attention",
    "attention.out_lin": "attention", "ffn": "mlp",
}  # fmt: skip
"""What answers for a sub-layer before the residual sum. BERT's has no module of its own: its last layer stands for it,
which answers the same but is not given what goes into the sub-layer."""


def rename(upstream: str) -> str:
    """transformers' name of a parameter to ours; a sentence-transformers model's begins with its modules' numbers."""
    if found := within(upstream, _TOWERS, _BLOCK):
        return found
    pattern, ours = next((pattern, ours) for pattern, ours in _OUTSIDE if re.match(pattern, upstream))
    return re.sub(f"^{pattern}", ours, upstream)


def names_of(module: nn.Module) -> dict[str, str]:
    """Upstream names of its parameters to ours. Raises `ConfigError` where two would have one name."""
    out = {upstream: rename(upstream) for upstream, _ in module.named_parameters()}
    if twice := [upstream for upstream, ours in out.items() if list(out.values()).count(ours) > 1]:
        raise ConfigError(
            f"several of transformers' parameters would be called «{out[twice[0]]}»: {some(twice)}.", "M02"
        )
    return out


def children(module: nn.Module, names: Mapping[str, str]) -> Iterator[tuple[str, Site]]:
    """The places of module and token grafts: blocks, their attention and MLP, and each layer that has a weight."""
    for upstream, layer in module.named_modules():
        for pattern, tower in _TOWERS:
            if found := re.match(pattern, upstream + "."):
                part = (upstream + ".")[found.end() :].rstrip(".")
                if own := (_SENTENCE_PLACES if pattern.startswith(_TEXT) else _PLACES).get(part):
                    yield f"{tower}.{found[1]}.{own}", Site.at(module, upstream)
                break
        if layer._parameters.get("weight") is not None and f"{upstream}.weight" in names:
            yield names[f"{upstream}.weight"].removesuffix(".weight"), Site.at(module, upstream)


def positional(layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """A hook before a module: what it is given by name as `hidden_states` comes first, where grafts look for it."""
    if args or "hidden_states" not in kwargs:
        return None
    return (kwargs["hidden_states"],), {name: value for name, value in kwargs.items() if name != "hidden_states"}
