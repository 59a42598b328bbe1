"""The Q-Former against transformers' arrays, its names, and the question's road."""

import re

import numpy as np
import pytest
import torch

from mmvlm.export.from_qformer import import_qformer
from mmvlm.export.qformer_keys import from_ours, style_of, to_ours
from mmvlm.models.connectors.fused import FusedConnector
from mmvlm.models.connectors.qformer import QFormerConnector
from mmvlm.models.fusers.layer_fusion import LayerMeanFuser
from mmvlm.structures import (
    Instructions,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)
from mmvlm.testing.connector_contract import CONNECTOR_CHECKS, make_features


class PlainQFormer:
    """A Q-Former that reads no question, in the place of a connector class."""

    __name__ = "PlainQFormer"

    @staticmethod
    def tiny(vision_spec, out_width):
        return QFormerConnector.tiny(vision_spec, out_width, instruction_aware=False)


@pytest.mark.parametrize("check", [c for c in CONNECTOR_CHECKS if "name" not in c])
def test_a_qformer_without_text_keeps_the_contract(check):
    CONNECTOR_CHECKS[check](PlainQFormer)


# ---------------------------------------------------------------- goldens
def arrays(goldens):
    data = np.load(goldens / "qformer_instructblip.npz")
    return {key: data[key] for key in data.files}


def connector_of(data, aware, out_width):
    sizes = {
        name: int(data[f"cfg/{name}"])
        for name in (
            *("hidden_size", "intermediate_size", "cross_attention_frequency"),
            *("max_position_embeddings", "vocab_size"),
        )
    }
    return QFormerConnector(
        vision_spec=VisionEncoderSpec(int(data["cfg/encoder_hidden_size"]), 2, 8, 32),
        out_width=out_width,
        num_queries=data["query_tokens"].shape[1],
        num_layers=int(data["cfg/num_hidden_layers"]),
        num_heads=int(data["cfg/num_attention_heads"]),
        instruction_aware=aware,
        vision_norm=False,
        **sizes,
    ).eval()


def official_state(data, case):
    prefix = f"{case}/sd/"
    state = {
        f"qformer.{key.removeprefix(prefix)}": torch.from_numpy(value)
        for key, value in data.items()
        if key.startswith(prefix)
    }
    state["query_tokens"] = torch.from_numpy(data["query_tokens"])
    return state


def features_of(data, aware):
    image = torch.from_numpy(data["encoder_hidden_states"])
    asked = Instructions(
        torch.from_numpy(data["input_ids"]), torch.from_numpy(data["input_mask"])
    )
    return VisionFeatures(
        (image,), (2,), (1, image.shape[1]), 0, (), asked if aware else None
    )


def instructblip_output(data):
    """Return the projected queries of the file's InstructBLIP."""
    state = official_state(data, "instructblip")
    for name in ("weight", "bias"):
        key = f"instructblip/sd_language_projection/{name}"
        state[f"language_projection.{name}"] = torch.from_numpy(data[key])
    width = len(state["language_projection.bias"])
    connector = connector_of(data, True, width)
    ours, left_out = to_ours(state, style_of(state), instruction_aware=True)
    connector.load_state_dict(ours, strict=True)
    assert left_out == []
    return connector(features_of(data, True))


def blip2_output(data):
    """Return the file's BLIP-2 queries before any projection."""
    connector = connector_of(data, False, 8)
    state = official_state(data, "blip2")
    ours, _ = to_ours(state, "hf", instruction_aware=False)
    missing, unexpected = connector.load_state_dict(ours, strict=False)
    assert (sorted(missing), unexpected) == (["proj.bias", "proj.weight"], [])
    connector.proj = torch.nn.Identity()
    return connector(features_of(data, False))


