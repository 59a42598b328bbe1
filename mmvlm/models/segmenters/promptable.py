"""A promptable segmenter by itself: how a tiny SAM is pretrained."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn
from torch.nn.functional import interpolate

from mmvlm.models.heads.mask_losses import mask_bce, mask_dice
from mmvlm.models.heads.sam_decoder import SAMDecoder
from mmvlm.models.utils.sam import NECK
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.registry import MODELS
from mmvlm.structures import TokenCount, VisionEncoderSpec


@MODELS.register_module()
class PromptableSegmenter(BaseModel):
    """Points, boxes and masks in, masks out.

    Every mask is asked for twice in a step: by a point in it or by its box, as likely,
    with noise; then by its first answer, as a mask, and a point where that is wrong.

    Paper: Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643. Deviations:
    two rounds instead of eleven, BCE and DICE as in LISA, and only the decoder's first
    mask, which LISA takes, is trained: neither the three for ambiguous prompts nor
    their scores.

    Args:
        sam (dict | VisionEncoder): :class:`SAMVisionEncoder`.
        prompt_encoder (dict | None): fields of ``SamPromptEncoderConfig``.
        mask_decoder (dict | None): fields of ``SamMaskDecoderConfig``.
        box_noise (float): standard deviation of a box's corners over its sides.
        data_preprocessor (dict | nn.Module | None): moves batches to the device.
    """

    #: Pixels are normalised in float32; see mmvlm.utils.precision.
    exact_buffers = ("_mean", "_std")

    def __init__(
        self,
        sam: dict | VisionEncoder,
        *,
        prompt_encoder: dict | None = None,
        mask_decoder: dict | None = None,
        box_noise: float = 0.1,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor or BaseDataPreprocessor())
        self.sam = MODELS.build(sam) if isinstance(sam, dict) else sam
        self.decoder = SAMDecoder(self.sam.spec, prompt_encoder, mask_decoder)
        # What LISA never reads would be weights without a gradient.
        for module in self._unused():
            module.requires_grad_(False)
        self.box_noise = box_noise
        shape, spec = (1, 3, 1, 1), self.sam.spec
        for name, value in (("_mean", spec.mean), ("_std", spec.std)):
            tensor = torch.tensor(value).view(shape)
            self.register_buffer(name, tensor, persistent=False)

    def _unused(self) -> list[nn.Module]:
        decoder = self.decoder.mask_decoder
        return [*decoder.output_hypernetworks_mlps[1:], decoder.iou_prediction_head]

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Name to module."""
        return dict(sam=self.sam, decoder=self.decoder)

    @property
    def encoders(self) -> dict[str, VisionEncoder]:
        """Name to module."""
        return dict(sam=self.sam)

    @property
    def vision_spec(self) -> VisionEncoderSpec:
        """The encoder's facts."""
        return self.sam.spec

    @property
    def token_count(self) -> TokenCount | None:
        """None: no language model takes the images."""
        return None

    def embed_points(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Embed one point per mask: (M, 1, 2, C), the point and what ends a list.

        Args:
            points (torch.Tensor): x, y in pixels of the padded square.
            labels (torch.Tensor): 1 inside of what is meant, 0 outside.

        Shape:
            - ``points``: (M, 2)
            - ``labels``: (M,)
        """
        return self.decoder.prompt_encoder(
            input_points=points[:, None, None],
            input_labels=labels[:, None, None],
            input_boxes=None,
            input_masks=None,
        )[0]

    def embed_boxes(self, boxes: torch.Tensor) -> torch.Tensor:
        """Embed one box x1, y1, x2, y2 per mask: (M, 4) to (M, 1, 2, C)."""
        return self.decoder.prompt_encoder(
            input_points=None,
            input_labels=None,
            input_boxes=boxes[:, None],
            input_masks=None,
        )[0]

    def embed_masks(self, logits: torch.Tensor) -> torch.Tensor:
        """Embed mask logits: (M, 1, 4G, 4G) to (M, C, G, G)."""
        return self.decoder.prompt_encoder.mask_embed(logits)

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return image embeddings of uint8 or normalised views: (B, C, G, G)."""
        if pixel_values.dtype == torch.uint8:
            pixel_values = (pixel_values.float() / 255 - self._mean) / self._std
        return self.sam(pixel_values, (-1,)).maps[NECK]

    def forward(
        self, inputs: dict, data_samples: list | None = None, mode: str = "loss"
    ) -> Any:
        """Give the losses of both rounds, or the logits of the first.

        Args:
            inputs (dict): what :func:`collate_masks` made.
            data_samples (list | None): not used.
            mode (str): ``loss`` or ``tensor``.

        Shape:
            - ``inputs['pixel_values']``: (B, 3, S, S)
            - ``inputs['masks']``: (M, S, S), uint8, none empty
            - ``inputs['image']``: (M,), int64, the image of each mask
            - output of ``tensor``: (M, S, S), with boxes as prompts, without noise

        Raises:
            ValueError: for another mode.
        """
        if mode not in ("loss", "tensor"):
            raise ValueError(f"mode='{mode}': expected 'loss' or 'tensor'.")
        images = self.encode(inputs["pixel_values"])[inputs["image"]]
        masks = inputs["masks"].float()
        if mode == "tensor":
            prompt = self.embed_boxes(boxes_of(masks))
            return self._full(self.decoder(images, prompt)[0], masks)[1]
        prompt = self._first_prompt(masks)
        low, first = self._full(self.decoder(images, prompt)[0], masks)
        wrong = (first.detach() > 0) != (masks > 0)
        points = draw_points(torch.where(wrong.flatten(1).any(1)[:, None, None],
                                         wrong.float(), masks))  # fmt: skip
        prompt = torch.cat([prompt, self._point(points, masks)], dim=2)
        dense = self.embed_masks(low.detach())
        _, second = self._full(self.decoder(images, prompt, dense)[0], masks)
        losses = dict(loss=0.0)
        for logits in (first, second):
            for term in (mask_bce(logits, masks), mask_dice(logits, masks)):
                losses["loss"] = losses["loss"] + term.mean() / 2
        both = ((second > 0) & (masks > 0)).flatten(1).sum(1)
        either = ((second > 0) | (masks > 0)).flatten(1).sum(1)
        return dict(losses, iou=(both / either).mean())

    def _full(
        self, low_res: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits as the decoder gives them, and of the masks' size."""
        size, low_res = tuple(masks.shape[-2:]), low_res.float()
        full = interpolate(low_res, size, mode="bilinear", align_corners=False)
        return low_res, full[:, 0]

    def _first_prompt(self, masks: torch.Tensor) -> torch.Tensor:
        boxes = boxes_of(masks)
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = boxes + torch.randn_like(boxes) * sides * self.box_noise
        by_box = torch.rand(len(masks), 1, 1, 1, device=masks.device) < 0.5
        points = self._point(draw_points(masks), masks)
        return torch.where(by_box, self.embed_boxes(boxes), points)

    def _point(self, points: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(len(points), device=points.device)
        inside = masks[rows, points[:, 1], points[:, 0]]
        return self.embed_points(points.float(), inside.int())


def boxes_of(masks: torch.Tensor) -> torch.Tensor:
    """Return x1, y1, x2, y2 around masks that are not empty: (M, H, W) to (M, 4)."""
    sides = []
    for dim in (1, 2):  # columns, then rows
        used = (masks > 0).any(dim).float()
        first = used.argmax(1)
        last = used.shape[1] - used.flip(1).argmax(1)
        sides.append((first, last))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1).float()


def draw_points(weights: torch.Tensor) -> torch.Tensor:
    """Draw a pixel of each map with the probability of its weight.

    Shape:
        - ``weights``: (M, H, W), none all zero
        - output: (M, 2), int64, x and y
    """
    places = torch.multinomial(weights.flatten(1).float(), 1)[:, 0]
    width = weights.shape[2]
    rows = torch.div(places, width, rounding_mode="floor")
    return torch.stack([places % width, rows], dim=1)
