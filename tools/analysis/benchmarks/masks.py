"""Rows of the benchmark of regions that are about masks: decoder, loss, reply, scores.

The plain way is LISA's: masks decoded image by image, losses of all masks at once
with dense targets, a reply without a cache and alone, the states of a reply from a
second pass, scores from arrays of pixels. Both ways run in turns and give equal
results, which is looked at first.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from .generating import in_turns, make_model

Result = Sequence[torch.Tensor]
#: [SEG] of the random decoder's vocabulary, and where a reply says it.
_TOKEN, _PLACE = 5, 6


def in_turns_equal(
    what: str, ways: Sequence[Callable[[], Result]], repeats: int, atol: float = 1e-5
) -> tuple[float, float]:
    """Return the median CPU seconds of the plain way and of ours.

    Raises:
        RuntimeError: when their results differ by more than ``atol`` of the largest.
    """
    seconds, (plain, ours) = in_turns(ways, repeats)
    check_equal(what, plain, ours, atol)
    return seconds[0], seconds[1]


def check_equal(what: str, plain: Result, ours: Result, atol: float = 1e-5) -> None:
    """Compare the results of two ways.

    Raises:
        RuntimeError: when they differ.
    """
    for want, got in zip(plain, ours, strict=True):
        scale = max(1.0, want.abs().max().item()) if want.numel() else 1.0
        same = want.shape == got.shape and torch.allclose(want, got, 0, atol * scale)
        if not same:
            raise RuntimeError(f"{what}: ours differs from the plain way.")


# The decoder and the loss -----------------------------------------------------------


def decoder_row(args: argparse.Namespace) -> tuple[float, float]:
    """Decode three masks of each of eight images: seconds of both ways."""
    from mmvlm.models.heads.sam_decoder import SAMDecoder
    from mmvlm.structures import MapSpec, VisionEncoderSpec

    torch.manual_seed(0)
    width, grid = args.decoder_width, args.decoder_grid
    maps = (MapSpec("neck", width),)
    spec = VisionEncoderSpec(8, 1, 8, 8 * grid, maps=maps)
    sizes = dict(mlp_dim=8 * width, num_attention_heads=8, iou_head_hidden_dim=width)
    decoder = SAMDecoder(spec, mask_decoder=sizes).eval()
    images = torch.randn(8, width, grid, grid)
    prompts = torch.randn(8, 3, 1, 1, width)

    @torch.no_grad()
    def plain() -> Result:
        pairs = zip(images, prompts, strict=True)
        masks = [decoder(i[None].expand(3, -1, -1, -1), own)[0] for i, own in pairs]
        return [torch.cat(masks)]

    @torch.no_grad()
    def ours() -> Result:
        number = torch.arange(8).repeat_interleave(3)
        return [decoder(images[number], prompts.flatten(0, 1))[0]]

    return in_turns_equal("mask decoding", (plain, ours), args.repeats)


def peak_bytes(work: Callable[[], Any]) -> int:
    """Return by how many bytes the memory of this process rises in some work.

    Linux with glibc only: the kernel's mark of the highest resident size is set back
    before. Large blocks must not be kept: see :func:`loss_peaks`.
    """
    # Nothing that is free stays, so that the mark is that of tensors.
    ctypes.CDLL(None).malloc_trim(0)

    def resident(name: str) -> int:
        with open("/proc/self/status", encoding="ascii") as file:
            found = next(line for line in file if line.startswith(name))
        return int(found.split()[1]) * 1024

    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = resident("VmRSS:")
    work()
    return resident("VmHWM:") - before


def blob(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return a mask of three ellipses: (H, W), bool."""
    rows, cols = np.ogrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(3):
        y, x = rng.uniform(0.2, 0.8, 2) * size
        ry, rx = rng.uniform(0.05, 0.25, 2) * size
        mask |= ((rows - y) / ry) ** 2 + ((cols - x) / rx) ** 2 < 1
    return mask


