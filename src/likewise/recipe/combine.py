"""Functions on recipes.

one(trains=..., head=..., loss=..., fit=...)    a recipe of one stage
then(a, b)                                      b starts from what a left; a's numbers are held
joint(a, b)                                     both at once: what either trains, under b's head, loss and fit
wise(a, alpha=0.5), lines(a)                    interpolated with the pretrained model afterwards
soup(a, "greedy")                               the mean of several trainings
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, TypeVar

from likewise.adapters import AdapterConfig
from likewise.config import Config
from likewise.errors import ConfigError, some
from likewise.heads import HeadConfig, Keep, Linear, Text
from likewise.losses import CrossEntropy
from likewise.merging import Soup, Wise
from likewise.names import covers
from likewise.recipe.fits import Descent, Lbfgs, Majorize
from likewise.recipe.stage import (
    Recipe,
    Stage,
    form_of,
    is_projection,
    last_head,
    no_path,
    no_soup,
    starts_at_texts,
)  # fmt: skip

Value = TypeVar("Value", bound=Config)


def _tree(stages: Sequence[Stage], title: str, paper: str) -> dict[str, Any]:
    """The fields of the recipe of these stages, with the WiSE path that they allow."""
    why = no_path(stages)
    merge = None if why else Wise(form=form_of(last_head(stages)))
    return {"title": title, "paper": paper, "stages": tuple(stages), "merge": merge, "no_merge": why}


def _with(value: Value, called: str, **changes: Any) -> Value:
    """The value with other fields, checked as those of a file are. Raises `ConfigError`."""
    return type(value).parse({**dict(value), **changes}, called)


def one(title: str = "", paper: str = "", **stage: Any) -> Recipe:
    """A recipe of one stage, with the WiSE path that its head and adapters allow."""
    return Recipe(**_tree([Stage(**stage)], title, paper))


def then(first: Recipe, second: Recipe, title: str = "", paper: str = "") -> Recipe:
    """First one, then the other from where it left; what the first trained is held where the second does not name it.

    A linear head is kept by a linear head on the same features; any other head gives way to the second's. Raises
    `ConfigError` where the two cannot meet, and where nothing of the first would be left. Title and paper are those of
    both unless given.
    """
    stages = [*first.stages, *second.stages]
    place = len(first.stages)
    if isinstance(first.head, Linear) and _same_head(first.head, stages[place].head):
        stages[place] = stages[place].model_copy(update={"head": Keep()})
    title, paper = _about(first, second, ", then ", title, paper)
    return _met(stages, title, paper, f"then({first.title or 'a'}, {second.title or 'b'})")


def _about(first: Recipe, second: Recipe, between: str, title: str, paper: str) -> tuple[str, str]:
    """Title and paper of a combination: as given, or those of both."""
    both = f"{first.title}{between}{second.title}" if first.title and second.title else ""
    return title or both, paper or "; ".join(dict.fromkeys(p for p in (first.paper, second.paper) if p))


def joint(first: Recipe, second: Recipe, title: str = "", paper: str = "") -> Recipe:
    """Both at once: what either adds and trains, under the second's head, loss and fit.

    What the second's head never asks is left out of what the first names, because it would never move: the text tower
    under a head that reads no texts (Kim et al. discard it for the probe), the projection under one that reads pooled
    features. Where the first moves the image tower, a second that computed features once reads pictures, in batches no
    larger than the first's; its pull to the start (`l2_sp`) then holds all that trains. Title and paper are those of
    both unless given.

    Raises `ConfigError` where the two cannot meet, where this would leave the second alone, and where the first has a
    loss, replay or templates of its own, which would be dropped.
    """
    called = f"joint({first.title or 'a'}, {second.title or 'b'})"
    if len(first.stages) != 1 or len(second.stages) != 1:
        raise ConfigError(
            f"{called}: two recipes of one stage each are needed; stages in order and at once do not mix."
        )
    a, b = first.stages[0], second.stages[0]
    own = isinstance(a.head, HeadConfig) and not _same_head(a.head, b.head)
    if own and a.only_head:
        raise ConfigError(f"{called}: all that the first brings is its {a.head.kind} head, and {_ONE_HEAD}.")
    if isinstance(b.fit, Lbfgs | Majorize):
        raise ConfigError(f"{called}: {b.fit.kind} solves for a head on constant features; use then(), or AdamW.")
    if b.fit is None:
        raise ConfigError(f"{called}: the second trains nothing, so there is nothing to do at once; use then().")
    brought = a.adapters if b.reads_text else tuple(_on_images(adapter, called, b) for adapter in a.adapters)
    named = tuple(name for name in a.trains if _asked(name, b))
    if "head" in a.trains and isinstance(b.head, Text):
        raise ConfigError(f"{called}: the first trains a head of its own, the second's head is the texts; use then().")
    moved = any(n.startswith("image") for n in named) or any(adapter.on_images for adapter in brought)
    if isinstance(b.fit, Descent) and b.fit.sampling == "features" and moved:
        batch = min(b.fit.batch, a.fit.batch) if isinstance(a.fit, Descent) else b.fit.batch
        b = b.model_copy(update={"fit": b.fit.model_copy(update={"sampling": "images", "batch": batch})})
    for mine, other in itertools.product(brought, b.adapters):
        same = not mine.places or set(mine.places) & set(other.places)
        if mine.kind == other.kind and mine != other and same and not mine.brings_texts:
            raise ConfigError(
                f"{called}: both put a {mine.kind} in the same places, with other settings; their numbers would have "
                "the same names. Use one of them, or give them different `at`."
            )
    lost = [name for name in a.trains if name not in named]
    lost += [f"{mine.kind} on texts" for mine, left in zip(a.adapters, brought, strict=True) if mine != left]
    known = all(any(covers(wide, name) for wide in b.trains) for name in named)
    if known and {*brought} <= {*b.adapters}:
        raise ConfigError(f"{called}: {_left_out(lost, a, b)}")
    if dropped := _dropped(a, b):
        raise ConfigError(f"{called}: the first's {dropped} would be dropped, because the second's alone counts. "
                          f"{_order(a, b)}")  # fmt: skip
    update = {
        "trains": tuple(dict.fromkeys((*named, *b.trains))),
        "adapters": tuple(dict.fromkeys((*brought, *b.adapters))),
    }
    return _met([b.model_copy(update=update)], *_about(first, second, " + ", title, paper), called)


def _on_images(adapter: AdapterConfig, called: str, stage: Stage) -> AdapterConfig:
    left = adapter.without_text()
    if left is None:
        raise ConfigError(
            f"{called}: {adapter.kind} acts through the class texts, and a {stage.head.kind} head reads none. "
            + _instead(stage)
        )
    return left


_ONE_HEAD = "a model answers with one head, here the second's; use one of the two, or a first that trains more"


def _same_head(a: Config, b: Config) -> bool:
    """Whether the numbers of one can go on as the other's."""
    if isinstance(a, Linear) and isinstance(b, Linear):
        return (a.features, a.bias) == (b.features, b.bias)
    return a == b


