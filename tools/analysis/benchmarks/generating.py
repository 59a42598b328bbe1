"""Benchmark of replies: shared images and batches against one prompt at a time.

The decoder alone is measured, from embeddings of prompts to ids of replies: a system
text, an image's rows, a question. The plain way hands one prompt after the other to
transformers' greedy ``generate``. Both ways run in turns in one process; their ids are
compared first. Time is CPU time of one thread, the median over turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from mmvlm.structures import IGNORE_INDEX, SLOT_TOKEN_ID
from mmvlm.testing import make_batch

Prompts = list[torch.Tensor]


class Case(NamedTuple):
    """Prompts of one kind.

    Args:
        images (int): different ones.
        questions (int): per image.
        image_tokens (int): rows of an image.
        new_tokens (int): of every reply.
        must (float | None): least ratio of the plain way's time to ours.
    """

    images: int
    questions: int
    image_tokens: int
    new_tokens: int
    must: float | None


CASES = {
    "six questions, 144": Case(4, 6, 144, 8, 2.7),
    "six questions, 576": Case(2, 6, 576, 8, 3.2),
    "one question, 144": Case(16, 1, 144, 8, 1.5),
    "64 tokens, batch of 18": Case(18, 1, 0, 64, 3.6),
    "64 tokens, batch of 32": Case(32, 1, 0, 64, 3.6),
}
#: What is compared beside them: choosing an option's logit against generating its
#: letter, and encoding images once against encoding them for every benchmark.
_BESIDE = ("option logits", "kept encoder")
#: Tokens of options' letters.
_OPTIONS = (319, 350, 315, 360)
#: Tokens of the system text, and least and most of a question.
_SYSTEM, _QUESTION = 20, (12, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py generate``."""
    names = [*CASES, *_BESIDE]
    parser.add_argument("--cases", nargs="+", choices=names, default=names)
    parser.add_argument("--width", type=int, default=384, help="of the decoder")
    parser.add_argument("--layers", type=int, default=6, help="of the decoder")
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5, help="timed, after warm-up")