def loss_row(args: argparse.Namespace) -> tuple[int, int]:
    """Return the peak bytes of the losses of some masks, forward and backward.

    In a process of its own: what earlier rows have freed is a heap of holes, which
    one way fills and the other then finds full.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(loss_peaks, tuple(args.loss_size)).result()


def loss_peaks(size: tuple[int, int]) -> tuple[int, int]:
    """Return by how much both ways let the memory of this process rise."""
    from mmvlm.models.heads.mask_losses import mask_bce, mask_dice, summed_mask_losses
    from mmvlm.models.utils.sam import restore_masks
    from mmvlm.structures import ViewLayout
    from mmvlm.structures.masks import mask_to_rle, rle_runs

    # Blocks of a tensor's size are mapped alone, so that they go back when freed.
    ctypes.CDLL(None).mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD
    torch.set_num_threads(1)
    rng, side = np.random.default_rng(0), 1024
    scale = side / max(size)
    layout = ViewLayout(size, tuple(int(one * scale + 0.5) for one in size))
    rles = [mask_to_rle(blob(rng, size)) for _ in range(3)]
    runs = [torch.from_numpy(rle_runs(rle)) for rle in rles]
    low = torch.randn(3, 256, 256, requires_grad=True)

    def plain() -> Result:
        from mmvlm.structures.masks import rle_to_mask

        targets = [torch.from_numpy(rle_to_mask(rle)).float() for rle in rles]
        goal, full = torch.stack(targets), restore_masks(low, layout, side)
        sums = torch.stack([mask_bce(full, goal).sum(), mask_dice(full, goal).sum()])
        return [sums.detach(), *torch.autograd.grad(sums.sum(), low)]

    def ours() -> Result:
        sums = summed_mask_losses(low, runs, [layout] * 3, side)
        return [sums.detach(), *torch.autograd.grad(sums.sum(), low)]

    check_equal("mask losses", plain(), ours())  # the warm-up as well
    return peak_bytes(plain), peak_bytes(ours)


# Replies ----------------------------------------------------------------------------


def make_lisa(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return a random LISA with a tiny SAM, and eight prompts of an image each."""
    from mmvlm.models.heads.sam_mask import SAMMaskHead
    from mmvlm.models.vision_encoders.hf_vision import HFVisionEncoder
    from mmvlm.models.vision_encoders.sam import SAMVisionEncoder
    from mmvlm.models.vlms.base import VisionLanguageModel
    from mmvlm.structures import IGNORE_INDEX, SLOT_TOKEN_ID, Inputs, ViewLayout
    from mmvlm.testing import make_batch

    decoder = make_model(argparse.Namespace(**{**vars(args), "width": args.llm_width}))
    tower = dict(model_type="clip_vision_model", image_size=168, patch_size=14)
    tower.update(hidden_size=128, intermediate_size=512, num_attention_heads=2)
    tower.update(num_hidden_layers=4)
    sam = SAMVisionEncoder.tiny()
    sam.reads = ("image_hi",)
    head = dict(type="SAMMaskHead", token="[SEG]")
    head["mask_decoder"] = dict(SAMMaskHead.tiny_decoder)
    model = VisionLanguageModel(
        decoder,
        HFVisionEncoder(config=tower),
        dict(type="MLPConnector"),
        encoders=dict(sam=sam),
        heads=dict(mask=head),
    ).eval()
    model.bind(_Words())
    generator = torch.Generator().manual_seed(0)
    count, slots = args.prompts, [SLOT_TOKEN_ID] * 144
    lengths = torch.randint(12, 40, (count,), generator=generator).tolist()
    ids = [torch.randint(9, 99, (n,), generator=generator).tolist() for n in lengths]
    samples = [([1, *slots, *own], [IGNORE_INDEX] * (145 + len(own))) for own in ids]
    pixels = torch.randn(count, 3, 168, 168, generator=generator)
    batch = make_batch(samples, pixels)
    views = torch.randn(count, 3, 32, 32, generator=generator)
    layouts = (ViewLayout((96, 96), (32, 32)),) * count
    batch.inputs["image_hi"] = Inputs(views, tuple(range(count)), layouts)
    return model, batch


class _Words:
    """Tokenizer, template and reader of the random decoder's ids."""

    eos_token_id, unk_token_id, all_special_tokens = None, 0, ()
    template = None

    @property
    def tokenizer(self) -> _Words:
        return self

    def convert_tokens_to_ids(self, token: str) -> int:
        return _TOKEN

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        return ""

    def read_reply(self, sample: Any, stops: Sequence[str] = ()) -> None:
        from mmvlm.structures import Boxes, Region

        said = sample.pred_ids.count(_TOKEN)
        sample.pred_regions = (Region(0, Boxes([], (96, 96)), kind="mask"),) * said
        sample.problems = ()


def say(step: Any) -> None:
    """Make every reply say [SEG] once."""
    for row in range(len(step.ids)):
        if step.ids.shape[1] == _PLACE:
            step.allow(row, [_TOKEN])
        else:
            step.forbid(row, [_TOKEN])


def _alone(batch: Any) -> Iterator[Any]:
    """Yield the samples of a batch of an image each, one by one."""
    from mmvlm.structures import Inputs
    from mmvlm.testing import make_batch

    pixels, large = batch.inputs["image"].values, batch.inputs["image_hi"]
    prompts = batch.text.input_ids.split(batch.text.seq_lens)
    for number, ids in enumerate(prompts):
        own = ids.tolist()
        one = make_batch([(own, own)], pixels[number : number + 1])
        views = large.values[number : number + 1]
        one.inputs["image_hi"] = Inputs(views, (0,), large.layouts[:1])
        yield one


