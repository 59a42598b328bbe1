"""Tokenizer, processor and generation files of an exported folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.export.chat_jinja import IMAGE_TOKEN, to_jinja
from mmvlm.structures import VisionEncoderSpec

#: View transform -> fields of the transformers image processor.
PAD, CROP, RESIZE = "PadToSquare", "CenterCropSquare", "ResizeSquare"
#: Fields of ``generation`` that only sampling, or only a beam search, reads.
_SAMPLING = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff"),
)
_BEAMS = ("early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty")
_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4}


def add_image_token(tokenizer: Any) -> tuple[Any, int]:
    """Return a copy of a tokenizer that knows ``<image>``, and the token's id."""
    from transformers import AddedToken

    tokenizer = copy.deepcopy(tokenizer)
    token = AddedToken(IMAGE_TOKEN, normalized=False, special=True)
    tokenizer.add_tokens([token], special_tokens=True)
    _for_generation(tokenizer)
    return tokenizer, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)


def _for_generation(tokenizer: Any) -> None:
    """Let a tokenizer give what ``generate`` takes, for batches too."""
    settings = dict(
        # generate() refuses token_type_ids, which many fast tokenizers give.
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",
    )
    for name, value in settings.items():
        setattr(tokenizer, name, value)
        tokenizer.init_kwargs[name] = value
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token


def image_processor(view: dict, spec: VisionEncoderSpec) -> Any:
    """Build the transformers image processor that equals a view transform.

    Args:
        view (dict): the transform of the pipeline: ``PadToSquare``,
            ``CenterCropSquare`` or ``ResizeSquare``.
        spec (VisionEncoderSpec): size and normalisation, unless ``view`` has them.

    Raises:
        ValueError: for a transform without counterpart.
    """
    import transformers

    side = int(view.get("size") or spec.image_size)
    fields = dict(
        do_resize=True,
        size=dict(shortest_edge=side),
        do_center_crop=True,
        crop_size=dict(height=side, width=side),
        do_convert_rgb=True,
        do_rescale=True,
        do_normalize=True,
        image_mean=list(view.get("mean") or spec.mean),
        image_std=list(spec.std),
        resample=_RESAMPLE[str(view.get("resample") or spec.resample)],
    )
    kind = view["type"]
    if kind == PAD:
        pads = getattr(transformers, "LlavaImageProcessor", None)
        if pads is not None:
            return pads(do_pad=True, **fields)
        print_log(
            f"transformers {transformers.__version__} has no LlavaImageProcessor: the "
            "exported processor crops where ours pads to a square. Export with "
            "transformers >= 4.49, or pad the images yourself.",
            logger="current",
            level=30,
        )
    elif kind == RESIZE:
        fields.update(size=dict(height=side, width=side), do_center_crop=False)
    elif kind != CROP:
        raise ValueError(
            f"test_dataloader...pipeline: view transform '{kind}' has no counterpart "
            f"in transformers' LLaVA, expected one of {[PAD, CROP, RESIZE]}."
        )
    return transformers.CLIPImageProcessor(**fields)


def save_processor(
    folder: Path, processor: VLMProcessor, tokenizer: Any, view: dict, strategy: str
) -> None:
    """Write tokenizer, image processor, processor and chat template.

    Args:
        folder (Path): of the export.
        processor (VLMProcessor): template and vision spec.
        tokenizer (Any): with the image token.
        view (dict): the view transform of the pipeline.
        strategy (str): ``vision_feature_select_strategy``.
    """
    from transformers import LlavaProcessor

    try:
        jinja = to_jinja(processor.template, tokenizer)
    except ValueError as error:
        jinja = None
        print_log(f"no chat template is exported: {error}", "current", 30)
    spec = processor.spec
    if getattr(tokenizer, "chat_template", None) is not None:
        tokenizer.chat_template = jinja
    written = LlavaProcessor(
        image_processor=image_processor(view, spec),
        tokenizer=tokenizer,
        patch_size=spec.patch_size,
        vision_feature_select_strategy=strategy,
        image_token=IMAGE_TOKEN,
        # The strategy "default" takes one token off again.
        num_additional_image_tokens=spec.num_prefix_tokens,
        chat_template=jinja,
    )
    written.save_pretrained(str(folder))
    # transformers 5.x keeps it inside processor_config.json, where 4.x does not look.
    written.image_processor.save_pretrained(str(folder))


def save_generation_config(
    folder: Path, processor: VLMProcessor, generation: dict | None
) -> None:
    """Write ``generation_config.json``: stop ids of the template, our defaults."""
    from transformers import GenerationConfig

    tokenizer = processor.tokenizer
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for text in processor.template.stop_strings:
        number = _one_token(tokenizer, text)
        if number is not None and number not in eos:
            eos.append(number)
    if several := several_tokens(processor):
        print_log(
            f"stop strings {several} are not one token each: pass them to generate() "
            f"(stop_strings={several}, tokenizer=processor.tokenizer).",
            logger="current",
            level=30,
        )
    pad = tokenizer.pad_token_id
    config = GenerationConfig(
        **effective(generation or {}),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=eos,
        pad_token_id=pad if pad is not None else (eos[0] if eos else None),
    )
    (folder / "generation_config.json").write_text(
        json.dumps(config.to_diff_dict(), indent=2) + "\n", encoding="utf-8"
    )


def several_tokens(processor: VLMProcessor) -> list[str]:
    """Return the stop strings that no token id can stand for."""
    tokenizer, stops = processor.tokenizer, processor.template.stop_strings
    return [text for text in stops if _one_token(tokenizer, text) is None]


def _one_token(tokenizer: Any, text: str) -> int | None:
    """Return the id of a text that is one token, else None."""
    number = tokenizer.convert_tokens_to_ids(text)
    return None if number == tokenizer.unk_token_id else number


def effective(generation: dict) -> dict:
    """Leave out, and name, what has no effect beside the rest.

    transformers refuses to save a model with such fields.
    """
    idle = []
    if not generation.get("do_sample"):
        idle += [name for name in _SAMPLING if generation.get(name) is not None]
    if generation.get("num_beams") in (None, 1):
        idle += [name for name in _BEAMS if generation.get(name) is not None]
    if idle:
        print_log(
            f"model.generation: {idle} have no effect without do_sample=True or "
            "num_beams and are not exported.",
            logger="current",
        )
    return {name: value for name, value in generation.items() if name not in idle}
