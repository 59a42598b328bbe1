"""Count the FLOP of a model's forward and backward pass, part by part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mmvlm.config.meta_model import (
    build_on_meta,
    sample_layout,
    training_steps,
    without_options,
)
from mmvlm.utils.text_table import text_table

#: Text tokens of the counted sample: question and answer.
PROMPT_TOKENS, ANSWER_TOKENS = 64, 64


@dataclass
class PartFlops:
    """One line of the table.

    Args:
        part (str): name.
        type (str): class.
        parameters (int): all weights.
        trainable (int): trained weights.
        forward (int | None): FLOP of one sample; None where it was not counted.
        backward (int | None): likewise; 0 where no gradient goes through.

    """

    part: str
    type: str
    parameters: int
    trainable: int
    forward: int | None
    backward: int | None


@dataclass
class FlopsReport:
    """What one sample costs.

    Args:
        config (str): file.
        parts (list[PartFlops]): in the order of the data.
        num_views (int): views of the sample's image; 0 without one.
        view_size (tuple[int, int]): their height and width in pixels.
        image_tokens (int): LLM positions of the image.
        prompt_tokens, answer_tokens (int): text of the sample.

    """

    config: str
    parts: list[PartFlops]
    num_views: int
    view_size: tuple[int, int]
    image_tokens: int
    prompt_tokens: int
    answer_tokens: int

    @property
    def tokens(self) -> int:
        """Positions of the language model."""
        return self.image_tokens + self.prompt_tokens + self.answer_tokens

    @property
    def forward(self) -> int:
        """FLOP of the forward pass."""
        return sum(row.forward or 0 for row in self.parts)

    @property
    def backward(self) -> int:
        """FLOP of the backward pass."""
        return sum(row.backward or 0 for row in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        names = ("tokens", "forward", "backward")
        return {**dataclasses.asdict(self), **{k: getattr(self, k) for k in names}}


def count_flops(
    cfg: Any,
    *,
    prompt_tokens: int = PROMPT_TOKENS,
    answer_tokens: int = ANSWER_TOKENS,
    backward: bool = True,
) -> FlopsReport:
    """Run one sample through ``cfg.model`` without weights and count.

    A sample is an image of 640 x 480 pixels in the views of the config's own
    pipeline, a prompt and an answer; head and loss see the answer only. An
    operation is counted where PyTorch runs it: matrix products, convolutions and
    attention, a multiply-add as 2, causal attention as the full square, nothing
    twice (activation checkpointing is off). Backward is that of the config's
    training: nothing for a frozen tower, half for frozen weights that gradients
    pass through.

    Args:
        cfg (mmengine.Config): a checked config.
        prompt_tokens (int): text before the answer, without the image.
        answer_tokens (int): trained text.
        backward (bool): also count the backward pass.

    Raises:
        ValueError: for negative numbers or no answer, if a part cannot be built
            without its weights, or computes by the values of its input, or for a
            model with neither a language model nor an ``image_encoder``.

    """
    if prompt_tokens < 0 or answer_tokens < 1:
        raise ValueError(
            f"prompt_tokens={prompt_tokens}, answer_tokens={answer_tokens}: expected "
            "0 or more, and 1 or more."
        )
    model = build_on_meta(without_options(cfg["model"], "gradient_checkpointing"))
    model.train()
    for module in model.modules():
        if hasattr(module, "layerdrop"):
            module.training = False  # it would draw whether a layer is left out
    has_text = hasattr(model, "language_model")
    if not has_text and getattr(model, "image_encoder", None) is None:
        raise ValueError(
            f"{type(model).__name__}: has neither a language_model nor an "
            "image_encoder, so there is no sample to count it on."
        )
    takes_images = not has_text or getattr(model, "image_connector", None) is not None
    layout, image_tokens = None, 0
    if takes_images and model.vision_spec is not None:
        layout = sample_layout(training_steps(cfg), model)
    if takes_images and has_text:
        image_tokens = model.token_count(layout)
    texts = (prompt_tokens, answer_tokens)
    with _fake_tensors(), _refusing_values(model):
        model.to_empty(device="cpu")
        if has_text:
            batch = _batch(model, layout, image_tokens, *texts)
            counts = _count_steps(model, batch, backward)
        else:
            counts, texts = _count_tower(model, layout), (0, 0)
    return FlopsReport(
        config=cfg.filename or "",
        parts=_rows(model, counts, backward),
        num_views=0 if layout is None else layout.num_views,
        view_size=(0, 0) if layout is None else tuple(layout.view_size),
        image_tokens=image_tokens,
        prompt_tokens=texts[0],
        answer_tokens=texts[1],
    )


def _fake_tensors() -> Any:
    """Tensors with a shape and a device but no memory; attention in plain products.

    The device is the CPU and not ``meta``, for which transformers' code knows no
    autocast.
    """
    from contextlib import ExitStack

    from torch._subclasses import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel

    stack = ExitStack()
    stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    return stack


@contextmanager
def _refusing_values(model: Any) -> Iterator[None]:
    """Say in plain words that a model asks for values, which are not there."""
    from torch._subclasses.fake_tensor import (
        DataDependentOutputException,
        DynamicOutputShapeException,
    )

    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise ValueError(
            f"{type(model).__name__}: a part of it works by the values of its input "
            f"({error}), for example sends tokens to modules by what they are; that "
            "cannot be counted without values. Count the model without that part."
        ) from error
    except RuntimeError as error:
        if "Couldn't swap" not in str(error):
            raise
        raise ValueError(
            f"{type(model).__name__}: a part of it keeps hold of another's weights "
            f"({error}), so it cannot be counted without values. Count the model "
            "without that part."
        ) from error


def _batch(model: Any, layout: Any, image: int, prompt: int, answer: int) -> Any:
    """Return a sample: image, prompt, answer."""
    import numpy as np
    import torch

    from mmvlm.models.utils.feed import parse_source
    from mmvlm.structures import (
        IGNORE_INDEX,
        EncodedSample,
        Inputs,
        TokenStream,
        VLMBatch,
    )

    length = image + prompt + answer
    labels = np.full(length, IGNORE_INDEX)
    labels[length - answer :] = 0
    stream = TokenStream.join([EncodedSample(np.zeros(length, np.int64), labels)])
    inputs = {}
    if layout is not None:
        pixels = torch.zeros(layout.num_views, 3, *layout.view_size)
        slots = torch.arange(image)
        inputs["image"] = Inputs(pixels, (0,), (layout,), slots, (image,))
        reads = [
            parse_source(one)[0] for c in model.connectors.values() for one in c.reads
        ]
        if "question" in reads:
            words = torch.ones(1, max(prompt, 1), dtype=torch.int64)
            inputs["question"] = Inputs(words, (0,), parent=(0,))
    return VLMBatch(dict(text=stream), inputs, sample_ids=("sample",))


class _Marks:
    """Splits a running count at the borders of parts.

    Backward runs the operations of forward in reverse order, so what is counted
    between the gradient of one part's output and that of the part before it was
    done by the former.
    """

    def __init__(self, counter: Any) -> None:
        self.counter = counter
        self.forward: dict[str, int] = {}
        self.backward: list[tuple[str, int]] = []

    def watch(self, name: str, module: Any) -> Iterator[Any]:
        """Yield the handles of hooks that count a part's calls."""
        began: list[int] = []

        def before(module: Any, args: Any) -> None:
            began.append(self.counter.get_total_flops())

        def after(module: Any, args: Any, output: Any) -> None:
            done = self.counter.get_total_flops() - began.pop()
            self.forward[name] = self.forward.get(name, 0) + done
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda grad: self._mark(name))

        yield module.register_forward_pre_hook(before)
        yield module.register_forward_hook(after)

    def _mark(self, name: str) -> None:
        self.backward.append((name, self.counter.get_total_flops()))

    def split_backward(self, last: str, start: int) -> dict[str, int]:
        """Return the FLOP of every part after ``start``; ``last`` ran first."""
        result, owner, since = {last: 0}, last, start
        for name, now in [*self.backward, (last, self.counter.get_total_flops())]:
            result[owner] = result.get(owner, 0) + now - since
            owner, since = name, now
        return result


