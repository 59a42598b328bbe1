"""SAM's prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mmvlm.models.utils.sam import neck_width, to_transformers
from mmvlm.structures import VisionEncoderSpec


class SAMDecoder(nn.Module):
    """Prompts and image embeddings to mask logits, by transformers' modules.

    The decoder's norms have the official eps of 1e-5, which transformers' default is
    not; those of prompts and upscaling stay at 1e-6.

    Paper: Kirillov et al., "Segment Anything", ICCV 2023, arXiv 2304.02643.

    Args:
        spec (VisionEncoderSpec): of the image encoder.
        prompt_encoder (dict | None): fields of ``SamPromptEncoderConfig``.
        mask_decoder (dict | None): fields of ``SamMaskDecoderConfig``.
    """

    def __init__(
        self,
        spec: VisionEncoderSpec,
        prompt_encoder: dict | None = None,
        mask_decoder: dict | None = None,
    ) -> None:
        super().__init__()
        from transformers import SamConfig, SamModel

        width = neck_width(spec)
        size = dict(image_size=spec.image_size, patch_size=spec.patch_size)
        # Only SamModel knows how its parts are made, version by version: it gets a
        # tower without blocks. Positions are drawn with deviation hidden_size // 2.
        tower = dict(
            hidden_size=2,
            num_hidden_layers=0,
            num_attention_heads=1,
            output_channels=width,
            num_pos_feats=width // 2,
            use_abs_pos=False,
            global_attn_indexes=[],
        )
        prompt = dict(hidden_size=width, **size)
        decoder = dict(hidden_size=width, layer_norm_eps=1e-5)
        model = SamModel(
            SamConfig(
                vision_config=dict(tower, **size),
                prompt_encoder_config={**prompt, **(prompt_encoder or {})},
                mask_decoder_config={**decoder, **(mask_decoder or {})},
            )
        )
        self.prompt_encoder = model.prompt_encoder
        self.mask_decoder = model.mask_decoder
        # As in the official code: with transformers' small deviation of all weights,
        # a decoder trained from scratch is long in hearing its prompts.
        for module in self.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def load_sam(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take SAM's weights, under official names or those of transformers.

        Args:
            state (Mapping[str, torch.Tensor]): of the whole of SAM, or of its prompt
                encoder and mask decoder.

        Raises:
            RuntimeError: for weights that are missing, too many or of other sizes.
        """
        parts = ("prompt_encoder.", "mask_decoder.")
        named = to_transformers(state)
        self.load_state_dict({k: v for k, v in named.items() if k.startswith(parts)})

    def positions(self) -> torch.Tensor:
        """Return the positional encoding of an image embedding: (1, C, G, G)."""
        shared = self.prompt_encoder.shared_embedding
        like = shared.positional_embedding
        rows, cols = (
            (torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side
            for side in self.prompt_encoder.image_embedding_size
        )
        y, x = torch.meshgrid(rows, cols, indexing="ij")
        return shared(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]

    def forward(
        self,
        images: torch.Tensor,
        sparse: torch.Tensor,
        dense: torch.Tensor | None = None,
        *,
        multimask: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode masks, all in one call; each has an image embedding of its own.

        Args:
            images (torch.Tensor): image embeddings.
            sparse (torch.Tensor): embedded prompts.
            dense (torch.Tensor | None): embedded masks; None: no mask was given.
            multimask (bool): the three masks of an ambiguous prompt, not the one.

        Shape:
            - ``images``, ``dense``: (M, C, G, G)
            - ``sparse``: (M, 1, P, C), P prompts of each mask
            - output: (M, 1 or 3, 4G, 4G), logits, and (M, 1 or 3), the IoU that the
              decoder expects of each
        """
        if dense is None:
            nothing = self.prompt_encoder.no_mask_embed.weight
            dense = nothing.view(1, -1, 1, 1).expand_as(images)
        masks, scores = self.mask_decoder(
            image_embeddings=images,
            image_positional_embeddings=self.positions().expand_as(images),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )[:2]
        return masks[:, 0], scores[:, 0]
