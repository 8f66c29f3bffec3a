"""The types of a method: stages in order, and what is done to the weights afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from likewise.adapters import Adapter, AdapterConfig
from likewise.config import Config
from likewise.errors import ConfigError, some
from likewise.heads import Head, HeadConfig, Keep, Linear, LpPlus, Neighbours, Text
from likewise.losses import Contrastive, CrossEntropy, Loss, Masked, Replay, Sigmoid
from likewise.merging import Soup, Wise
from likewise.names import Plan, make_plan, select, tower_of
from likewise.recipe.fits import Descent, Fit, Lbfgs, Majorize


class Stage(Config):
    """One training run: what is added, what trains, under which head and loss, and how. Contradictions are refused."""

    adapters: tuple[Adapter, ...] = ()
    trains: tuple[str, ...] = ()
    head: Head = Text()
    loss: Loss = CrossEntropy()
    replay: Replay | None = None
    """What is rehearsed of the pretrained encoder beside the loss, in stages that train by steps."""
    fit: Fit | None = None

    @model_validator(mode="after")
    def _meets(self) -> Stage:
        if bool(self.trains) != (self.fit is not None):
            raise ValueError("a stage that trains needs a fit, and a stage that trains nothing needs none")
        if isinstance(self.fit, Lbfgs | Majorize) and self.trains != ("head",):
            raise ValueError(f"{self.fit.kind} solves for a head on constant features; trains must be just ['head']")
        if isinstance(self.fit, Majorize) != isinstance(self.head, LpPlus):
            raise ValueError("majorize is the solver of the lp++ head, and of no other; use both or neither")
        if isinstance(self.fit, Lbfgs) and not (isinstance(self.head, Keep) or is_biased(self.head)):
            raise ValueError("lbfgs solves for a linear head with a bias")
        if "head" in self.trains and isinstance(self.head, Text):
            raise ValueError("a text head has no numbers of its own to train; use a linear head or leave 'head' out")
        if "head" in self.trains and isinstance(self.head, HeadConfig) and self.head.kept:
            raise ValueError(f"a {self.head.kind} head has no numbers of its own to train; leave 'head' out")
        plain = self.loss.smoothing == 0 and self.loss.l2_sp == 0 if isinstance(self.loss, CrossEntropy) else False
        if isinstance(self.fit, Lbfgs | Majorize) and not plain:
            raise ValueError(f"{self.fit.kind} minimises its own loss; leave smoothing and l2_sp out")
        if isinstance(self.loss, CrossEntropy) and self.loss.texts:
            on_shared = isinstance(self.head, HeadConfig) and self.head.reads == "shared" and not self.head.live_text
            if not (on_shared and isinstance(self.fit, Descent)):
                raise ValueError("texts in the place of pictures need a head on shared features that trains by steps")
        if isinstance(self.loss, Contrastive | Sigmoid) and not isinstance(self.head, Text):
            raise ValueError(f"the {self.loss.kind} loss compares with texts; its head must be the text head")
        reader = next((adapter.kind for adapter in self.adapters if adapter.reads_captions), "")
        if reader and self.trains and not isinstance(self.loss, Masked):
            raise ValueError(
                f"{reader} tells the image tower each picture's caption; under the {self.loss.kind} loss it would "
                "learn to repeat the answer, and know less without it. Use the masked loss, which asks for no text"
            )
        if isinstance(self.loss, Masked):
            if not isinstance(self.head, Text):
                raise ValueError("the masked loss asks no head; leave the head at the text head")
            if not (isinstance(self.fit, Descent) and self.fit.sampling == "images"):
                raise ValueError("the masked loss makes holes in pictures; it needs pictures (sampling: images)")
            if self.replay is not None:
                raise ValueError("the masked loss already asks for the pretrained encoder's features; leave replay out")
        if self.replay is not None and not (isinstance(self.fit, Descent) and self.fit.sampling != "features"):
            raise ValueError("replay compares a picture's tokens step by step; it needs pictures (sampling: images)")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """What trains, `adapters` meaning this stage's own."""
        own = tuple(f"adapters.{adapter.kind}" for adapter in self.adapters)
        return tuple(p for name in self.trains for p in (own if name == "adapters" else (name,)))

    def plan(self, sizes: Mapping[str, int]) -> Plan:
        """What trains, of all that could (name to how many numbers). Raises `ConfigError` for what could never move.

        Under a head that reads pooled features `image` is the tower up to its projection, which such a head never asks.
        """
        plan = make_plan(self.patterns, sizes)
        if self.reads_pooled and any(is_projection(name) for name in plan.trains):
            alone = [p for p in self.patterns if all(is_projection(name) for name in select((p,), list(sizes)))]
            if alone:
                raise ConfigError(
                    f"trains names {some(alone, 2)}, but a {self.head.kind} head on pooled features reads them before "
                    "the projection, which would stay as it is. Name what stands before it (image.*norm*), or use a "
                    "head on shared features."
                )
            plan = make_plan([name for name in plan.trains if not is_projection(name)], sizes)
        if isinstance(self.fit, Descent) and self.fit.sampling == "features" and not plan.trunk_constant:
            raise ConfigError(
                f"sampling «features» computes features once, but {plan.moved_trunk[0]} trains. Use sampling: images."
            )
        if isinstance(self.loss, Masked):
            still = [name for name in plan.trains if tower_of(name) not in ("image", "both") or is_projection(name)]
            if still:
                raise ConfigError(
                    f"trains names {some(still, 2)}, but the masked loss asks the image tower before its projection "
                    "alone, so they would stay as they are. Leave them out, or train them in a stage of their own."
                )
        idle = [name for name in plan.trains if tower_of(name) in ("text", "scale", "shift")]
        if idle and not self.reads_text:
            raise ConfigError(
                f"trains names {some(idle, 2)}, but a {self.head.kind} head never asks the text tower, so they would "
                "stay as they are. Name the image tower's (image.*norm*), or use the text head."
            )
        return plan

    @property
    def reads_text(self) -> bool:
        """Whether the text tower is asked during this stage."""
        return isinstance(self.head, Text) or (isinstance(self.head, HeadConfig) and self.head.live_text)

    @property
    def asks_pretrained(self) -> bool:
        """Whether the pretrained encoder is asked while it trains."""
        return isinstance(self.loss, Masked) or (self.replay is not None and self.replay.weight != 0)

    @property
    def reads_pooled(self) -> bool:
        """Whether its head reads features before the projection."""
        return isinstance(self.head, HeadConfig) and self.head.reads == "pooled"

    @property
    def only_head(self) -> bool:
        """Whether its head is all that it brings: nothing is added, and nothing else trains."""
        return not self.adapters and all(name.split(".")[0] == "head" for name in self.trains)


