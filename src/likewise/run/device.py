"""Where a run happens: the one place that moves an encoder to the machine's device."""

from __future__ import annotations

import torch

from likewise.encoder import Encoder
from likewise.errors import MachineError
from likewise.recipe import Machine


def on(encoder: Encoder, machine: Machine) -> Encoder:
    """The encoder, moved in place to the machine's device. Raises `MachineError` E01 for one that is not there."""
    check(machine.device)
    encoder.module.to(machine.device)
    return encoder


def check(device: str) -> None:
    """Raises `MachineError` E01 for a device that is not there."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise MachineError(
            "E01", f"--device {device}: torch sees no CUDA device here. Use --device cpu; likewise doctor says more."
        )
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        raise MachineError("E01", f"--device {device}: {str(error).splitlines()[0]} Use cpu, cuda or mps.") from None
