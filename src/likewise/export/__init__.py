"""What a run left, in forms that travel: a delta on its base, PEFT's format both ways, a whole model folder.

write_delta(run, out)       what trained, and which base it stands on     read_delta(folder)    on a fresh base
write_peft(run, out)        LoRA and LayerNorm for Hugging Face's CLIP    read_peft(folder)     PEFT's, by our names
write_merged(run, out)      an open_clip folder, as `likewise adapt` keeps the chosen model
"""

from __future__ import annotations

from likewise.export.delta import Delta, read_delta, write_delta
from likewise.export.merged import write_merged
from likewise.export.peft import write_peft
from likewise.export.peft_format import Peft, put_peft, read_peft
from likewise.export.source import Shipped

FORMATS = {"delta": write_delta, "peft": write_peft, "merged": write_merged}

__all__ = [
    "FORMATS", "Delta", "Peft", "Shipped", "put_peft", "read_delta", "read_peft", "write_delta", "write_merged",
    "write_peft",
]  # fmt: skip
