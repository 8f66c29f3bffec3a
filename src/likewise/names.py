"""One vocabulary for every encoder's parameters, patterns over it, and the plan of what trains.

    image.patch...          the way from pixels to tokens        text.tokens      token embedding
    image.class             class token                          text.positions   position embedding
    image.positions         position embedding                   text.3.qkv...    as in the image tower
    image.norm_pre...       norm before the blocks               text.norm_post   final norm
    image.3.norm1.weight    block 3, norm before attention       text.projection  to the shared space
    image.3.qkv.weight      packed query, key, value rows        scale, shift     logarithm of the temperature, bias
    image.3.out.weight      attention's output                   head.weight      a linear head
    image.3.norm2, up, down the MLP and the norm before it
    image.norm_post...      final norm
    image.projection        to the shared space
    image.3.query.weight    query rows, where a tower keeps query, key and value apart; so too key, value

Where they are apart, a pattern with `.qkv` in it chooses all three: one pattern means one thing on every tower.
What is added has names too: `adapters.lora.image.3.qkv.down`, kind and tower first (`both`: numbers that both read).
The mapping from a library's own names is in `encoders/` and must be a bijection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from likewise.errors import ConfigError, near, some


def select(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """The names that the patterns choose, in the order of `names`.

    A pattern is a shell pattern (`image.*norm*`) or a whole prefix (`image`); `image.-1` is the last block; `.qkv` is
    query, key and value, packed or apart. Raises `ConfigError` for a pattern that chooses nothing: it is a mistake,
    never a wish.
    """
    chosen: set[str] = set()
    for asked in patterns:
        pattern = _counted(asked, names)
        known = {name: packed(name) if ".qkv" in pattern else name for name in names}
        hits = {name for name, own in known.items() if fnmatchcase(own, pattern) or own.startswith(pattern + ".")}
        if not hits:
            towers = sorted({name.split(".")[0] for name in names})
            tower = asked.split(".")[0]
            own = [name for name in names if name.split(".")[0] == tower]
            normless = "norm" in asked and own and not any("norm" in name for name in own)
            hint = (
                f" Its {tower} tower has no norms: choose a method that needs none, such as FiLM on the blocks "
                "(film-blocks) or full training."
                if normless
                else near(pattern, own or names)
            )
            raise ConfigError(
                f"pattern «{asked}» chooses no parameter, so nothing would train for it."
                f"{hint} Names begin with {', '.join(towers)}; see `likewise plan`."
            )
        chosen |= hits
    return [name for name in names if name in chosen]


def covers(wide: str, pattern: str) -> bool:
    """Whether one pattern chooses all that another does, on whatever encoder, as far as the two patterns tell."""
    return pattern == wide or pattern.startswith(wide + ".") or fnmatchcase(pattern, wide)


def packed(name: str) -> str:
    """`image.3.qkv.weight` for `image.3.query.weight` and for its key and value; any other name as it is."""
    return re.sub(r"^((?:image|text)\.\d+)\.(?:query|key|value)(?=\.|$)", r"\1.qkv", name)


def _counted(pattern: str, names: Sequence[str]) -> str:
    """The pattern with a block that is counted from the end (`image.-1.norm1`) under its number."""
    found = re.match(r"(\w+)\.-(\d+)(?=\.|$)", pattern)
    if not found:
        return pattern
    blocks = {int(name.split(".")[1]) for name in names if re.match(rf"{found[1]}\.\d+\.", name)}
    return f"{found[1]}.{len(blocks) - int(found[2])}{pattern[found.end() :]}"


def tower_of(name: str) -> str:
    """`image`, `text`, `both`, or what else a name begins with (`scale`, `head`); of an adapter, where it acts."""
    parts = name.split(".")
    return parts[2] if parts[0] == "adapters" else parts[0]


@dataclass(frozen=True)
class Plan:
    """What a stage will train, before it does: printed, stored, and checked afterwards."""

    trains: tuple[str, ...]
    counts: tuple[int, ...]
    held: int
    image_constant: bool
    """The image tower answers the same before and after: its features may be cached."""
    text_constant: bool
    """The text tower answers the same: class weights are computed once."""

    @property
    def moved_trunk(self) -> tuple[str, ...]:
        """What trains of the image tower before its projection."""
        moved = (name for name in self.trains if tower_of(name) in ("image", "both"))
        return tuple(name for name in moved if not name.startswith("image.projection"))

    @property
    def trunk_constant(self) -> bool:
        """The image tower up to its projection answers the same: its pooled features may be cached."""
        return not self.moved_trunk

    @property
    def trainable(self) -> int:
        """How many numbers train."""
        return sum(self.counts)

    def tree(self) -> dict[str, Any]:
        """Plain data, as `plan-N.json` holds it."""
        return asdict(self)

    def text(self) -> str:
        """One line a part: `image  26 tensors  39,936 numbers  (image.norm_pre.weight ...)`."""
        if not self.trains:
            return "trains nothing"
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(self.trains):
            groups.setdefault(".".join(name.split(".")[: 2 if name.startswith("adapters.") else 1]), []).append(index)
        lines = []
        for group, indices in groups.items():
            total = sum(self.counts[i] for i in indices)
            shown = some((self.trains[i] for i in indices), 3)
            lines.append(f"trains {group:16} {total:>12,} numbers in {len(indices)} tensors: {shown}")
        return "\n".join([*lines, f"holds {'':16} {self.held:>12,} numbers"])


def make_plan(patterns: Sequence[str], sizes: Mapping[str, int]) -> Plan:
    """The plan for patterns over all parameters (name -> how many numbers), heads and grafts included."""
    trains = select(patterns, list(sizes)) if patterns else []
    towers = {tower_of(name) for name in trains}
    return Plan(
        trains=tuple(trains),
        counts=tuple(sizes[name] for name in trains),
        held=sum(sizes.values()) - sum(sizes[name] for name in trains),
        image_constant=not towers & {"image", "both"},
        text_constant=not towers & {"text", "both"},
    )
