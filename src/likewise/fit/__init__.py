"""The training loop of one stage: what it needs (`work`), the texts it compares with, what it rehearses, its steps."""

from likewise.fit.training import BAD_STEPS, DivergenceError, Step, Training
from likewise.fit.work import Work

__all__ = ["BAD_STEPS", "DivergenceError", "Step", "Training", "Work"]
