"""Lets the model answer a few fixed prompts while it trains."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmvlm.registry import HOOKS

from ..optimizers.optim_wrapper import autocast
from ..runner.rng import preserved_rng


@HOOKS.register_module()
class SampleRepliesHook(Hook):
    """Log the model's replies to fixed prompts, and keep them in ``replies.jsonl``.

    Where a reply names regions, all of a step are drawn in ``replies/step_N.html``.
    All ranks generate the same, since weights may be spread over them.

    Args:
        prompts (list[dict] | None): ``prompt`` and optionally the path of an input by
            its modality (``image``, ``audio``, ...); None takes the config's
            ``sample_prompts``.
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
        self._processor: Any = None

    def before_train(self, runner: Any) -> None:
        """Encode the prompts, so that a wrong one fails before the first step."""
        if self.prompts is None:
            self.prompts = list(runner.cfg.get("sample_prompts") or [])
        if not self.prompts:
            return
        self._processor = runner.processor
        known = {"prompt", "image", *self._processor.modalities}
        for number, prompt in enumerate(self.prompts):
            if not {"prompt"} <= set(prompt) <= known:
                raise ValueError(
                    f"sample_prompts[{number}]={dict(prompt)}: expected prompt and "
                    f"optionally {sorted(known - {'prompt'})}."
                )
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
        self._draw(runner, samples, step)
        replies = [sample.pred_text for sample in samples]
        lines = [f"Replies after {step} steps:"]
        for prompt, reply in zip(self.prompts, replies, strict=True):
            paths = [path for key, path in prompt.items() if key != "prompt" and path]
            shown = "".join(f" [{os.path.basename(path)}]" for path in paths)
            lines.append(f"  Q:{shown} {prompt['prompt']}\n  A: {reply}")
        runner.logger.info("\n".join(lines))
        if is_main_process():
            row = dict(step=step, replies=replies)
            path = os.path.join(runner.work_dir, "replies.jsonl")
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return replies

    def _draw(self, runner: Any, samples: list, step: int) -> None:
        """Draw the replies where any of them names a region."""
        if is_main_process() and any(s.get("pred_regions") for s in samples):
            from mmvlm.visualization.replies import view_of_sample, write_drawing

            path = os.path.join(runner.work_dir, "replies", f"step_{step}.html")
            write_drawing(path, [view_of_sample(sample) for sample in samples])

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
        from mmvlm.text.prompts import ask

        items = []
        for number, prompt in enumerate(self.prompts):
            sources = {
                k: [os.path.abspath(v)]
                for k, v in prompt.items()
                if k != "prompt" and v
            }
            name = f"sample_prompts[{number}]"
            talk = ask(prompt["prompt"], sources, sample_id=name)
            roots = dict(image_root=os.sep, data_root=os.sep)
            facts = dict(dataset="sample_prompts", index=number, **roots)
            rng = np.random.default_rng(number)
            items.append(self._processor(talk, "generate", rng=rng, **facts))
        return collate_flat(items)
