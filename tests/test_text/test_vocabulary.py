"""A tokenizer's ids against the rows of a language model."""

import pytest
import torch

from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
from mmvlm.models.utils.freezing import freeze_part
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


def padded(tokenizer, spare, num_new, *trained):
    """A language model whose table had spare rows before ``num_new`` were added."""
    rows = len(tokenizer) - len(tokenizer.mmvlm_new_ids) + spare
    model = HFCausalLM.tiny(vocab_size=rows, num_new_tokens=num_new)
    freeze_part(model, dict(only=list(trained)), "language_model")
    return model


@pytest.mark.parametrize(("spare", "num_new"), [(8, 2), (1, 1), (1, 2)])
def test_new_rows_beside_the_new_tokens_are_refused_and_the_cure_works(
    tmp_path, spare, num_new
):
    make().save_pretrained(tmp_path)
    config = dict(type="HFTokenizer", name_or_path=str(tmp_path))
    tokenizer = TOKENIZERS.build(dict(config, additional_special_tokens=["<a>", "<b>"]))
    first = len(make())
    check_vocabulary(tokenizer, padded(tokenizer, 0, 2, "new_rows"))

    told = f"rows from {first + spare} on.*from id {first} on.*'embed_tokens'"
    with pytest.raises(ValueError, match=told):
        check_vocabulary(tokenizer, padded(tokenizer, spare, num_new, "new_rows"))
    needed = max(0, 2 - spare)
    cured = padded(tokenizer, spare, needed, "embed_tokens")
    check_vocabulary(tokenizer, cured)
    cured.embed(torch.tensor(tokenizer.mmvlm_new_ids)).sum().backward()
    assert cured.model.get_input_embeddings().weight.grad[first:].any()


def test_new_rows_that_no_id_reaches_are_refused():
    saved = make("<a>", "<b>")  # does not say that they are new
    saved.mmvlm_new_ids = ()
    rows = len(saved)

    check_vocabulary(saved, padded(saved, -2, 2, "new_rows"))
    with pytest.raises(ValueError, match=f"rows from {rows} on.*id {rows - 1} on"):
        check_vocabulary(saved, padded(saved, 0, 2, "new_rows"))


def test_doctor_and_run_refuse_before_a_weight_is_trained(tmp_path):
    from mmvlm.config import load_config
    from mmvlm.config.check import check_config
    from mmvlm.engine.runner.setup import make_processor
    from mmvlm.registry import MODELS

    cfg = load_config(
        "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k", tiny=True
    )
    cfg.tokenizer.special_tokens = ["<loc1>", "<loc2>"]

    problems = check_config(cfg, check_files=["test"]).problems
    assert any("num_new_tokens=2" in problem for problem in problems)
    with pytest.raises(ValueError, match="num_new_tokens=2"):
        make_processor(cfg, MODELS.build(cfg.model))
