"""The types of a method: a value made of stages and a merge, combined by functions on values.

one(trains=..., head=..., loss=..., fit=...)    a recipe of one stage
then(a, b)                                      b starts from what a left, its head kept
joint(a, b)                                     both at once: what either trains, under b's head, loss and fit
wise(a, alpha=0.5)                              interpolated with the pretrained model afterwards
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from likewise.config import Config
from likewise.errors import ConfigError
from likewise.heads import Head, Keep, Linear, Neighbours, Text
from likewise.losses import Contrastive, CrossEntropy, Loss
from likewise.merging import Wise


class AdamW(Config):
    """AdamW, linear warm-up, then cosine to zero. Matrices decay; tensors of one dimension do not, unless `decay_all`.

    `lr` has no default: it decides the answer. `warmup` is a fraction of all steps, `clip` the largest gradient norm
    (0: none). `sampling` "images": each picture once an epoch, the last batch short; "pairs": rows are (picture,
    template) pairs, as FLYP's code draws them.
    """

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(gt=0)
    epochs: int = Field(10, ge=1)
    batch: int = Field(128, ge=1)
    warmup: float = Field(0.1, ge=0, le=1)
    decay: float = Field(0.1, ge=0)
    decay_all: bool = False
    clip: float = Field(1.0, ge=0)
    sampling: Literal["images", "pairs"] = "images"


class Lbfgs(Config):
    """The exact solution of a linear head on constant features, along a path of L2 strengths.

    Minimises mean cross-entropy + |weight|^2 / (2 C N) for each C of `path`, each started from the last; the C with the
    best select accuracy is kept, the smaller of equals. `path` holds C as scikit-learn's LogisticRegression names it.
    """

    kind: Literal["lbfgs"] = "lbfgs"
    path: tuple[PositiveFloat, ...] = Field(
        default=(1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0), min_length=1
    )
    tolerance: float = 1e-6
    iterations: int = 500


Fit = Annotated[AdamW | Lbfgs, Field(discriminator="kind")]


class Stage(Config):
    """One training run: what trains, under which head and loss, and how it is fitted. Contradictions are refused."""

    trains: tuple[str, ...] = ()
    head: Head = Text()
    loss: Loss = CrossEntropy()
    fit: Fit | None = None

    @model_validator(mode="after")
    def _meets(self) -> Stage:
        if bool(self.trains) != (self.fit is not None):
            raise ValueError("a stage that trains needs a fit, and a stage that trains nothing needs none")
        if isinstance(self.fit, Lbfgs) and self.trains != ("head",):
            raise ValueError("Lbfgs solves for a head on constant features; trains must be just ['head']")
        if "head" in self.trains and isinstance(self.head, Text | Neighbours):
            raise ValueError(
                f"a {self.head.kind} head has no numbers of its own to train; use a linear head or leave 'head' out"
            )
        if isinstance(self.loss, Contrastive) and not isinstance(self.head, Text):
            raise ValueError("the contrastive loss compares with texts; its head must be the text head")
        return self


class Recipe(Config):
    """A method: its stages in order, and what is done to the weights afterwards."""

    title: str = ""
    paper: str = ""
    stages: tuple[Stage, ...] = Field(min_length=1)
    merge: Wise | None = None
    no_merge: str = ""
    """Why there is no WiSE path, where there is none."""

    @model_validator(mode="after")
    def _starts(self) -> Recipe:
        if isinstance(self.stages[0].head, Keep):
            raise ValueError("a recipe cannot begin with the head of the stage before")
        return self

    @property
    def head(self) -> Text | Linear | Neighbours:
        """The head that predicts in the end."""
        kept = [stage.head for stage in self.stages if not isinstance(stage.head, Keep)]
        last = kept[-1]
        assert not isinstance(last, Keep)
        return last


def one(title: str = "", paper: str = "", **stage: Any) -> Recipe:
    """A recipe of one stage, with the WiSE path that its head allows."""
    only = Stage(**stage)
    merge: Wise | None = None
    why = ""
    if isinstance(only.head, Neighbours):
        why = "a neighbours head keeps its training features and has no weights to interpolate"
    elif not only.trains:
        why = "nothing trained, so there is no second end"
    else:
        merge = Wise(form="weights" if isinstance(only.head, Text) else "head")
    return Recipe(title=title, paper=paper, stages=(only,), merge=merge, no_merge=why)


def then(first: Recipe, second: Recipe, title: str = "", paper: str = "") -> Recipe:
    """First one, then the other from where it left; a linear head is kept by a linear head that follows."""
    stages = [*first.stages, *second.stages]
    place = len(first.stages)
    if isinstance(first.head, Linear) and isinstance(stages[place].head, Linear):
        stages[place] = stages[place].model_copy(update={"head": Keep()})
    return Recipe(title=title, paper=paper, stages=tuple(stages), merge=second.merge, no_merge=second.no_merge)


def joint(first: Recipe, second: Recipe, title: str = "", paper: str = "") -> Recipe:
    """Both at once: what either trains, under the second's head, loss and fit. Raises where one of them has stages."""
    if len(first.stages) != 1 or len(second.stages) != 1:
        raise ConfigError("joint() needs two recipes of one stage each: stages in order and stages at once do not mix.")
    a, b = first.stages[0], second.stages[0]
    if isinstance(b.fit, Lbfgs):
        raise ConfigError("joint() cannot use L-BFGS, which solves for a head on constant features; use then().")
    stage = Stage(**{**dict(b), "trains": tuple(dict.fromkeys((*a.trains, *b.trains)))})
    return Recipe(title=title, paper=paper, stages=(stage,), merge=second.merge, no_merge=second.no_merge)


def wise(recipe: Recipe, alpha: float, title: str = "") -> Recipe:
    """The recipe with its alpha fixed beforehand."""
    if recipe.merge is None:
        raise ConfigError(f"{recipe.title or 'this recipe'} has no WiSE path: {recipe.no_merge}.")
    merge = recipe.merge.model_copy(update={"alpha": alpha})
    return recipe.model_copy(update={"merge": merge, "title": title or recipe.title})


def rescaled(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with every AdamW rate times `factor`."""
    if factor == 1:
        return recipe
    stages = []
    for stage in recipe.stages:
        fit = stage.fit
        if isinstance(fit, AdamW):
            stage = stage.model_copy(update={"fit": fit.model_copy(update={"lr": fit.lr * factor})})
        stages.append(stage)
    return recipe.model_copy(update={"stages": tuple(stages)})


class Experiment(Config):
    """The question, whole and fingerprinted. How fast the machine answers it is not part of it."""

    encoder: str
    encoder_digest: str
    data: str
    data_digest: str
    seed: int = 0
    shots: int = Field(0, ge=0)
    """Pictures per class to train on; 0 means all."""
    alphas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    recipes: dict[str, Recipe]


class Machine(Config):
    """How it runs: recorded beside the results, never part of the question."""

    device: str = "cpu"
    workers: int = Field(0, ge=0)
    eval_batch: int = Field(256, ge=1)
    save_seconds: float = Field(60.0, ge=0)
    """Seconds between two checkpoints of a training run."""
    save_steps: int = Field(0, ge=0)
    """Steps between two checkpoints, 0 for by time only."""
