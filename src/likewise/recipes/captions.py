"""Weak language supervision: an image tower tuned on pictures with captions, the text tower held.

Each begins with the projection alone, on features computed once (probe first: Kumar et al. 2022, arXiv:2202.10054), so
that what is tuned afterwards is not pulled towards a random projection; then few numbers of the image tower with it.
Judge them by the image tower alone: likewise caption.

Departs: the talk that these follow (see `losses.Replay`) gives no rates, lengths or sizes; they are ours, for ten to
twenty thousand pairs. Texts of one picture or class are never each other's negatives.
"""

from __future__ import annotations

from likewise.adapters import AdapterConfig, Bottleneck, CaptionTokens, Film, Lora
from likewise.errors import UsageError, near
from likewise.heads import Text
from likewise.losses import Contrastive, Masked, Replay, Sigmoid
from likewise.recipe import AdamW, Recipe, one, then

OURS = "ours, after Kim et al. 2021 and Kumar et al. 2022"
PEREZ = "Perez et al. 2018, arXiv:1709.07871"
NEW = ("image.projection", "scale")
"""What no pretraining has seen where a text tower is put beside a vision encoder, and softmax losses move. There is a
`shift` too, which the sigmoid loss alone moves: `with_loss` names it."""

COMPARING: dict[str, type[Contrastive | Sigmoid]] = {"contrastive": Contrastive, "sigmoid": Sigmoid}
"""The losses that compare pictures with texts, by name."""
SAID = ", sigmoid loss"
"""What a title says of the loss that is not the usual one."""

_loss = Contrastive(collisions="mask", bank=1024)
_align = one(
    "projection first", trains=NEW, head=Text(), loss=_loss,
    fit=AdamW(lr=1e-3, epochs=5, decay=0.01, sampling="features"),
)  # fmt: skip


def caption(
    title: str,
    paper: str,
    *adapters: AdapterConfig,
    trains: tuple[str, ...] = ("adapters",),
    lr: float = 5e-4,
    replay: Replay | None = None,
) -> Recipe:
    """The projection, then what `trains` names together with it."""
    tune = one(
        adapters=adapters, trains=(*trains, *NEW), head=Text(), loss=_loss, replay=replay,
        fit=AdamW(lr=lr, epochs=5, decay=0.01),
    )  # fmt: skip
    return then(_align, tune, title, paper)


def with_text(recipe: Recipe) -> Recipe:
    """The recipe with the whole text tower training in its last stage, without a bank: its features move."""
    last = recipe.stages[-1]
    loss = last.loss.model_copy(update={"bank": 0}) if isinstance(last.loss, Contrastive | Sigmoid) else last.loss
    last = last.model_copy(update={"trains": tuple(dict.fromkeys((*last.trains, "text"))), "loss": loss})
    return recipe.model_copy(update={"stages": (*recipe.stages[:-1], last)})


def with_loss(recipe: Recipe, kind: str) -> Recipe:
    """The recipe under the contrastive or the sigmoid loss, wherever it has the other: with its collisions and bank.

    Under the sigmoid loss (SigLIP: Zhai et al. 2023, arXiv:2303.15343) `shift` trains beside `scale`, under the
    contrastive one, which never asks it, it does not. Raises `UsageError` U01 for another word.
    """
    if kind not in COMPARING:
        raise UsageError("U01", f"no loss «{kind}» for captions.{near(kind, COMPARING)} Say {' or '.join(COMPARING)}.")
    stages = []
    for stage in recipe.stages:
        if isinstance(stage.loss, Contrastive | Sigmoid) and stage.loss.kind != kind:
            plain = [name for name in stage.trains if name != "shift"]
            moved = {"scale": ("scale", "shift")} if kind == "sigmoid" else {}
            trains = tuple(n for name in plain for n in moved.get(name, (name,)))
            loss = COMPARING[kind].parse({**stage.loss.tree(), "kind": kind}, "loss")
            stage = stage.model_copy(update={"loss": loss, "trains": trains})
        stages.append(stage)
    title = recipe.title.removesuffix(SAID) + SAID * (kind == "sigmoid")
    return recipe.model_copy(update={"stages": tuple(stages), "title": title})


_told = one(
    adapters=(CaptionTokens(),), trains=("adapters",), head=Text(), loss=Masked(),
    fit=AdamW(lr=1e-3, epochs=5, decay=0.01),
)  # fmt: skip
_bottleneck = Bottleneck(at=("image.*.mlp",), width=24)

RECIPES: dict[str, Recipe] = {
    "caption-ln": caption("captions, norms", OURS, trains=("image.*norm*",), lr=1e-4),
    "caption-film": caption("captions, FiLM after the blocks' norms", PEREZ, Film(at=("image.*.norm[12]",)), lr=3e-3),
    "caption-film-blocks": caption("captions, FiLM on the blocks", PEREZ, Film(at=("image.*.block",)), lr=3e-3),
    "caption-film-channels": caption(
        "captions, FiLM after every norm", "FiT, Shysheya et al. 2022, arXiv:2206.08671", Film(at=("image.*norm*",)), lr=3e-3
    ),
    "caption-bottleneck": caption("captions, bottleneck adapters", "Houlsby et al. 2019, arXiv:1902.00751", _bottleneck),
    "caption-token-replay": caption("captions, token replay", "ours, named after a talk of D. Misra", _bottleneck, replay=Replay()),
    "caption-tokens": then(_align, _told, "captions, read as tokens behind holes", "ours, after Jia et al. 2022, arXiv:2203.12119"),
    "caption-lora": caption("captions, LoRA", "Hu et al. 2021, arXiv:2106.09685", Lora(at=("image.*.qkv.weight",))),
    "caption-full": caption("captions, the whole image tower", "Kumar et al. 2022, LP-FT, arXiv:2202.10054", trains=("image",), lr=1e-5),
}  # fmt: skip