def _tensors(value: Any) -> Iterator[Any]:
    """Yield the tensors of a part's output."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif dataclasses.is_dataclass(value):
        yield from _tensors(tuple(vars(value).values()))


def _count_steps(model: Any, batch: Any, backward: bool) -> dict[str, tuple[int, int]]:
    """Return forward and backward FLOP by part of a training step.

    What no other part's ``forward`` did is the language model's: its embedding
    and its head are called outside of it.
    """
    from torch.utils.flop_counter import FlopCounterMode

    last = "language_model"
    counter = FlopCounterMode(display=False)
    marks = _Marks(counter)
    handles = [
        handle
        for name, module in model.parts.items()
        if name != last
        for handle in marks.watch(name, module)
    ]
    with counter:
        loss = model(batch, None, mode="loss")["loss"]
        start = counter.get_total_flops()
        if backward and loss.requires_grad:
            loss.backward()
    for handle in handles:
        handle.remove()
    forward = {last: start - sum(marks.forward.values()), **marks.forward}
    back = marks.split_backward(last, start)
    return {name: (forward.get(name, 0), back.get(name, 0)) for name in model.parts}


def _count_tower(model: Any, layout: Any) -> dict[str, tuple[int, None]]:
    """Return the forward FLOP of the encoder of a model without language model."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    pixels = torch.zeros(layout.num_views, 3, *layout.view_size)
    with FlopCounterMode(display=False) as counter:
        model.image_encoder(pixels, (getattr(model, "select_layer", -1),))
    (name,) = (k for k, part in model.parts.items() if part is model.image_encoder)
    return {name: (counter.get_total_flops(), None)}


