"""Sa2VA's head: the state of the token that says a mask prompts SAM 2's decoder."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import interpolate

from mmvlm.models.utils.assembly import untouched
from mmvlm.models.utils.feed import Feed
from mmvlm.models.utils.sam import (
    FINE,
    NECK,
    neck_width,
    read_sam,
    sam2,
    sam2_vision_config,
)
from mmvlm.registry import MODELS
from mmvlm.structures import Targets, ViewLayout, VisionEncoderSpec

from .base import LossTerm
from .mask_losses import runs_to_mask
from .point_losses import sampled_mask_losses
from .sam_decoder import SAMDecoder
from .sam_mask import SAMMaskHead


class SAM2Decoder(SAMDecoder):
    """Prompts and the three maps of an image to mask logits, by transformers' modules.

    The embedding of "no memory" is added to the coarsest map, the two finer ones are
    narrowed and added while masks are upscaled.

    Args:
        spec (VisionEncoderSpec): of the image encoder.
        mask_decoder (dict | None): fields of ``Sam2MaskDecoderConfig``.
    """

    def __init__(
        self, spec: VisionEncoderSpec, mask_decoder: dict | None = None
    ) -> None:
        torch.nn.Module.__init__(self)
        library, width = sam2(), neck_width(spec)
        # Only Sam2Model knows how its parts are made: it gets the least of a tower.
        tower = dict(
            hidden_size=8,
            blocks_per_stage=[1] * 4,
            embed_dim_per_stage=[8] * 4,
            num_attention_heads_per_stage=[1] * 4,
            global_attention_blocks=[],
        )
        prompt = dict(hidden_size=width, image_size=spec.image_size, patch_size=16)
        model = library.Sam2Model(
            library.Sam2Config(
                vision_config=sam2_vision_config(
                    dict(
                        backbone_config=tower,
                        backbone_channel_list=[8] * 4,
                        fpn_hidden_size=width,
                    )
                ),
                prompt_encoder_config=prompt,
                mask_decoder_config=dict(hidden_size=width, **(mask_decoder or {})),
            )
        )
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder
        self.no_memory_embedding = model.no_memory_embedding
        for module in self.modules():  # see SAMDecoder
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def load_sam(self, state: Any) -> None:
        """Take SAM 2's weights under the names of transformers.

        Raises:
            RuntimeError: for weights that are missing, too many or of other sizes.
        """
        parts = ("prompt_encoder.", "mask_decoder.", "no_memory_embedding")
        named = {k: v for k, v in state.items() if k.startswith(parts)}
        shared = "shared_image_embedding.positional_embedding"
        own = "prompt_encoder.shared_embedding.positional_embedding"
        self.load_state_dict({own: state.get(shared), **named})

    def forward(
        self, images: Sequence[torch.Tensor], sparse: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode masks, all in one call; each has maps of its own.

        Shape:
            - ``images``: fine, middle and neck: (M, C, 4G, 4G), (M, C, 2G, 2G) and
              (M, C, G, G)
            - ``sparse``: (M, 1, P, C), P prompts of each mask
            - output: (M, 1, 4G, 4G), logits, and (M, 1), the IoU that the decoder
              expects of each
        """
        fine, middle, neck = images
        neck = neck + self.no_memory_embedding.view(1, -1, 1, 1)
        nothing = self.prompt_encoder.no_mask_embed.weight
        masks, scores = self.mask_decoder(
            image_embeddings=neck,
            image_positional_embeddings=self.positions().expand_as(neck),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=nothing.view(1, -1, 1, 1).expand_as(neck),
            multimask_output=False,
            high_resolution_features=[
                self.mask_decoder.conv_s0(fine),
                self.mask_decoder.conv_s1(middle),
            ],
        )[:2]
        return masks[:, 0], scores[:, 0]


