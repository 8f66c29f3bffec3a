"""open_clip's names of parameters, and ours: the only table of them."""

from __future__ import annotations

import re

from likewise.errors import ConfigError

_BLOCK = (
    (r"ln_1\.", "norm1."), (r"ln_2\.", "norm2."), (r"attn\.in_proj_(weight|bias)", r"qkv.\1"),
    (r"attn\.out_proj\.", "out."), (r"mlp\.c_fc\.", "up."), (r"mlp\.c_proj\.", "down."),
    (r"ls_([12])\.gamma", r"gain\1"), (r"norm([12])\.", r"norm\1."), (r"attn\.qkv\.", "qkv."),
    (r"attn\.proj\.", "out."), (r"mlp\.fc1\.", "up."), (r"mlp\.fc2\.", "down."), (r"ls([12])\.gamma", r"gain\1"),
)  # fmt: skip
"""Inside a transformer block: open_clip's own, then timm's."""

_OUTSIDE = (
    (r"logit_scale", "scale"), (r"logit_bias", "shift"),
    (r"visual\.conv1\.", "image.patch."), (r"visual\.class_embedding", "image.class"),
    (r"visual\.positional_embedding", "image.positions"), (r"visual\.ln_pre\.", "image.norm_pre."),
    (r"visual\.ln_post\.", "image.norm_post."), (r"visual\.proj$", "image.projection"),
    (r"visual\.attn_?pool\.", "image.pool."), (r"visual\.conv(\d)\.", r"image.stem.conv\1."),
    (r"visual\.bn(\d)\.", r"image.stem.norm\1."),
    (r"visual\.layer(\d)\.(\d+)\.downsample\.1\.", r"image.stage\1.\2.norm_skip."),
    (r"visual\.layer(\d)\.(\d+)\.bn(\d)\.", r"image.stage\1.\2.norm\3."), (r"visual\.layer(\d)\.", r"image.stage\1."),
    (r"visual\.trunk\.patch_embed\.", "image.patch."), (r"visual\.trunk\.cls_token", "image.class"),
    (r"visual\.trunk\.pos_embed", "image.positions"), (r"visual\.trunk\.norm_pre\.", "image.norm_pre."),
    (r"visual\.trunk\.(?:fc_)?norm\.", "image.norm_post."), (r"visual\.trunk\.attn_pool\.", "image.pool."),
    (r"visual\.head\.proj\.weight", "image.projection"), (r"visual\.head\.", "image.projection."),
    (r"visual\.trunk\.", "image.trunk."), (r"visual\.", "image.other."),
    (r"(?:text\.)?token_embedding\.weight", "text.tokens"), (r"(?:text\.)?positional_embedding", "text.positions"),
    (r"(?:text\.)?ln_final\.", "text.norm_post."), (r"(?:text\.)?text_projection", "text.projection"),
    (r"(?:text\.)?cls_emb", "text.class"), (r"text_decoder\.", "text.decoder."), (r"text\.", "text.other."),
)  # fmt: skip
"""Everything else; the first match wins, and what open_clip adds keeps its own name behind `other`."""

TOWERS = (
    (r"visual\.transformer\.resblocks\.(\d+)\.", "image"), (r"visual\.trunk\.blocks\.(\d+)\.", "image"),
    (r"(?:text\.)?transformer\.resblocks\.(\d+)\.", "text"),
)  # fmt: skip


def rename(upstream: str) -> str:
    """open_clip's name of a parameter to ours."""
    for pattern, tower in TOWERS:
        if found := re.match(pattern, upstream):
            rest = upstream[found.end() :]
            for inner, ours in _BLOCK:
                if re.match(inner, rest):
                    return f"{tower}.{found[1]}." + re.sub(f"^{inner}", ours, rest)
            return f"{tower}.{found[1]}.{rest}"
    for pattern, ours in _OUTSIDE:
        if re.match(pattern, upstream):
            return re.sub(f"^{pattern}", ours, upstream)
    raise ConfigError(
        f"open_clip's parameter «{upstream}» has no name of ours; this architecture is not supported yet.", "M02"
    )


def rename_any(upstream: str) -> str:
    """Parameters by our names, buffers by the same rules or, where there is none, their own."""
    try:
        return rename(upstream)
    except ConfigError:
        return upstream
