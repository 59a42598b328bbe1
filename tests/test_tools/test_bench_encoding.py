"""The benchmark of tokenisation: equal ids and labels first, then honest rows."""

import argparse
import json

import numpy as np
import pytest
from benchmarks import encoding as bench_encoding

from mmvlm.text.tokenizers import hf_tokenizer


@pytest.fixture(scope="module")
def tokenizers(goldens):
    """Llama's slow and fast tokenizer of one vocabulary."""
    folder = str(goldens / "llava_tokenizer")
    return tuple(
        hf_tokenizer(folder, use_fast=fast, legacy=True, pad="unk")
        for fast in (False, True)
    )


@pytest.fixture(scope="module")
def records():
    words = bench_encoding.make_words(300, np.random.default_rng(0))
    return bench_encoding.make_records(24, words)


def test_records_are_llavas_and_seeded(records):
    words = bench_encoding.make_words(300, np.random.default_rng(0))

    assert bench_encoding.make_records(24, words) == records
    assert len(set(words)) == 300
    with_image = [record for record in records if "image" in record]
    assert 0 < len(with_image) < len(records)
    for record in records:
        texts = [turn["value"] for turn in record["conversations"]]
        assert len(texts) % 2 == 0
        assert sum("<image>" in text for text in texts) == ("image" in record)


def test_all_ways_give_the_same_ids_and_labels(tokenizers, records):
    made, equal = bench_encoding.variants(*tokenizers, batch=5)

    facts = bench_encoding.check_equal(made, equal, records)

    assert set(equal.values()) <= set(made) and len(made) >= 5
    assert 0.2 < facts["trained"] < 0.9 and facts["tokens"] > 50
    ids, labels = made["LLaVA, slow tokenizer"](records[1:2])[0]
    assert (ids == -200).sum() == 1
    said = records[1]["conversations"][1]["value"]
    first = labels[: np.flatnonzero(labels == 2)[0]]
    assert tokenizers[0].decode(first[first >= 0]) == said


def test_a_way_that_differs_is_an_error(tokenizers, records):
    made, equal = bench_encoding.variants(*tokenizers, batch=5)
    right = made["ours, batch"]

    def wrong(some):
        results = right(some)
        results[3][1][-1] = -100
        return results

    with pytest.raises(
        RuntimeError, match=r"'ours, batch' and 'LLaVA, .*' disagree on sample '3'"
    ):
        bench_encoding.check_equal({**made, "ours, batch": wrong}, equal, records)


def test_rows_hold_ratios_and_the_table_shows_the_musts(tokenizers, monkeypatch):
    monkeypatch.setattr(bench_encoding, "train_tokenizers", lambda *args: tokenizers)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    parser = argparse.ArgumentParser()
    bench_encoding.add_arguments(parser)
    args = parser.parse_args(["--samples", "6", "--vocab", "200", "--repeats", "1"])

    rows = list(bench_encoding.run(args))

    assert json.dumps(rows)
    by_name = {row["variant"]: row for row in rows}
    assert by_name["LLaVA, slow tokenizer"]["ratio"] == 1.0
    assert by_name["ours, batch"]["must"] == 3.5
    assert "ours, one by one" in "\n".join(bench_encoding.table(rows))


@pytest.mark.slow
def test_a_trained_model_keeps_spaces_as_llama_does(tmp_path):
    words = bench_encoding.make_words(200, np.random.default_rng(0))

    slow, fast = bench_encoding.train_tokenizers(words * 3, 600, str(tmp_path))

    text = f" {words[0]}  {words[1]} "
    assert slow.tokenize(text) == fast.tokenize(text)
    assert slow.tokenize(text)[-1] == "\u2581" and slow.pad_token == slow.unk_token