@pytest.mark.golden
def test_instructblip_equals_the_official_projection(goldens):
    data = arrays(goldens)

    out = instructblip_output(data)

    expected = torch.from_numpy(data["instructblip/language_projection_out"])
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.golden
def test_blip2_equals_the_official_queries(goldens):
    data = arrays(goldens)

    out = blip2_output(data)

    expected = torch.from_numpy(data["blip2/last_hidden_state"])
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.golden
def test_padding_of_a_question_does_not_matter(goldens):
    data = arrays(goldens)
    connector = connector_of(data, True, 8)
    features = features_of(data, True)
    seen = connector(features)

    features.instructions.input_ids[features.instructions.attention_mask == 0] = 7

    torch.testing.assert_close(connector(features), seen, atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------ names
@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("style", ["lavis", "hf"])
def test_names_go_both_ways(aware, style):
    state = QFormerConnector.tiny(instruction_aware=aware).state_dict()

    theirs = from_ours(state, style)
    ours, left_out = to_ours(theirs, style_of(theirs), instruction_aware=aware)

    assert left_out == []
    assert list(ours) == list(state)
    assert all(ours[key] is state[key] for key in state)


def test_lavis_names_are_those_of_its_files():
    state = QFormerConnector.tiny().state_dict()

    names = set(from_ours(state, "lavis", "llm_proj"))

    layer = "Qformer.bert.encoder.layer.0"
    assert names >= {
        *("query_tokens", "ln_vision.weight", "llm_proj.weight"),
        *(f"Qformer.bert.embeddings.{n}.weight" for n in ("LayerNorm",)),
        "Qformer.bert.embeddings.word_embeddings.weight",
        f"{layer}.attention.self.query.weight",
        f"{layer}.attention.output.LayerNorm.bias",
        f"{layer}.crossattention.self.key.weight",
        f"{layer}.crossattention.output.dense.weight",
        f"{layer}.intermediate_query.dense.weight",
        f"{layer}.output_query.LayerNorm.weight",
        f"{layer}.intermediate.dense.weight",
    }
    assert not [name for name in names if re.search("layernorm|attention.attent", name)]


def model_cfg(aware=False):
    tiny = dict(hidden_size=32, num_layers=2, num_heads=4, intermediate_size=48)
    connector = dict(tiny, type="QFormerConnector", instruction_aware=aware)
    return dict(
        type="VisionLanguageModel",
        vision_encoder=dict(type="TinyVisionEncoder", width=32, num_layers=1),
        connector=dict(connector, num_queries=4, vocab_size=50),
        language_model=dict(
            type="HFCausalLM",
            config=dict(
                model_type="llama",
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                vocab_size=32,
            ),
        ),
    )


def build_connector(cfg):
    from mmvlm.registry import MODELS

    return MODELS.build(cfg).connector


def test_minigpt4_takes_blip2s_file_and_its_own_projection(tmp_path):
    # A BLIP-2 of LAVIS has a text half, heads, a tower and another projection.
    blip2 = from_ours(build_connector(model_cfg(True)).state_dict(), "lavis", "t5_proj")
    blip2["Qformer.cls.predictions.bias"] = torch.zeros(3)
    blip2["Qformer.bert.embeddings.position_ids"] = torch.arange(4)
    blip2["visual_encoder.cls_token"] = torch.zeros(1, 1, 32)
    ours = {k: v for k, v in blip2.items() if not k.startswith("t5_proj")}
    proj = {f"llama_proj.{k}": torch.randn(16, 32)[:, 0] for k in ("bias",)}
    proj["llama_proj.weight"] = torch.randn(16, 32)
    torch.save(dict(model=blip2), tmp_path / "blip2.pth")
    torch.save(dict(model=proj, epoch=1), tmp_path / "minigpt4.pth")

    first = import_qformer([tmp_path / "blip2.pth"], model_cfg(), projection=False)
    both = import_qformer(
        [tmp_path / "blip2.pth", tmp_path / "minigpt4.pth"], model_cfg()
    )

    assert {k for k in first.omitted if k.startswith("connector.")} == {
        "connector.proj.weight",
        "connector.proj.bias",
    }
    connector = build_connector(model_cfg())
    assert set(both.state_dict) == {f"connector.{k}" for k in connector.state_dict()}
    assert torch.equal(both.state_dict["connector.proj.bias"], proj["llama_proj.bias"])
    query = "encoder.layer.1.attention"
    assert torch.equal(
        both.state_dict[f"connector.qformer.{query}.attention.query.weight"],
        ours[f"Qformer.bert.{query}.self.query.weight"],
    )


def test_another_width_is_refused(tmp_path):
    state = from_ours(build_connector(model_cfg()).state_dict(), "lavis")
    state["llama_proj.weight"] = torch.zeros(16, 31)
    torch.save(state, tmp_path / "odd.pth")

    with pytest.raises(ValueError, match=r"proj.weight \(16, 31\) != \(16, 32\)"):
        import_qformer([tmp_path / "odd.pth"], model_cfg())
    with pytest.raises(ValueError, match="neither LAVIS's names"):
        style_of(["visual.weight"])


# -------------------------------------------------------- sizes, questions
@pytest.mark.parametrize(
    "aware, kinds", [(False, "Blip2QFormerModel"), (True, "InstructBlipQFormerModel")]
)
def test_parameters_of_the_released_sizes(aware, kinds):
    spec = VisionEncoderSpec(1408, 39, 14, 224, num_prefix_tokens=1)
    with torch.device("meta"):
        connector = QFormerConnector(
            vision_spec=spec, out_width=4096, instruction_aware=aware
        )

    d, f, layers, k, dv, dl = 768, 3072, 12, 6, 1408, 4096
    expected = layers * (4 * d * d + 2 * d * f + 9 * d + f)
    expected += k * (2 * d * d + 2 * d * dv + 6 * d) + 2 * d + 32 * d
    expected += d * dl + dl + 2 * dv
    if aware:
        expected += (30523 + 512) * d + (layers - 1) * (2 * d * f + 3 * d + f)
    assert type(connector.qformer).__name__ == kinds
    assert sum(p.numel() for p in connector.parameters()) == expected
    layout = ViewLayout((480, 640), (224, 224))
    assert connector.num_output_tokens(layout) == 32


def test_the_question_changes_what_is_read():
    connector = QFormerConnector.tiny().eval()
    features = make_features(connector)
    before = connector(features)

    features.instructions.input_ids[0, 0] += 1

    changed = (connector(features) - before).abs().flatten(1).amax(1) > 1e-6
    assert changed.tolist() == [True, False, False]


def test_questions_are_repeated_for_the_views_of_an_image():
    asked = Instructions(torch.arange(4).view(2, 2), torch.ones(2, 2))
    layouts = [ViewLayout((8, 8), (8, 8), n) for n in (1, 3)]

    assert asked.per_view(layouts, 4).input_ids[:, 0].tolist() == [0, 2, 2, 2]
    assert asked.per_view((), 2) is asked
    with pytest.raises(ValueError, match="2 instructions for 1 images of 3 views"):
        asked.per_view(layouts[1:], 3)


def test_a_fuser_hands_the_question_on():
    fuser = LayerMeanFuser.tiny()
    projector = QFormerConnector.tiny(fuser.out_spec)
    connector = FusedConnector(
        fuser, projector, vision_spec=fuser.vision_spec, out_width=48
    ).eval()

    layers = tuple(f"image:{layer}" for layer in fuser.select_layers)
    assert connector.reads == (*layers, "question")
    assert connector(make_features(connector)).shape == (3, 5, 48)


def test_no_question_is_an_error():
    connector = QFormerConnector.tiny()
    features = make_features(connector)
    features.instructions = None

    with pytest.raises(ValueError, match="got no instructions"):
        connector(features)
    with pytest.raises(ValueError, match="exactly one layer"):
        QFormerConnector(
            vision_spec=connector.vision_spec, out_width=8, select_layers=(1, 2)
        )
