"""LISA's head: the state that says a mask prompts SAM's decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mmvlm.models.utils.assembly import untouched
from mmvlm.models.utils.feed import Feed
from mmvlm.models.utils.hf_loading import on_meta
from mmvlm.models.utils.sam import NECK, neck_width, read_sam, restore_masks
from mmvlm.registry import MODELS
from mmvlm.structures import (
    Boxes,
    Region,
    Targets,
    ViewLayout,
    VisionEncoderSpec,
    VLMBatch,
    VLMDataSample,
)
from mmvlm.structures.masks import mask_to_rle, rle_box

from .base import Head, LossTerm
from .mask_losses import summed_mask_losses
from .sam_decoder import SAMDecoder


@MODELS.register_module()
class SAMMaskHead(Head):
    """A projected state is the one prompt of SAM's mask decoder.

    Images are read from an encoder of their own (:class:`SAMVisionEncoder` on
    ``image_hi``), only those of which a mask is asked, equal ones once, and all masks
    of a batch are decoded in one call.

    Paper: Lai et al., "LISA: Reasoning Segmentation via Large Language Model", CVPR
    2024, arXiv 2308.00692. Deviation: losses are means over the masks of a whole
    optimizer step, not of each micro-batch.

    Args:
        specs (Mapping[str, VisionEncoderSpec]): filled in by the VLM.
        token (str): stands for a mask in answers.
        name_or_path (str | None): folder or hub name of transformers' SAM; None: random
            weights.
        prompt_encoder (dict | None): fields of ``SamPromptEncoderConfig``.
        mask_decoder (dict | None): likewise of ``SamMaskDecoderConfig``.
        max_masks (int): made of one reply; what it says beyond is named in
            ``problems``.
        with_scores (bool): a mask's ``score`` is the IoU that the decoder expects.
            False leaves it out: where no training has taught the decoder to tell, as
            after :class:`PromptableSegmenter`.
        **kwargs: see :class:`Head`; losses are ``mask_bce`` and ``mask_dice``, with
            weights of 2.0 and 0.5 in LISA.

    Trainable parameters: Dl*Dl + Dl + Dl*256 + 256 for the projection, 4,058,340 of
    the decoder; the prompt encoder is frozen in LISA.
    """

    terms = ("mask_bce", "mask_dice")
    reads = ("image_hi:*",)

    def __init__(
        self,
        specs: Any,
        token: str = "[SEG]",
        name_or_path: str | None = None,
        *,
        prompt_encoder: dict | None = None,
        mask_decoder: dict | None = None,
        max_masks: int = 64,
        with_scores: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tokens, self.max_masks = (token,), max_masks
        self.with_scores = with_scores
        spec = specs[self.kind]
        self.side = spec.image_size
        width = neck_width(spec)
        self.projection = nn.Sequential(
            nn.Linear(self.in_width, self.in_width),
            nn.ReLU(),
            nn.Linear(self.in_width, width),
        )
        self.decoder = self.build_decoder(spec, prompt_encoder, mask_decoder)
        if name_or_path is not None and not on_meta():
            self.decoder.load_sam(self.read_weights(name_or_path))

    # What another SAM does its own way --------------------------------------

    def build_decoder(
        self,
        spec: VisionEncoderSpec,
        prompt_encoder: dict | None,
        mask_decoder: dict | None,
    ) -> SAMDecoder:
        """Return the random decoder of masks of an encoder's images."""
        return SAMDecoder(spec, prompt_encoder, mask_decoder)

    def read_weights(self, name_or_path: str) -> dict[str, torch.Tensor]:
        """Return the weights of SAM."""
        return read_sam(name_or_path).state_dict()

    def gather(self, found: dict[int, Any], numbers: Sequence[int]) -> Any:
        """Return the embeddings of the image of each mask: (M, C, G, G)."""
        return torch.cat([found[number].maps[NECK] for number in numbers])

    def restore(self, low_res: torch.Tensor, layout: ViewLayout) -> torch.Tensor:
        """Bring logits to the pixels of the image: (K, h, w) to (K, H, W), float32."""
        return restore_masks(low_res, layout, self.side)

    # What all do ------------------------------------------------------------

    @property
    def kind(self) -> str:
        """Kind of inputs, or name of the encoder, that masks are made of."""
        return self.reads[0].partition(":")[0]

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructor."""
        self.is_init = True

    def grown(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the head's state from that of SAM alone: the projection is new."""
        return {**self.state_dict(), **state}

    def forward(
        self, hidden: torch.Tensor, images: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode a mask of every state, all in one call.

        Shape:
            - ``hidden``: (M, Dl)
            - ``images``: (M, C, G, G), the image embedding of each mask, or what
              :meth:`gather` gives
            - output: (M, 4G, 4G), logits, and (M,), the IoU that the decoder expects
        """
        prompts = self.projection(hidden)
        masks, scores = self.decoder(images, prompts[:, None, None])
        return masks[:, 0], scores[:, 0]

    def images_of(
        self, owners: Sequence[int], feed: Feed
    ) -> tuple[list[int], list[ViewLayout]]:
        """Return the number and the layout of the image of each mask."""
        inputs = feed.inputs(self.kind)
        numbers = [_image_of(inputs, own, feed.batch) for own in owners]
        return numbers, [inputs.layouts[number] for number in numbers]

    def decode(
        self, hidden: torch.Tensor, numbers: Sequence[int], feed: Feed
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what :meth:`forward` does of states and the images they belong to."""
        dtype = self.projection[0].weight.dtype
        found = feed.some_images(self.kind, numbers, dtype)
        return self(hidden.to(dtype), self.gather(found, numbers))

    def loss(
        self, hidden: torch.Tensor, targets: Targets | None, feed: Feed
    ) -> dict[str, LossTerm]:
        """Return the summed losses of all masks.

        Shape:
            - ``hidden``: (K, Dl)

        Raises:
            ValueError: naming a sample that has masks and no image to make them of.
        """
        numbers, layouts = self.images_of(targets.owner, feed)
        low_res, _ = self.decode(hidden, numbers, feed)
        sums = summed_mask_losses(low_res, targets.values.entries(), layouts, self.side)
        # Ranks wait for the decoder's other masks and scores, which nothing reads.
        sums = sums + untouched(self.decoder)
        return {
            name: LossTerm(total, len(targets))
            for name, total in zip(self.terms, sums, strict=True)
        }

    def predict(
        self,
        states: Sequence[torch.Tensor],
        samples: Sequence[VLMDataSample],
        feed: Feed,
    ) -> None:
        """Give the regions of replies masks, in pixels of the image, and scores.

        Raises:
            ValueError: naming a sample whose image the encoder did not get.
        """
        inputs = feed.inputs(self.kind)
        shown = () if inputs is None else inputs.owner
        for number, sample in enumerate(samples):
            said = {one.kind for one in getattr(sample, "pred_regions", ())}
            if len(states[number]) and "mask" in said:  # an image was shown
                _image_of(inputs, number, feed.batch)
        # A mask of no image is among the problems that reading the reply found.
        kept = [o[: self.max_masks * (n in shown)] for n, o in enumerate(states)]
        owner = [row for row, own in enumerate(kept) for _ in range(len(own))]
        if not owner:
            return
        numbers, layouts = self.images_of(owner, feed)
        low_res, ious = self.decode(torch.cat(kept), numbers, feed)
        masks: dict[int, list] = {}
        rows = zip(owner, layouts, low_res, ious.tolist(), strict=True)
        for row, layout, one, iou in rows:
            logits = self.restore(one[None], layout)[0]
            whole = bool(logits.isfinite().all())
            mask = (logits > 0).cpu().numpy()
            made = (mask_to_rle(mask), iou if self.with_scores else None)
            masks.setdefault(row, []).append(made if whole else None)
        for row, own in masks.items():
            _fill(samples[row], own, len(states[row]))

    #: Fields of the miniature's decoder.
    tiny_decoder = dict(mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16)  # noqa: RUF012

    @classmethod
    def tiny_config(cls, part: dict, layers: int, ids: dict) -> dict:
        """Return what ``--tiny`` makes of a config."""
        names = ("token", "weight", "max_masks", "with_scores")
        kept = {name: part[name] for name in names if name in part}
        return dict(kept, mask_decoder=dict(cls.tiny_decoder))

    @classmethod
    def tiny(cls, in_width: int = 48) -> SAMMaskHead:
        """Build a miniature that reads a tiny :class:`SAMVisionEncoder`."""
        from mmvlm.models.vision_encoders.sam import SAMVisionEncoder

        specs = dict(image_hi=SAMVisionEncoder.tiny().spec)
        decoder = dict(cls.tiny_decoder)
        return cls(specs=specs, in_width=in_width, mask_decoder=decoder)


def _image_of(inputs: Any, sample: int, batch: VLMBatch) -> int:
    """Return the number of a sample's image, the last one where it has several."""
    owners = () if inputs is None else inputs.owner
    if sample not in owners:
        known = sample < len(batch.sample_ids)
        name = batch.sample_ids[sample] if known else sample
        raise ValueError(
            f"sample '{name}': it has masks, but no image to make them of; put "
            "SAMViews into the pipeline of every dataset with masks."
        )
    return len(owners) - 1 - owners[::-1].index(sample)


def _fill(
    sample: VLMDataSample, masks: list[tuple[dict, float | None] | None], said: int
) -> None:
    """Put masks and scores into the regions of a reply that are masks, in order.

    Regions beyond the masks go, and so do their spans; ``problems`` counts them.
    """
    regions, spans = sample.get("pred_regions", ()), sample.get("pred_spans", ())
    problems = list(sample.get("problems", ()))
    places = [n for n, region in enumerate(regions) if region.kind == "mask"]
    made, beyond = dict(zip(places, masks, strict=False)), set(places[len(masks) :])
    kept = [n for n in range(len(regions)) if n not in beyond]
    lost = [place for place, mask in enumerate(masks) if mask is None]
    if lost:
        problems.append(f"masks {lost}: their logits are not finite")
    said = max(said, len(places))
    if said > len(masks):
        problems.append(f"{said} masks, of which the first {len(masks)} are made")
    sample.pred_regions = tuple(_with_mask(regions[n], made.get(n)) for n in kept)
    sample.pred_spans = tuple(spans[n] for n in kept if n < len(spans))
    sample.problems = tuple(problems)


def _with_mask(region: Region, made: tuple[dict, float | None] | None) -> Region:
    if made is None:
        return region
    rle, score = made
    boxes = Boxes([rle_box(rle)], tuple(rle["size"]))
    return replace(region, boxes=boxes, rles=(rle,), score=score)