def _rows(model: Any, counts: dict, backward: bool) -> list[PartFlops]:
    modules = getattr(model, "parts", None) or {
        name: part
        for name, part in model.named_children()
        if name != "data_preprocessor"
    }
    rows = []
    for name, module in modules.items():
        sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
        forward, back = counts.get(name, (None, None))
        rows.append(
            PartFlops(
                part=name,
                type=type(module).__name__,
                parameters=sum(size for size, _ in sizes),
                trainable=sum(size for size, train in sizes if train),
                forward=forward,
                backward=back if backward else None,
            )
        )
    return rows


def human(flops: int | None) -> str:
    """Write a number of FLOP in G or T.

    Example:
        >>> human(366_033_858_560), human(5_000_000), human(0), human(None)
        ('366.03 G', '0.005 G', '0', '-')

    """
    if not flops:
        return "-" if flops is None else "0"
    if flops >= 1e12:
        return f"{flops / 1e12:.3f} T"
    return f"{flops / 1e9:.2f} G" if flops >= 1e7 else f"{flops / 1e9:.3f} G"


def render_flops(report: FlopsReport) -> str:
    """Return the report as an aligned text table."""
    lines = [("part", "type", "parameters", "trainable", "forward", "backward")]
    for row in report.parts:
        sizes = (f"{row.parameters:,}", f"{row.trainable:,}")
        costs = (human(row.forward), human(row.backward))
        lines.append((row.part, row.type, *sizes, *costs))
    sizes = (
        f"{sum(getattr(row, name) for row in report.parts):,}"
        for name in ("parameters", "trainable")
    )
    counted = any(row.backward is not None for row in report.parts)
    back = human(report.backward) if counted else "-"
    lines.append(("total", "", *sizes, human(report.forward), back))
    height, width = report.view_size
    views = f"{report.num_views} x {width}x{height} pixels -> " * bool(report.num_views)
    positions = (
        f"{report.image_tokens} image tokens + {report.prompt_tokens} prompt + "
        f"{report.answer_tokens} answer = {report.tokens} positions"
    )
    sample = positions if report.tokens else "encoder only"
    units = "FLOP, multiply-add as 2"
    return f"{text_table(lines, left=2)}\none sample: {views}{sample}; {units}"
