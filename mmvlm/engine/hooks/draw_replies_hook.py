"""Draws replies of a test beside what would be right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmvlm.registry import HOOKS
from mmvlm.visualization.replies import ReplyView, view_of_sample, write_drawing


@HOOKS.register_module()
class DrawRepliesHook(Hook):
    """Write the first replies of a test as a page and one image each.

    They lie in ``replies`` of the work dir: ``index.html``, ``0000.png``, ... Regions
    of the reply are drawn whole, true ones dashed; a reply without image stands on
    the page alone.

    Args:
        num (int): replies of the main process to draw.

    Raises:
        ValueError: for less than one.
    """

    priority = "LOW"

    def __init__(self, num: int = 16) -> None:
        if num < 1:
            raise ValueError(f"DrawRepliesHook: num={num}, expected at least 1.")
        self.num = num
        self._views: list[ReplyView] = []

    def before_test(self, runner: Any) -> None:
        """Forget what was drawn before."""
        self._views = []

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Keep replies until there are enough."""
        if is_main_process():
            room = self.num - len(self._views)
            self._views += [view_of_sample(sample) for sample in (outputs or ())[:room]]

    def after_test(self, runner: Any) -> None:
        """Write page and images."""
        if not self._views:
            return
        folder = os.path.join(runner.work_dir, "replies")
        page = write_drawing(os.path.join(folder, "index.html"), self._views)
        for number, view in enumerate(self._views):
            if view.image is not None:
                write_drawing(os.path.join(folder, f"{number:04d}.png"), [view])
        runner.logger.info(f"{len(self._views)} replies are drawn in {page}")
