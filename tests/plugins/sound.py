"""Plug-in: a projector of sounds beside the images' own connector."""

from dataclasses import replace

from torch import nn

from mmvlm.models.connectors.base import Connector, Filled
from mmvlm.registry import MODELS, TRANSFORMS
from mmvlm.structures import FixedTokenCount, Image


@TRANSFORMS.register_module()
class ShowScene:
    """Show the image of the scene whose sound is heard, where none is shown."""

    def __call__(self, item):
        talk = item["conversation"]
        (sound,) = talk.media.get("audio") or (None,)
        if isinstance(sound, str) and not talk.images:
            image = sound.replace("audio/", "images/").replace(".wav", ".png")
            first, *rest = talk.turns
            first = replace(first, parts=(Image(0), *first.parts))
            item["conversation"] = replace(talk, turns=[first, *rest], images=[image])
        return item


@MODELS.register_module()
class SoundProjector(Connector):
    """Cuts a spectrogram into stretches of time, each of which fills a position."""

    fills = reads = ("audio",)

    def __init__(self, shape=(64, 32), num_tokens=8, **kwargs):
        super().__init__(**kwargs)
        self.num_tokens = num_tokens
        self.proj = nn.Linear(shape[0] * shape[1] // num_tokens, self.out_width)

    @property
    def token_count(self):
        return FixedTokenCount(self.num_tokens)

    def forward(self, spectrograms):
        return self.proj(spectrograms.flatten(1).unflatten(1, (self.num_tokens, -1)))

    def fill(self, kind, feed):
        return Filled(self(feed.inputs(kind).values).flatten(0, 1))
