"""Benchmark of the training step: ours against the plain LLaVA-style step.

Time is CPU time of one thread, forward and backward, medians over repeats that
are interleaved between the variants. Memory is measured in a process of its own
per variant: the high-water mark of resident memory during steps, less what was
resident with weights and batch in place. There the allocator maps every tensor by
itself and returns it when freed, so that the mark counts tensors in use and not
what the heap keeps between them (that would add up to 300 MiB, at random).
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import child_environment
from benchmarks.plain_llava import PlainLlavaStep, pad_batch
from mmvlm.structures import IGNORE_INDEX, SLOT_TOKEN_ID, VLMBatch
from mmvlm.testing import make_batch
from mmvlm.utils.precision import cast_weights

#: The head's share of the language model's matrix parameters.
HEADS = {"small": 0.04, "large": 0.4}
#: Least and most text tokens. ``equal`` leaves 6 % of padding, ``exact`` none.
LENGTHS = {"ragged": (60, 300), "equal": (160, 201), "exact": (180, 180)}
VARIANTS = ("plain", "plain+checkpointing", "ours", "ours+checkpointing")
#: What makes glibc return the memory of every freed tensor.
_EXACT_MALLOC = dict(
    MALLOC_MMAP_THRESHOLD_="65536",
    MALLOC_TRIM_THRESHOLD_="65536",
    MALLOC_TOP_PAD_="0",
)
#: (head, lengths) -> least ratio of the plain step's time to ours.
MUSTS = {("small", "ragged"): 1.3, ("large", "ragged"): 2.0, ("small", "equal"): 1.1}
_IMAGE_TOKENS = 144


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``benchmark.py step``."""
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument(
        "--lengths", nargs="+", choices=LENGTHS, default=["ragged", "equal"]
    )
    parser.add_argument("--stage", type=int, choices=(1, 2), default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch", type=int, default=8, help="samples")
    parser.add_argument("--repeats", type=int, default=5, help="timed, after warm-up")
    parser.add_argument("--width", type=int, default=384, help="of the decoder")
    parser.add_argument("--layers", type=int, default=6, help="of the decoder")
    parser.add_argument("--no-memory", action="store_true", help="time only")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)


def make_samples(kind: str, batch: int, vocab: int, seed: int = 0) -> VLMBatch:
    """Build a batch: 144 image tokens and text of the given kind each.

    The last 30 % of the text is trained, 16-19 % of all positions.
    """
    generator = torch.Generator().manual_seed(seed)
    least, most = LENGTHS[kind]
    samples = []
    for number in range(batch):
        # Evenly spread over the range, so that few samples stand for many.
        length = round(least + (most - least) * number / max(batch - 1, 1))
        text = torch.randint(3, vocab, (length,), generator=generator).tolist()
        ids = text[:20] + [SLOT_TOKEN_ID] * _IMAGE_TOKENS + text[20:]
        trained = round(length * 0.3)
        labels = [IGNORE_INDEX] * (len(ids) - trained) + ids[-trained:]
        samples.append((ids, labels))
    pixels = torch.randn(batch, 3, 168, 168, generator=generator)
    return make_batch(samples, pixels)


