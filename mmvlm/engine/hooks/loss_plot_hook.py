"""An image of the run: loss, learning rate and validation metrics."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmvlm.registry import HOOKS

from .progress_hook import read_scalars


@HOOKS.register_module()
class LossPlotHook(Hook):
    """Write ``loss.png`` into the work dir when training ends.

    Args:
        filename (str): of the image.
    """

    priority = "VERY_LOW"

    def __init__(self, filename: str = "loss.png") -> None:
        self.filename = filename

    def after_train(self, runner: Any) -> None:
        """Draw what ``ProgressHook`` has written."""
        if not is_main_process():
            return
        rows = read_scalars(runner.work_dir)
        if not rows:
            runner.logger.warning("no scalars.jsonl, so no loss plot.")
            return
        from mmvlm.visualization.curves import draw_scalars

        path = os.path.join(runner.work_dir, self.filename)
        draw_scalars(rows, path, os.path.basename(runner.work_dir))
        runner.logger.info(f"Loss curves: {path}")
