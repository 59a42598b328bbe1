"""A tokenizer's ids against the rows of a language model."""

import pytest

from mmvlm.config import load_config
from mmvlm.config.check import check_config
from mmvlm.config.old_keys import rename_old_keys
from mmvlm.engine.runner.setup import make_processor
from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.utils.freezing import freeze_part
from mmvlm.registry import MODELS, TOKENIZERS
from mmvlm.text.vocabulary import (
    add_new_tokens,
    check_vocabulary,
    foreign_vocabulary,
)


def make(*special):
    config = dict(type="TinyTokenizer", special_tokens=list(special))
    return TOKENIZERS.build(config)


def make_both(base, *tokens, rows=None, **options):
    """A tokenizer and a language model that are given the same new tokens."""
    new = dict(tokens=list(tokens), **options)
    model = HFCausalLM.tiny(vocab_size=rows or len(base), new_tokens=new)
    add_new_tokens(base, model.new_tokens)
    return base, model


def test_more_ids_than_rows_is_refused_and_the_cure_works():
    tokenizer = make("<a>", "<b>")
    tokenizer.add_tokens(["<c>", "<d>"], special_tokens=True)
    rows = len(tokenizer) - 2

    with pytest.raises(ValueError, match=r"ids up to \d+.*'<c>', '<d>'") as error:
        check_vocabulary(tokenizer, HFCausalLM.tiny(vocab_size=rows))
    assert f"{rows} rows" in str(error.value)
    check_vocabulary(*make_both(tokenizer, "<c>", "<d>", rows=rows))
    tokenizer, short = make_both(tokenizer, "<d>", rows=rows)
    with pytest.raises(ValueError, match=r"tokens=\['<c>', '<d>'\]"):
        check_vocabulary(tokenizer, short)


def test_tokenizer_and_table_get_the_same_tokens_in_their_order():
    tokenizer, model = make_both(make(), "<x>", "<y>")
    before = len(tokenizer)
    add_new_tokens(tokenizer, model.new_tokens)  # as a saved one has them

    check_vocabulary(tokenizer, model)
    first = model.first_new_id
    assert tokenizer.convert_tokens_to_ids(["<x>", "<y>"]) == [first, first + 1]
    assert len(tokenizer) == before == model.vocab_size
    assert {"<x>", "<y>"} <= set(tokenizer.mmvlm_markup)


def test_a_codec_brings_its_tokens():
    codec = dict(type="QwenVLCodec")
    tokenizer, model = make_both(make(), "<x>", codec=codec)

    check_vocabulary(tokenizer, model)
    assert model.new_tokens.names == ("<x>", "<ref>", "</ref>", "<box>", "</box>")


def test_a_table_longer_than_its_vocabulary_takes_the_spare_rows():
    rows = len(make()) + 8
    with pytest.raises(ValueError, match=f"first_id={rows - 8} ") as error:
        check_vocabulary(*make_both(make(), "<x>", "<y>", rows=rows))
    assert "its table is longer than its vocabulary" in str(error.value)

    tokenizer, cured = make_both(make(), "<x>", "<y>", rows=rows, first_id=rows - 8)
    check_vocabulary(tokenizer, cured)
    assert cured.vocab_size == rows


def test_new_tokens_with_the_ids_of_others_are_refused_and_the_cure_works():
    rows = len(make("<a>"))
    with pytest.raises(ValueError, match="without those that it had before"):
        check_vocabulary(*make_both(make("<a>"), "<a>", "<x>", rows=rows + 1))
    check_vocabulary(*make_both(make("<a>"), "<x>"))

    tokenizer = make("<a>")
    tokenizer.add_tokens(["<pad2>"], special_tokens=True)
    with pytest.raises(ValueError, match=r"\['<pad2>', '<x>'\]"):
        check_vocabulary(*make_both(tokenizer, "<x>", rows=rows))
    check_vocabulary(*make_both(tokenizer, "<pad2>", "<x>", rows=rows))


def test_new_rows_of_the_former_key_that_no_id_reaches_are_refused():
    tokenizer = make("<a>", "<b>")
    for rows, fits in ((len(tokenizer) - 2, True), (len(tokenizer), False)):
        model = HFCausalLM.tiny(vocab_size=rows, num_new_tokens=2)
        freeze_part(model, dict(only=["new_rows"]), "language_model")
        if fits:
            check_vocabulary(tokenizer, model)
            continue
        with pytest.raises(ValueError, match=r"longer than.*new_tokens=dict\(tokens"):
            check_vocabulary(tokenizer, model)


def test_padded_tables_pass_and_foreign_tokenizers_are_told():
    tokenizer = make()
    count = len(tokenizer)

    check_vocabulary(tokenizer, HFCausalLM.tiny(vocab_size=count + 64))
    assert foreign_vocabulary(tokenizer, count + 64, 2) is None
    assert "rows" in foreign_vocabulary(tokenizer, 10 * count, 2)
    assert "beyond" in foreign_vocabulary(tokenizer, count + 64, [count + 3])


def test_tokens_that_the_vocabulary_has_need_no_rows():
    tokenizer = make("<a>")
    before = len(tokenizer)
    tokenizer.add_tokens(["<a>"], special_tokens=True)

    check_vocabulary(tokenizer, HFCausalLM.tiny(vocab_size=before))


TINY = "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k"


def test_doctor_and_run_refuse_before_a_weight_is_trained():
    cfg = load_config(TINY, tiny=True)
    cfg.tokenizer.special_tokens = ["<loc1>", "<loc2>"]

    problems = check_config(cfg, check_files=["test"]).problems
    assert any("new_tokens=dict(tokens=" in problem for problem in problems)
    with pytest.raises(ValueError, match=r"new_tokens=dict\(tokens="):
        make_processor(cfg, MODELS.build(cfg.model))


def test_doctor_and_run_see_new_tokens():
    option = {"+model.language_model.new_tokens.tokens": ["[SEG]", "</s2>"]}
    cfg = load_config(TINY, option, tiny=True)
    assert not check_config(cfg).problems

    processor = make_processor(cfg, model := MODELS.build(cfg.model))

    ids = processor.tokenizer.convert_tokens_to_ids(["[SEG]", "</s2>"])
    assert ids == [model.language_model.vocab_size - 2, len(processor.tokenizer) - 1]
    cfg.model.language_model.new_tokens.tokns = ["<x>"]
    problems = check_config(cfg).problems
    assert any("tokns" in problem and "'tokens'" in problem for problem in problems)


def test_former_keys_are_named_with_the_new_ones():
    text = dict(type="HFCausalLM", num_new_tokens=2)
    rule = dict(only=["new_rows"])
    lines = rename_old_keys(
        dict(model=dict(language_model=text, train_parts=dict(language_model=rule)))
    )

    assert len(lines) == 2
    assert all("new_tokens=dict(tokens=[...], train=" in line for line in lines)
    assert not rename_old_keys(
        dict(model=dict(language_model=dict(text, num_new_tokens=0)))
    )
