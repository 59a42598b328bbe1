"""Flamingo: resampler and gated cross-attention equal the official modules."""

import dataclasses

import numpy as np
import pytest
import torch

from mmvlm.models.connectors.perceiver_resampler import (
    PerceiverResampler,
    PerceiverResamplerConnector,
)
from mmvlm.models.language_models.adapters.gated_cross_attention import (
    GatedCrossAttentionAdapter,
    GatedCrossAttentionBlock,
    visible_media,
)
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.utils.token_context import FlatTokens
from mmvlm.models.utils.token_types import IMAGE, TEXT
from mmvlm.structures import (
    SLOT_TOKEN_ID,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)
from mmvlm.testing import make_batch, tiny_batch, tiny_vlm
from mmvlm.testing.adapter_contract import make_tokens, run, shake

TOLERANCE = dict(atol=1e-5, rtol=1e-4)
SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)


@pytest.fixture
def arrays(goldens):
    with np.load(goldens / "flamingo_perceiver_gated_xattn.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def state_of(arrays, case):
    head = f"{case}/sd/"
    return {k.removeprefix(head): v for k, v in arrays.items() if k.startswith(head)}


def resampled(arrays, case):
    """Return what the file's resampler gives for its images."""
    state = state_of(arrays, case)
    size = {k: int(arrays[f"cfg/{k}"]) for k in ("heads", "dim_head")}
    size["depth"] = len({k.split(".")[1] for k in state if k.startswith("layers.")})
    frames, media = state.get("frame_embs"), state.get("media_time_embs")
    resampler = PerceiverResampler(
        int(arrays["cfg/dim_visual"]),
        num_latents=int(arrays["cfg/num_latents"]),
        max_frames=None if frames is None else len(frames),
        max_media=None if media is None else len(media),
        **size,
    )
    resampler.load_state_dict(state, strict=True)
    given = arrays[f"{case}/in"]
    samples, images = given.shape[:2]
    place = torch.arange(images).repeat(samples)
    return resampler(given.flatten(0, 1), place).unflatten(0, (samples, images))


@pytest.mark.golden
@pytest.mark.parametrize("case", ["perceiver", "perceiver_video"])
def test_resampler_equals_the_official_one(arrays, case):
    out = resampled(arrays, case)

    torch.testing.assert_close(out, arrays[f"{case}/out"], **TOLERANCE)


def tokens_of(arrays, case):
    where = arrays[f"{case}/media_locations"]
    media = arrays["perceiver/out"]
    owner = torch.arange(len(media)).repeat_interleave(media.shape[1])
    types = torch.where(where, IMAGE, TEXT)
    lengths = (where.shape[1],) * len(where)
    return FlatTokens(types.flatten(), lengths, media.flatten(0, 1), owner)


def block_of(arrays, case):
    block = GatedCrossAttentionBlock(
        int(arrays["cfg/dim"]),
        int(arrays["cfg/dim_visual"]),
        int(arrays["cfg/heads"]),
        int(arrays["cfg/dim_head"]),
    )
    block.load_state_dict(state_of(arrays, case), strict=True)
    return block


def seen_by(layout, case):
    allowed, own = visible_media(layout, only_immediate=case == "xattn_immediate")
    return allowed, None if case == "xattn_immediate" else own


def block_outputs(arrays, case, layout="flat"):
    """Return what the file's block reads from the media, and its output."""
    block, tokens = block_of(arrays, case), tokens_of(arrays, case)
    lang = arrays[f"{case}/lang"]
    laid = tokens.flat() if layout == "flat" else tokens.padded(layout)
    given = (lang.flatten(0, 1), tokens.media, *seen_by(laid, case))
    return block.attn(*given).view_as(lang), block(*given).view_as(lang)


def cached_output(arrays, case):
    """Return the block's output for a first word behind cached media."""
    block, tokens = block_of(arrays, case), tokens_of(arrays, case)
    lang = arrays[f"{case}/lang"][:, :1]
    step = tokens.padded("left").for_generation().next_step(1)
    out = block(lang.flatten(0, 1), tokens.media, *seen_by(step, case))
    return out.view_as(lang)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["xattn_immediate", "xattn_all"])
@pytest.mark.parametrize("layout", ["flat", "left", "right"])
def test_gated_cross_attention_equals_the_official_one(arrays, case, layout):
    read, out = block_outputs(arrays, case, layout)

    torch.testing.assert_close(read, arrays[f"{case}/attn_out"], **TOLERANCE)
    torch.testing.assert_close(out, arrays[f"{case}/out"], **TOLERANCE)


@pytest.mark.golden
@pytest.mark.parametrize("case", ["xattn_immediate", "xattn_all"])
def test_cached_media_equal_the_official_ones(arrays, case):
    out = cached_output(arrays, case)

    torch.testing.assert_close(out, arrays[f"{case}/out_cached"], **TOLERANCE)


@pytest.mark.golden
def test_text_before_any_image_reads_nothing(arrays):
    case = "xattn_immediate"
    block, tokens = block_of(arrays, case), tokens_of(arrays, case)
    allowed, _ = visible_media(tokens.flat(), only_immediate=True)
    lang = arrays[f"{case}/lang"].flatten(0, 1)
    early = ~allowed.any(1)

    read = block.attn(lang, tokens.media, allowed)

    assert early.any() and not early.all()
    assert torch.equal(read[early], torch.zeros_like(read[early]))