def vocab_of(args: argparse.Namespace, head: str) -> int:
    """Return the vocabulary whose head has the wanted share of the matrices."""
    block = 4 * args.width**2 + 3 * args.width * (args.width * 11 // 4)
    share = HEADS[head]
    return round(share / (1 - share) * args.layers * block / args.width / 64) * 64


def build_model(
    args: argparse.Namespace, vocab: int, attention: str, checkpointing: str = "off"
) -> Any:
    """Build the model of one variant; the seed makes all variants equal."""
    from mmvlm.models.language_models.hf_causal_lm import HFCausalLM
    from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
    from mmvlm.models.vlms.base import VisionLanguageModel

    torch.manual_seed(0)
    encoder = HFVisionEncoder(
        config=dict(
            model_type="clip_vision_model",
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=12,
            num_attention_heads=2,
            image_size=168,
            patch_size=14,
        )
    )
    llm = HFCausalLM(
        config=dict(
            model_type="llama",
            vocab_size=vocab,
            hidden_size=args.width,
            intermediate_size=args.width * 11 // 4,
            num_hidden_layers=args.layers,
            num_attention_heads=args.width // 64,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
        ),
        attention=attention,
        gradient_checkpointing=checkpointing,
    )
    model = VisionLanguageModel(
        llm,
        encoder,
        dict(type="MLPConnector"),
        train_parts=dict(vision_encoder=False, language_model=args.stage == 2),
    )
    return cast_weights(model, getattr(torch, args.dtype)).train()


def make_step(
    args: argparse.Namespace, variant: str, vocab: int, batch: VLMBatch
) -> tuple[Any, Callable[[], float]]:
    """Return a variant's model and a function that runs one step of it."""
    checkpointing = variant.endswith("+checkpointing")
    if variant.startswith("ours"):
        every = "all" if checkpointing else "off"
        model = build_model(args, vocab, "segment", every)

        def loss() -> torch.Tensor:
            return model(batch, mode="loss")["loss"]
    else:
        model = build_model(args, vocab, "sdpa")
        plain = PlainLlavaStep(model, checkpointing)
        cast_weights(plain.tower, getattr(torch, args.dtype))
        padded = pad_batch(batch)
        padded["pixel_values"] = padded["pixel_values"].to(plain.tower.dtype)

        def loss() -> torch.Tensor:
            return plain.loss(padded)

    def step() -> float:
        model.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value.item()

    return model, step


def _resident(field: str) -> float:
    """Read a field of this process's memory status, MiB (Linux)."""
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", text)[1]) / 1024


def measure_memory(args: argparse.Namespace, head: str, lengths: str) -> float:
    """Return MiB above weights and batch that steps of ``args.memory_of`` need."""
    # A step of a miniature first: libraries loaded on the way are no step memory.
    small = argparse.Namespace(**{**vars(args), "width": 64, "layers": 1})
    make_step(small, args.memory_of, 64, make_samples("exact", 1, 64))[1]()
    vocab = vocab_of(args, head)
    batch = make_samples(lengths, args.batch, vocab)
    _, step = make_step(args, args.memory_of, vocab, batch)
    gc.collect()
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the high-water mark
    for _ in range(2):
        step()
    return _resident("VmHWM") - before


def _memory_in_child(args, head: str, lengths: str, variant: str) -> float | None:
    """Run :func:`measure_memory` in a fresh process."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    options = ["--heads", head, "--lengths", lengths, "--memory-of", variant]
    for name in ("stage", "dtype", "batch", "width", "layers"):
        options += [f"--{name}", str(getattr(args, name))]
    code = (
        "import argparse, mmvlm; from benchmarks import step as b;"
        "p = argparse.ArgumentParser(); b.add_arguments(p);"
        "import sys; sys.stdout.write(str(next(b.run(p.parse_args()))['mib']))"
    )
    command = [sys.executable, "-c", code, *options]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(**_EXACT_MALLOC),
    )
    if done.returncode:
        raise RuntimeError(f"memory of {variant} failed: {done.stderr[-800:]}")
    return float(done.stdout.split()[-1])


def measure_time(args: argparse.Namespace, head: str, lengths: str) -> dict[str, Any]:
    """Return median CPU seconds per step and the losses, by variant."""
    vocab = vocab_of(args, head)
    batch = make_samples(lengths, args.batch, vocab)
    steps = {v: make_step(args, v, vocab, batch)[1] for v in VARIANTS}
    losses = {variant: step() for variant, step in steps.items()}  # warm-up
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(args.repeats):
        for variant, step in steps.items():
            start = time.process_time()
            step()
            seconds[variant].append(time.process_time() - start)
    return dict(
        seconds={v: statistics.median(times) for v, times in seconds.items()},
        losses=losses,
        tokens=len(batch.text),
        padding=1 - len(batch.text) / (max(batch.text.seq_lens) * args.batch),
        trained=batch.text.num_targets / len(batch.text),
    )


def run(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure every combination asked for; yield one row each.

    Raises:
        RuntimeError: when the variants' losses disagree.
    """
    torch.set_num_threads(1)
    if args.memory_of:
        yield dict(mib=measure_memory(args, args.heads[0], args.lengths[0]))
        return
    for head in args.heads:
        for lengths in args.lengths:
            yield _row(args, head, lengths)


def _row(args: argparse.Namespace, head: str, lengths: str) -> dict[str, Any]:
    result = measure_time(args, head, lengths)
    losses, seconds = result["losses"], result["seconds"]
    tolerance = 5e-6 if args.dtype == "float32" else 5e-2
    if max(losses.values()) - min(losses.values()) > tolerance:
        raise RuntimeError(f"the variants disagree: losses {losses}.")
    row = dict(
        benchmark="step",
        head=head,
        lengths=lengths,
        stage=args.stage,
        dtype=args.dtype,
        tokens=result["tokens"],
        padding=round(result["padding"], 3),
        trained=round(result["trained"], 3),
        cpu_seconds={v: round(s, 3) for v, s in seconds.items()},
        ratio=round(seconds["plain"] / seconds["ours"], 2),
        ratio_to_checkpointing=round(
            seconds["plain+checkpointing"] / seconds["ours"], 2
        ),
        ratio_both_checkpointing=round(
            seconds["plain+checkpointing"] / seconds["ours+checkpointing"], 2
        ),
        must=MUSTS.get((head, lengths)),
    )
    if not args.no_memory:
        found = {v: _memory_in_child(args, head, lengths, v) for v in VARIANTS}
        row["step_mib"] = {v: m and round(m) for v, m in found.items()}
    return json.loads(json.dumps(row))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Format rows for reading, ratios beside the musts.

    With the large head, ours without checkpointing must need less memory than
    the plain step with it. With the small head, activations are nearly all there
    is: hold each against the one that checkpoints as it does.
    """
    lines = [
        "ratios of CPU time: plain/ours, plain+ckpt/ours, plain+ckpt/ours+ckpt",
        "head   lengths padding  ratio  must   vs ckpt  both ckpt",
    ]
    for row in rows:
        must = f">={row['must']}" if row["must"] else "-"
        lines.append(
            f"{row['head']:6} {row['lengths']:7} {row['padding']:7.0%}  "
            f"{row['ratio']:5.2f}  {must:6} {row['ratio_to_checkpointing']:7.2f}  "
            f"{row['ratio_both_checkpointing']:9.2f}"
        )
    for row in rows:
        if memory := row.get("step_mib"):
            shown = ", ".join(f"{name} {mib}" for name, mib in memory.items())
            lines.append(f"step MiB, {row['head']} head, {row['lengths']}: {shown}")
    return lines
