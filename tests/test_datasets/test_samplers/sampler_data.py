"""Data sets that know their lengths and nothing else."""

import numpy as np


class TokenData:
    """Lengths as in an instruction mixture: most samples have one image."""

    name = "token-data"

    def __init__(self, size, seed=0, image=576, cap=2048):
        rng = np.random.default_rng(seed)
        self.images = (rng.random(size) < 0.94).astype(np.int64)
        text = np.minimum(rng.lognormal(5, 0.8, size).astype(np.int64) + 20, cap)
        self.tokens = np.minimum(text + image * self.images, cap)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, position):
        return position

    def token_lengths_at(self, epoch):
        return self.tokens.astype(np.int32)

    def num_images_at(self, epoch):
        return self.images

    def lengths_at(self, epoch):
        return np.where(self.images > 0, self.tokens, -self.tokens)


class FixedData(TokenData):
    """Data of given token lengths."""

    def __init__(self, tokens, images=None):
        self.tokens = np.array(tokens)
        self.images = np.array([1] * len(tokens) if images is None else images)


def all_plans(kind, data, batch, world, epoch=0, **options):
    """Plan on every rank; the samplers and their plans."""
    samplers = [
        kind(data, batch, seed=1, rank=rank, world_size=world, **options)
        for rank in range(world)
    ]
    return samplers, [sampler.plan(epoch) for sampler in samplers]
