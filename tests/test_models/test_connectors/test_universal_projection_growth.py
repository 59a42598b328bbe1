"""Stages of OneLLM: experts begin as one, new modalities as images."""

import pytest
import torch

from mmvlm.engine.runner.checkpoint import load_parts
from mmvlm.models.connectors.universal_projection import UniversalProjectionConnector
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.models.vision_encoders.universal import UniversalEncoder
from mmvlm.structures import VisionEncoderSpec
from mmvlm.testing.builders import tiny_vlm

SPEC = VisionEncoderSpec(32, 3, 8, 32, num_prefix_tokens=1)
CLONED = ("resample_tokens", "proj_in", "proj_out", "start_tag", "end_tag")


def _connector(modalities, experts, seed):
    torch.manual_seed(seed)
    connector = UniversalProjectionConnector(
        vision_spec=SPEC,
        out_width=48,
        modalities=modalities,
        num_experts=experts,
        num_layers=2,
        num_heads=4,
        num_tokens=5,
        multiple_of=16,
    )
    with torch.no_grad():
        for parameter in connector.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return connector.eval()


def _grow(old, new):
    new.load_state_dict(new.grown(old.state_dict()))
    return new


def test_all_experts_begin_as_the_only_one():
    first = _connector(["image"], 1, 0)
    fresh = _connector(["image", "audio"], 3, 1)
    routers = {k: v.clone() for k, v in fresh.routers.state_dict().items()}

    second = _grow(first, fresh)

    for expert in second.experts:
        for key, value in first.experts[0].state_dict().items():
            assert torch.equal(expert.state_dict()[key], value)
    for key, value in second.routers.state_dict().items():
        assert torch.equal(value, routers[key])
    states = torch.randn(2, 17, 32)
    # Weights sum to one, so equal experts are the old one: nothing is forgotten.
    torch.testing.assert_close(
        second.project(states, "image"),
        first.project(states, "image"),
        atol=1e-5,
        rtol=1e-4,
    )


def test_new_modalities_begin_as_images_and_known_ones_stay():
    second = _connector(["image", "audio"], 3, 0)
    fresh = _connector(["image", "audio", "imu"], 3, 1)
    router = fresh.routers["imu"].fc1.weight.clone()

    third = _grow(second, fresh)

    state, before = third.state_dict(), second.state_dict()
    for key, value in before.items():
        assert torch.equal(state[key], value), key
    for key, value in state.items():
        kind, _, rest = key.partition(".")
        if kind in CLONED and rest.startswith("imu"):
            twin = key.replace(".imu", ".image", 1)
            assert torch.equal(value, before[twin]), key
    assert torch.equal(third.routers["imu"].fc1.weight, router)
    cloned = third.state_dict()["start_tag.imu"]
    assert cloned.data_ptr() != third.state_dict()["start_tag.image"].data_ptr()


def test_a_stage_that_cannot_grow_is_refused():
    with pytest.raises(ValueError, match="has 2 experts; 3 can begin as one"):
        _grow(_connector(["image"], 2, 0), _connector(["image"], 3, 1))
    with pytest.raises(ValueError, match=r"has no 'resample_tokens\.image'"):
        _grow(_connector(["audio"], 1, 0), _connector(["image", "audio"], 3, 1))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        _grow(_connector(["image", "imu"], 3, 0), _connector(["image"], 3, 1))


def _model(modalities, experts, seed=0):
    tokenizers = {"audio": dict(type="SpectrogramTokenizer", input_size=(36, 56))}
    torch.manual_seed(seed)
    encoder = UniversalEncoder(
        HFVisionEncoder.tiny(), {m: tokenizers[m] for m in modalities if m != "image"}
    )
    connector = _connector(modalities, experts, seed)
    return tiny_vlm(seed, vision_encoder=encoder, connector=connector)


def test_a_checkpoint_of_an_earlier_stage_is_loaded_with_grow():
    first, second = _model(["image"], 1), _model(["image", "audio"], 3, seed=5)
    content = dict(state_dict=first.state_dict(), meta={})
    own = second.vision_encoder.tokenizers["audio"].positions.clone()

    with pytest.raises(ValueError, match="does not fit the model"):
        load_parts(second, content, parts=["connector"])
    report = load_parts(
        second, content, parts=["vision_encoder", "connector"], grow=True
    )

    assert report.is_clean
    assert torch.equal(second.vision_encoder.tokenizers["audio"].positions, own)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            second.encode_images(images), first.encode_images(images)
        )


def test_encoder_grows_from_the_bare_tower():
    tower, model = HFVisionEncoder.tiny(), _model(["image", "audio"], 3)
    state = {f"vision_encoder.{k}": v for k, v in tower.state_dict().items()}

    load_parts(
        model, dict(state_dict=state, meta={}), parts=["vision_encoder"], grow=True
    )

    ours = model.vision_encoder.encoder.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in tower.state_dict().items())


def test_parts_without_stages_do_not_grow():
    model = tiny_vlm()

    with pytest.raises(ValueError, match=r"none of \['language_model'\] can grow"):
        content = dict(state_dict=model.state_dict(), meta={})
        load_parts(model, content, parts=["language_model"], grow=True)


def test_decoding_step_by_step_equals_full_forward():
    """The released code shifts positions and cache by two after the first step."""
    from mmvlm.structures import SLOT_TOKEN_ID
    from mmvlm.testing.builders import make_batch

    model = _model(["image"], 3)
    count = model.connector.token_count.tokens_per_view
    prompt = [1, *[SLOT_TOKEN_ID] * count, 5, 6, 7]
    batch = make_batch([(prompt, [-100] * len(prompt))], torch.randn(1, 3, 32, 32))
    language = model.language_model
    with torch.no_grad():
        embeds = model.embed(batch)
        (reply,) = language.generate(
            embeds, batch.text.seq_lens, max_new_tokens=12, stop_ids=[127]
        )
        out = language.model(inputs_embeds=embeds[None], use_cache=True)
        steps = [out.logits[0, -1]]
        for token in reply.ids[:-1]:
            out = language.model(
                input_ids=token.view(1, 1),
                past_key_values=out.past_key_values,
                use_cache=True,
            )
            steps.append(out.logits[0, -1])
        words = [*prompt, *reply.tolist()[:-1]]
        full = make_batch([(words, [-100] * len(words))], batch.inputs["image"].values)
        whole = model(full, mode="tensor")[len(prompt) - 1 :]

    assert len(reply) == 12
    torch.testing.assert_close(torch.stack(steps), whole, atol=1e-5, rtol=1e-4)
    assert whole.argmax(-1).tolist() == reply.tolist()
