"""Kept features are the encoder's own, and never another's."""

import multiprocessing
from pathlib import Path

import pytest
import torch

from mmvlm.models.vision_encoders.cached import CachedVisionEncoder
from mmvlm.models.vision_encoders.tiny import TinyVisionEncoder
from mmvlm.utils.precision import chosen_precision


def frozen(seed=0):
    torch.manual_seed(seed)
    return TinyVisionEncoder.tiny().requires_grad_(False).eval()


def views(count=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    side = TinyVisionEncoder.tiny().spec.image_size
    return torch.randn(count, 3, side, side, generator=generator)


def files(folder):
    return sorted(Path(folder).rglob("*.safetensors"))


@pytest.fixture
def calls(monkeypatch):
    """How many views the encoder itself sees, call by call."""
    seen, forward = [], TinyVisionEncoder.forward

    def count(self, pixel_values, *args):
        seen.append(len(pixel_values))
        return forward(self, pixel_values, *args)

    monkeypatch.setattr(TinyVisionEncoder, "forward", count)
    return seen


def test_features_read_are_those_stored(tmp_path, calls):
    encoder, pixels = frozen(), views()
    wanted = encoder(pixels, (-2, 0))
    cached = CachedVisionEncoder(encoder, str(tmp_path))
    calls.clear()

    first, second = (cached(pixels, (-2, 0)) for _ in range(2))

    assert calls == [3] and len(files(tmp_path)) == 3
    for found in (first, second):
        assert found.layers == wanted.layers and found.grid == wanted.grid
        assert found.num_prefix_tokens == wanted.num_prefix_tokens
        for state, right in zip(found.hidden_states, wanted.hidden_states, strict=True):
            assert torch.equal(state, right) and state.dtype == right.dtype


def test_only_new_views_are_encoded_in_their_order(tmp_path, calls):
    cached = CachedVisionEncoder(frozen(), str(tmp_path))
    old, new = views(2), views(2, seed=5)
    right = cached.encoder(torch.stack([new[0], old[1], new[1], old[0]]), (-1,))
    cached(old, (-1,))
    calls.clear()

    found = cached(torch.stack([new[0], old[1], new[1], old[0]]), (-1,))

    assert calls == [2]
    torch.testing.assert_close(found.hidden_states[0], right.hidden_states[0])


@pytest.mark.parametrize("change", ["weights", "layers", "dtype", "pixels", "folder"])
def test_what_differs_is_encoded_anew(change, tmp_path, calls):
    cached = CachedVisionEncoder(frozen(), str(tmp_path))
    pixels, layers = views(1), (-2,)
    stored = cached(pixels, layers).hidden_states[0]
    calls.clear()

    if change == "weights":
        cached.load_state_dict(
            {k: v + 0.1 for k, v in cached.state_dict().items()}, strict=True
        )
    elif change == "layers":
        layers = (-1,)
    elif change == "dtype":
        cached, pixels = cached.to(torch.bfloat16), pixels.bfloat16()
    elif change == "pixels":
        pixels[0, 0, 0, 0] += 1e-3
    else:
        cached = CachedVisionEncoder(cached.encoder, str(tmp_path / "other"))
    found = cached(pixels, layers).hidden_states[0]

    assert calls == [1]
    assert torch.equal(found, stored) == (change == "folder")
    assert found.dtype == pixels.dtype


def test_a_trained_encoder_is_refused(tmp_path):
    cached = CachedVisionEncoder(TinyVisionEncoder.tiny(), str(tmp_path))

    with pytest.raises(
        RuntimeError, match="weights are trained; a cache needs a frozen"
    ):
        cached(views(1))


def test_damaged_files_are_encoded_again_and_replaced(tmp_path, calls):
    cached = CachedVisionEncoder(frozen(), str(tmp_path))
    wanted = cached(views(1)).hidden_states[0]
    (file,) = files(tmp_path)
    for damage in (b"", b"junk" * 9, file.read_bytes()[:-8]):
        file.write_bytes(damage)
        calls.clear()

        assert torch.equal(cached(views(1)).hidden_states[0], wanted)
        assert torch.equal(cached(views(1)).hidden_states[0], wanted)
        assert calls == [1]


def test_a_full_cache_is_read_but_stores_no_more(tmp_path, calls):
    CachedVisionEncoder(frozen(), str(tmp_path))(views(1))
    size = files(tmp_path)[0].stat().st_size
    small = CachedVisionEncoder(frozen(), str(tmp_path), max_gib=2.5 * size / 2**30)
    calls.clear()

    small(views(4, seed=1)), small(views(1))

    assert len(files(tmp_path)) == 2 and calls[0] == 3 and len(calls) == 1


def _fill(folder):
    torch.set_num_threads(1)
    CachedVisionEncoder(frozen(), folder)(views(4))


def test_processes_share_a_folder(tmp_path, calls):
    spawn = multiprocessing.get_context("fork")
    jobs = [spawn.Process(target=_fill, args=(str(tmp_path),)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()

    found = CachedVisionEncoder(frozen(), str(tmp_path))(views(4))

    assert [job.exitcode for job in jobs] == [0, 0, 0] and calls == []
    assert len(files(tmp_path)) == 4 == len(found.hidden_states[0])
    assert not list(tmp_path.rglob("*.tmp"))


def test_impossible_arguments_are_refused(tmp_path):
    encoder = frozen()
    encoder.views_together = 5
    with pytest.raises(ValueError, match="joins the views of an image"):
        CachedVisionEncoder(encoder, str(tmp_path))
    with pytest.raises(ValueError, match=r"max_gib=-1, expected >= 0"):
        CachedVisionEncoder(frozen(), str(tmp_path), max_gib=-1)


def test_precision_of_the_caller_is_told():
    assert chosen_precision("cpu") is None

    with torch.autocast("cpu", torch.bfloat16):
        assert chosen_precision("cpu") == "torch.bfloat16"
