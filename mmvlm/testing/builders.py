"""Miniature models and batches that run on a CPU in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmvlm.structures import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    EncodedSample,
    Inputs,
    TokenStream,
    ViewLayout,
    VLMBatch,
)


def tiny_vlm(seed: int = 0, *, lm: dict | None = None, **kwargs: Any) -> Any:
    """Build a random VLM: CLIP (3 x 32, 32 px, 16 patches), MLP, Llama (2 x 48).

    Args:
        seed (int): of the weights.
        lm (dict | None): arguments of ``HFCausalLM.tiny``.
        **kwargs: over the arguments of ``VisionLanguageModel``.

    Returns:
        VisionLanguageModel: in eval mode, every part trainable.
    """
    from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
    from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
    from mmvlm.models.vlms.base import VisionLanguageModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts: dict[str, Any] = dict(
            vision_encoder=kwargs.pop("vision_encoder", None) or HFVisionEncoder.tiny(),
            connector=dict(type="MLPConnector"),
            language_model=kwargs.pop("language_model", None)
            or HFCausalLM.tiny(**(lm or {})),
        )
        return VisionLanguageModel(**{**parts, **kwargs}).eval()


def make_batch(
    samples: Sequence[tuple[Sequence[int], Sequence[int]]],
    pixel_values: torch.Tensor | None = None,
    *,
    slot_lens: Sequence[int] | None = None,
    layouts: Sequence[ViewLayout] | None = None,
    **fields: Any,
) -> VLMBatch:
    """Build a flat batch from ids and labels.

    Args:
        samples (Sequence): (ids, labels) per sample; runs of ``SLOT_TOKEN_ID``
            are the images' places, labels are unshifted.
        pixel_values (torch.Tensor | None): one view per image.
        slot_lens (Sequence[int] | None): positions per image; None takes each
            run of slot ids as one image.
        layouts (Sequence[ViewLayout] | None): None takes one view per image.
        **fields: over the fields of the batch.
    """
    owner, runs = [], []
    for number, (ids, _) in enumerate(samples):
        before = False
        for token in ids:
            if token == SLOT_TOKEN_ID and before:
                runs[-1] += 1
            elif token == SLOT_TOKEN_ID:
                runs.append(1)
                owner.append(number)
            before = token == SLOT_TOKEN_ID
    if pixel_values is not None and layouts is None:
        size = tuple(pixel_values.shape[-2:])
        layouts = [ViewLayout(size, size)] * len(pixel_values)
    stream = TokenStream.join(
        [EncodedSample(np.array(ids), np.array(labels)) for ids, labels in samples]
    )
    inputs = {}
    if pixel_values is not None:
        inputs["image"] = Inputs(
            pixel_values,
            tuple(owner),
            tuple(layouts or ()),
            (stream.input_ids == SLOT_TOKEN_ID).nonzero().flatten(),
            tuple(slot_lens if slot_lens is not None else runs),
        )
    names = tuple(f"sample-{number}" for number in range(len(samples)))
    values = dict(streams=dict(text=stream), inputs=inputs, sample_ids=names)
    return VLMBatch(**{**values, **fields})


def tiny_batch(
    seed: int = 0,
    text_lens: Sequence[int] = (12, 7, 20),
    num_images: Sequence[int] = (1, 0, 2),
    *,
    tokens_per_image: int = 16,
    image_size: int = 32,
    vocab_size: int = 128,
) -> VLMBatch:
    """Build a random batch for :func:`tiny_vlm`, float pixels.

    Each sample is two tokens, its images with one token behind each, and text
    whose second half is trained.

    Args:
        seed (int): of ids and pixels.
        text_lens (Sequence[int]): text tokens per sample, at least 4.
        num_images (Sequence[int]): images per sample.
        tokens_per_image (int): positions of an image.
        image_size (int): side of a view in pixels.
        vocab_size (int): ids are drawn from 3 .. vocab_size - 1.
    """
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for length, images in zip(text_lens, num_images, strict=True):
        text = torch.randint(3, vocab_size, (length,), generator=generator).tolist()
        ids = text[:2]
        for _ in range(images):
            ids += [SLOT_TOKEN_ID] * tokens_per_image + text[2:3]
        ids += text[2:]
        trained = length // 2
        labels = [IGNORE_INDEX] * (len(ids) - trained) + ids[-trained:]
        samples.append((ids, labels))
    total = sum(num_images)
    shape = (total, 3, image_size, image_size)
    pixels = torch.randn(shape, generator=generator) if total else None
    return make_batch(samples, pixels)