def is_biased(head: Config) -> bool:
    """Whether it is a linear head with a bias."""
    return isinstance(head, Linear) and head.bias


def starts_at_texts(head: Config) -> bool:
    """Whether a head is made from the class texts."""
    return not (isinstance(head, Neighbours) or (isinstance(head, Linear) and head.start == "zeros"))


def is_projection(name: str) -> bool:
    """Whether a number is of the image tower's projection, or of what is added to it."""
    return re.match(r"(adapters\.[^.]+\.)?image\.projection\b", name) is not None


class Recipe(Config):
    """A method: its stages in order, and what is done to the weights afterwards."""

    title: str = ""
    paper: str = ""
    stages: tuple[Stage, ...] = Field(min_length=1)
    merge: Wise | None = None
    no_merge: str = ""
    """Why there is no WiSE path, where there is none."""
    soup: Soup | None = None

    @model_validator(mode="after")
    def _starts(self) -> Recipe:
        if isinstance(self.stages[0].head, Keep):
            raise ValueError("a recipe cannot begin with the head of the stage before")
        head: Config = self.stages[0].head
        for stage in self.stages:
            head = head if isinstance(stage.head, Keep) else stage.head
            if isinstance(stage.fit, Lbfgs) and not is_biased(head):
                raise ValueError("lbfgs solves for a linear head with a bias")
        prompts = [a.kind for a in self.adapters if a.brings_texts]
        if len(prompts) > 1:
            raise ValueError(f"{prompts[0]} and {prompts[1]} both write the class prompts; one at most can")
        if again := self._kind_again():
            raise ValueError(
                f"two stages add a {again} each, and what trains is named by kind, so the later stage would train the "
                "earlier one's numbers too; add it once, or use another kind"
            )
        if (
            isinstance(self.head, HeadConfig)
            and self.head.live_text
            and "prompt" not in {a.kind for a in self.adapters}
        ):
            raise ValueError(f"a {self.head.kind} head moves the vectors of a prompt; add a prompt adapter")
        if kind := _replaced(self.stages):
            raise ValueError(
                f"all that a stage brings is its {kind} head, and a later one puts another in its place: a model "
                "answers with one head, so that stage would do nothing; leave it out, or let it train more than a head"
            )
        if self.soup is not None and (why := no_soup(self.stages)):
            raise ValueError(f"soup: {why}")
        if self.merge is not None and (why := no_path(self.stages)):
            raise ValueError(f"merge: {why}")
        if self.merge is not None and self.merge.form != (form := form_of(self.head)):
            raise ValueError(
                f"merge.form is {self.merge.form}, but with a {self.head.kind} head the line is of form {form}"
            )
        return self

    def grid(self, alphas: Iterable[float]) -> list[float]:
        """The points of its path to ask about: these, and its own where it fixes one; none where it has no path."""
        if self.merge is None:
            return []
        return sorted({*alphas, *(() if self.merge.alpha == "select" else (self.merge.alpha,))})

    def _kind_again(self) -> str:
        """The kind of an adapter that a stage adds although one of that kind stands there; "" for none."""
        stood: set[str] = set()
        for new in self.new_adapters:
            if again := stood & {adapter.kind for adapter in new}:
                return min(again)
            stood |= {adapter.kind for adapter in new}
        return ""

    @property
    def head(self) -> Text | HeadConfig:
        """The head that predicts in the end."""
        return last_head(self.stages)

    @property
    def settled(self) -> list[Stage]:
        """The stages, each with the head that it works under in the place of `Keep`."""
        out: list[Stage] = []
        for stage in self.stages:
            kept = isinstance(stage.head, Keep)
            out.append(stage.model_copy(update={"head": out[-1].head}) if kept else stage)
        return out

    @property
    def adapters(self) -> tuple[AdapterConfig, ...]:
        """All that the stages add, each once, in order: an adapter that is there already goes on."""
        return tuple(dict.fromkeys(adapter for stage in self.stages for adapter in stage.adapters))

    @property
    def new_adapters(self) -> list[list[AdapterConfig]]:
        """For each stage, what it adds to those before it."""
        out: list[list[AdapterConfig]] = []
        for index, stage in enumerate(self.stages):
            earlier = {a for before in self.stages[:index] for a in before.adapters}
            out.append([a for a in stage.adapters if a not in earlier])
        return out


