"""A method's LoRA and LayerNorms as a PEFT folder, which `peft` puts on the Hugging Face CLIPModel of like weights."""

from __future__ import annotations

from pathlib import Path

from likewise import files
from likewise.adapters import grafted
from likewise.errors import ConfigError
from likewise.export.peft_format import to_peft, unfit
from likewise.export.source import Shipped, check_free, open_source
from likewise.export.twin import check_twin, hub_name
from likewise.run.tuned import along, point


def write_peft(run: Path, out: Path, method: str | None = None, alpha: float | None = None) -> Shipped:
    """Write `adapter_config.json` and `adapter_model.safetensors`; `head.safetensors` and `head.json` beside them.

    LoRA becomes PEFT's type LORA, LayerNorm tuning LN_TUNING, both together LORA with the norms in `modules_to_save`.
    `alpha` is put in: into a LoRA by scaling lora_B, so that its product is scaled; into norms along the straight line.
    The head is the built one, and reads what its `head` in `head.json` says: mostly unit-length `image_embeds`.
    Raises `ConfigError` where the encoder has no twin at Hugging Face or the method trains anything else, and as
    `open_source` does; R01 for a folder that holds something.
    """
    check_free(out)
    source = open_source(run, method, alpha)
    encoder = source.encoder()
    check_twin(encoder)
    tuned, job = source.tuned(encoder)
    if why := unfit(encoder, source.recipe.adapters, list(tuned.values)):
        raise ConfigError(f"{source.method} cannot be written as PEFT: {why}. Use --format merged (the whole model) or "
                          "--format delta (what trained, for this library).")  # fmt: skip
    numbers, adapters = along(tuned, encoder, source.alpha), source.recipe.adapters
    with grafted(encoder, adapters, job.seed):  # what was added and did not train is as it was drawn
        encoder.put({name: value for name, value in numbers.items() if name not in encoder.sites})
        numbers |= encoder.state(list(encoder.grafts.parameters_by_name()))
    config, tensors = to_peft(encoder, adapters, numbers)
    config["base_model_name_or_path"] = hub_name(encoder.spec.name)
    head = point(tuned, job, source.alpha).head
    about = {
        "method": source.method, "alpha": source.alpha, "base": source.about["base"], "head": head.config.tree(),
        "classes": source.classes.tree(), "templates": list(source.templates),
    }  # fmt: skip
    with files.new_folder(out) as fresh:
        files.write_json(fresh / "adapter_config.json", config)
        files.write_tensors(fresh / "adapter_model.safetensors", tensors, {"format": "pt"})
        files.write_tensors(fresh / "head.safetensors", dict(head.state_dict()))
        files.write_json(fresh / "head.json", about)
    base = hub_name(encoder.spec.name)
    model = f'transformers.CLIPModel.from_pretrained("{base}")' if base else "model"
    whose = () if base else (f"model: a transformers.CLIPModel with the weights of {encoder.spec.name}",)
    scaled = () if source.alpha in (None, 0, 1) else ("alpha is in the numbers",)
    return Shipped(
        out, source.method, source.alpha, f'peft.PeftModel.from_pretrained({model}, "{out}")', (*scaled, *whose)
    )
