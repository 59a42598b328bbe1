"""Benchmark of replies: shared pictures and batches against one prompt at a time.

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
from typing import Any, NamedTuple

import torch

Prompts = list[torch.Tensor]


class Case(NamedTuple):
    """Prompts of one kind.

    Args:
        images (int): different ones.
        questions (int): per image.
        image_tokens (int): rows of an image.
        new_tokens (int): of every reply.
        must (float): least ratio of the plain way's time to ours.
    """

    images: int
    questions: int
    image_tokens: int
    new_tokens: int
    must: float


CASES = {
    "six questions, 144": Case(4, 6, 144, 8, 2.7),
    "six questions, 576": Case(2, 6, 576, 8, 3.2),
    "one question, 144": Case(16, 1, 144, 8, 1.5),
    "64 tokens, batch of 18": Case(18, 1, 0, 64, 3.6),
    "64 tokens, batch of 32": Case(32, 1, 0, 64, 3.6),
}
#: Tokens of the system text, and least and most of a question.
_SYSTEM, _QUESTION = 20, (12, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py generate``."""
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
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


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Compare replies, then yield one row per case."""
    torch.set_num_threads(1)
    model = make_model(args)
    for name in args.cases:
        case = CASES[name]
        prompts = make_prompts(case, args.width)
        (plain, ours), (expected, found) = in_turns(
            [
                lambda p=prompts, c=case: one_by_one(model, p, c.new_tokens),
                lambda p=prompts, c=case: together(model, p, c.new_tokens),
            ],
            args.repeats,
        )
        yield dict(
            benchmark="generate",
            case=name,
            prompts=len(prompts),
            new_tokens=case.new_tokens,
            plain_ms=round(1e3 * plain / len(prompts), 2),
            ms=round(1e3 * ours / len(prompts), 2),
            ratio=round(plain / ours, 2),
            must=case.must,
            equal=sum(a == b for a, b in zip(expected, found, strict=True)),
        )


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, ratios beside the musts."""
    lines = [
        "case                     prompts  one by one      ours  ratio  must  tokens"
    ]
    for row in rows:
        same = row["equal"] == row["prompts"]
        said = "equal" if same else f"{row['equal']} of {row['prompts']} equal"
        lines.append(
            f"{row['case']:24} {row['prompts']:7} {row['plain_ms']:8.1f} ms "
            f"{row['ms']:6.1f} ms {row['ratio']:6.2f} {row['must']:5}  {said}"
        )
    return lines
