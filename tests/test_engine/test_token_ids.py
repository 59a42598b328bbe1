"""Weights whose rows stand for other tokens than the run's ids are refused."""

from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from mmvlm.engine.runner import token_ids
from mmvlm.engine.runner.checkpoint import load_parts, save_atomic
from mmvlm.testing import tiny_vlm

WORDS = ("<unk>", "yes", "no", "red", "blue")


def tokenizer(words=WORDS, added=()):
    ids = {word: index for index, word in enumerate(words)}
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(ids, unk_token="<unk>")),
        unk_token="<unk>",
    )
    made.add_tokens(list(added))
    return made


@pytest.fixture
def work_dir(tmp_path):
    save_atomic(dict(state_dict=tiny_vlm().state_dict()), tmp_path / "iter_1.pth")
    tokenizer(added=["<bin_0>"]).save_pretrained(str(tmp_path / "tokenizer"))
    return tmp_path


def model_with(own):
    model = tiny_vlm()
    model.processor = SimpleNamespace(tokenizer=own)
    return model


def test_other_ids_are_refused_with_folder_count_and_token(work_dir):
    other = tokenizer(["<unk>", "yes", "red", "no", "blue"])

    with pytest.raises(ValueError, match=r"4 tokens 2 have other ids .*'no', 2 and 3"):
        load_parts(model_with(other), work_dir / "iter_1.pth")


def test_the_cure_that_the_message_names_works(work_dir):
    own = PreTrainedTokenizerFast.from_pretrained(str(work_dir / "tokenizer"))

    report = load_parts(model_with(own), work_dir / "iter_1.pth")

    assert report.is_clean


@pytest.mark.parametrize("added", [(), ("<seg>", "<at>")])
def test_added_tokens_and_new_words_may_differ(work_dir, added):
    own = tokenizer([*WORDS, "green"], added)

    assert load_parts(model_with(own), work_dir / "iter_1.pth").is_clean


def test_rows_of_added_tokens_that_stand_for_others_are_warned_of(
    work_dir, monkeypatch
):
    logged = []
    monkeypatch.setattr(token_ids, "print_log", lambda text, **_: logged.append(text))

    load_parts(model_with(tokenizer(added=["[SEG]"])), work_dir / "iter_1.pth")

    assert len(logged) == 1 and "1 rows of added tokens" in logged[0]
    assert "'<bin_0>' is '[SEG]' here" in logged[0]


def test_a_tokenizer_that_its_run_did_not_read_again_is_not_compared(work_dir):
    (work_dir / "model.json").write_text('{"tokenizers": {}}')
    other = tokenizer(["<unk>", "yes", "red", "no", "blue"])

    assert load_parts(model_with(other), work_dir / "iter_1.pth").is_clean


def test_a_tower_alone_has_no_vocabulary(work_dir):
    other = model_with(tokenizer(WORDS[::-1]))

    assert load_parts(other, work_dir / "iter_1.pth", ["vision_encoder"]).is_clean


def test_a_folder_that_cannot_be_read_is_told_of(work_dir, monkeypatch):
    logged = []
    monkeypatch.setattr(token_ids, "print_log", lambda text, **_: logged.append(text))
    for file in (work_dir / "tokenizer").iterdir():
        file.write_text("{")

    load_parts(model_with(tokenizer()), work_dir / "iter_1.pth")

    assert len(logged) == 1 and "cannot be compared" in logged[0]
