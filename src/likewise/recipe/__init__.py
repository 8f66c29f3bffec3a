"""A method is a value made of stages and a merge, combined by functions on values."""

from likewise.recipe.combine import at_rate, joint, lines, one, rescaled, soup, then, wise
from likewise.recipe.experiment import Captioning, Experiment, Machine
from likewise.recipe.fits import AdamW, Descent, Fit, Lbfgs, Majorize, Sgd
from likewise.recipe.stage import Recipe, Stage, no_path, no_soup, starts_at_texts

__all__ = [
    "AdamW", "Captioning", "Descent", "Experiment", "Fit", "Lbfgs", "Machine", "Majorize", "Recipe", "Sgd", "Stage",
    "at_rate", "joint", "lines", "no_path", "no_soup", "one", "rescaled", "soup", "starts_at_texts", "then", "wise",
]  # fmt: skip
