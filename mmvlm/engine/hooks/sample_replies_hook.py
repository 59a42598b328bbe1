"""Lets the model answer a few fixed prompts while it trains."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmvlm.datasets.transforms.conversation import ONLY_TRAINING
from mmvlm.registry import HOOKS
from mmvlm.structures import Conversation

from ..optimizers.optim_wrapper import autocast
from ..runner.rng import preserved_rng

_LOADERS = ("test_dataloader", "val_dataloader", "train_dataloader")


def _pipelines(node: Any) -> Iterator[list]:
    """Yield every ``pipeline`` of a (nested) data set config."""
    if isinstance(node, dict):
        if node.get("pipeline"):
            yield node["pipeline"]
        for value in node.values():
            yield from _pipelines(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _pipelines(value)


def prompt_steps(cfg: Any) -> list[dict]:
    """Return the config's pipeline, changed to stop before the answer.

    Raises:
        ValueError: when no dataloader has a pipeline with ``EncodeConversation``.

    """
    for loader in _LOADERS:
        for steps in _pipelines((cfg.get(loader) or {}).get("dataset")):
            steps = [dict(step) for step in steps]
            kinds = [step.get("type") for step in steps]
            if "EncodeConversation" not in kinds:
                continue
            number = kinds.index("EncodeConversation")
            kept = {k: v for k, v in steps[number].items() if k not in ONLY_TRAINING}
            steps[number] = dict(kept, mode="generate")
            return steps
    raise ValueError(
        "sample_prompts needs a pipeline with EncodeConversation in one of "
        f"{list(_LOADERS)}."
    )


@HOOKS.register_module()
class SampleRepliesHook(Hook):
    """Log the model's replies to fixed prompts, and keep them in ``replies.jsonl``.

    All ranks generate the same, since weights may be spread over them.

    Args:
        prompts (list[dict] | None): ``prompt`` and optionally ``image`` (a path);
            None takes the config's ``sample_prompts``.
        interval (int | None): optimizer steps between; None asks at the end only.
        max_new_tokens (int): of a reply.

    """

    priority = "LOW"

    def __init__(
        self,
        prompts: list[dict] | None = None,
        *,
        interval: int | None = None,
        max_new_tokens: int = 48,
    ) -> None:
        self.prompts = prompts
        self.interval = interval
        self.max_new_tokens = max_new_tokens
        self._pipeline: Any = None

    def before_train(self, runner: Any) -> None:
        """Build the pipeline, so that a wrong prompt fails before the first step."""
        if self.prompts is None:
            self.prompts = list(runner.cfg.get("sample_prompts") or [])
        if not self.prompts:
            return
        from mmvlm.datasets.transforms.compose import Compose

        for number, prompt in enumerate(self.prompts):
            unknown = sorted(set(prompt) - {"prompt", "image"})
            if unknown or "prompt" not in prompt:
                raise ValueError(
                    f"sample_prompts[{number}]={dict(prompt)}: expected prompt and "
                    "optionally image."
                )
        self._pipeline = Compose(prompt_steps(runner.cfg))
        self._pipeline.bind(runner.context)
        self._batch()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Ask when it is due, and after the last step."""
        done = runner.iter + 1
        due = self.interval is not None and done % self.interval == 0
        if self.prompts and (due or done >= runner.max_iters):
            self.ask(runner, done)

    def ask(self, runner: Any, step: int) -> list[str]:
        """Generate, log and store the replies."""
        model = runner.model
        model.eval()
        dtype = getattr(runner.optim_wrapper, "dtype", None)
        with preserved_rng(), torch.no_grad(), autocast(dtype):
            samples = self._generate(model)
        model.train()
        replies = [sample.pred_text for sample in samples]
        lines = [f"Replies after {step} steps:"]
        for prompt, reply in zip(self.prompts, replies, strict=True):
            image = prompt.get("image")
            shown = "" if image is None else f" [{os.path.basename(image)}]"
            lines.append(f"  Q:{shown} {prompt['prompt']}\n  A: {reply}")
        runner.logger.info("\n".join(lines))
        if is_main_process():
            row = dict(step=step, replies=replies)
            path = os.path.join(runner.work_dir, "replies.jsonl")
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return replies

    def _generate(self, model: Any) -> list:
        bare = getattr(model, "module", model)
        options = getattr(bare, "generation", None)
        if options is None:
            return model.val_step(self._batch())
        before = dict(options)
        options.update(max_new_tokens=self.max_new_tokens)
        try:
            return model.val_step(self._batch())
        finally:
            options.clear()
            options.update(before)

    def _batch(self) -> dict:
        from mmvlm.datasets.collate import collate_flat

        items = []
        for number, prompt in enumerate(self.prompts):
            path = prompt.get("image")
            folder, images = "", ()
            if path is not None:
                path = Path(path).resolve()
                folder, images = str(path.parent), (path.name,)
            talk = Conversation.from_texts(prompt["prompt"], images=images)
            talk.id = f"sample_prompts[{number}]"
            item = dict(
                conversation=talk,
                dataset="sample_prompts",
                index=number,
                image_root=folder,
                data_root=folder,
                rng=np.random.default_rng(number),
            )
            items.append(self._pipeline(item))
        return collate_flat(items)
