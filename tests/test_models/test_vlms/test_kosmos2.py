"""Kosmos-2 of our parts: one set of weights, transformers' logits and replies."""

import runpy
from pathlib import Path

import pytest
import torch
from transformers import Kosmos2Config
from transformers.models.kosmos2.modeling_kosmos2 import (
    Kosmos2ForConditionalGeneration,
)

from mmvlm.export.kosmos2_keys import from_kosmos2, to_kosmos2
from mmvlm.models.connectors.latent_attention import LatentAttentionConnector
from mmvlm.models.language_models.kosmos2 import Kosmos2LM
from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder

TEXT = dict(
    vocab_size=99,
    embed_dim=48,
    ffn_dim=80,
    layers=2,
    attention_heads=4,
    dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    max_position_embeddings=64,
)
VISION = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=32,
    patch_size=8,
    hidden_act="quick_gelu",
)
QUERIES = 5


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    # With sdpa, transformers 4.57 masks what its queries see of the image as if it
    # were text; the released model was trained without.
    config = Kosmos2Config(
        text_config=dict(TEXT),
        vision_config=dict(VISION),
        latent_query_num=QUERIES,
    )
    model = Kosmos2ForConditionalGeneration._from_config(
        config, attn_implementation="eager"
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model.eval()


@pytest.fixture(scope="module")
def ours(theirs):
    tower = HFVisionEncoder(
        config=dict(VISION, model_type="clip_vision_model"), final_norm=True
    )
    parts = torch.nn.ModuleDict(
        dict(
            vision_encoder=tower,
            connector=LatentAttentionConnector(
                vision_spec=tower.spec, out_width=48, num_queries=QUERIES, heads=4
            ),
            language_model=Kosmos2LM(
                config=dict(TEXT, model_type="kosmos_2_text_model")
            ),
        )
    )
    state = from_kosmos2(theirs.state_dict())
    missing, strange = parts.load_state_dict(state, strict=False)
    assert strange == [] and all("position_ids" in key for key in missing)
    back = to_kosmos2({k: v for k, v in parts.state_dict().items()})
    assert {k for k in back if "position_ids" not in k} == {
        k for k in theirs.state_dict() if "position_ids" not in k
    }
    return parts.eval()


def prompts(theirs, ours, lengths):
    """Ids with the places of an image, pixels, and our flat embeddings."""
    torch.manual_seed(1)
    pixels = torch.randn(len(lengths), 3, 32, 32)
    features = ours["vision_encoder"](pixels, (-1,))
    images = ours["connector"](features)
    ids, rows = [], []
    for length, image in zip(lengths, images, strict=True):
        own = torch.randint(4, TEXT["vocab_size"], (length,))
        ids.append(own)
        embeds = ours["language_model"].embed(own).clone()
        embeds[1 : 1 + QUERIES] = image
        rows.append(embeds)
    return pixels, ids, rows


def expected(theirs, pixels, ids):
    """Logits of transformers' model, one prompt after the other."""
    found = []
    for one, own in zip(pixels, ids, strict=True):
        places = torch.zeros(1, len(own), dtype=torch.long)
        places[0, 1 : 1 + QUERIES] = 1
        out = theirs(
            pixel_values=one[None],
            input_ids=own[None],
            attention_mask=torch.ones_like(places),
            image_embeds_position_mask=places,
        )
        found.append(out.logits[0])
    return found


@torch.no_grad()
def test_logits_are_those_of_transformers_alone_and_in_a_batch(theirs, ours):
    lengths = (9, 14, 11)
    pixels, ids, rows = prompts(theirs, ours, lengths)
    wanted = expected(theirs, pixels, ids)
    model = ours["language_model"]

    def logits(rows):
        lens = tuple(map(len, rows))
        positions = torch.cat([torch.arange(n) for n in lens])
        offsets = torch.tensor([0, *lens]).cumsum(0).int()
        hidden = model(torch.cat(rows), positions, offsets, lens)
        return model.logits(hidden).split(lens)

    for found in (logits(rows), [logits([row])[0] for row in rows]):
        for one, want in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_replies_are_those_of_the_whole_text_alone_and_in_a_batch(theirs, ours):
    lengths, steps = (9, 14, 11), 5
    pixels, ids, rows = prompts(theirs, ours, lengths)
    model = ours["language_model"]

    catch = range(model.vocab_size)
    together = model.generate(
        torch.cat(rows), lengths, max_new_tokens=steps, stop_ids=[], catch=catch
    )

    for number, reply in enumerate(together):
        (alone,) = model.generate(
            rows[number],
            lengths[number : number + 1],
            max_new_tokens=steps,
            stop_ids=[],
        )
        assert reply.ids.tolist() == alone.ids.tolist()
        said = ids[number]
        for token in reply.ids.tolist():  # greedy, over the whole text each time
            (logits,) = expected(theirs, pixels[number : number + 1], [said])
            assert int(logits[-1].argmax()) == token
            said = torch.cat([said, torch.tensor([token])])
        text = torch.cat([rows[number], model.embed(reply.ids)])
        ends = torch.tensor([0, len(text)]).int()
        whole = model(text, torch.arange(len(text)), ends, (len(text),))
        caught = whole[lengths[number] - 1 :][:steps]
        torch.testing.assert_close(reply.states, caught, rtol=0, atol=1e-5)


def test_kosmos2_takes_no_segments():
    with pytest.raises(ValueError, match="Kosmos-2 takes one of"):
        Kosmos2LM.tiny(attention="segment")


def test_weights_of_another_model_are_named():
    with pytest.raises(ValueError, match=r"1 weights are none of Kosmos-2.*'lm.x'"):
        from_kosmos2({"lm.x": torch.ones(1)})


def test_the_importer_fits_a_config_or_says_what_does_not(
    theirs, tmp_path, monkeypatch
):
    root = Path(__file__).parents[3]
    monkeypatch.chdir(root)
    config = tmp_path / "kosmos2.py"
    text = dict(TEXT, model_type="kosmos_2_text_model")
    vision = dict(VISION, model_type="clip_vision_model")
    model = dict(
        type="VisionLanguageModel",
        vision_encoder=dict(
            type="HFVisionEncoder", final_norm=True, random_init=True, config=vision
        ),
        connector=dict(
            type="LatentAttentionConnector",
            num_queries=QUERIES,
            heads=4,
            random_init=True,
        ),
        language_model=dict(type="Kosmos2LM", random_init=True, config=text),
    )
    config.write_text(f"model = {model!r}\n")
    torch.save(theirs.state_dict(), tmp_path / "whole.pth")
    tool = runpy.run_path(str(root / "tools/model_converters/from_kosmos2.py"))["main"]
    options = ["--config", str(config)]

    whole = [str(tmp_path / "whole.pth"), str(tmp_path / "ours.pth")]
    assert tool([*whole, *options]) == 0
    state = torch.load(tmp_path / "ours.pth", weights_only=True)["state_dict"]
    assert to_kosmos2(state).keys() >= names_of(theirs)

    model["connector"]["num_queries"] += 1
    config.write_text(f"model = {model!r}\n")
    assert "1 of another shape" in tool([*whole, *options])


def names_of(theirs):
    return {k for k in theirs.state_dict() if "position_ids" not in k}


def test_positions_have_the_dtype_of_embeddings_that_sharding_gathered():
    positions = Kosmos2LM.tiny().decoder.embed_positions
    narrow = torch.zeros(1, 3, 48, dtype=torch.bfloat16)

    assert positions.weights.dtype == torch.float32
    assert positions(inputs_embeds=narrow).dtype == torch.bfloat16
