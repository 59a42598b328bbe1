"""Rows of new tokens beside frozen tables, seen as one plain table from outside."""

import copy

import pytest
import torch
import torch.nn.functional as F

from mmvlm.engine.optimizers.part_constructor import PartOptimWrapperConstructor
from mmvlm.engine.runner.checkpoint import load_parts, omitted_keys
from mmvlm.export.merge_lora import merge_lora
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.language_models.seq2seq import Seq2SeqLM
from mmvlm.models.language_models.table_states import divide_optim_state
from mmvlm.models.utils.freezing import freeze_part

EMBED, HEAD = "model.model.embed_tokens.weight", "model.lm_head.weight"
TOKENS = ["<a>", "<b>", "<c>"]
OLD = 128


def build(seed=0, train="rows", rule=True, **changes):
    options = {key: changes.pop(key) for key in ("init", "first_id") if key in changes}
    torch.manual_seed(seed)
    new = dict(tokens=TOKENS, train=train, **options)
    model = HFCausalLM.tiny(new_tokens=new, **changes)
    freeze_part(model, rule, "language_model")
    return model


def loss_of(model, ids):
    positions, offsets = torch.arange(len(ids)), torch.tensor([0, len(ids)]).int()
    hidden = model(model.embed(ids), positions, offsets, (len(ids),))
    return F.cross_entropy(model.logits(hidden[:-1]).float(), ids[1:])


def in_one(model):
    """The same model with plain tables."""
    plain = HFCausalLM.tiny(
        vocab_size=model.vocab_size,
        tie_word_embeddings=model.config.tie_word_embeddings,
    )
    plain.load_state_dict(model.state_dict())
    return plain


@pytest.mark.parametrize("first", [None, 126, 60])
@pytest.mark.parametrize("tied", [False, True])
def test_split_tables_compute_what_one_table_does(first, tied):
    model = build(tie_word_embeddings=tied, first_id=first, init="normal")
    place = OLD if first is None else first
    ids = torch.tensor([3, place, 5, place + 2, place + 1, 7, place - 1, 1])
    plain = in_one(model)

    assert model.vocab_size == max(OLD, place + 3) == model.config.vocab_size
    assert set(model.state_dict()) == set(plain.state_dict())
    torch.testing.assert_close(loss_of(model, ids), loss_of(plain, ids))
    model.zero_grad()
    plain.zero_grad()
    loss_of(model, ids).backward()
    loss_of(plain, ids).backward()
    table = model.model.get_input_embeddings()
    whole = plain.model.get_input_embeddings().weight.grad
    torch.testing.assert_close(table.new_weight.grad, whole[place : place + 3])
    head = model.model.get_output_embeddings()
    whole = plain.model.get_output_embeddings().weight.grad
    torch.testing.assert_close(head.new_weight.grad, whole[place : place + 3])
    prompt = model.embed(ids)
    ours, theirs = (m.generate(prompt, (len(ids),))[0].ids for m in (model, plain))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("train", ["rows", "input_rows", "all", None])
def test_new_rows_are_the_mean_of_the_old_ones(train):
    torch.manual_seed(0)
    plain = HFCausalLM.tiny().state_dict()
    tables = build(train=train).state_dict()

    for key in (EMBED, HEAD):
        assert torch.equal(tables[key][:OLD], plain[key])
        expected = plain[key].mean(0).expand(3, -1)
        torch.testing.assert_close(tables[key][OLD:], expected)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rule", [True, False, "lora"])
def test_fifty_steps_leave_the_old_rows_to_the_last_bit(tied, rule):
    lora = dict(r=2, alpha=4) if rule == "lora" else None
    model = build(tie_word_embeddings=tied, rule=rule, lora=lora)
    before = copy.deepcopy(model.state_dict())
    cfg = dict(optimizer=dict(type="AdamW", lr=1e-2, weight_decay=0.5))
    wrapper = PartOptimWrapperConstructor(cfg)(model)
    ids = torch.tensor([3, OLD, 5, OLD + 1, 9, OLD + 2, 4])

    losses = [loss_of(model, ids)]
    for _ in range(50):
        losses.append(loss_of(model, ids))
        wrapper.update_params(losses[-1])

    after = model.state_dict()
    assert losses[-1] < 0.8 * losses[0]
    for key in (EMBED, HEAD):
        assert after[key].shape == (OLD + 3, 48)
        assert torch.equal(after[key][:OLD], before[key][:OLD])
        assert (after[key][OLD:] != before[key][OLD:]).any(1).all()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert any("layers" in key for key in moved) == (rule is not False)
    if tied:
        assert after[EMBED] is after[HEAD]


