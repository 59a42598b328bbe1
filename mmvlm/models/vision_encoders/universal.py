"""OneLLM's encoder: one image tower for every modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures

from .base import VisionEncoder
from .hf_vision import HFVisionEncoder


@MODELS.register_module()
class UniversalEncoder(VisionEncoder):
    """Send the tokens of any modality through the blocks of a CLIP tower.

    A tokenizer per modality gives tokens; the tower's class token, the modality's
    positions, the tower's norms and blocks follow. Several frames are averaged
    after the last norm. Images take the tower's own patch embedding.

    Unlike a bare tower, the last hidden state went through the tower's final norm
    (on all tokens, the class token among them).

    Paper: Han et al., "OneLLM: One Framework to Align All Modalities with
    Language", CVPR 2024, arXiv 2312.03700. Deviations: none.

    Args:
        encoder (dict | HFVisionEncoder): a CLIP tower.
        tokenizers (Mapping[str, dict | torch.nn.Module] | None): per modality
            besides ``image``; a config gets the tower's ``width``.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for a tower that is no CLIP, or a tokenizer for ``image``.

    Trainable parameters: those of the tokenizers; the tower is meant to be frozen
    (``train_parts=dict(vision_encoder=dict(only=["tokenizers"]))``).
    """

    def __init__(
        self,
        encoder: dict | HFVisionEncoder,
        tokenizers: Mapping[str, dict | torch.nn.Module] | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.encoder = MODELS.build(encoder) if isinstance(encoder, dict) else encoder
        kind = getattr(getattr(self.encoder, "config", None), "model_type", None)
        if kind != "clip_vision_model":
            raise ValueError(
                f"UniversalEncoder: encoder is {type(self.encoder).__name__} "
                f"({kind}), expected an HFVisionEncoder of 'clip_vision_model'."
            )
        if "image" in (tokenizers or {}):
            raise ValueError(
                "UniversalEncoder: tokenizers names 'image', which the tower's own "
                "patch embedding serves; leave it out."
            )
        self.spec = self.encoder.spec
        self.tokenizers = torch.nn.ModuleDict(
            {
                name: MODELS.build(dict(tokenizer, width=self.spec.width))
                if isinstance(tokenizer, dict)
                else tokenizer
                for name, tokenizer in (tokenizers or {}).items()
            }
        )

    @property
    def reads(self) -> tuple[str, ...]:
        """What the encoder takes."""
        return ("image", *self.tokenizers)

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """The tower's transformer blocks in order."""
        return self.encoder.blocks

    def init_weights(self) -> None:
        """Do nothing: weights are loaded or drawn in the constructor."""
        self.is_init = True

    def grown(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the state of an earlier stage with this encoder's new tokenizers.

        Args:
            state (Mapping): of an encoder with fewer modalities, or of the bare
                tower.
        """
        if all(key.startswith("vision_model.") for key in state):
            state = {f"encoder.{key}": value for key, value in state.items()}
        known = {key.split(".")[1] for key in state if key.startswith("tokenizers.")}
        fresh = {
            f"tokenizers.{key}": value
            for key, value in self.tokenizers.state_dict().items()
            if key.split(".")[0] not in known
        }
        return {**fresh, **state}

    def forward(
        self,
        pixel_values: torch.Tensor,
        select_layers: Sequence[int] = (-1,),
        modality: str = "image",
    ) -> VisionFeatures:
        """Encode inputs of one modality.

        Args:
            pixel_values (torch.Tensor): images, or what the modality's tokenizer
                takes.
            select_layers (Sequence[int]): indices into the hidden states; the last
                one is normed.
            modality (str): one of ``reads``.

        Shape:
            - ``pixel_values``: (V, 3, H, W), or (M, ...) of another modality
            - every hidden state: (V, 1 + N, Dv)

        Raises:
            ValueError: for a modality without tokenizer, inputs of a wrong shape,
                or a layer that does not exist.
        """
        if modality not in self.reads:
            raise ValueError(
                f"UniversalEncoder: no tokenizer for '{modality}'; it takes "
                f"{list(self.reads)}."
            )
        if modality == "image":
            return self._images(pixel_values, select_layers)
        tokenizer = self.tokenizers[modality]
        tokenizer.check(pixel_values, modality)
        if tokenizer.is_frames:
            frames = pixel_values.shape[1]
            features = self._images(tokenizer(pixel_values), select_layers)
            features.hidden_states = tuple(
                state.unflatten(0, (-1, frames)).mean(1)
                if len(state)
                else state.new_zeros(0, *state.shape[1:])
                for state in features.hidden_states
            )
        else:
            features = self._sequence(pixel_values, tokenizer, select_layers)
        features.modality = modality
        return features

    def _images(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int]
    ) -> VisionFeatures:
        features = self.encoder(pixel_values, select_layers)
        features.hidden_states = self._normed(features.hidden_states, features.layers)
        return features

    def _sequence(
        self,
        values: torch.Tensor,
        tokenizer: torch.nn.Module,
        select_layers: Sequence[int],
    ) -> VisionFeatures:
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        if len(values) == 0:
            shape = (0, 1 + tokenizer.num_tokens, self.spec.width)
            empty = values.new_zeros(shape, dtype=self.encoder.weight_dtype)
            return VisionFeatures((empty,) * len(layers), layers, tokenizer.grid, 1)
        tokens = tokenizer(values.to(tokenizer.dtype))
        hidden = self.encoder.embed_tokens(tokens, tokenizer.positions)
        states = self._normed(self.encoder.run_blocks(hidden, layers), layers)
        return VisionFeatures(states, layers, tokenizer.grid, 1)

    def _normed(
        self, states: tuple[torch.Tensor, ...], layers: tuple[int, ...]
    ) -> tuple[torch.Tensor, ...]:
        last = self.spec.num_layers
        norm = self.encoder.final_norm
        return tuple(
            norm(state) if layer == last else state
            for state, layer in zip(states, layers, strict=True)
        )

    @classmethod
    def tiny(cls) -> UniversalEncoder:
        """Build a random miniature that also takes depth and short audio."""
        tokenizers = dict(
            rgbd=dict(type="FramesTokenizer", num_frames=2),
            audio=dict(type="SpectrogramTokenizer", input_size=(36, 56)),
        )
        return cls(HFVisionEncoder.tiny(), tokenizers)
