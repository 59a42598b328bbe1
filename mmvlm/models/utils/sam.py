"""What SAM's parts share: how they are made, named in files, and cut to size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import interpolate

from mmvlm.structures import ViewLayout, VisionEncoderSpec
from mmvlm.utils.files import pretrained_source

from .hf_loading import as_dtype

#: SAM's normalisation: 123.675, 116.28, 103.53 and 58.395, 57.12, 57.375 of 255.
SAM_MEAN, SAM_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Name of the image encoder's output among the maps of its features.
NECK = "neck"
_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"
#: Names of SAM 2's maps of its two finer levels, four and two cells to one of the neck.
FINE = ("fine", "middle")
#: Official names to those of transformers, one after the other.
_RENAMED = (
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.blocks\.(\d+)\.norm", r"vision_encoder.layers.\1.layer_norm"),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", _POSITIONS),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.transformer\.layers\.(\d+)\.norm", r".transformer.layers.\1.layer_norm"),
    (r"\.transformer\.norm_final_attn\.", ".transformer.layer_norm_final_attn."),
    (r"(\.transformer\.layers\.\d+\.mlp\.)lin(\d)\.", r"\1lin\2."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
)
_MLP = re.compile(
    r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head)\.)"
    r"layers\.(\d+)\.(.+)"
)
_OFFICIAL = ("image_encoder.", "prompt_encoder.pe_layer.", "mask_decoder.output_up")


def to_transformers(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename weights of SAM, official or of transformers, to those of transformers.

    Positions have two names there, of which only the prompt encoder's is kept.

    Args:
        state (Mapping[str, Any]): by names such as ``mask_decoder.iou_token.weight``.
    """
    if not any(key.startswith(_OFFICIAL) for key in state):
        shared = "shared_image_embedding.positional_embedding"
        return {_POSITIONS if k == shared else k: v for k, v in state.items()}
    # The first and the last layer of an MLP have names of their own.
    numbers: dict[str, list[int]] = {}
    for found in filter(None, map(_MLP.fullmatch, state)):
        numbers.setdefault(found[1], []).append(int(found[2]))
    return {_transformers_key(key, numbers): value for key, value in state.items()}


def _transformers_key(key: str, numbers: Mapping[str, list[int]]) -> str:
    if found := _MLP.fullmatch(key):
        stem, number, rest = found[1], int(found[2]), found[3]
        if number in (0, max(numbers[stem])):
            return f"{stem}{'proj_out' if number else 'proj_in'}.{rest}"
        return f"{stem}layers.{number - 1}.{rest}"
    for pattern, new in _RENAMED:
        key = re.sub(pattern, new, key)
    return key


def sam2() -> Any:
    """Return transformers' module of SAM 2, which has ``Sam2Model`` and its config.

    Raises:
        ImportError: for a transformers without it.
    """
    import transformers

    if not hasattr(transformers, "Sam2Model"):
        raise ImportError(
            "SAM 2 needs transformers 4.56 or newer, found "
            f"{transformers.__version__}; upgrade it, or use SAMVisionEncoder and "
            "SAMMaskHead."
        )
    return transformers


def sam2_vision_config(fields: dict) -> Any:
    """Return transformers' ``Sam2VisionConfig``; ``fields`` are left as they are.

    Raises:
        ImportError: for a transformers without SAM 2.
    """
    # Newer versions know a backbone of plain fields by its model type only.
    hiera = dict(fields.get("backbone_config") or {})
    hiera.setdefault("model_type", "sam2_hiera_det_model")
    return sam2().Sam2VisionConfig(**{**fields, "backbone_config": hiera})


def read_sam(
    name_or_path: str, torch_dtype: str | None = None, kind: type | None = None
) -> torch.nn.Module:
    """Return transformers' SamModel, or one of another kind, from a folder or the hub.

    Raises:
        ValueError: when the file lacks weights.
    """
    if kind is None:
        from transformers import SamModel as kind

    path, file = pretrained_source(name_or_path)
    model, info = kind.from_pretrained(
        path, **file, torch_dtype=as_dtype(torch_dtype), output_loading_info=True
    )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(
            f"name_or_path={name_or_path!r}: missing {len(missing)} tensors of SAM, "
            f"for example {missing[:4]}; they would stay random."
        )
    return model


def neck_width(spec: VisionEncoderSpec) -> int:
    """Return the channels of SAM's image embedding.

    Raises:
        ValueError: for the spec of another encoder.
    """
    widths = [one.width for one in spec.maps if one.name == NECK]
    if not widths:
        raise ValueError(
            "the encoder gives no image embedding of SAM; use SAMVisionEncoder, which "
            f"has a map '{NECK}' (maps: {[one.name for one in spec.maps]})."
        )
    return widths[0]


def restore_masks(low_res: torch.Tensor, layout: ViewLayout, side: int) -> torch.Tensor:
    """Bring mask logits from the decoder's grid to the pixels of the image.

    Args:
        low_res (torch.Tensor): logits over the padded square.
        layout (ViewLayout): ``view_size`` is the image's part of that square, top
            left, ``original_size`` the image's own size.
        side (int): of the square, in pixels.

    Shape:
        - ``low_res``: (K, h, w)
        - output: (K, H, W), float32, ``original_size``
    """
    square = interpolate(
        low_res[:, None].float(), (side, side), mode="bilinear", align_corners=False
    )
    height, width = layout.view_size
    return interpolate(
        square[..., :height, :width],
        layout.original_size,
        mode="bilinear",
        align_corners=False,
    )[:, 0]
