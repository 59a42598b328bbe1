"""The state of a checkpoint, given back to a run that goes on."""

from __future__ import annotations

import copy
import logging
import warnings
from typing import Any

from mmengine.logging import HistoryBuffer, MessageHub, print_log
from torch import nn

from mmvlm.config.old_keys import RENAMED

from .checkpoint import (
    FORMAT,
    frozen_differences,
    load_file,
    load_parts,
)
from .identity import run_identity

#: A run may be made longer or shorter: the schedules follow.
LENGTH = ("train_cfg.max_iters", "train_cfg.max_epochs")


def load_hub_state(hub: MessageHub, state: dict) -> None:
    """Restore what :func:`hub_state` returned."""
    for name, one in state.items():
        hub.log_scalars[name] = HistoryBuffer(
            one["values"].tolist(), one["counts"].tolist()
        )


def read_resumable(path: str) -> dict:
    """Read a checkpoint that a run can be resumed from.

    Raises:
        ValueError: when it holds weights only or is foreign.
    """
    content = load_file(path)
    if content["meta"].get("format") != FORMAT or "loop" not in content:
        raise ValueError(
            f"checkpoint '{path}' holds no training state of mmvlm, so it cannot be "
            f"resumed. To start from its weights, use load_from='{path}'."
        )
    return content


def resume_weights(model: nn.Module, content: dict, path: str) -> None:
    """Load the weights of a run that goes on; frozen parts must be the same.

    Raises:
        ValueError: when a left-out frozen part is not the one of the saved run.
    """
    load_parts(model, dict(content, path=path))
    differing = frozen_differences(model, content["meta"])
    if differing:
        raise ValueError(
            f"cannot resume '{path}': it leaves out frozen parts, and {differing} are "
            "not those that it was trained with. Give the run the same load_from and "
            "the same pretrained weights."
        )


def resume_training_state(runner: Any, content: dict, path: str) -> None:
    """Restore everything but the weights.

    Settings that training depends on must be those of the checkpoint. Another length
    of the run is warned of; other changes are taken over with
    ``resume_with_changes=True`` in the config. Schedules then begin anew with what
    holds now and are brought to the place of the run.

    Raises:
        ValueError: naming each changed setting, and when optimizer or schedule do
            not fit.
    """
    changed = _check_changes(runner, content, path)
    fresh = [_without_params(group) for group in runner.optim_wrapper.param_groups]
    state_io = runner.state_io
    if hasattr(state_io, "load_masters"):
        state_io.load_masters(content["state_dict"])
    state_io.load_optim_state(content["optimizer"])
    rng = content["rng"]
    runner.train_loop.load_state_dict(
        content["loop"],
        rng[runner.rank] if runner.rank < len(rng) else None,
        take_over=changed,
    )
    if changed:
        _replay_schedules(runner, fresh)
    else:
        _load_schedules(runner.param_schedulers or [], content, path)
    load_hub_state(runner.message_hub, content["message_hub"])
    for hook in runner.hooks:
        state = content["hooks"].get(type(hook).__name__)
        if state is not None and hasattr(hook, "load_state_dict"):
            hook.load_state_dict(state)
    then, now = content["loop"]["iter"], runner.train_loop.iter
    moved = f", counted anew: {then} steps when it was saved" if now != then else ""
    runner.logger.info(f"Resumed '{path}' after {now} optimizer steps{moved}.")


def _check_changes(runner: Any, content: dict, path: str) -> bool:
    """Return whether settings are taken over; refuse those that must not be."""
    # Checkpoints of earlier versions hold no identity.
    now = run_identity(runner)
    changed = identity_changes(content.get("identity", now), now)
    changed |= runner.train_loop.changes_since(content["loop"])
    if not changed:
        return False
    texts = "; ".join(f"{key}: {text}" for key, text in changed.items())
    if not runner.cfg.get("resume_with_changes") and not set(changed) <= set(LENGTH):
        raise ValueError(
            f"cannot resume '{path}' exactly, what training depends on has changed: "
            f"{texts}. Restore it, or take the changes over with --resume-with-changes "
            "(resume_with_changes=True in the config), or start a new run with "
            "load_from."
        )
    print_log(
        f"Resuming '{path}' with changes; taken over, schedules included: {texts}.",
        "current",
        logging.WARNING,
    )
    return True


def _load_schedules(schedulers: list, content: dict, path: str) -> None:
    if len(schedulers) != len(content["param_schedulers"]):
        raise ValueError(
            f"cannot resume '{path}': {len(content['param_schedulers'])} parameter "
            f"schedulers then, {len(schedulers)} now."
        )
    for scheduler, state in zip(schedulers, content["param_schedulers"], strict=True):
        scheduler.load_state_dict(state)


def _without_params(group: dict) -> dict:
    return {key: value for key, value in group.items() if key != "params"}


def _replay_schedules(runner: Any, fresh: list[dict]) -> None:
    """Give the optimizer the settings of now and let the schedules follow them."""
    for group, settings in zip(runner.optim_wrapper.param_groups, fresh, strict=True):
        group.update(copy.deepcopy(settings))
    schedulers, loop = runner.param_schedulers or [], runner.train_loop
    by_step = [one for one in schedulers if not one.by_epoch]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mmengine misses the optimizer's steps
        for _ in range(loop.iter):
            for scheduler in by_step:
                scheduler.step()
        for scheduler in schedulers:
            for _ in range(loop.epoch if scheduler.by_epoch else 0):
                scheduler.step()


def identity_changes(then: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """Return dotted path to ``old then, new now`` for what has changed.

    The ``config`` of a part that only one side writes out is none: a work dir gives
    its parts those that lay beside their weights. Nor is an argument's older name.
    """
    then = _named_as_now(then)
    written = [{_config_of(key) for key in side} for side in (then, now)]
    free = (written[0] ^ written[1]) - {None}
    changed = {}
    for key in [*then, *(key for key in now if key not in then)]:
        old, new = then.get(key, "not set"), now.get(key, "not set")
        if old != new and _config_of(key) not in free:
            changed[key] = f"{old!r:.60} then, {new!r:.60} now"
    return changed


def _named_as_now(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings of a run under the names that configs have now."""
    found = {}
    for path, value in settings.items():
        parent, _, key = path.rpartition(".")
        for (kind, before, old), (name, new) in RENAMED.items():
            is_it = key == before and settings.get(f"{parent}.type") == kind
            if is_it and old in (None, value):
                path, value = f"{parent}.{name}", value if new is None else new
                break
        found[path] = value
    return found


def _config_of(key: str) -> str | None:
    """Return the path of the written-out config that a setting stands in."""
    part, found, _ = key.partition(".config.")
    return part if found and key.startswith("model.") else None