def _asked(name: str, stage: Stage) -> bool:
    """Whether what a pattern names is asked under a stage's head."""
    text = name.split(".")[0].startswith("text") or name in ("scale", "shift")
    return stage.reads_text if text else not (stage.reads_pooled and is_projection(name))


def _left_out(lost: Sequence[str], first: Stage, second: Stage) -> str:
    """Why a joint recipe would be the second alone, and what to do."""
    kind = f"{second.head.kind} head"
    if not lost and isinstance(first.head, HeadConfig) and not _same_head(first.head, second.head):
        return f"of what the first brings only its {first.head.kind} head is new, and {_ONE_HEAD}."
    if not lost:
        same = "all that the first trains the second trains too" if first.trains else "the first trains nothing"
        return f"{same}, so the second alone would be left. Use the second, or a first that trains something else."
    start = f"{some(lost, 3)} would be left out, because the second's {kind}"
    if all(is_projection(name) for name in lost):
        return (
            f"{start} reads features before the projection, and the second alone would be left. Use a first that "
            "trains what stands before it (ln-image), or a second with a head on shared features."
        )
    return f"{start} never asks the text tower, and the second alone would be left. {_instead(second)}"


def _instead(second: Stage) -> str:
    """What to do with a first on the text tower."""
    if starts_at_texts(second.head):
        way = f"Use then(), where the {second.head.kind} head starts at the texts that the first leaves"
    else:
        way = "Use a second with the text head"
    return f"{way}, or a first that trains the image tower, such as ln-image."