def test_closed_gates_leave_the_language_model_as_it_is():
    torch.manual_seed(0)
    model = HFCausalLM.tiny(adapters=[GatedCrossAttentionAdapter.tiny()]).eval()
    plain = HFCausalLM.tiny().eval()
    plain.model.load_state_dict(model.model.state_dict())
    tokens, ids = make_tokens(GatedCrossAttentionAdapter)

    with torch.no_grad():
        embeds = model.embed(ids)
        ours = model.logits(run(model, tokens, embeds))
        theirs = plain.logits(run(plain, tokens, embeds))

    assert torch.equal(ours, theirs)


def test_interleaved_images_are_read_one_after_the_other():
    types = torch.tensor([TEXT, IMAGE, TEXT, IMAGE, TEXT, TEXT, IMAGE])
    tokens = FlatTokens(types, (5, 2), torch.zeros(3, 1, 4), torch.tensor([0, 0, 1]))

    last, own = visible_media(tokens.flat(), only_immediate=True)
    every, _ = visible_media(tokens.flat(), only_immediate=False)

    rows = [[], [0], [0], [1], [1], [], [2]]
    assert [row.nonzero().flatten().tolist() for row in last] == rows
    rows = [[], [0], [0], [0, 1], [0, 1], [], [2]]
    assert [row.nonzero().flatten().tolist() for row in every] == rows
    assert own[:5].tolist() == [[True, True, False]] * 5


def flamingo(connector=None, **lm):
    adapter = GatedCrossAttentionAdapter.tiny()
    perceiver = dict(type="PerceiverResamplerConnector", depth=1, heads=2, dim_head=8)
    model = tiny_vlm(
        connector=connector or perceiver, lm=dict(adapters=[adapter], **lm)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shake(model.language_model)
    return model


def test_a_batch_gives_what_its_samples_give_alone():
    model = flamingo()
    batch = tiny_batch(num_images=(1, 0, 2), tokens_per_image=1)
    with torch.no_grad():
        together = model(batch, mode="tensor").split(batch.text.seq_lens)
        images = batch.inputs["image"]
        views, ids = 0, batch.text.input_ids.split(batch.text.seq_lens)
        for number, own in enumerate(ids):
            count = int((own == SLOT_TOKEN_ID).sum())
            pixels = images.values[views : views + count] if count else None
            alone = make_batch([(own.tolist(), own.tolist())], pixels)
            views += count
            out = model(alone, mode="tensor")
            torch.testing.assert_close(out, together[number], atol=1e-5, rtol=1e-4)
    assert images.slot_lens == (1, 1, 1)


def test_images_are_counted_as_they_stand_in_the_text():
    model = flamingo()
    batch = tiny_batch(num_images=(2,), text_lens=(8,), tokens_per_image=1)
    images = batch.inputs["image"]
    turned = dataclasses.replace(images, values=images.values.flip(0))
    both = dataclasses.replace(turned, slot_index=images.slot_index.flip(0))
    swapped = dataclasses.replace(batch, inputs=dict(image=both))

    with torch.no_grad():
        out = model(batch, mode="tensor")

        torch.testing.assert_close(model(swapped, mode="tensor"), out)
        other = dataclasses.replace(batch, inputs=dict(image=turned))
        assert not torch.allclose(model(other, mode="tensor"), out, atol=1e-3)


def test_every_weight_learns_from_a_batch():
    model = flamingo().train()

    model.loss(tiny_batch(tokens_per_image=1))["loss"].backward()

    parts = (model.connector, model.language_model.adapters)
    for name, parameter in [x for part in parts for x in part.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.any(), name


def test_media_must_be_given_and_taken():
    perceiver = dict(type="PerceiverResamplerConnector", depth=1)

    with pytest.raises(ValueError, match=r"no adapter of model.language_model"):
        tiny_vlm(connector=perceiver)
    with pytest.raises(ValueError, match=r"takes media, but model.connector"):
        flamingo(connector=dict(type="MLPConnector"))
    with pytest.raises(ValueError, match=r"media of width 7, Perceiver.* gives 32"):
        adapter = GatedCrossAttentionAdapter(media_width=7, every=2)
        tiny_vlm(connector=perceiver, lm=dict(adapters=[adapter]))
    with pytest.raises(ValueError, match="every=3, but the language model has 2"):
        HFCausalLM.tiny(adapters=[GatedCrossAttentionAdapter(media_width=7, every=3)])


def test_views_of_an_image_are_its_frames():
    connector = PerceiverResamplerConnector(
        vision_spec=SPEC, out_width=8, depth=1, heads=2, dim_head=4, max_frames=3
    )
    states = torch.randn(6, 17, 32)
    layouts = [ViewLayout((32, 32), (32, 32), n) for n in (3, 1, 2)]
    features = VisionFeatures((states,), (3,), (4, 4), 1, layouts)

    out = connector(features)

    assert out.shape == (3, 64, 32)
    one = VisionFeatures((states[3:4],), (3,), (4, 4), 1, layouts[1:2])
    torch.testing.assert_close(connector(one), out[1:2])
    assert [connector.num_output_tokens(layout) for layout in layouts] == [1, 1, 1]
    with pytest.raises(ValueError, match="an image of 3 views, but max_frames=None"):
        PerceiverResamplerConnector.tiny(SPEC)(features)
