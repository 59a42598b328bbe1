"""OneLLM assembled from our parts equals the official model."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPVisionModel

from mmvlm.export.from_onellm import from_official, import_onellm
from mmvlm.export.importing import fit_strictly
from mmvlm.models.connectors.universal_projection import UniversalProjectionConnector
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
from mmvlm.models.vision_encoders.universal import UniversalEncoder
from mmvlm.models.vlms.base import VisionLanguageModel
from mmvlm.structures import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    InputLayout,
    Inputs,
    VisionFeatures,
)
from mmvlm.testing.builders import make_batch

pytestmark = pytest.mark.golden
MODALITIES = ("image", "video", "rgbd", "audio", "imu", "fmri")
CLOSE = dict(atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def arrays(goldens):
    with np.load(goldens / "onelm_upm.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def _sizes(arrays):
    """The file's numbers; heads of tower and LLM are 4 where it names none."""
    named = {k[4:]: int(v) for k, v in arrays.items() if k.startswith("cfg/")}
    return dict(heads=4) | named


def _encoder(arrays):
    sizes = _sizes(arrays)
    blocks = {
        key.split(".")[4] for key in arrays if key.startswith("sd/clip.visual.trans")
    }
    patch = arrays["sd/clip.visual.conv1.weight"].shape[-1]
    hidden = len(arrays["sd/clip.visual.transformer.resblocks.0.mlp.c_fc.bias"])
    tower = HFVisionEncoder(
        config=dict(
            model_type="clip_vision_model",
            hidden_size=sizes["w"],
            intermediate_size=hidden,
            num_hidden_layers=len(blocks),
            num_attention_heads=sizes["heads"],
            image_size=sizes["img"],
            patch_size=patch,
            hidden_act="gelu",
        )
    )
    return UniversalEncoder(tower, _tokenizers(arrays))


def _tokenizers(arrays):
    sizes = _sizes(arrays)
    channels, window = arrays["sd/conv1.imu.weight"].shape[1:]
    return dict(
        video=dict(type="FramesTokenizer"),
        rgbd=dict(type="FramesTokenizer"),
        audio=dict(
            type="SpectrogramTokenizer",
            input_size=tuple(arrays["audio/in"].shape[-2:]),
            kernel_size=arrays["sd/conv1.audio.weight"].shape[-1],
        ),
        imu=dict(
            type="TimeSeriesTokenizer",
            channels=channels,
            length=sizes["imu_len"],
            kernel_size=window,
        ),
        fmri=dict(
            type="VectorTokenizer",
            length=sizes["fmri_in"],
            num_tokens=len(arrays["sd/conv1.fmri.bias"]) // sizes["w"],
        ),
    )


def _connector(arrays, spec, router="soft_sigmoid"):
    sizes = _sizes(arrays)
    return UniversalProjectionConnector(
        vision_spec=spec,
        out_width=sizes["dim"],
        modalities=MODALITIES,
        num_experts=sizes["K"],
        num_layers=sizes["L"],
        num_heads=sizes["rh"],
        num_tokens=sizes["nt"],
        router=router,
        multiple_of=sizes["mult"],
    )


def _language_model(arrays):
    sizes = _sizes(arrays)
    layers = {k.split(".")[1] for k in arrays if k.startswith("llm/sd/layers.")}
    return HFCausalLM.tiny(
        vocab_size=sizes["vocab"],
        hidden_size=sizes["dim"],
        intermediate_size=len(arrays["llm/sd/layers.0.feed_forward.w1.weight"]),
        num_hidden_layers=len(layers),
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["heads"],
        rms_norm_eps=1e-5,
    )


def _official(arrays):
    """The file's weights under the names of a released checkpoint."""
    state = {}
    for key, value in arrays.items():
        _, found, name = key.partition("sd/")
        if found:
            state[f"llma.{name}"] = value
    return state


def _heads(arrays):
    return dict.fromkeys("qk", _sizes(arrays)["heads"])


@pytest.fixture(scope="module")
def model(arrays):
    return _model(arrays)


