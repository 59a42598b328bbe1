"""Benchmark of tokenisation and label masks: a LLaVA record to ids and labels.

Baselines are LLaVA's way for Vicuna, with the slow tokenizer that is its default and
with the fast one, and xtuner's. Ours is what the pipeline runs: the record is parsed
to a conversation, rendered and encoded, alone or a whole batch at once. A 32K
sentencepiece model is trained on the spot, on made-up words of uneven frequency. Ids
and labels of all samples are compared first. Time is CPU time of one thread, medians
over repeats that are interleaved between the variants.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.plain_tokenise import llava_rule, xtuner_rule
from mmvlm.text.templates.vicuna import SYSTEM_USER

#: Variant -> (baseline, least ratio of its time).
MUSTS = {
    "ours, batch": ("LLaVA, slow tokenizer", 3.5),
    "ours, one by one": ("LLaVA, slow tokenizer", 3.5),
    "ours, xtuner's rule, batch": ("xtuner", 2.0),
}
Results = list[tuple[np.ndarray, np.ndarray]]
Variant = Callable[[list[dict]], Results]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py tokenize``."""
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--vocab", type=int, default=32000, help="of the tokenizer")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="timed, after warm-up")


def make_words(number: int, rng: np.random.Generator) -> list[str]:
    """Return distinct words of one to four syllables."""
    heads = "b c d f g h j k l m n p r s t v w br cl dr fl gr pl st tr sh th".split()
    tails = "a e i o u ai ea ou an en in on er ar al".split()
    words: dict[str, None] = {}
    while len(words) < number:
        count = rng.choice(4, p=[0.15, 0.4, 0.3, 0.15]) + 1
        parts = [rng.choice(heads) + rng.choice(tails) for _ in range(count)]
        words["".join(parts)] = None
    return list(words)


def make_records(number: int, words: list[str], seed: int = 0) -> list[dict]:
    """Return LLaVA records: one to six rounds, an image in four of five."""
    rng = np.random.default_rng(seed)
    ranks = 1 / np.arange(10, len(words) + 10)
    shares = np.cumsum(ranks / ranks.sum())

    def text(least: int, most: int) -> str:
        picks = np.searchsorted(shares, rng.random(rng.integers(least, most)))
        chosen = [words[min(pick, len(words) - 1)] for pick in picks]
        for place in range(9, len(chosen), 10):
            chosen[place] += rng.choice([",", ".", f" {rng.integers(100)}"])
        return " ".join(chosen).capitalize()

    records = []
    for index in range(number):
        turns = []
        for turn in range(int(rng.integers(1, 7))):
            question = text(4, 18) + "?"
            if turn == 0 and index % 5:
                tagged = (f"<image>\n{question}", f"{question}\n<image>")
                question = tagged[int(rng.integers(2))]
            turns.append({"from": "human", "value": question})
            turns.append({"from": "gpt", "value": text(3, 60) + "."})
        record = {"id": str(index), "conversations": turns}
        if index % 5:
            record["image"] = f"{index}.jpg"
        records.append(record)
    return records


