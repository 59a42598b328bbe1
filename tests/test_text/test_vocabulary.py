"""A tokenizer's ids against the rows of a language model."""

import pytest

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.registry import TOKENIZERS
from mmvlm.text.vocabulary import check_vocabulary, foreign_vocabulary


def make(*special):
    config = dict(type="TinyTokenizer", special_tokens=list(special))
    return TOKENIZERS.build(config)


def test_more_ids_than_rows_is_refused_and_the_cure_works():
    tokenizer = make("<a>", "<b>")
    rows = len(tokenizer) - 2

    with pytest.raises(ValueError, match=r"ids up to \d+.*num_new_tokens=2") as error:
        check_vocabulary(tokenizer, HFCausalLM.tiny(vocab_size=rows))
    assert f"{rows} rows" in str(error.value)
    cured = HFCausalLM.tiny(vocab_size=rows, num_new_tokens=2)
    check_vocabulary(tokenizer, cured)
    short = HFCausalLM.tiny(vocab_size=rows, num_new_tokens=1)
    with pytest.raises(ValueError, match=r"num_new_tokens=2"):
        check_vocabulary(tokenizer, short)


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


def test_doctor_and_run_refuse_before_a_weight_is_trained(tmp_path):
    from mmvlm.config import load_config
    from mmvlm.config.check import check_config
    from mmvlm.engine.runner.setup import make_context
    from mmvlm.registry import MODELS

    cfg = load_config(
        "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k", tiny=True
    )
    cfg.tokenizer.special_tokens = ["<loc1>", "<loc2>"]

    problems = check_config(cfg, check_files=["test"]).problems
    assert any("num_new_tokens=2" in problem for problem in problems)
    with pytest.raises(ValueError, match="num_new_tokens=2"):
        make_context(cfg, MODELS.build(cfg.model))
