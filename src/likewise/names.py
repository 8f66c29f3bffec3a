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

The mapping from a library's own names is in `encoders/` and must be a bijection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from likewise.errors import ConfigError, near, some


def select(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """The names that the patterns choose, in the order of `names`.

    A pattern is a shell pattern (`image.*norm*`) or a whole prefix (`image`). Raises `ConfigError` for a pattern that
    chooses nothing: it is a mistake, never a wish.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        hits = {name for name in names if fnmatchcase(name, pattern) or name.startswith(pattern + ".")}
        if not hits:
            towers = sorted({name.split(".")[0] for name in names})
            raise ConfigError(
                f"pattern «{pattern}» chooses no parameter, so nothing would train for it."
                f"{near(pattern, names)} Names begin with {', '.join(towers)}; see `likewise plan`."
            )
        chosen |= hits
    return [name for name in names if name in chosen]


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
            groups.setdefault(name.split(".")[0], []).append(index)
        lines = []
        for group, indices in groups.items():
            total = sum(self.counts[i] for i in indices)
            shown = some((self.trains[i] for i in indices), 3)
            lines.append(f"trains {group:6} {total:>12,} numbers in {len(indices)} tensors: {shown}")
        return "\n".join([*lines, f"holds {'':6} {self.held:>12,} numbers"])


def make_plan(patterns: Sequence[str], sizes: Mapping[str, int]) -> Plan:
    """The plan for patterns over all parameters (name -> how many numbers), heads and grafts included."""
    trains = select(patterns, list(sizes)) if patterns else []
    towers = {name.split(".")[0] for name in trains}
    return Plan(
        trains=tuple(trains),
        counts=tuple(sizes[name] for name in trains),
        held=sum(sizes.values()) - sum(sizes[name] for name in trains),
        image_constant="image" not in towers,
        text_constant="text" not in towers,
    )
