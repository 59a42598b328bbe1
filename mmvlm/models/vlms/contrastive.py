"""Image-phrase contrast: how tiny vision towers are pretrained."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn

from mmvlm.models.utils.even_shapes import fill_rows
from mmvlm.models.vision_encoders.base import VisionEncoder
from mmvlm.models.vision_encoders.tiny import TinyBlock
from mmvlm.registry import MODELS
from mmvlm.structures import TokenCount, VisionEncoderSpec


@MODELS.register_module()
class PhraseEncoder(nn.Module):
    """Phrases to vectors: embeddings, transformer blocks, mean over the tokens.

    Args:
        vocab_size (int): rows of the embedding table.
        width (int): channels D.
        num_layers (int): blocks.
        num_heads (int): attention heads.
        max_length (int): most tokens of a phrase.

    Example:
        >>> encoder = PhraseEncoder(vocab_size=300, width=16, num_heads=2)
        >>> ids = torch.tensor([[5, 6, 0]])
        >>> encoder(ids, ids > 0).shape
        torch.Size([1, 16])
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 128,
        num_layers: int = 1,
        num_heads: int = 4,
        max_length: int = 32,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.position = nn.Parameter(torch.randn(max_length, width) * 0.02)
        self.blocks = nn.ModuleList(
            TinyBlock(width, num_heads) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, phrase_ids: torch.Tensor, phrase_mask: torch.Tensor):
        """Encode phrases.

        Shape:
            - ``phrase_ids``, ``phrase_mask``: (P, L), int64 and bool
            - output: (P, D)

        Raises:
            ValueError: for a phrase longer than ``max_length``.
        """
        length = phrase_ids.shape[1]
        if length > len(self.position):
            raise ValueError(
                f"a phrase has {length} tokens, PhraseEncoder.max_length is "
                f"{len(self.position)}; raise it."
            )
        x = self.embedding(phrase_ids) + self.position[:length]
        for block in self.blocks:
            x = block(x, phrase_mask)
        weights = phrase_mask[..., None] / phrase_mask.sum(1)[:, None, None]
        return (self.norm(x) * weights).sum(1)