@torch.no_grad()
def uncached_replies(model: Any, batch: Any, length: int) -> Result:
    """Return ids and mask logits as LISA's loop makes them: every step from the start.

    The state before [SEG] prompts the mask, once the reply is whole.
    """
    ids, masks = [], []
    for one in _alone(batch):
        hidden, said = model.embed(one), []
        for place in range(length):
            count = len(hidden)
            offsets = torch.tensor([0, count], dtype=torch.int32)
            states = model.language_model(
                hidden, torch.arange(count), offsets, (count,)
            )
            logits = model.language_model.logits(states[-1:])[0]
            logits[_TOKEN] = -torch.inf
            token = _TOKEN if place == _PLACE else int(logits.argmax())
            if place == _PLACE:
                state = states[-1:]
            said.append(token)
            row = model.language_model.embed(torch.tensor([token]))
            hidden = torch.cat([hidden, row])
        ids.append(torch.tensor(said, dtype=torch.float32))
        neck = model.sam(one.inputs["image_hi"].values).maps["neck"]
        masks.append(model.mask(state, neck)[0])
    return [torch.stack(ids), torch.cat(masks)]


def replies(model: Any, batch: Any, length: int) -> Result:
    """Return ids and mask logits of our replies, all in one batch."""
    logits: list[torch.Tensor] = []
    hook = model.mask.register_forward_hook(lambda *call: logits.append(call[2][0]))
    done = model.predict(batch, max_new_tokens=length, stop_ids=[], on_step=say)
    hook.remove()
    ids = [one.pred_ids for one in done]
    return [torch.tensor(ids, dtype=torch.float32), *logits]


def reply_row(args: argparse.Namespace) -> tuple[float, float]:
    """Return seconds of replies with a mask, without a cache and ours."""
    model, batch = make_lisa(args)
    ways = [
        partial(way, model, batch, args.reply_tokens)
        for way in (uncached_replies, replies)
    ]
    return in_turns_equal("replies with a mask", ways, args.repeats)


def states_row(args: argparse.Namespace) -> tuple[float, float]:
    """Return seconds of short replies and the states of [SEG], both ways."""
    from mmvlm.models.utils.reply_states import second_pass

    model, batch = make_lisa(args)
    decoder, new = model.language_model, args.state_tokens
    with torch.no_grad():
        embeds = model.embed(batch)
    options = dict(max_new_tokens=new, stop_ids=[], on_step=say)

    def ours() -> Result:
        done = decoder.generate(embeds, batch.text.seq_lens, catch=[_TOKEN], **options)
        return [torch.cat([one.states for one in done])]

    @torch.no_grad()
    def plain() -> Result:
        done = decoder.generate(embeds, batch.text.seq_lens, **options)

        def hidden_states(whole: Any, rows: torch.Tensor) -> torch.Tensor:
            pieces = embeds.split(batch.text.seq_lens)
            said = [decoder.embed(one.ids) for one in done]
            both = [part for pair in zip(pieces, said, strict=True) for part in pair]
            return decoder.hidden_states(
                torch.cat(both), whole.prompt, whole.text, rows
            )

        found = second_pass(hidden_states, batch, done, [_TOKEN], "before")
        return [torch.cat(found)]

    return in_turns_equal("caught states", (plain, ours), args.repeats)


# Scores -----------------------------------------------------------------------------


def scoring_row(args: argparse.Namespace) -> tuple[float, float]:
    """Return seconds of the overlaps of pairs of masks, from pixels and from runs."""
    from mmvlm.evaluation.functional.masks import pixel_overlap, rle_overlap
    from mmvlm.structures.masks import mask_to_rle, rle_to_mask

    rng, size = np.random.default_rng(0), (480, 640)
    kept = [mask_to_rle(blob(rng, size)) for _ in range(min(args.masks, 100) + 1)]
    number = [n % (len(kept) - 1) for n in range(args.masks)]
    pairs = [(kept[n], kept[n + 1]) for n in number]

    def plain() -> Result:
        found = [pixel_overlap(*map(rle_to_mask, pair)) for pair in pairs]
        return [torch.tensor(found, dtype=torch.float64)]

    def ours() -> Result:
        found = [rle_overlap(*pair) for pair in pairs]
        return [torch.tensor(found, dtype=torch.float64)]

    return in_turns_equal("scores of masks", (plain, ours), args.repeats, 0)