@pytest.mark.parametrize("decay", [{}, {"*.new_weight": True}])
def test_only_the_rows_have_gradients_and_decay_if_a_pattern_says_so(decay):
    model = torch.nn.ModuleDict(dict(language_model=build(rule=False)))
    cfg = dict(optimizer=dict(type="SGD"))
    groups = PartOptimWrapperConstructor(cfg, dict(decay=decay)).groups(model, 0.1, 0.5)

    shapes = [tuple(p.shape) for group in groups for p in group["params"]]
    assert shapes == [(3, 48), (3, 48)]
    assert [group["weight_decay"] for group in groups] == [0.5 if decay else 0.0]


@pytest.mark.parametrize(
    ("train", "trained"),
    [
        ("input_rows", {"embed_tokens.new_weight"}),
        ("all", {"embed_tokens.weight", "lm_head.weight"}),
        (None, set()),
    ],
)
def test_what_learns_of_a_frozen_model(train, trained):
    model = build(train=train, rule=False)

    named = [n for n, p in model.named_parameters() if p.requires_grad]
    assert {".".join(name.split(".")[-2:]) for name in named} == trained


def test_a_rule_that_names_the_whole_table_is_refused():
    with pytest.raises(ValueError, match="train='all'"):
        build(rule=dict(only=["lora", "embed_tokens"]), lora=dict(r=2))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (dict(tokens=[]), "distinct tokens"),
        (dict(tokens=["<a>", "<a>"]), "distinct tokens"),
        (dict(tokens=["<a>"], init="zero"), "init='zero'"),
        (dict(tokens=["<a>"], train="row"), "train='row'"),
        (dict(tokens=["<a>"], first_id=200), "first_id=200.*128"),
    ],
)
def test_settings_that_mean_nothing_are_refused(new, message):
    with pytest.raises(ValueError, match=message):
        HFCausalLM.tiny(new_tokens=new)


@pytest.mark.parametrize("train", ["rows", None])
def test_an_old_checkpoint_starts_the_rows_from_its_own(train):
    torch.manual_seed(5)
    old = HFCausalLM.tiny()
    model = torch.nn.ModuleDict(dict(language_model=build(1, train=train)))
    state = {f"language_model.{k}": v for k, v in old.state_dict().items()}

    assert load_parts(model, dict(state_dict=state)).is_clean
    loaded = model["language_model"].state_dict()
    for key in (EMBED, HEAD):
        table = old.state_dict()[key]
        assert torch.equal(loaded[key][:OLD], table)
        torch.testing.assert_close(loaded[key][OLD:], table.mean(0).expand(3, -1))


def test_merged_adapters_and_partial_checkpoints_show_one_table():
    model = torch.nn.ModuleDict(dict(language_model=build(lora=dict(r=2), rule="lora")))
    left = omitted_keys(model)
    plain = in_one(build())
    model.parts = dict(model.items())
    merge_lora(model)
    merged = model["language_model"].state_dict()

    assert not {f"language_model.{key}" for key in (EMBED, HEAD)} & left
    assert any("layers" in key for key in left)
    assert set(merged) == set(plain.state_dict())
    assert merged[EMBED].shape == (OLD + 3, 48)
    in_one(model["language_model"])


