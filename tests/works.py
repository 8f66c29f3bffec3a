"""The work of one stage, put together as `run.method` does it, with what the stages before it add left untrained."""

from __future__ import annotations

import copy

import torch

from likewise.adapters import AdapterConfig, add
from likewise.fit import Work
from likewise.heads import Given, HeadConfig, HeadModule, Text
from likewise.recipe import Recipe
from likewise.run.stage import Job


def work_of(job: Job, recipe: Recipe, index: int = -1) -> Work:
    """Stage `index` of a recipe, ready to train. Its adapters and those of earlier stages stay in the encoder."""
    frozen = copy.deepcopy(job.encoder) if recipe.stages[index].asks_pretrained else None
    present: list[AdapterConfig] = []
    head: HeadModule | None = None
    stages = recipe.stages[: index % len(recipe.stages) + 1]
    for stage, new in zip(stages, recipe.new_adapters, strict=False):
        here = [adapter.for_classes(len(job.prompts)) for adapter in new]
        add(job.encoder, here, job.seed)
        present += here
        if isinstance(stage.head, HeadConfig):
            labels_N = torch.from_numpy(job.data.train.labels_N)
            given = Given(job.encoder, job.prompts_of(present), labels_N, job.train_features, job.seed)
            head = stage.head.build(given)
        elif isinstance(stage.head, Text):
            head = None
    captions, prompts = job.captions_of(stages[-1], present), job.prompts_of(present)
    settled = recipe.settled[len(stages) - 1]
    return Work(settled, job.encoder, head, job.data.train, captions, prompts, job.seed, features=job.train_features,
                frozen=frozen)  # fmt: skip
