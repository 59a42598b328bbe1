"""The work of the converters: load, merge, write, prove."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from mmvlm.apis.inferencer import VLMInferencer
from mmvlm.apis.loading import LoadedModel, load_model
from mmvlm.config.own_files import split_model
from mmvlm.export.chat_jinja import as_text
from mmvlm.export.hf import check_exportable, export_hf
from mmvlm.export.hf_files import several_tokens
from mmvlm.export.merge_lora import has_lora, merge_lora
from mmvlm.export.verify import (
    TOLERANCE,
    VerifyReport,
    compare_replies,
    verify_export,
)
from mmvlm.utils.precision import cast_weights

#: Tokens of a reply that an export is held to.
_REPLY = 24


def to_hf(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike | None,
    folder: str | os.PathLike,
    *,
    cfg_options: dict | None = None,
    tiny: bool = False,
    dtype: torch.dtype | None = None,
    pad_to_multiple: int | None = 64,
    overwrite: bool = False,
    verify: bool = False,
    image: Any = None,
    prompt: str = "What is shown in this image?",
    tolerance: float = TOLERANCE,
) -> VerifyReport | None:
    """Export a checkpoint as a folder of transformers' LLaVA.

    Adapters are merged first, in float32.

    Args:
        config (str | PathLike): work dir, file or name.
        checkpoint (str | PathLike | None): of mmvlm; None takes the newest of a
            work dir.
        folder (str | PathLike): to be written.
        cfg_options (dict | None): as ``--cfg-options``.
        tiny (bool): the config's tiny twin.
        dtype (torch.dtype | None): of the written weights; None takes the
            language model's.
        pad_to_multiple (int | None): see :func:`export_hf`.
        overwrite (bool): replace an existing folder.
        verify (bool): reload the folder in plain transformers and compare weights,
            logits, and replies of a process without mmvlm.
        image (Any): image of the comparison; None takes seeded noise.
        prompt (str): question of the comparison.
        tolerance (float): allowed absolute difference of logits.

    Returns:
        VerifyReport | None: None without ``verify``.

    Raises:
        ValueError: when the model has no counterpart in transformers.

    """
    loaded = load_model(
        config,
        checkpoint,
        device="cpu",
        cfg_options=cfg_options,
        tiny=tiny,
        full_precision_base=True,
    )
    model = loaded.model
    check_exportable(model)
    dtype = dtype or next(model.language_model.parameters()).dtype
    if has_lora(model):
        merge_lora(model.float())
    export_hf(
        model,
        loaded.processor,
        folder,
        view=loaded.processor.view,
        generation=model.generation,
        pad_to_multiple=pad_to_multiple,
        dtype=dtype,
        overwrite=overwrite,
    )
    if not verify:
        return None
    # What was written has this dtype; both sides then compute in float32.
    cast_weights(cast_weights(model, dtype), torch.float32)
    return verify_folder(loaded, folder, image, prompt, tolerance)


def verify_folder(
    loaded: LoadedModel,
    folder: str | os.PathLike,
    image: Any,
    prompt: str,
    tolerance: float = TOLERANCE,
) -> VerifyReport:
    """Hold an exported folder to the model: weights, logits, replies.

    Args:
        loaded (LoadedModel): the original, in float32; its adapters are merged.
        folder (str | PathLike): what was exported.
        image (Any): image of the questions; None takes seeded noise.
        prompt (str): the question.
        tolerance (float): allowed absolute difference of logits.

    """
    talk = VLMInferencer.from_loaded(loaded)
    prompts = questions(talk, image, prompt)
    batches, processed = probes(talk, prompts)
    report = verify_export(
        loaded.model, folder, batches, tolerance=tolerance, processed=processed
    )
    greedy = dict(do_sample=False, **dict.fromkeys(("temperature", "top_k", "top_p")))
    talk.generation.update(greedy, max_new_tokens=_REPLY)
    compare_replies(
        report,
        folder,
        prompts,
        [talk.chat(shown, text, history) for shown, text, history in prompts],
        max_new_tokens=_REPLY,
        stop_strings=several_tokens(loaded.processor),
    )
    return report


def questions(talk: VLMInferencer, image: Any, prompt: str) -> list[tuple]:
    """Return what is asked: with an image, in the third turn, without an image.

    Returns:
        list[tuple]: image or None, question, questions and answers before it.

    """
    if image is None:
        side = talk.processor.spec.image_size
        shape = (side, side * 3 // 2, 3)
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    shown = talk.read_image(image)
    before = [(prompt, "Yes."), ("Are you sure?", "I am.")]
    return [(shown, prompt, ()), (shown, prompt, before), (None, prompt, ())]


def probes(talk: VLMInferencer, prompts: list[tuple]) -> tuple[list, list]:
    """Return the prompts of questions.

    Returns:
        tuple: batches of one sample, and (text, image) for the processor.

    """
    batches, processed = [], []
    for shown, question, history in prompts:
        conversation = talk.conversation(shown, question, history)
        batches.append(talk.encode([conversation]))
        pieces = talk.processor.template.render(
            conversation, add_generation_prompt=True
        )
        processed.append((as_text(pieces, talk.processor.tokenizer), shown))
    return batches, processed


def merge_checkpoint(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike | None,
    out: str | os.PathLike,
    *,
    cfg_options: dict | None = None,
    tiny: bool = False,
) -> dict[str, int]:
    """Merge the adapters of a checkpoint and write the whole model.

    The sums are made in float32; every weight is written in the dtype it had.

    Args:
        config (str | PathLike): work dir, or file or name of a config with the
            ``lora`` of the training.
        checkpoint (str | PathLike | None): of mmvlm, whole or trainable-only; None
            takes the newest of a work dir.
        out (str | PathLike): checkpoint to write.
        cfg_options (dict | None): as ``--cfg-options``.
        tiny (bool): the config's tiny twin.

    Returns:
        dict[str, int]: merged layers per part.

    """
    from mmvlm.engine.runner.checkpoint import resolve_checkpoint, save_atomic

    config, checkpoint = split_model(config, checkpoint)
    if checkpoint is None:
        raise ValueError(f"{config}: is no work dir; name a checkpoint behind it.")
    checkpoint = resolve_checkpoint(checkpoint)
    if Path(out).exists() and Path(out).samefile(checkpoint):
        raise ValueError(f"{out}: is the checkpoint itself; name another file.")
    loaded = load_model(
        config,
        checkpoint,
        device="cpu",
        cfg_options=cfg_options,
        tiny=tiny,
        full_precision_base=True,
    )
    model = loaded.model
    dtypes = {
        key.replace(".base_layer.", "."): value.dtype
        for key, value in model.state_dict().items()
    }
    merged = merge_lora(model.float())
    state = {key: value.to(dtypes[key]) for key, value in model.state_dict().items()}
    parts = list(model.parts)
    meta = dict(source=os.fspath(checkpoint), merged_lora=merged, parts=parts)
    save_atomic(dict(state_dict=state, meta=meta), out)
    options = " ".join(without_lora(loaded.cfg.model.to_dict(), merged))
    print_log(
        f"{out}: the whole model ({', '.join(parts)}). Use it with a config without "
        f"lora, or so: tools/chat.py {shlex.quote(os.fspath(config))} "
        f"{shlex.quote(os.fspath(out))} --cfg-options {options}",
        logger="current",
    )
    return merged


def to_llava(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike | None,
    folder: str | os.PathLike,
    *,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the folder that official LLaVA, MMFuser and DenseFusion code opens.

    Args:
        config (str | PathLike): work dir, file or name.
        checkpoint (str | PathLike | None): None takes the newest of a work dir.
        folder (str | PathLike): to be written.
        dtype (torch.dtype | None): of the weights; None keeps it.
        overwrite (bool): replace an existing folder.

    Raises:
        ValueError: when the official code has no place for something.

    """
    from mmvlm.config.meta_model import training_length
    from mmvlm.export.llava_config import official_config
    from mmvlm.export.to_llava import export_folder

    loaded = load_model(config, checkpoint, device="cpu", full_precision_base=True)
    if has_lora(loaded.model):
        merge_lora(loaded.model.float())
    cfg = loaded.cfg.model.to_dict()
    tower = cfg["vision_encoder"]
    tower = tower.get("encoder") or tower
    fields = official_config(
        cfg,
        loaded.processor.view,
        mm_vision_tower=tower.get("name_or_path"),
        tokenizer_model_max_length=training_length(loaded.cfg),
    )
    return export_folder(
        loaded.model.state_dict(),
        folder,
        fields,
        loaded.processor.tokenizer,
        generation=loaded.model.generation,
        dtype=dtype,
        overwrite=overwrite,
        source=os.fspath(checkpoint or config),
    )


def without_lora(model_cfg: dict, parts: Iterable[str]) -> list[str]:
    """Return the ``--cfg-options`` that fit a LoRA config to its merged weights.

    Args:
        model_cfg (dict): ``model`` of the config.
        parts (Iterable[str]): whose adapters were merged.

    """
    options = []

    def switch_off(part: dict, where: str) -> None:
        for key, value in part.items():
            if key in ("lora", "quantization") and value:
                options.append(f"{where}.{key}=None")
            elif isinstance(value, dict) and key != "config":
                switch_off(value, f"{where}.{key}")

    for name in parts:
        switch_off(model_cfg[name], f"model.{name}")
        if name in (model_cfg.get("train_parts") or {}):
            # The rule may name adapters, which are there no more.
            options.append(f"model.train_parts.{name}=False")
    return options
