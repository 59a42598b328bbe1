"""Features of a frozen encoder, kept on disk."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mmvlm.registry import MODELS
from mmvlm.structures import VisionFeatures
from mmvlm.utils.files import write_atomic
from mmvlm.utils.precision import chosen_precision

from .base import VisionEncoder

#: Changed when the files' content changes its meaning.
_VERSION = 1


@MODELS.register_module()
class CachedVisionEncoder(VisionEncoder):
    """Encode a view once; read its features from disk ever after.

    For runs of many epochs, or many runs, over one set of images with a frozen
    encoder. The key of a view is a hash of its pixels as the encoder gets them (so
    image and view transform are in it), of the encoder's weights and structure,
    of the selected layers and of the number format. Weights that change make other
    keys; nothing stale is read. Features are bit by bit those that the encoder gave
    when the view was stored; in a batch of another size it may round differently.

    Any number of processes may share a folder: files appear whole, and two that
    store the same view write the same file. A file that cannot be read is encoded
    again and replaced.

    Args:
        encoder (dict | VisionEncoder): config or module, frozen. Its weights have
            the prefix ``encoder.``.
        folder (str): of the files; created. Random augmentations fill it with
            views that never come back.
        max_gib (float | None): size at which storing stops, which is logged once;
            what is there is still read. None sets no limit. Several processes may
            each pass it by what they store at the same time.
        init_cfg (dict | list | None): mmengine initialisation.

    Raises:
        ValueError: for an encoder that joins the views of an image, or takes more
            than images, or ``max_gib`` below 0.

    Trainable parameters: none; the encoder must be frozen.
    """

    def __init__(
        self,
        encoder: dict | VisionEncoder,
        folder: str,
        *,
        max_gib: float | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(encoder, dict):
            encoder = MODELS.build(encoder)
        kind = type(encoder).__name__
        if encoder.views_together != 1 or len(encoder.reads) != 1:
            raise ValueError(
                f"CachedVisionEncoder: {kind} joins the views of an image or takes "
                f"{encoder.reads}; only single images can be kept."
            )
        if max_gib is not None and max_gib < 0:
            raise ValueError(f"CachedVisionEncoder: max_gib={max_gib}, expected >= 0.")
        self.encoder = encoder
        self.spec = encoder.spec
        self.folder = os.path.expanduser(folder)
        self.max_bytes = None if max_gib is None else int(max_gib * 2**30)
        self._stored: int | None = None
        self._weights: tuple[Any, str] | None = None

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        """Transformer blocks of the encoder."""
        return self.encoder.blocks

    def init_weights(self) -> None:
        """Initialise the encoder if it asks for it."""
        self.is_init = True
        if not getattr(self.encoder, "is_init", True):
            self.encoder.init_weights()

    @torch.no_grad()
    def forward(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int] = (-2,)
    ) -> VisionFeatures:
        """Encode the views that are not on disk, read the others.

        Shape:
            - ``pixel_values``: (V, 3, H, W), float
            - every hidden state: (V, P + N, Dv)

        Raises:
            RuntimeError: when a weight of the encoder is trained.
        """
        trained = [n for n, p in self.encoder.named_parameters() if p.requires_grad]
        if trained:
            raise RuntimeError(
                f"CachedVisionEncoder: '{trained[0]}' and {len(trained) - 1} more "
                "weights are trained; a cache needs a frozen encoder. Set "
                "train_parts=dict(vision_encoder=False), or use the encoder itself."
            )
        paths = self._paths(pixel_values, select_layers)
        found = [self._read(path, pixel_values) for path in paths]
        missing = [row for row, one in enumerate(found) if one is None]
        if missing or not paths:
            made = self.encoder(pixel_values[missing], select_layers)
            for place, row in enumerate(missing):
                found[row] = _pack(made, place)
                self._write(paths[row], found[row])
            if len(missing) == len(paths):
                return made
        return self._join(found, pixel_values, select_layers)

    def _join(
        self,
        found: list[dict[str, torch.Tensor]],
        pixel_values: torch.Tensor,
        select_layers: Sequence[int],
    ) -> VisionFeatures:
        layers = tuple(self.spec.layer_index(layer) for layer in select_layers)
        device = pixel_values.device
        grid = tuple(found[0]["grid"].tolist())
        states = torch.stack([one["states"].to(device) for one in found], 1)
        maps = {
            one.name: torch.stack(
                [kept[f"map.{one.name}"].to(device) for kept in found]
            )
            for one in self.spec.maps
        }
        prefix = self.spec.num_prefix_tokens
        return VisionFeatures(tuple(states), layers, grid, prefix, maps=maps)

    # Keys -------------------------------------------------------------------

    def _paths(
        self, pixel_values: torch.Tensor, select_layers: Sequence[int]
    ) -> list[Path]:
        kind = pixel_values.device.type
        facts = (
            *(_VERSION, self._fingerprint(), tuple(select_layers)),
            *(tuple(pixel_values.shape[1:]), str(pixel_values.dtype), kind),
            chosen_precision(kind),
        )
        start = hashlib.blake2b(repr(facts).encode(), digest_size=20)
        paths = []
        for view in pixel_values.detach().cpu().contiguous():
            one = start.copy()
            one.update(_bytes(view))
            name = one.hexdigest()
            paths.append(Path(self.folder, name[:2], f"{name}.safetensors"))
        return paths

    def _fingerprint(self) -> str:
        """Hash structure and weights; again only when a weight was written to."""
        tensors = itertools.chain(
            self.encoder.named_parameters(), self.encoder.named_buffers()
        )
        tensors = [(name, tensor.detach()) for name, tensor in tensors]
        mark = tuple((t.data_ptr(), t._version, t.dtype, t.shape) for _, t in tensors)
        if self._weights is None or self._weights[0] != mark:
            digest = hashlib.blake2b(repr((self.encoder, self.spec)).encode())
            for name, tensor in tensors:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(_bytes(tensor.cpu().contiguous()))
            self._weights = (mark, digest.hexdigest())
        return self._weights[1]

    # Files ------------------------------------------------------------------

    def _read(
        self, path: Path, pixel_values: torch.Tensor
    ) -> dict[str, torch.Tensor] | None:
        try:
            return load_file(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError) as error:
            _warn(f"cached features '{path}' are encoded again: {error}")
            return None

    def _write(self, path: Path, packed: dict[str, torch.Tensor]) -> None:
        data = save({name: t.cpu().contiguous() for name, t in packed.items()})
        if self.max_bytes is not None:
            if self._stored is None:
                files = Path(self.folder).rglob("*.safetensors")
                self._stored = sum(file.stat().st_size for file in files)
            if self._stored + len(data) > self.max_bytes:
                if self._stored <= self.max_bytes:
                    _warn(
                        f"feature cache '{self.folder}' is full "
                        f"({self._stored / 2**30:.1f} GiB); it is read, but no more "
                        "is stored."
                    )
                    self._stored = self.max_bytes + 1
                return
            self._stored += len(data)
        write_atomic(path, data)

    @classmethod
    def tiny(cls) -> CachedVisionEncoder:
        """Build a random miniature with a folder of its own."""
        import tempfile

        from .tiny import TinyVisionEncoder

        encoder = TinyVisionEncoder.tiny().requires_grad_(False)
        return cls(encoder, tempfile.mkdtemp(prefix="mmvlm-features-"))


def _pack(made: VisionFeatures, place: int) -> dict[str, torch.Tensor]:
    """Return what is kept of one view."""
    return dict(
        states=torch.stack([state[place] for state in made.hidden_states]),
        grid=torch.tensor(made.grid),
        **{f"map.{name}": one[place] for name, one in made.maps.items()},
    )


def _bytes(tensor: torch.Tensor) -> memoryview:
    """Return a contiguous tensor's memory; numpy knows not every number format."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def _warn(text: str) -> None:
    print_log(text, logger="current", level=logging.WARNING)