def _model(arrays):
    encoder = _encoder(arrays)
    connector = _connector(arrays, encoder.spec)
    built = VisionLanguageModel(_language_model(arrays), encoder, connector).eval()
    state = from_official(_official(arrays), _heads(arrays))
    parts = ("vision_encoder", "connector", "language_model")
    fit_strictly(state, built.state_dict(), parts, "golden")
    lost = built.load_state_dict(state, strict=False)
    assert not lost.unexpected_keys
    assert all(key.endswith("position_ids") for key in lost.missing_keys)
    return built


def _over_the_batch(self, hidden, layers, run=HFVisionEncoder.run_blocks):
    states = run(self, hidden.transpose(0, 1), layers)
    return tuple(state.transpose(0, 1) for state in states)


@pytest.fixture
def as_recorded(monkeypatch):
    """Let the tower's attention run over the batch, as it did in the recording.

    The official code hands the tower (L, N, D), which open_clip took when OneLLM
    was trained; the recording's tower took (N, L, D), so every position looked at
    the same position of the other samples. All else is what was released. That
    ours looks at its own sample is tested against transformers' CLIP.
    """
    monkeypatch.setattr(HFVisionEncoder, "run_blocks", _over_the_batch)


@torch.no_grad()
def test_tower_equals_the_clip_of_transformers(arrays, model):
    encoder = model.vision_encoder
    image = CLIPVisionModel(encoder.encoder.config).eval()
    names = image.state_dict()
    weights = encoder.encoder.state_dict()
    image.load_state_dict({k: weights[_same(k)] for k in names})
    inner = getattr(image, "vision_model", image)

    states = encoder(arrays["image/in"], (-1,)).hidden_states[0]

    expected = inner.post_layernorm(image(arrays["image/in"]).last_hidden_state)
    torch.testing.assert_close(states, expected, **CLOSE)


def _same(key):
    return key if key.startswith("vision_model.") else f"vision_model.{key}"


def _token_shape(official):
    """(M, Dv, H, W) or (M, Dv, N) of the official code, as ours (M, N, Dv)."""
    return (official[0], int(np.prod(official[2:])), official[1])


@pytest.mark.parametrize("modality", MODALITIES)
@torch.no_grad()
def test_encoder_equals_the_official_one(arrays, model, as_recorded, modality):
    values = arrays[f"{modality}/in"]
    official = arrays[f"{modality}/tokens_before_encoder_shape"].tolist()
    encoder = model.vision_encoder

    features = encoder(values, (-1,), modality)

    tokenizer = dict(encoder.tokenizers).get(modality)
    if tokenizer is None or tokenizer.is_frames:
        frames = values if tokenizer is None else tokenizer(values)
        tokens = encoder.encoder.vision_model.embeddings.patch_embedding(frames)
        tokens = tokens.flatten(2).transpose(1, 2)
    else:
        tokens = tokenizer(values)
    assert tuple(tokens.shape) == _token_shape(official)
    assert features.modality == modality
    (states,) = features.hidden_states
    torch.testing.assert_close(states, arrays[f"{modality}/encoder_feats"], **CLOSE)


@pytest.mark.parametrize("modality", MODALITIES)
@torch.no_grad()
def test_projection_equals_the_official_one(arrays, model, modality):
    states = arrays[f"{modality}/encoder_feats"]
    connector = model.connector

    tokens = connector.with_learned_tokens(states, modality)
    weights = connector.routing_weights(tokens, modality)
    out = connector.project(states, modality)

    expected = arrays[f"{modality}/routing_weights"]
    torch.testing.assert_close(weights, expected, **CLOSE)
    torch.testing.assert_close(out, arrays[f"{modality}/out"], **CLOSE)


def _rerouted(arrays, model, router):
    connector = _connector(arrays, model.vision_encoder.spec, router).eval()
    state = model.connector.state_dict()
    connector.load_state_dict({k: state[k] for k in connector.state_dict()})
    return connector


@pytest.mark.parametrize("router", ["constant", "sparse"])
@torch.no_grad()
def test_routers_of_the_ablation_equal_the_golden_ones(arrays, model, router):
    connector = _rerouted(arrays, model, router)
    routed = [m for m in MODALITIES if f"{m}/out_{router}" in arrays]
    assert routed

    for modality in routed:
        out = connector.project(arrays[f"{modality}/encoder_feats"], modality)

        expected = arrays[f"{modality}/out_{router}"]
        torch.testing.assert_close(out, expected, **CLOSE, msg=modality)