def train_tokenizers(texts: list[str], vocab: int, folder: str) -> tuple[Any, Any]:
    """Train a model of Llama's kind; return its slow and its fast tokenizer."""
    import sentencepiece
    from transformers import LlamaTokenizer

    from mmvlm.text.tokenizers import hf_tokenizer

    model = os.path.join(folder, "tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=model,
        vocab_size=vocab,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",  # as Llama: no space is dropped
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    LlamaTokenizer(f"{model}.model", legacy=True).save_pretrained(folder)
    slow, fast = (
        hf_tokenizer(folder, use_fast=use_fast, legacy=True, pad="unk")
        for use_fast in (False, True)
    )
    return slow, fast


def ours(tokenizer: Any, template: Any, batch: int) -> Variant:
    """Return the pipeline's way, ``batch`` samples at once."""
    from mmvlm.text.encoding import ConversationEncoder
    from mmvlm.text.llava_format import parse_llava_conversation

    encoder = ConversationEncoder(template, tokenizer)

    def run(records: list[dict]) -> Results:
        results = []
        for start in range(0, len(records), batch):
            talks = [
                parse_llava_conversation(
                    record, images=[record["image"]] if "image" in record else []
                )
                for record in records[start : start + batch]
            ]
            lengths = [[1] * len(talk.images) for talk in talks]
            results += [(s.input_ids, s.labels) for s in encoder(talks, lengths)]
        return results

    return run


def variants(
    slow: Any, fast: Any, batch: int
) -> tuple[dict[str, Variant], dict[str, str]]:
    """Return all ways, and for each the one whose ids and labels it must give."""
    from mmvlm.registry import CHAT_TEMPLATES

    vicuna = CHAT_TEMPLATES.build(dict(type="vicuna_v1"))

    def each(encode: Callable[[dict], tuple]) -> Variant:
        return lambda records: [encode(record) for record in records]

    made = {
        "LLaVA, slow tokenizer": each(llava_rule(slow, vicuna.table.system)),
        "LLaVA, fast tokenizer": each(llava_rule(fast, vicuna.table.system)),
        "ours, one by one": ours(fast, vicuna, 1),
        "ours, batch": ours(fast, vicuna, batch),
        "ours, slow tokenizer": ours(slow, vicuna, batch),
    }
    equal = dict.fromkeys(made, "LLaVA, slow tokenizer")
    if "xtuner/vicuna" in CHAT_TEMPLATES.module_dict:
        template = CHAT_TEMPLATES.build(dict(type="xtuner/vicuna"))
        texts = template.table["INSTRUCTION"], template.table.get("SEP", "")
        made["xtuner"] = each(xtuner_rule(fast, *texts))
        made["ours, xtuner's rule, batch"] = ours(fast, template, batch)
        equal["xtuner"] = equal["ours, xtuner's rule, batch"] = "xtuner"
    return made, equal


def check_equal(
    made: dict[str, Variant], equal: dict[str, str], records: list[dict]
) -> dict[str, float]:
    """Compare ids and labels of all samples; return facts of the data.

    Raises:
        RuntimeError: naming the variant and the sample that differ.
    """
    expected = {name: made[name](records) for name in set(equal.values())}
    for name, run in made.items():
        pairs = zip(run(records), expected[equal[name]], strict=True)
        for record, ((ids, labels), (right, trained)) in zip(
            records, pairs, strict=True
        ):
            if not np.array_equal(ids, right) or not np.array_equal(labels, trained):
                raise RuntimeError(
                    f"'{name}' and '{equal[name]}' disagree on sample "
                    f"'{record['id']}': {ids.tolist()!r:.400} against "
                    f"{right.tolist()!r:.400}."
                )
    found = expected["LLaVA, slow tokenizer"]
    lost = sum((labels < 0).all() for _, labels in found)
    if lost:
        raise RuntimeError(f"LLaVA's own rule trains nothing of {lost} samples.")
    tokens = [len(ids) for ids, _ in found]
    trained = [int((labels >= 0).sum()) for _, labels in found]
    return dict(tokens=statistics.mean(tokens), trained=sum(trained) / sum(tokens))


def measure(
    made: dict[str, Variant], records: list[dict], repeats: int
) -> dict[str, float]:
    """Return median CPU seconds per sample, by variant."""
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for repeat in range(repeats + 1):
        for name, run in made.items():
            start = time.process_time()
            run(records)
            spent = (time.process_time() - start) / len(records)
            if repeat:  # the first is the warm-up
                seconds[name].append(spent)
    return {name: statistics.median(times) for name, times in seconds.items()}


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare all results, then measure; yield one row per variant.

    Raises:
        RuntimeError: when ids or labels of two ways differ.
    """
    # One thread for all: the fast tokenizer would take every core for a batch.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    words = make_words(args.vocab, np.random.default_rng(0))
    records = make_records(args.samples, words)
    texts = [turn["value"] for r in records for turn in r["conversations"]]
    texts += ["USER: ", " ASSISTANT: ", SYSTEM_USER] * 100
    with tempfile.TemporaryDirectory() as folder:
        slow, fast = train_tokenizers([*texts, *words], args.vocab, folder)
    made, equal = variants(slow, fast, args.batch)
    facts = check_equal(made, equal, records)
    seconds = measure(made, records, args.repeats)
    base = seconds["LLaVA, slow tokenizer"]
    for name, spent in seconds.items():
        baseline, must = MUSTS.get(name, (None, None))
        yield dict(
            benchmark="tokenize",
            variant=name,
            ratio=round(base / spent, 2),
            baseline=baseline,
            ratio_to_baseline=baseline and round(seconds[baseline] / spent, 2),
            must=must,
            per_second=round(1 / spent),
            samples=args.samples,
            vocab=len(slow),
            tokens=round(facts["tokens"]),
            trained=round(facts["trained"], 3),
        )


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, ratios beside the musts."""
    first = rows[0]
    lines = [
        f"{first['samples']} samples of {first['tokens']} tokens on average, "
        f"{first['trained']:.0%} of them trained, {first['vocab']} pieces; "
        "ratios of CPU time",
        "variant                      samples/s  to LLaVA's  to its baseline  must",
    ]
    for row in rows:
        own = row["ratio_to_baseline"]
        must = f">={row['must']}" if row["must"] else "-"
        lines.append(
            f"{row['variant']:27} {row['per_second']:10}  {row['ratio']:10.2f}  "
            f"{own if own else '-':>15}  {must}"
        )
    return lines
