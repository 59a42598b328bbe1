"""What is kept of images between batches changes no value and stays within bounds."""

import pytest
import torch

from mmvlm.models.connectors.qformer import QFormerConnector
from mmvlm.models.utils.feature_cache import FeatureCache
from mmvlm.registry import MODELS
from mmvlm.structures import IGNORE_INDEX, SLOT_TOKEN_ID
from mmvlm.testing import make_batch

ENCODER = dict(
    type="HFVisionEncoder",
    config=dict(
        model_type="clip_vision_model",
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    ),
)
LLM = dict(
    type="HFCausalLM",
    config=dict(
        model_type="llama",
        vocab_size=128,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
    ),
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = dict(
        type="VisionLanguageModel",
        language_model=LLM,
        vision_encoder=ENCODER,
        connector=dict(type="MLPConnector"),
    )
    return MODELS.build(config).eval()


def batch_of(images):
    ids = [5, *[SLOT_TOKEN_ID] * 16, 7]
    samples = [(ids, [IGNORE_INDEX] * len(ids))] * len(images)
    return make_batch(samples, torch.stack(images))


@pytest.fixture
def images():
    return list(torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


def embed(model, images, cache=None):
    model.feature_cache = cache
    try:
        with torch.no_grad():
            return model.embed(batch_of(images))
    finally:
        model.feature_cache = None


@pytest.mark.parametrize("kept", ["rows", "features"])
def test_values_are_those_without_a_cache(model, images, kept, monkeypatch):
    if kept == "features":  # as with a connector that reads the question
        monkeypatch.setattr(FeatureCache, "keeps_rows", lambda *_: False)
    calls, cache = [], FeatureCache()
    hook = model.vision_encoder.register_forward_pre_hook(
        lambda _, args: calls.append(len(args[0]))
    )
    orders = [[0, 1, 0], [2, 1, 0, 3], [3, 3, 2]]
    found = [embed(model, [images[n] for n in own], cache) for own in orders]
    hook.remove()
    assert calls == [2, 2]
    assert (cache.hits, cache.misses) == (4, 4)
    for own, rows in zip(orders, found, strict=True):
        expected = embed(model, [images[n] for n in own])
        torch.testing.assert_close(rows, expected, atol=1e-6, rtol=1e-5)


def test_rows_that_depend_on_questions_are_not_kept(model):
    cache = FeatureCache()
    assert cache.keeps_rows(model.connector)
    assert cache.keeps_rows(QFormerConnector.tiny(instruction_aware=False))
    assert not cache.keeps_rows(QFormerConnector.tiny())
    assert not cache.keeps_features([model.connector])
    assert cache.keeps_features([model.connector, QFormerConnector.tiny()])


def test_the_least_recently_used_are_dropped(model, images):
    probe = FeatureCache()
    embed(model, images[:1], probe)
    one = probe.num_bytes
    cache = FeatureCache(max_bytes=2 * one)
    for number in (0, 1, 0, 2, 0, 1):
        embed(model, [images[number]], cache)
        assert cache.num_bytes <= 2 * one
    assert (cache.hits, cache.misses) == (2, 4)
    nothing = FeatureCache(max_bytes=0)
    expected = embed(model, images)
    torch.testing.assert_close(embed(model, images, nothing), expected)
    assert nothing.num_bytes == 0
    cache.clear()
    assert cache.num_bytes == 0


def test_a_changed_pixel_is_another_image(model, images):
    cache, other = FeatureCache(), images[0].clone()
    other[0, 0, 0] += 0.5
    embed(model, [images[0], other], cache)
    assert (cache.hits, cache.misses) == (0, 2)


def test_training_keeps_nothing(model, images):
    cache = model.feature_cache = FeatureCache()
    try:
        model.embed(batch_of(images)).sum().backward()
    finally:
        model.feature_cache = None
        model.zero_grad()
    assert cache.num_bytes == cache.misses == 0