def _samples(arrays, tokens):
    """Official samples in our layout: BOS, slot, text behind BOS."""
    samples = []
    for ids, labels in zip(
        arrays["full/input_ids"], arrays["full/labels"], strict=True
    ):
        goal = [IGNORE_INDEX if t == 0 else t for t in labels.tolist()]
        slot = [SLOT_TOKEN_ID] * tokens
        samples.append(
            (
                [int(ids[0]), *slot, *ids[1:].tolist()],
                [IGNORE_INDEX] * (1 + tokens) + goal[1:],
            )
        )
    return samples


def _logits_and_loss(arrays, model):
    tokens = model.connector.token_count.tokens_per_view
    batch = make_batch(_samples(arrays, tokens), arrays["image/in"])
    logits = model(batch, mode="tensor").unflatten(0, (len(batch.text.seq_lens), -1))
    # The official logits start at the end tag, which predicts the first word.
    return logits[:, tokens:], model(batch, mode="loss")["loss"]


def _logits_of_text(arrays, model):
    batch = make_batch(_samples(arrays, 0))
    return model(batch, mode="tensor").unflatten(0, (len(batch.text.seq_lens), -1))


@torch.no_grad()
def test_logits_and_loss_of_the_whole_model(arrays, model, as_recorded):
    logits, loss = _logits_and_loss(arrays, model)

    torch.testing.assert_close(logits, arrays["full/logits"], **CLOSE)
    torch.testing.assert_close(loss, arrays["full/loss"].view(()), **CLOSE)
    spoken = arrays["full/logits"][:, :-1].flatten(0, 1)
    plain = F.cross_entropy(
        spoken, arrays["full/labels"][:, 1:].flatten(), ignore_index=0
    )
    torch.testing.assert_close(loss, plain, **CLOSE)


@torch.no_grad()
def test_logits_without_an_image(arrays, model):
    logits = _logits_of_text(arrays, model)

    torch.testing.assert_close(logits, arrays["full/logits_text_only"], **CLOSE)


def _batch(arrays, modality, count, layouts=None):
    """One input of the modality in each official sample."""
    values = arrays[f"{modality}/in"]
    batch = make_batch(_samples(arrays, count))
    slots = (batch.text.input_ids == SLOT_TOKEN_ID).nonzero().flatten()
    layouts = layouts or tuple(InputLayout(modality, tuple(v.shape)) for v in values)
    owner, lengths = tuple(range(len(values))), (count,) * len(values)
    batch.inputs[modality] = Inputs(values, owner, layouts, slots, lengths)
    return batch


@pytest.mark.parametrize("modality", MODALITIES[1:])
@torch.no_grad()
def test_every_modality_reaches_its_slots(arrays, model, as_recorded, modality):
    count = model.connector.token_count.tokens_per_view
    batch = _batch(arrays, modality, count)

    rows = model.embed(batch)[batch.inputs[modality].slot_index]

    embeds = rows.unflatten(0, (-1, count))
    torch.testing.assert_close(embeds[:, 1:-1], arrays[f"{modality}/out"], **CLOSE)
    expected = arrays[f"sd/end_tag.{modality}"][0, 0]
    torch.testing.assert_close(embeds[-1, -1], expected)


def test_undeclared_official_key_is_refused(arrays):
    state = {**_official(arrays), "llma.resample_layers.0.0.extra": torch.zeros(1)}

    renamed = from_official(state, _heads(arrays))

    encoder = _encoder(arrays)
    target = {
        f"connector.{k}": v
        for k, v in _connector(arrays, encoder.spec).state_dict().items()
    }
    renamed = {k: v for k, v in renamed.items() if k.startswith("connector.")}
    with pytest.raises(ValueError, match=r"1 unexpected: \['connector.experts.0.0.ext"):
        fit_strictly(renamed, target, ("connector",), "golden")
    with pytest.raises(ValueError, match=r"should not have: \['rope.table'\]"):
        from_official({"llma.rope.table": torch.zeros(1)}, {})