def test_half_precision_tables_keep_float32_rows():
    model = build(torch_dtype="bfloat16")
    for table in (model.model.get_input_embeddings(), model.model.lm_head):
        table.new_weight.data = table.new_weight.data.float() + 1e-5
    state = copy.deepcopy(model.state_dict())
    embeds = model.embed(torch.tensor([3, OLD]))

    assert embeds.dtype == torch.bfloat16
    assert model.logits(embeds).dtype == torch.bfloat16
    assert state[EMBED].dtype == torch.float32
    model.load_state_dict(state)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_the_former_keys_still_train_new_rows():
    model = HFCausalLM.tiny(num_new_tokens=2)
    assert model.state_dict()[EMBED].shape == (OLD + 2, 48)

    freeze_part(model, dict(only=["new_rows"]), "language_model")

    named = [n for n, p in model.named_parameters() if p.requires_grad]
    assert named == ["model.model.embed_tokens.new_weight"]
    assert model.state_dict()[EMBED].shape == (OLD + 2, 48)
    with pytest.raises(ValueError, match="num_new_tokens is 0"):
        freeze_part(HFCausalLM.tiny(), dict(only=["new_rows"]), "language_model")


@pytest.mark.parametrize("kind", ["gemma", "gpt2", "phi", "gemma3_text"])
def test_tables_of_other_architectures(kind):
    sizes = dict(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        vocab_size=OLD,
        pad_token_id=0,
    )
    if kind == "gpt2":
        sizes = dict(n_embd=48, n_layer=2, n_head=4, vocab_size=OLD)
    config = dict(model_type=kind, bos_token_id=1, eos_token_id=2, **sizes)
    torch.manual_seed(0)
    options = dict(config=config, attention="padded")
    new = dict(tokens=TOKENS, init="normal")
    model = HFCausalLM(**options, new_tokens=new)
    plain = HFCausalLM(**{**options, "config": dict(config, vocab_size=OLD + 3)})
    plain.load_state_dict(model.state_dict())
    ids = torch.tensor([3, OLD, 5, OLD + 2, 7])
    model.eval()
    plain.eval()

    torch.testing.assert_close(loss_of(model, ids), loss_of(plain, ids))


def test_optimizer_state_of_the_former_key_is_that_of_the_rows():
    moment = torch.rand(OLD + 3, 48)
    name = EMBED.removesuffix("weight")
    adam = dict(step=torch.tensor(3.0), exp_avg=moment)
    saved = dict(
        state={EMBED: adam}, groups=[dict(names=["a", EMBED], lr=1.0)], scaler=1
    )

    found = divide_optim_state(build(train="input_rows"), saved)

    assert found["groups"] == [dict(names=["a", f"{name}new_weight"], lr=1.0)]
    (state,) = found["state"].values()
    assert torch.equal(state["exp_avg"], moment[OLD:]) and state["step"] == 3
    assert found["scaler"] == 1 and saved["groups"][0]["names"][1] == EMBED


@pytest.mark.optional_bitsandbytes
def test_rows_learn_beside_quantised_weights():
    pytest.importorskip("bitsandbytes", reason="needs the package bitsandbytes")
    options = dict(quantization=dict(bits=4), lora=dict(r=2), rule="lora")
    model = build(tie_word_embeddings=True, **options).to("cpu")  # quantises

    loss_of(model, torch.tensor([3, OLD, 5, OLD + 1, 7])).backward()

    named = [n for n, p in model.named_parameters() if p.grad is not None]
    assert "model.model.embed_tokens.new_weight" in named
    assert all("lora" in name or "new_weight" in name for name in named)
    assert model.state_dict()[EMBED].shape == (OLD + 3, 48)


@pytest.mark.parametrize("tied", [False, True])
def test_encoder_decoders_have_them_too(tied):
    torch.manual_seed(0)
    options = dict(tie_word_embeddings=tied, vocab_size=OLD)
    model = Seq2SeqLM.tiny(new_tokens=dict(tokens=TOKENS, init="normal"), **options)
    plain = Seq2SeqLM.tiny(**{**options, "vocab_size": OLD + 3})
    assert set(model.state_dict()) == set(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    ids = torch.tensor([3, OLD, 5, OLD + 2, 1])
    freeze_part(model, False, "language_model")
    tied = model.config.tie_word_embeddings  # newer transformers tie every T5

    named = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(named) == 2 - tied and all("new_weight" in name for name in named)
    replies = [
        m.generate(m.embed(ids), (5,), stop_ids=[])[0].ids for m in (model, plain)
    ]
    assert torch.equal(*replies)
    hidden = torch.randn(4, 48)
    torch.testing.assert_close(model.logits(hidden), plain.logits(hidden))
