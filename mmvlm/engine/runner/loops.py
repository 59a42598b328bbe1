"""The train loop: one iteration is one optimizer step over all its micro-batches."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader, IterableDataset

from mmvlm.registry import LOOPS
from mmvlm.structures import VLMBatch
from mmvlm.utils import signals
from mmvlm.utils.dist import gather_integers, get_dist_info, sum_tensor

from .checkpoint import unwrap
from .identity import run_identity
from .rng import preserved_rng, set_rng_state
from .stream import MicroBatchStream

#: What a step's loss is the mean of: all its trained tokens, or its micro-batches.
LOSS_NORMS = ("token", "device")


@dataclass
class TrainStep:
    """Facts of one optimizer step, for hooks.

    Args:
        batches (list): this rank's micro-batches.
        num_targets (int): trained tokens over accumulation and ranks.
        num_tokens (int): LLM positions over accumulation and ranks.
        num_samples (int): conversations over accumulation and ranks.
        num_images (int): images over accumulation and ranks.
        balance (float): tokens of the mean rank over those of the fullest, 0-1.
        data_seconds (float): time that this rank waited for its micro-batches.
        losses (list[torch.Tensor]): of this rank's micro-batches.
        loss (float): mean over all trained tokens, or of the micro-batches' means
            (``loss_norm``); known when ``before_optim_step`` is called.
        log_vars (dict): what the model returned, losses summed over this rank's
            micro-batches, all else of the last one.
    """

    batches: list
    num_targets: int
    num_tokens: int
    num_samples: int
    num_images: int
    balance: float
    data_seconds: float
    losses: list[torch.Tensor] = field(default_factory=list)
    loss: float = math.nan
    log_vars: dict = field(default_factory=dict)

    def add(self, log_vars: dict) -> None:
        """Take what the model returned for one more micro-batch."""
        for name, value in log_vars.items():
            if isinstance(value, torch.Tensor):
                value = value.detach()
            if name.startswith("loss") and name in self.log_vars:
                value = self.log_vars[name] + value
            self.log_vars[name] = value


class LossReader:
    """Sum losses over ranks and hand them to the host without idling the device.

    :meth:`start` is called before the last backward and :meth:`read` after it: the
    host then waits for the forward only, while the backward is still queued.
    """

    def __init__(self) -> None:
        self._value: torch.Tensor | None = None
        self._event: Any = None

    def start(self, losses: list[torch.Tensor]) -> None:
        """Begin to sum this rank's losses and those of the others."""
        total = sum_tensor(torch.stack([loss.double() for loss in losses]).sum())
        if total.is_cuda:
            host = torch.empty((), dtype=total.dtype, pin_memory=True)
            host.copy_(total, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
            total = host
        self._value = total

    def read(self) -> float:
        """Return the sum."""
        if self._event is not None:
            self._event.synchronize()
        return float(self._value)


def _stream_of(dataloader: DataLoader) -> MicroBatchStream:
    """Return the stream of a loader, whether its dataset knows its length or not."""
    if not isinstance(dataloader.dataset, IterableDataset):
        return MicroBatchStream(dataloader)
    from .row_stream import RowStream

    return RowStream(dataloader)


def _counts(model: Any, batch: Any) -> dict[str, int] | None:
    """Return what each loss of a micro-batch is a sum of, by term.

    None for models that take something else than our flat batch.
    """
    inputs = batch.get("inputs") if isinstance(batch, dict) else None
    if not isinstance(inputs, VLMBatch):
        return None
    return unwrap(model).loss_counts(inputs)


def _sizes(batch: Any) -> list[int]:
    """Return LLM positions, samples and images of a micro-batch."""
    inputs = batch["inputs"]
    tokens = sum(len(stream) for stream in inputs.streams.values())
    return [tokens, inputs.num_samples, len(inputs.inputs.get("image", ()))]


def _changes(then: dict, now: dict) -> dict[str, str]:
    """Say which of the facts that decide the order of the data have changed."""
    pairs = [
        (key, then[key], now[key])
        for key in ("stream_length", "accumulation", "world_size")
    ]
    for part, facts in then.get("data", {}).items():
        known = now["data"].get(part, {})
        pairs += [(f"{part}.{key}", facts[key], known.get(key)) for key in facts]
    return {key: f"{old} then, {new} now" for key, old, new in pairs if old != new}


def _check_schedules(runner: Any) -> None:
    """Refuse schedules that need to know how long an epoch is."""
    schedules = getattr(runner, "param_schedulers", None)
    for schedule in schedules if isinstance(schedules, list) else [schedules]:
        if isinstance(schedule, dict) and schedule.get("convert_to_iter_based"):
            raise ValueError(
                f"param_scheduler {schedule.get('type')}: convert_to_iter_based needs "
                "the length of an epoch, which a stream does not know; give begin and "
                "end in steps."
            )


@LOOPS.register_module()
class VLMTrainLoop(BaseLoop):
    """Train by optimizer steps over one continuous stream of micro-batches.

    Every step fetches its micro-batches first, so that each of them can carry the
    number of trained tokens of the whole step: the gradient is that of the sum over
    all trained tokens divided by their number, however they are dealt to ranks and
    micro-batches. The logged loss is that mean as well. ``loss_norm="device"`` takes
    the mean of every micro-batch of every rank first and averages these means, as
    transformers' Trainer does in the official scripts: a token of a short answer
    then weighs more if its micro-batch holds few trained tokens.

    Args:
        runner (Runner): the runner.
        dataloader (DataLoader | dict): of training samples.
        max_epochs (int | None): passes over the data; the last step may be short.
        max_iters (int | None): optimizer steps; exactly one of the two is given.
        val_interval (int | None): epochs, or steps with ``max_iters``, between
            validations; None validates at the end only.
        val_begin (int): first epoch or step that may be validated.
        loss_norm (str): ``token``, one mean over the step's trained tokens, or
            ``device``, the mean of the means of its micro-batches, where one
            without a trained token counts as 0.

    Raises:
        ValueError: unless exactly one of ``max_epochs`` and ``max_iters`` is given,
            and for another ``loss_norm``.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        *,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        val_interval: int | None = None,
        val_begin: int = 1,
        loss_norm: Literal["token", "device"] = "token",
    ) -> None:
        if (max_epochs is None) == (max_iters is None):
            raise ValueError(
                "train_cfg: give one of max_epochs and max_iters, got "
                f"max_epochs={max_epochs}, max_iters={max_iters}."
            )
        if loss_norm not in LOSS_NORMS:
            raise ValueError(
                f"train_cfg.loss_norm={loss_norm!r}: expected one of "
                f"{list(LOSS_NORMS)}."
            )
        super().__init__(runner, dataloader)
        self.loss_norm = loss_norm
        self.accumulation = runner.accumulation
        self.stream = _stream_of(self.dataloader)
        self.by_epoch = max_epochs is not None
        if self.by_epoch:
            self._num_micro = self.stream.length_of(int(max_epochs))
            self._max_iters = math.ceil(self._num_micro / self.accumulation)
            self._max_epochs = int(max_epochs)
        else:
            self._max_iters = int(max_iters)
            self._num_micro = self._max_iters * self.accumulation
            self._max_epochs = self.stream.epochs_of(self._num_micro)
        if self.stream.length is None:
            _check_schedules(runner)
        self.val_interval = val_interval
        self.val_begin = val_begin
        #: Set by EarlyStoppingHook.
        self.stop_training = False
        self.completed_steps = 0
        self._epoch = 0
        self._iter = 0
        self._closing_epoch = False
        self._to_validate = False  # an epoch is closed, what follows it is not over
        self._resumed_rng: Any = None
        self._resumed = False
        self._reader = LossReader()
        self.step: TrainStep | None = None
        #: Number of the signal that stopped the run, on all ranks.
        self.stopped_by = 0

    @property
    def max_epochs(self) -> int:
        """Epochs that the run touches."""
        return self._max_epochs

    @property
    def max_iters(self) -> int:
        """Optimizer steps of the run."""
        return self._max_iters

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return self._epoch

    @property
    def iter(self) -> int:
        """Optimizer steps that are over (in hooks of a step: before it)."""
        return self._iter

    # Saving and restoring ---------------------------------------------------

    def state_dict(self) -> dict:
        """Return the place in the run, in plain values."""
        return dict(
            iter=self.completed_steps,
            epoch=self._epoch + self._closing_epoch,
            to_validate=self._to_validate,
            stream_epoch=self.stream.epoch,
            stream_position=self.stream.position,
            stream_length=self.stream.length,
            accumulation=self.accumulation,
            world_size=get_dist_info()[1],
            data=self.stream.fingerprint(),
        )

    def changes_since(self, state: dict) -> dict[str, str]:
        """Return what decides the order of the data and is not as it was then.

        Args:
            state (dict): from :meth:`state_dict`.
        """
        place = (self.stream.epoch, self.stream.position)
        self.stream.seek(state["stream_epoch"], state["stream_position"])
        changed = _changes(state, self.state_dict())
        self.stream.seek(*place)
        return changed

    def load_state_dict(
        self, state: dict, rng_state: Any = None, *, take_over: bool = False
    ) -> None:
        """Go to a saved place; nothing before it is loaded.

        Args:
            state (dict): from :meth:`state_dict`.
            rng_state (Any): of this rank, restored when training starts.
            take_over (bool): accept data that are dealt differently: the run goes on
                at the same share of the epoch.

        Raises:
            ValueError: when the data or the way they are dealt have changed.
        """
        changed = self.changes_since(state)
        if changed and not (take_over and self.stream.length):
            raise ValueError(
                "cannot resume exactly, the data are dealt differently: "
                + "; ".join(f"{key}: {text}" for key, text in changed.items())
                + ". (stream_length counts micro-batches per epoch and rank.) Restore "
                "these settings, or start a new run with load_from."
            )
        self._iter = state["iter"]
        if changed:
            self._go_to_share(state)
        else:
            self.stream.seek(state["stream_epoch"], state["stream_position"])
        self.completed_steps = self._iter
        self._epoch = state["epoch"]
        self._to_validate = state.get("to_validate", False)
        self._resumed_rng = rng_state
        self._resumed = True

    def _go_to_share(self, state: dict) -> None:
        """Go where the epoch is as far as it was; steps of epochs are counted anew."""
        epoch, share = state["stream_epoch"], state["stream_position"]
        length = self.stream.length_at(epoch)
        position = int(share * length / state["stream_length"])
        if self.by_epoch:
            before = self.stream.length_of(epoch)
            self._iter = (before + position) // self.accumulation
            position = max(0, self._iter * self.accumulation - before)
        self.stream.seek(epoch, position)

    # Running ----------------------------------------------------------------

    def run(self) -> torch.nn.Module:
        """Train; returns the (wrapped) model."""
        runner = self.runner
        runner.optim_wrapper.callbacks.losses_ready = self._losses_ready
        runner.optim_wrapper.callbacks.before_step = self._before_step
        run_identity(runner)  # reads the data: not while a signal's grace runs out
        runner.call_hook("before_train")
        if self._resumed_rng is not None:
            set_rng_state(self._resumed_rng)
            self._resumed_rng = None
        try:
            with signals.noting():
                self._run_steps()
                if self.stopped_by:
                    signals.stop(self.stopped_by)
                    runner.call_hook("after_stop", number=self.stopped_by)
        finally:
            self.stream.close()
        runner.call_hook("after_train")
        return runner.model

    def _run_steps(self) -> None:
        """Make steps until the last one, or until a signal stops the run."""
        runner, in_epoch = self.runner, False
        if self._resumed:
            self._boundaries()
        while self._iter < self._max_iters and not self.stop_training:
            if not in_epoch:
                runner.call_hook("before_train_epoch")
                in_epoch = True
            runner.model.train()
            if self.stopped_by or not self.run_iter():
                return
            in_epoch = self.stream.epoch == self._epoch
            self._boundaries()
        if in_epoch and not self.stopped_by:
            self._close_epoch()

    def run_iter(self) -> bool:
        """Make one optimizer step; False when a signal stops the run before it."""
        runner, place = self.runner, (self.stream.epoch, self.stream.position)
        step = self._fetch()
        if self.stopped_by:
            # What was fetched is not trained on: it comes again after a resume.
            self.stream.seek(*place)
            return False
        self.step = step
        runner.call_hook(
            "before_train_iter", batch_idx=self._iter, data_batch=step.batches
        )
        for batch in step.batches:
            found = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            step.add(found)
        self.completed_steps = self._iter + 1
        runner.call_hook(
            "after_train_iter",
            batch_idx=self._iter,
            data_batch=step.batches,
            outputs=dict(loss=step.loss),
        )
        self._iter += 1
        return True

    def _fetch(self) -> TrainStep:
        """Load the step's micro-batches and give them the step's denominator."""
        done = self._iter * self.accumulation
        num_micro = min(self.accumulation, self._num_micro - done)
        start = time.perf_counter()
        batches = [self.stream.next() for _ in range(num_micro)]
        seconds = time.perf_counter() - start

        counts = [_counts(self.runner.model, batch) for batch in batches]
        known = None not in counts
        own = [0, 0, 0]
        if known:
            sizes = [_sizes(batch) for batch in batches]
            own = [sum(column) for column in zip(*sizes, strict=True)]
            own += [sum(count[term] for count in counts) for term in counts[0]]
        # Signals travel with the counts: all ranks stop before the same step.
        ranks = gather_integers([signals.received(), *own])
        self.stopped_by = max(rank[0] for rank in ranks)
        _, *total = (sum(column) for column in zip(*ranks, strict=True))
        divisor = self.runner.optim_wrapper.loss_divisor
        fullest = max(rank[1] for rank in ranks)
        targets = 0
        if not known:
            total[1] = sum(len(batch.get("data_samples") or ()) for batch in batches)
            self.runner.optim_wrapper.begin_step(num_micro, divisor / num_micro)
        else:
            totals = dict(zip(counts[0], total[3:], strict=True))
            targets = total[3]
            for batch, count in zip(batches, counts, strict=True):
                batch["inputs"].denominators = {
                    term: self._denominator(totals[term], count[term], num_micro)
                    for term in totals
                }
            self.runner.optim_wrapper.begin_step(num_micro)
        world_size = get_dist_info()[1]
        return TrainStep(
            batches,
            targets,
            *total[:3],
            balance=total[0] / (world_size * fullest) if fullest else 1.0,
            data_seconds=seconds,
        )

    def _denominator(self, total: int, count: int, num_micro: int) -> float:
        """Return what a micro-batch's sum of one loss is divided by.

        Gradients are averaged over ranks and, under DeepSpeed, divided by the
        accumulation: both are taken out of it.

        Args:
            total (int): count of the term over accumulation and ranks.
            count (int): of this micro-batch.
            num_micro (int): micro-batches of the step.
        """
        divisor = self.runner.optim_wrapper.loss_divisor
        if self.loss_norm == "device":
            return max(count, 1) * num_micro / divisor
        return max(total, 1) / (get_dist_info()[1] * divisor)

    def named_losses(self) -> dict[str, float]:
        """Return the last step's losses by name, where there are several.

        Called by all ranks together: it sums over them.
        """
        names = [n for n in self.step.log_vars if n.startswith("loss")]
        if len(names) < 2:
            return {}
        values = [torch.as_tensor(self.step.log_vars[name]).double() for name in names]
        divisor = get_dist_info()[1] * self.runner.optim_wrapper.loss_divisor
        total = (sum_tensor(torch.stack(values)) / divisor).tolist()
        shown = ["loss_text" if name == "loss" else name for name in names]
        return dict(zip(shown, total, strict=True))

    def _losses_ready(self, losses: list[torch.Tensor]) -> None:
        self.step.losses = losses
        self._reader.start(losses)

    def _before_step(self) -> None:
        divisor = get_dist_info()[1] * self.runner.optim_wrapper.loss_divisor
        self.step.loss = self._reader.read() / divisor
        self.runner.call_hook("before_optim_step", step=self.step)

    def _close_epoch(self) -> None:
        # Hooks still see the old number; what they save has the epoch closed.
        self._closing_epoch = True
        self.runner.call_hook("after_train_epoch")
        self._closing_epoch = False
        self._epoch += 1

    def _boundaries(self) -> None:
        """Close an epoch that is over and validate where it is due."""
        while self.stream.epoch > self._epoch:
            self._to_validate = True
            self._close_epoch()
        closed = self._to_validate
        at_end = self._iter >= self._max_iters
        count = self._epoch if self.by_epoch else self._iter
        due = self.val_interval is not None and count % self.val_interval == 0
        due = due and count >= self.val_begin and (closed or not self.by_epoch)
        if self.runner.val_loop is not None and (due or at_end):
            try:
                with preserved_rng():
                    self.runner.val_loop.run()
            except signals.Stopped as stop:
                # It is run again after a resume; what is trained is not touched.
                self.stopped_by = stop.number
                return
        self._to_validate = False