def _replaced(stages: Sequence[Stage]) -> str:
    """The kind of a head that is all its stages bring, though a later stage has another; "" for none."""
    head: Config = Text()
    alone = True
    for stage in stages:
        if not isinstance(stage.head, Keep):
            if isinstance(head, HeadConfig) and alone:
                return head.kind
            head, alone = stage.head, True
        alone = alone and stage.only_head
    return ""


def last_head(stages: Sequence[Stage]) -> Text | HeadConfig:
    """The head that predicts after these stages."""
    return [stage.head for stage in stages if not isinstance(stage.head, Keep)][-1]


def form_of(head: Config) -> Literal["weights", "head"]:
    """How a path to the pretrained model goes under this head."""
    return "weights" if isinstance(head, Text) else "head"


def no_path(stages: Sequence[Stage]) -> str:
    """Why there is no straight line from the pretrained to the tuned model; "" where there is one."""
    head = last_head(stages)
    if isinstance(head, HeadConfig) and not head.has_path:
        return head.refuses
    if not any(stage.trains for stage in stages):
        return "nothing trained, so there is no second end"
    return next((a.refuses for stage in stages for a in stage.adapters if a.scales is None), "")


def no_soup(stages: Sequence[Stage]) -> str:
    """Why trainings of these stages have no mean; "" where they have."""
    if not any(isinstance(stage.fit, Descent) for stage in stages):
        return "no stage has a learning rate, by which members differ, so every member would be the same"
    head = last_head(stages)
    if isinstance(head, HeadConfig) and head.no_mean:
        return head.no_mean
    product = next((a.kind for s in stages for a in s.adapters if not a.linear), "")
    if not product:
        return ""
    return (
        f"what {product} adds is not linear in its numbers, so averaging the numbers of several trainings does not "
        "average what they add"
    )
