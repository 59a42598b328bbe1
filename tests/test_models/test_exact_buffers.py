"""Half-precision weights leave what is computed, and never loaded, exact."""

import pytest
import torch

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.language_models.kosmos2 import Kosmos2LM
from mmvlm.models.language_models.seq2seq import Seq2SeqLM
from mmvlm.models.vision_encoders.qwen2_vl import Qwen2VLVisionEncoder
from mmvlm.utils.precision import cast_weights, exact_buffers

BUILDERS = {
    "llama": HFCausalLM.tiny,
    "kosmos2": Kosmos2LM.tiny,
    "qwen2_vl": Qwen2VLVisionEncoder.tiny,
}


def computed(module):
    """Buffers that no checkpoint holds, by name."""
    saved = module.state_dict()
    found = {n: b for n, b in module.named_buffers() if n not in saved}
    return {n: b for n, b in found.items() if b.is_floating_point()}


@pytest.mark.parametrize("name", BUILDERS)
def test_a_cast_rounds_weights_alone(name):
    module = BUILDERS[name]()
    before = {n: b.clone() for n, b in computed(module).items()}
    assert before

    cast_weights(module, torch.bfloat16)

    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    found = computed(module)
    assert all(torch.equal(found[n], before[n]) for n in before)


def test_a_model_of_a_config_has_the_tables_of_a_loaded_one(tmp_path):
    HFCausalLM.tiny().model.save_pretrained(tmp_path)
    loaded = HFCausalLM(str(tmp_path), torch_dtype="bfloat16")
    built = HFCausalLM.tiny(torch_dtype="bfloat16")
    built.load_state_dict(loaded.state_dict())

    ids = torch.arange(5, 90).repeat(3)
    where = torch.arange(len(ids)), torch.tensor([0, len(ids)]).int(), (len(ids),)
    with torch.no_grad():
        one, other = (m.eval()(m.embed(ids), *where) for m in (built, loaded))
    assert torch.equal(one, other)


def test_engines_that_narrow_a_model_leave_tables_alone():
    module = HFCausalLM.tiny()
    before = {n: b.clone() for n, b in computed(module).items()}
    with exact_buffers(module):
        module.bfloat16()  # as DeepSpeed does
    found = computed(module)
    assert all(torch.equal(found[n], before[n]) for n in before)


M2M = dict(
    model_type="m2m_100",
    vocab_size=128,
    d_model=48,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=96,
    decoder_ffn_dim=96,
    max_position_embeddings=64,
)


def test_sinusoids_follow_the_weights_that_they_are_added_to(tmp_path):
    """As ``from_pretrained`` makes them; their sum must suit half-precision norms."""
    built = Seq2SeqLM(config=M2M, torch_dtype="bfloat16").eval()

    built.model.save_pretrained(tmp_path)
    loaded = Seq2SeqLM(str(tmp_path), torch_dtype="bfloat16")
    expected = computed(loaded)
    assert expected and all(
        torch.equal(computed(built)[n], expected[n]) for n in expected
    )
    prompt = built.embed(torch.arange(5, 14))
    (reply,) = built.generate(prompt, (9,), max_new_tokens=4, stop_ids=[])
    assert len(reply.ids) == 4


def test_frequencies_are_exact_again_after_an_error():
    module = HFCausalLM.tiny()
    before = {n: b.clone() for n, b in computed(module).items()}
    with pytest.raises(RuntimeError), exact_buffers(module):
        module.bfloat16()
        raise RuntimeError
    found = computed(module)
    assert all(torch.equal(found[n], before[n]) for n in before)


def test_kosmos2_replies_in_half_precision():
    model = Kosmos2LM.tiny(torch_dtype="bfloat16").eval()
    prompt = model.embed(torch.arange(5, 14))
    (reply,) = model.generate(prompt, (9,), max_new_tokens=4, stop_ids=[])
    assert len(reply.ids) == 4
