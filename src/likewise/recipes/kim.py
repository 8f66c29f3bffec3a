"""Kim et al.: their methods at their setting, LayerNorm tuning joined with each or coming first, and what they advise.

Setting (their section 4 and appendix): AdamW, 5e-4, decay 0.02 on everything, cosine without warm-up, 100 epochs at few
shots. Rates are the paper's on every encoder. Departs: the batch is not stated (32 here); they keep the epoch that is
best on a validation set, we the last; non-linearity, starts and the class text for LayerNorm are not stated; where the
image tower is held (probe, prompt, adapter, Compacter) pictures are not cropped at random but read once. The probe
reads features at unit length, so that at this rate its scores stay close together: its accuracy is meant, not its ECE.
"""

from __future__ import annotations

from likewise.adapters import Bottleneck, Compacter, Prompt
from likewise.heads import Linear, Text
from likewise.recipe import AdamW, Recipe, joint, one, then
from likewise.recipes.norms import KIM

EPOCHS = 100
_fit = AdamW(lr=5e-4, decay=0.02, decay_all=True, epochs=EPOCHS, batch=32, warmup=0.0, clip=0.0)
_still = _fit.model_copy(update={"sampling": "features"})

ln = one("LayerNorm tuning (Kim)", KIM, trains=("image.*norm*", "text.*norm*"), head=Text(), fit=_fit)
probe = one("linear probe (Kim)", KIM, trains=("head",), head=Linear(start="zeros", features="pooled"), fit=_still)
prompt = one("prompt tuning (Kim)", KIM, adapters=(Prompt(length=8),), trains=("adapters",), head=Text(), fit=_still)
adapter = one(
    "adapter (Kim)",
    KIM,
    adapters=(Bottleneck(at=("text.*.mlp",), width=24),),
    trains=("adapters",),
    head=Text(),
    fit=_still,
)
compacter = one(
    "Compacter (Kim)",
    KIM,
    adapters=(Compacter(at=("text.*.mlp",), width=24),),
    trains=("adapters",),
    head=Text(),
    fit=_still,
)
_others = {"probe": probe, "prompt": prompt, "adapter": adapter, "compacter": compacter}

RECIPES: dict[str, Recipe] = {
    "kim-ln": ln,
    **{f"kim-{name}": other for name, other in _others.items()},
    **{
        f"kim-joint-{name}": joint(ln, other, f"LN and {other.title}, joint", f"{KIM}, Table 1")
        for name, other in _others.items()
    },
    **{
        f"kim-init-{name}": then(ln, other, f"LN, then {other.title}", f"{KIM}, Table 1")
        for name, other in _others.items()
    },
}
RECIPES |= {
    "kim-low": RECIPES["kim-joint-compacter"].model_copy(update={"title": "Kim's advice for few pictures"}),
    "kim-high": RECIPES["kim-init-probe"].model_copy(update={"title": "Kim's advice for many pictures"}),
    "kim-any": ln.model_copy(update={"title": "Kim's advice in general"}),
}