def make_model(args: argparse.Namespace) -> Any:
    """Return a random decoder."""
    from mmvlm.models.language_models.hf_causal_lm import HFCausalLM

    torch.manual_seed(0)
    config = dict(
        model_type="llama",
        vocab_size=args.vocab,
        hidden_size=args.width,
        intermediate_size=args.width * 11 // 4,
        num_hidden_layers=args.layers,
        num_attention_heads=max(1, args.width // 64),
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    return HFCausalLM(config=config, attention="padded").eval()


def make_prompts(case: Case, width: int, seed: int = 0) -> Prompts:
    """Return embeddings (n, Dl) of every prompt, images after one another."""
    generator = torch.Generator().manual_seed(seed)

    def rows(count: int) -> torch.Tensor:
        return torch.randn(count, width, generator=generator) * 0.02

    system, prompts = rows(_SYSTEM), []
    for _ in range(case.images):
        image = rows(case.image_tokens)
        for _ in range(case.questions):
            length = torch.randint(*_QUESTION, (), generator=generator)
            prompts.append(torch.cat([system, image, rows(int(length))]))
    return prompts


@torch.no_grad()
def one_by_one(model: Any, prompts: Prompts, new_tokens: int) -> list[list[int]]:
    """Return the ids of transformers' greedy replies, one prompt at a time."""
    options = dict(max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
    found = []
    for prompt in prompts:
        ids = model.model.generate(
            inputs_embeds=prompt[None],
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            eos_token_id=None,
            **options,
        )
        found.append(ids[0].tolist())
    return found


def together(model: Any, prompts: Prompts, new_tokens: int) -> list[list[int]]:
    """Return the ids of our replies, all prompts in one batch."""
    replies = model.generate(
        torch.cat(prompts),
        tuple(map(len, prompts)),
        max_new_tokens=new_tokens,
        stop_ids=[],
        share_prefix=True,
    )
    return [reply.tolist() for reply in replies]


def in_turns(
    ways: Sequence[Callable[[], Any]], repeats: int
) -> tuple[list[float], list[Any]]:
    """Return the median CPU seconds of every way, and what each gave first."""
    results = [way() for way in ways]
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for own, way in zip(seconds, ways, strict=True):
            start = time.process_time()
            way()
            own.append(time.process_time() - start)
    return [statistics.median(own) for own in seconds], results


def choose(model: Any, prompts: Prompts) -> list[list[int]]:
    """Return the likeliest letter behind every prompt, as option_logits does."""
    from mmvlm.models.language_models.reply_scores import reply_log_probs

    letters = [[[letter] for letter in _OPTIONS]] * len(prompts)
    scores = reply_log_probs(
        model, torch.cat(prompts), list(map(len, prompts)), letters
    )
    return [[_OPTIONS[own.index(max(own))]] for own in scores]


def with_images(model: Any, args: argparse.Namespace, cached: bool) -> list[list[int]]:
    """Return ids of three benchmarks' questions about the same images."""
    from mmvlm.models.utils.feature_cache import FeatureCache

    model.feature_cache = FeatureCache() if cached else None
    ids = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        text = torch.randint(3, args.vocab, (4, 20), generator=generator).tolist()
        samples = [[*row[:4], *[SLOT_TOKEN_ID] * 144, *row[4:]] for row in text]
        labels = [[IGNORE_INDEX] * len(own) for own in samples]
        pixels = torch.randn(4, 3, 168, 168, generator=torch.Generator().manual_seed(9))
        batch = make_batch(list(zip(samples, labels, strict=True)), pixels)
        with torch.no_grad():
            embeds = model.embed(batch)
        prompts = list(embeds.split(list(batch.text.seq_lens)))
        ids += together(model.language_model, prompts, 8)
    model.feature_cache = None
    return ids


def make_whole(decoder: Any) -> Any:
    """Return the decoder behind a random encoder of images of 144 tokens."""
    from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
    from mmvlm.models.vlms.base import VisionLanguageModel

    config = dict(
        model_type="clip_vision_model",
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=12,
        num_attention_heads=4,
        image_size=168,
        patch_size=14,
    )
    encoder = HFVisionEncoder(config=config)
    return VisionLanguageModel(decoder, encoder, dict(type="MLPConnector")).eval()


def _row(name: str, case: Case, times: list[float], equal: int) -> dict[str, Any]:
    count = case.images * case.questions
    plain, ours = (1e3 * seconds / count for seconds in times)
    return dict(
        benchmark="generate",
        case=name,
        prompts=count,
        new_tokens=case.new_tokens,
        plain_ms=round(plain, 2),
        ms=round(ours, 2),
        ratio=round(plain / ours, 2),
        must=case.must,
        equal=equal,
    )


def _num_equal(first: list, second: list) -> int:
    return sum(a == b for a, b in zip(first, second, strict=True))


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare replies, then yield one row per case."""
    torch.set_num_threads(1)
    model = make_model(args)
    for name in args.cases:
        if name not in CASES:
            continue
        case = CASES[name]
        prompts, new = make_prompts(case, args.width), case.new_tokens
        ways = (
            partial(one_by_one, model, prompts, new),
            partial(together, model, prompts, new),
        )
        times, (expected, found) = in_turns(ways, args.repeats)
        yield _row(name, case, times, _num_equal(expected, found))
    if "option logits" in args.cases:
        case = Case(4, 6, 144, 2, None)  # a letter and what ends the reply
        prompts = make_prompts(case, args.width)
        ways = (
            partial(together, model, prompts, case.new_tokens),
            partial(choose, model, prompts),
        )
        times, (_, found) = in_turns(ways, args.repeats)
        alone = [choose(model, [prompt])[0] for prompt in prompts]
        name = "option logits against generating the letter"
        yield _row(name, case, times, _num_equal(alone, found))
    if "kept encoder" in args.cases:
        whole, case = make_whole(model), Case(4, 3, 144, 8, None)
        ways = [partial(with_images, whole, args, cached) for cached in (False, True)]
        times, (expected, found) = in_turns(ways, args.repeats)
        yield _row("kept encoder", case, times, _num_equal(expected, found))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, ratios beside the musts."""
    width = max(len(row["case"]) for row in rows)
    head = " prompts  plain way       ours  ratio  must  compared"
    lines = [f"{'case':{width}}{head}"]
    for row in rows:
        same = row["equal"] == row["prompts"]
        what = "answers" if row["case"].startswith("option") else "tokens"
        said = f"{what} equal" if same else f"{row['equal']} of {row['prompts']} equal"
        must = row["must"] or "-"
        lines.append(
            f"{row['case']:{width}} {row['prompts']:7} {row['plain_ms']:7.1f} ms "
            f"{row['ms']:7.1f} ms {row['ratio']:6.2f} {must:>5}  {said}"
        )
    lines.append(
        "plain way: one prompt after another; of option logits: a letter and a stop "
        "token generated in a batch; of the kept encoder: encoded for every benchmark."
    )
    return lines
