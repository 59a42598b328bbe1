"""Encoder-decoders: losses and heads are transformers' own, replies those of one."""

from types import SimpleNamespace

import pytest
import torch

from mmvlm.models.language_models.seq2seq import Seq2SeqLM
from mmvlm.models.utils.loss import summed_token_loss

SIZES = dict(vocab_size=96, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
BART = dict(
    d_model=24,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    max_position_embeddings=64,
    init_std=0.2,
    **{**SIZES, "decoder_start_token_id": 1},
)
T5 = dict(d_model=24, d_kv=6, d_ff=48, num_layers=2, num_heads=4, **SIZES)
UNTIED = dict(tie_word_embeddings=False, feed_forward_proj="gated-gelu")
CONFIGS = {
    "t5": dict(model_type="t5", **T5),
    "ul2": dict(model_type="t5", **T5, **UNTIED),
    "umt5": dict(model_type="umt5", **T5),
    "bart": dict(model_type="bart", scale_embedding=True, **BART),
    "pegasus": dict(model_type="pegasus", **BART),
    "m2m_100": dict(model_type="m2m_100", **BART),
}
END = 1


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    torch.manual_seed(0)
    model = Seq2SeqLM(config=CONFIGS[request.param])
    for block in model.blocks:  # or every word would be followed by itself
        for parameter in block.parameters():
            parameter.data.mul_(4 if parameter.dim() == 2 else 1)
    if hasattr(model.model, "final_logits_bias"):
        model.model.final_logits_bias.normal_()
    return model.eval()


def stream(pieces):
    ids, lens = torch.cat(pieces), tuple(map(len, pieces))
    offsets = torch.tensor([0, *lens]).cumsum(0).int()
    positions = torch.cat([torch.arange(n) for n in lens])
    return SimpleNamespace(
        input_ids=ids, seq_lens=lens, cu_seqlens=offsets, position_ids=positions
    )


@pytest.fixture(scope="module")
def texts():
    generator = torch.Generator().manual_seed(1)

    def draw(low, high):
        count = torch.randint(low, high, (1,), generator=generator)
        ids = torch.randint(3, 96, (int(count),), generator=generator)
        return torch.cat([ids, torch.tensor([END])])

    return [(draw(3, 12), draw(2, 7)) for _ in range(6)]


def our_loss(model, texts, embeds=None):
    """Return the summed loss of the answers, and how many tokens they have."""
    prompt = stream([question for question, _ in texts])
    text = stream([torch.cat([torch.tensor([0]), answer]) for _, answer in texts])
    last = text.cu_seqlens[1:].long() - 1
    rows = torch.tensor([n for n in range(len(text.input_ids)) if n not in last])
    embeds = model.embed(prompt.input_ids) if embeds is None else embeds
    hidden = model.hidden_states(embeds, prompt, text, rows)
    goals = text.input_ids[rows + 1]
    return summed_token_loss(model.logits, hidden, goals, 96), len(goals)


def test_loss_and_gradients_are_transformers_own(model, texts):
    total, count = our_loss(model, texts)
    (total / count).backward()
    ours = {name: p.grad for name, p in model.model.named_parameters()}
    model.zero_grad()

    read = torch.nn.utils.rnn.pad_sequence([q for q, _ in texts], True, 0)
    labels = torch.nn.utils.rnn.pad_sequence([a for _, a in texts], True, -100)
    mask = (read != 0).long()
    theirs = model.model(input_ids=read, attention_mask=mask, labels=labels)
    theirs.loss.backward()

    torch.testing.assert_close(total / count, theirs.loss, atol=1e-5, rtol=0)
    for name, parameter in model.model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-4, rtol=1e-3)
    model.zero_grad()


def test_rows_and_checkpoints_change_nothing(texts):
    torch.manual_seed(0)
    plain = Seq2SeqLM.tiny(dropout_rate=0.0).train()
    saving = Seq2SeqLM.tiny(dropout_rate=0.0, gradient_checkpointing="all").train()
    saving.load_state_dict(plain.state_dict())
    for model in (plain, saving):
        our_loss(model, texts)[0].backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def hand(number, step, row):
    """Force a word, feed a state, or forbid the end, by the number of the sample."""
    place = step.ids.shape[1]
    if number % 3 == 0 and place == 1:
        step.allow(row, [50])
    elif number % 3 == 1 and place == 1:
        step.allow(row, [60])
        step.feed(row, step.states[row])
    elif number % 3 == 2:
        step.forbid(row, [END])


def reply(model, texts, first=0, **options):
    questions = [question for question, _ in texts]

    def on_step(step):
        for row in range(len(step.ids)):
            hand(first + row, step, row)

    return model.generate(
        model.embed(torch.cat(questions)),
        tuple(map(len, questions)),
        max_new_tokens=6,
        stop_ids=[END],
        catch=range(96),
        on_step=on_step,
        **options,
    )


def test_batches_give_what_samples_give_alone(model, texts):
    together = reply(model, texts)
    for number, one in enumerate(together):
        (alone,) = reply(model, texts[number : number + 1], number)
        assert one.tolist() == alone.tolist()
        assert one.finish == alone.finish
        torch.testing.assert_close(one.states, alone.states, atol=5e-4, rtol=5e-4)
    assert {r.tolist()[1] for r in together[::3]} == {50}
    assert {r.tolist()[1] for r in together[1::3]} == {60}


def test_states_are_those_of_one_forward_pass(model, texts):
    questions = [question for question, _ in texts[2::3]]
    replies = reply(model, texts)[2::3]
    prompt = stream(questions)
    text = stream([torch.cat([torch.tensor([0]), r.ids]) for r in replies])
    with torch.no_grad():
        hidden = model.hidden_states(model.embed(prompt.input_ids), prompt, text)
    for one, own in zip(replies, hidden.split(text.seq_lens), strict=True):
        assert len(one.positions)
        torch.testing.assert_close(one.states, own[one.positions], atol=1e-4, rtol=1e-4)


def test_stop_strings_and_streams_see_replies_alone(model, texts):
    seen = []
    streamer = SimpleNamespace(put=lambda value: seen.append(value), end=lambda: None)
    question = texts[0][0]
    (one,) = model.generate(
        model.embed(question),
        (len(question),),
        max_new_tokens=4,
        stop_ids=[],
        stop_strings=[f"<{model.start_id}><"],
        decode=lambda ids: "".join(f"<{token}>" for token in ids),
        streamer=streamer,
    )
    assert torch.cat([value.flatten() for value in seen]).tolist() == one.tolist()


def test_lora_keeps_names_and_trains_nothing_else(texts):
    model = Seq2SeqLM.tiny(lora=dict(r=2, alpha=4))
    assert set(Seq2SeqLM.tiny().state_dict()) <= set(model.state_dict())
    our_loss(model, texts)[0].backward()
    trained = [n for n, p in model.named_parameters() if p.grad is not None]
    assert trained and all("lora_" in name for name in trained)


def test_what_cannot_be_is_refused(texts):
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        Seq2SeqLM.tiny(decoder_start_token_id=None)
    model = Seq2SeqLM(config=CONFIGS["bart"])
    with pytest.raises(ValueError, match="max_position_embeddings=64"):
        model.generate(torch.zeros(65, 24), (65,))
    with pytest.raises(ValueError, match="share_prefix"):
        Seq2SeqLM.tiny().generate(torch.zeros(4, 48), (2, 2), share_prefix=True)