@MODELS.register_module()
class SAM2MaskHead(SAMMaskHead):
    """A projected state is the one prompt of SAM 2's mask decoder.

    Images are read from :class:`SAM2VisionEncoder` on ``image_hi``, stretched to a
    square, only those of which a mask is asked, equal ones once. Losses are taken at
    the decoder's resolution on sampled points, most of them where the mask is doubtful.

    Paper: Yuan et al., "Sa2VA: Marrying SAM2 with LLaVA for Dense Grounded
    Understanding of Images and Videos", 2025, arXiv 2501.04001, which reads states by
    ``position='at'``. Deviations: points depend on the sample alone, so that a step is
    the same however samples are dealt; losses are means over the masks of a whole
    optimizer step; images only.

    Args:
        specs (Mapping[str, VisionEncoderSpec]): filled in by the VLM.
        token (str): stands for a mask in answers.
        name_or_path (str | None): folder or hub name of transformers' SAM 2; None:
            random weights.
        mask_decoder (dict | None): fields of ``Sam2MaskDecoderConfig``.
        num_points (int): of which the losses of a mask are means.
        max_masks (int): made of one reply; what it says beyond is named in
            ``problems``.
        **kwargs: ``with_scores`` of :class:`SAMMaskHead`, and those of :class:`Head`;
            losses are ``mask_bce`` and ``mask_dice``, with
            weights of 2.0 and 0.5 in Sa2VA.

    Raises:
        ImportError: for a transformers without SAM 2.

    Trainable parameters: Dl*Dl + Dl + Dl*256 + 256 for the projection, 4,215,109 of
    the decoder; the prompt encoder is frozen in Sa2VA.
    """

    def __init__(
        self,
        specs: Any,
        token: str = "[SEG]",
        name_or_path: str | None = None,
        *,
        mask_decoder: dict | None = None,
        num_points: int = 12544,
        max_masks: int = 64,
        **kwargs: Any,
    ) -> None:
        self.num_points = num_points
        super().__init__(
            specs,
            token,
            name_or_path,
            mask_decoder=mask_decoder,
            max_masks=max_masks,
            **kwargs,
        )

    def build_decoder(
        self, spec: VisionEncoderSpec, prompt_encoder: None, mask_decoder: dict | None
    ) -> SAM2Decoder:
        """Return the random decoder of masks of an encoder's images."""
        return SAM2Decoder(spec, mask_decoder)

    def read_weights(self, name_or_path: str) -> dict[str, torch.Tensor]:
        """Return the weights of SAM 2."""
        return read_sam(name_or_path, kind=sam2().Sam2Model).state_dict()

    def gather(
        self, found: dict[int, Any], numbers: Sequence[int]
    ) -> list[torch.Tensor]:
        """Return the maps of the image of each mask: fine, middle and neck."""
        return [
            torch.cat([found[number].maps[name] for number in numbers])
            for name in (*FINE, NECK)
        ]

    def restore(self, low_res: torch.Tensor, layout: ViewLayout) -> torch.Tensor:
        """Bring logits to the pixels of the image: (K, h, w) to (K, H, W), float32."""
        size = layout.original_size
        return interpolate(low_res[:, None].float(), size, mode="bilinear")[:, 0]

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
        goal = []
        for runs, layout in zip(targets.values.entries(), layouts, strict=True):
            mask = runs_to_mask(runs, layout.original_size)
            goal.append(interpolate(mask[None, None], low_res.shape[-2:])[0, 0])
        names = [feed.batch.sample_ids[own] for own in targets.owner]
        seeds = [
            zlib.crc32(f"{name}/{targets.owner[:place].count(own)}".encode())
            for place, (name, own) in enumerate(zip(names, targets.owner, strict=True))
        ]
        sums = sampled_mask_losses(low_res, torch.stack(goal), seeds, self.num_points)
        sums = sums + untouched(self.decoder)
        return {
            name: LossTerm(total, len(targets))
            for name, total in zip(self.terms, sums, strict=True)
        }

    @classmethod
    def tiny_config(cls, part: dict, layers: int, ids: dict) -> dict:
        """Return what ``--tiny`` makes of a config."""
        kept = super().tiny_config(part, layers, ids)
        return dict(kept, num_points=64, position=part.get("position", "before"))

    @classmethod
    def tiny(cls, in_width: int = 48) -> SAM2MaskHead:
        """Build a miniature that reads a tiny :class:`SAM2VisionEncoder`."""
        from mmvlm.models.vision_encoders.sam2 import SAM2VisionEncoder

        specs = dict(image_hi=SAM2VisionEncoder.tiny().spec)
        decoder = dict(cls.tiny_decoder)
        return cls(specs=specs, in_width=in_width, mask_decoder=decoder, num_points=64)