@MODELS.register_module()
class ContrastiveModel(BaseModel):
    """Match images with the phrases that are true of them, patch by patch.

    An image's score for a phrase is the smooth maximum (logsumexp) over its
    patches of the scaled cosine between patch and phrase, so every patch must hold
    what is to be said of it, which a pooled CLIP vector need not. Every phrase is
    contrasted with all images of the batch, and every image with all phrases of
    each group (a group holds phrases of one kind, so that no group wins by its
    length); phrases may be true of several images.

    Paper: after Radford et al., "Learning Transferable Visual Models From Natural
    Language Supervision", ICML 2021, arXiv 2103.00020, and Yao et al., "FILIP",
    ICLR 2022, arXiv 2111.07783. Deviations: phrases instead of captions, one
    vector per phrase, several positives.

    Args:
        vision_encoder (dict | VisionEncoder): config or module.
        text_encoder (dict | nn.Module): config or module, as :class:`PhraseEncoder`.
        select_layer (int): hidden state whose patches are contrasted.
        init_scale (float): first factor of the cosines; learnt.
        max_scale (float): its upper limit.
        data_preprocessor (dict | nn.Module | None): moves batches to the device.
    """

    #: Pixels are normalised in float32; see mmvlm.utils.precision.
    exact_buffers = ("_mean", "_std")

    def __init__(
        self,
        vision_encoder: dict | VisionEncoder,
        text_encoder: dict | nn.Module,
        *,
        select_layer: int = -1,
        init_scale: float = 10.0,
        max_scale: float = 50.0,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor or BaseDataPreprocessor())
        self.vision_encoder = _build(vision_encoder)
        self.text_encoder = _build(text_encoder)
        self.select_layer = select_layer
        self.max_scale = max_scale
        width = self.text_encoder.norm.normalized_shape[0]
        self.head = nn.Linear(self.vision_encoder.spec.width, width)
        self.log_scale = nn.Parameter(torch.tensor(float(init_scale)).log())
        mean, std = self.vision_encoder.spec.mean, self.vision_encoder.spec.std
        shape = (1, 3, 1, 1)
        self.register_buffer("_mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(shape), persistent=False)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Name to module."""
        return dict(
            vision_encoder=self.vision_encoder,
            text_encoder=self.text_encoder,
            head=self.head,
        )

    @property
    def encoders(self) -> dict[str, VisionEncoder]:
        """Name to module."""
        return dict(vision_encoder=self.vision_encoder)

    @property
    def image_encoder(self) -> VisionEncoder:
        """What its images go through."""
        return self.vision_encoder

    @property
    def vision_spec(self) -> VisionEncoderSpec:
        """The encoder's facts."""
        return self.vision_encoder.spec

    @property
    def token_count(self) -> TokenCount | None:
        """None: no language model takes the images."""
        return None

    def scores(
        self,
        pixel_values: torch.Tensor,
        phrase_ids: torch.Tensor,
        phrase_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Score every image with every phrase.

        Shape:
            - ``pixel_values``: (B, 3, S, S), uint8 or normalised float
            - ``phrase_ids``, ``phrase_mask``: (P, L)
            - output: (B, P), float32
        """
        if pixel_values.dtype == torch.uint8:
            # In place: at 192 images a step, copies of them are what takes time.
            pixel_values = pixel_values.float().div_(255).sub_(self._mean)
            pixel_values.div_(self._std)
        count = len(phrase_ids)
        phrase_ids, phrase_mask = fill_rows(phrase_ids), fill_rows(phrase_mask)
        features = self.vision_encoder(pixel_values, (self.select_layer,))
        scale = self.log_scale.exp().clamp(max=self.max_scale)
        patches = F.normalize(self.head(features.patches()), dim=-1) * scale
        phrases = F.normalize(self.text_encoder(phrase_ids, phrase_mask), dim=-1)
        scores = torch.einsum("bnd,pd->bpn", patches, phrases)[:, :count]
        return scores.float().logsumexp(-1)

    def forward(
        self, inputs: dict, data_samples: list | None = None, mode: str = "loss"
    ) -> Any:
        """Give the loss, or the scores.

        Args:
            inputs (dict): what :func:`collate_phrases` made.
            data_samples (list | None): not used.
            mode (str): ``loss`` or ``tensor``.

        Shape:
            - ``inputs['pixel_values']``: (B, 3, S, S)
            - ``inputs['phrase_ids']``, ``['phrase_mask']``: (P, L)
            - ``inputs['is_true']``: (B, P), bool
            - ``inputs['group']``: (P,), int64
            - output of ``tensor``: (B, P)

        Raises:
            ValueError: for another mode.
        """
        scores = self.scores(
            inputs["pixel_values"], inputs["phrase_ids"], inputs["phrase_mask"]
        )
        if mode == "tensor":
            return scores
        if mode != "loss":
            raise ValueError(f"mode='{mode}': expected 'loss' or 'tensor'.")
        is_true, group = inputs["is_true"], inputs["group"]
        loss = multi_positive_loss(scores, is_true, dim=0)
        numbers = group.unique().tolist()
        for number in numbers:
            chosen = group == number
            part = multi_positive_loss(scores[:, chosen], is_true[:, chosen], dim=1)
            loss = loss + part / len(numbers)
        best = is_true.gather(0, scores.argmax(0, keepdim=True))
        return dict(loss=loss / 2, accuracy=best.float().mean())


def multi_positive_loss(
    scores: torch.Tensor, is_true: torch.Tensor, dim: int
) -> torch.Tensor:
    """Cross entropy whose target is spread evenly over all true entries.

    Args:
        scores (torch.Tensor): logits.
        is_true (torch.Tensor): which entries are right.
        dim (int): the softmax runs over it; slices without a true entry are left
            out.

    Shape:
        - ``scores``, ``is_true``: (B, P); output: ()
    """
    log_probs = scores.log_softmax(dim).masked_fill(~is_true, 0.0)
    number = is_true.sum(dim)
    return -(log_probs.sum(dim) / number.clamp(min=1)).sum() / (number > 0).sum()


def _build(part: Any) -> Any:
    return MODELS.build(part) if isinstance(part, dict) else part