def test_connector_takes_features_of_one_modality(arrays, model):
    states = arrays["audio/encoder_feats"]
    features = VisionFeatures((states,), (2,), (3, 5), 1, modality="audio")

    assert model.connector(features).shape[1] == _sizes(arrays)["nt"] + 2


def _model_cfg(arrays, model):
    sizes = _sizes(arrays)
    tower = model.vision_encoder.encoder.config
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "image_size")
    text = model.language_model.config
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    names += ("num_attention_heads", "num_key_value_heads", "tie_word_embeddings")
    return dict(
        type="VisionLanguageModel",
        vision_encoder=dict(
            type="UniversalEncoder",
            encoder=dict(
                type="HFVisionEncoder",
                config=dict(
                    model_type="clip_vision_model",
                    num_attention_heads=sizes["heads"],
                    patch_size=tower.patch_size,
                    **{key: getattr(tower, key) for key in shape},
                ),
            ),
            tokenizers=_tokenizers(arrays),
        ),
        connector=dict(
            type="UniversalProjectionConnector",
            modalities=list(MODALITIES),
            num_experts=sizes["K"],
            num_layers=sizes["L"],
            num_heads=sizes["rh"],
            num_tokens=sizes["nt"],
            multiple_of=sizes["mult"],
        ),
        language_model=dict(
            type="HFCausalLM",
            config=dict(
                model_type="llama", **{name: getattr(text, name) for name in names}
            ),
        ),
    )


def test_official_checkpoint_is_imported_whole(arrays, model, tmp_path):
    official = _official(arrays)
    torch.save(official, tmp_path / "consolidated.00.pth")
    cfg = _model_cfg(arrays, model)

    imported = import_onellm(tmp_path / "consolidated.00.pth", cfg)

    expected = model.state_dict()
    assert set(imported.parts) == {"vision_encoder", "connector", "language_model"}
    for key, value in imported.state_dict.items():
        assert torch.equal(value, expected[key]), key
    sizes = _sizes(arrays)
    expert, layer = sizes["K"] - 1, sizes["L"] - 1
    lost = rf"2 missing: .*experts\.{expert}\.{layer}\.w[12]"
    with pytest.raises(ValueError, match=lost):
        for number in (1, 2):
            block = f"llma.resample_layers.{expert}.{layer}"
            del official[f"{block}.feed_forward.w{number}.weight"]
        torch.save(official, tmp_path / "cut.pth")
        import_onellm(tmp_path / "cut.pth", cfg)
    with pytest.raises(FileNotFoundError, match="no such OneLLM checkpoint"):
        import_onellm(tmp_path / "none.pth", cfg)


def test_slots_that_do_not_fit_are_refused_by_sample(arrays, model):
    count = _sizes(arrays)["nt"] + 2  # behind and before the tags of the modality
    with pytest.raises(ValueError, match="sample 'sample-0': audio 0 of the batch"):
        model.embed(_batch(arrays, "audio", count - 2))
    own = len(arrays["audio/in"])
    lost = f"'sample-0'.* layouts name 1 views of 'audio', but there are {own}"
    with pytest.raises(ValueError, match=lost):
        model.embed(_batch(arrays, "audio", count, (InputLayout("audio", (1,)),)))
    batch = _batch(arrays, "audio", count)
    batch.inputs["audio"].slot_lens = (count,)
    lost = f"'sample-0'.*: {own} inputs of 'audio', 1 slots and {own} layouts"
    with pytest.raises(ValueError, match=lost):
        model.embed(batch)
    batch = _batch(arrays, "audio", count)
    batch.inputs = {"smell": batch.inputs["audio"]}
    with pytest.raises(ValueError, match="'sample-0' has 'smell', but the model takes"):
        model.embed(batch)


def test_frames_are_normalised_like_images(model):
    frames = torch.randint(0, 255, (2, 3, 3, 8, 8), dtype=torch.uint8)
    normalize = model.data_preprocessor.normalize

    together = normalize(frames)

    torch.testing.assert_close(together[:, 1], normalize(frames[:, 1]))
