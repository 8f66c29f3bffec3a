"""open_clip's names of parameters, and ours: the only table of them."""

from __future__ import annotations

import re

from likewise.encoders import timm_names
from likewise.errors import ConfigError

_BLOCK = (
    (r"ln_1\.", "norm1."), (r"ln_2\.", "norm2."), (r"attn\.in_proj_(weight|bias)", r"qkv.\1"),
    (r"attn\.out_proj\.", "out."), (r"mlp\.c_fc\.", "up."), (r"mlp\.c_proj\.", "down."),
    (r"ls_([12])\.gamma", r"gain\1"),
)  # fmt: skip
"""Inside a transformer block of open_clip's own."""

_OUTSIDE = (
    (r"logit_scale", "scale"), (r"logit_bias", "shift"),
    (r"visual\.conv1\.", "image.patch."), (r"visual\.class_embedding", "image.class"),
    (r"visual\.positional_embedding", "image.positions"), (r"visual\.ln_pre\.", "image.norm_pre."),
    (r"visual\.ln_post\.", "image.norm_post."), (r"visual\.proj$", "image.projection"),
    (r"visual\.attn_?pool\.", "image.pool."), (r"visual\.conv(\d)\.", r"image.stem.conv\1."),
    (r"visual\.bn(\d)\.", r"image.stem.norm\1."),
    (r"visual\.layer(\d)\.(\d+)\.downsample\.1\.", r"image.stage\1.\2.norm_skip."),
    (r"visual\.layer(\d)\.(\d+)\.bn(\d)\.", r"image.stage\1.\2.norm\3."), (r"visual\.layer(\d)\.", r"image.stage\1."),
    (r"visual\.head\.proj\.weight", "image.projection"), (r"visual\.head\.", "image.projection."),
    (r"visual\.", "image.other."),
    (r"(?:text\.)?token_embedding\.weight", "text.tokens"), (r"(?:text\.)?positional_embedding", "text.positions"),
    (r"(?:text\.)?ln_final\.", "text.norm_post."), (r"(?:text\.)?text_projection", "text.projection"),
    (r"(?:text\.)?cls_emb", "text.class"), (r"text_decoder\.", "text.decoder."), (r"text\.", "text.other."),
)  # fmt: skip
"""Everything else; the first match wins, and what open_clip adds keeps its own name behind `other`."""

_TRUNK = r"visual\.trunk\."
TOWERS = (
    (r"visual\.transformer\.resblocks\.(\d+)\.", "image"), (_TRUNK + timm_names.VIT, "image"),
    (r"(?:text\.)?transformer\.resblocks\.(\d+)\.", "text"),
)  # fmt: skip


def rename(upstream: str) -> str:
    """open_clip's name of a parameter to ours; in a trunk of timm's, as `timm_names` has it."""
    if trunk := re.match(_TRUNK, upstream):
        return timm_names.rename(upstream[trunk.end() :])
    if ours := timm_names.within(upstream, TOWERS, _BLOCK):
        return ours
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
