"""Token replay: the tuned encoder's tokens beside the frozen one's, on pictures that it must not forget."""

# B pictures, L tokens, S tokens that are compared, W their width; H height, V width of a convolution's answer.

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from likewise.data.batches import Batch, Pictures, batches
from likewise.data.order import permutation
from likewise.encoder import Encoder
from likewise.errors import ConfigError, near, some
from likewise.fit.work import Work
from likewise.keys import key_rng
from likewise.losses import Replay
from likewise.names import select, tower_of
from likewise.recipe import Descent


def places_of(replay: Replay, encoder: Encoder) -> list[str]:
    """The image tower's modules whose tokens are compared. Raises `ConfigError` for a pattern that chooses none."""
    there = [name for name in encoder.children if tower_of(name) == "image"]
    for pattern in replay.at:
        try:
            select((pattern,), there)
        except ConfigError:
            blocks = [name for name in there if name.endswith(".block")]
            raise ConfigError(
                f"replay.at: {encoder.spec.name} has no place «{pattern}» whose tokens could be compared."
                f"{near(pattern, there)} Blocks there: {some(blocks) or 'none'}."
            ) from None
    return select(replay.at, there)


class Rehearsal:
    """The replay term of one stage, step by step from `first` to `total`."""

    def __init__(self, work: Work, replay: Replay, first: int, total: int) -> None:
        assert work.frozen is not None, "a stage that replays needs the frozen encoder"
        self.work, self.replay, self.frozen = work, replay, work.frozen
        self.places = places_of(replay, work.encoder)
        self.others = self._others(first, total)

    def _others(self, first: int, total: int) -> Iterator[Batch] | None:
        """Batches of the pictures to rehearse on, one a step; None where they are the training pictures'."""
        if self.work.replayed is None:
            return None
        assert isinstance(self.work.stage.fit, Descent), "what does not step is refused when the stage is made"
        n, size = len(self.work.replayed), self.work.stage.fit.batch
        each = -(-n // size)
        plan = (
            [(step, int(i)) for i in permutation(self.work.seed, epoch, n)[place * size : (place + 1) * size]]
            for step in range(first, total)
            for epoch, place in [divmod(step, each)]
        )
        return batches(Pictures(self.work.replayed, self.work.encoder.spec, self.work.seed), plan, self.work.workers)

    @contextlib.contextmanager
    def watching(self) -> Iterator[dict[str, Tensor]]:
        """Inside, what the tuned encoder answers at the places is kept."""
        with caught(self.work.encoder, self.places) as seen:
            yield seen

    def term(self, batch: Batch, seen: dict[str, Tensor], step: int) -> Tensor:
        """weight times the mean squared difference of the tokens at unit variance; `seen` are those of `batch`."""
        encoder = self.work.encoder
        if self.others is not None:
            batch = next(self.others)
            with self.watching() as seen:
                encoder.image(batch.pixels_BCHW.to(encoder.device))
        with torch.no_grad(), caught(self.frozen, self.places) as before:
            self.frozen.image(batch.pixels_BCHW.to(encoder.device))
        parts = []
        has_class = "image.class" in encoder.sites
        for place in self.places:
            now_BLW, then_BLW = _tokens(seen[place]), _tokens(before[place])
            if now_BLW.shape != then_BLW.shape:
                raise ConfigError(
                    f"replay compares tokens one to one, and at {place} there are {now_BLW.shape[1]} of them now, "
                    f"{then_BLW.shape[1]} in the pretrained encoder. Leave prompts among the picture's tokens out."
                )
            chosen_S = self._chosen(now_BLW.shape[1], step, has_class and seen[place].ndim == 3)
            parts.append(F.mse_loss(_normal(now_BLW[:, chosen_S]), _normal(then_BLW[:, chosen_S])))
        return self.replay.weight * torch.stack(parts).mean()

    def _chosen(self, tokens: int, step: int, has_class: bool) -> Tensor:
        """The class token, which is the first, where there is one, and some of the others, by key."""
        first = int(has_class)
        if not self.replay.tokens or self.replay.tokens >= tokens - first:
            return torch.arange(tokens)
        draw = key_rng(self.work.seed, "replay", step)
        others = first + draw.choice(tokens - first, self.replay.tokens, replace=False)
        return torch.from_numpy(np.concatenate((np.arange(first), np.sort(others))))


@contextlib.contextmanager
def caught(encoder: Encoder, places: list[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, the last answer of the module at each place."""
    seen: dict[str, Tensor] = {}

    def keep(place: str) -> None:
        def hook(_: nn.Module, __: object, answer: object) -> None:
            first = answer[0] if isinstance(answer, tuple) else answer
            assert isinstance(first, Tensor)
            seen[place] = first

        handles.append(encoder.children[place].value.register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for place in places:
            keep(place)
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _tokens(answer: Tensor) -> Tensor:
    """What a place answers, as BLW: a convolution's positions are tokens, a pooled row is one."""
    if answer.ndim == 4:
        return answer.flatten(2).transpose(1, 2)
    return answer[:, None] if answer.ndim == 2 else answer


def _normal(x_BSW: Tensor) -> Tensor:
    """Mean 0 and variance 1 of each token, in fp32, so that the size of a layer's answers does not set the weight."""
    return F.layer_norm(x_BSW.float(), x_BSW.shape[-1:])