def _dropped(first: Stage, second: Stage) -> str:
    """What the first says beside what it trains, and the second does not; "" for nothing."""
    if first.loss not in (CrossEntropy(), second.loss):
        own = (f"{name}={value}" for name, value in first.loss.model_dump(exclude_defaults=True).items())
        return f"loss ({', '.join((first.loss.kind, *own))})"
    if first.replay not in (None, second.replay):
        return "replay"
    own_words = isinstance(first.head, Text) and first.head.templates and first.head != second.head
    return "templates" if own_words else ""


def _order(first: Stage, second: Stage) -> str:
    """What to do with a first of which something would be dropped."""
    heads = first.head, second.head
    meet = all(isinstance(head, Text) for head in heads) or _same_head(*heads)
    if meet and isinstance(first.fit, Descent) and not _dropped(second, first):
        return "Put it second: what the second says counts for both."
    return "Use then(), where each stage has its own, or a first without it."


def _met(stages: Sequence[Stage], title: str, paper: str, called: str) -> Recipe:
    return Recipe.parse(_tree([_with(stage, called) for stage in stages], title, paper), called)


def wise(recipe: Recipe, alpha: float, title: str = "") -> Recipe:
    """The recipe with its alpha fixed beforehand. Raises `ConfigError` where there is no path or no such point."""
    if recipe.merge is None:
        raise ConfigError(f"{recipe.title or 'this recipe'} has no WiSE path: {recipe.no_merge}.")
    called = f"wise({recipe.title or 'a'}, {alpha})"
    return _with(recipe, called, merge=_with(recipe.merge, called, alpha=alpha), title=title or recipe.title)


def lines(recipe: Recipe, first: float = 0.0, title: str = "") -> Recipe:
    """The recipe with LiNeS instead of WiSE: early layers go only `first` times as far as the last.

    Raises `ConfigError` where there is no path, and for a `first` outside 0 to 1.
    """
    if recipe.merge is None:
        raise ConfigError(f"{recipe.title or 'this recipe'} has no path to the pretrained model: {recipe.no_merge}.")
    called = f"lines({recipe.title or 'a'}, {first})"
    return _with(recipe, called, merge=_with(recipe.merge, called, first=first), title=title or recipe.title)


def soup(
    recipe: Recipe, kind: Literal["uniform", "greedy"], rates: tuple[float, ...] = (0.3, 1.0, 3.0), title: str = ""
) -> Recipe:
    """The mean of several trainings of the recipe, at these factors on its rates; a soup's own soup gives way to it.

    Raises `ConfigError` where there is none, for another kind, and for rates that cannot be.
    """
    called = f"soup({recipe.title or 'a'}, {kind})"
    if why := no_soup(recipe.stages):
        raise ConfigError(f"{recipe.title or 'this recipe'} has no soup: {why}.")
    plain = recipe.title.removesuffix(f"{recipe.soup.kind} soup").rstrip(", ") if recipe.soup else recipe.title
    made = Soup.parse({"kind": kind, "rates": rates}, called)
    return _with(recipe, called, soup=made, title=title or f"{plain}, {kind} soup".removeprefix(", "))


def at_rate(recipe: Recipe, factor: float, of: Callable[[Stage], bool] = lambda stage: True) -> Recipe:
    """The recipe with every learning rate times `factor`, in the stages that `of` chooses.

    Raises `ConfigError` for a factor that leaves no rate above 0.
    """
    called = f"at_rate({recipe.title or 'a'}, {factor})"
    stages = []
    for stage in recipe.stages:
        fit = stage.fit
        if isinstance(fit, Descent) and of(stage):
            stage = _with(stage, called, fit=_with(fit, called, lr=fit.lr * factor))
        stages.append(stage)
    return _with(recipe, called, stages=tuple(stages))


def rescaled(recipe: Recipe, factor: float, new: Collection[str] = ()) -> Recipe:
    """The recipe with the rate times `factor` of every stage that trains pretrained numbers and adds none but a head.

    What is added is new on every encoder: its rate is a matter of its start, not of the encoder's size. `new` names
    what is new on this one (`Encoder.new`).
    """
    alone = {"head", *new}
    return at_rate(recipe, factor, lambda stage: not stage.adapters and not set(stage.trains) <= alone)
