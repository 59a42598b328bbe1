"""mmvlm as a model of lmms-eval 0.7: ``python -m lmms_eval --model mmvlm``.

lmms-eval finds :func:`manifest` among its entry points and imports the class that it
names, which is made here when it is first asked for: lmms-eval is not needed to import
this module.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

from .inferencer import VLMInferencer

_CLASS = "LMMSEvalModel"
#: Settings of tasks that are those of transformers too.
_SETTINGS = frozenset({"max_new_tokens", "num_beams", "top_p", "top_k", "do_sample"})


def manifest() -> Any:
    """Return what lmms-eval registers the model by."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="mmvlm", simple_class_path=f"{__name__}.{_CLASS}")


def generation_of(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return decoding settings for settings of a task, and which have no meaning here.

    A temperature of 0 is greedy decoding, whatever ``do_sample`` says; sampling without
    a temperature has 1. ``until`` is cut behind generation, as lmms-eval's own models
    do: see :meth:`LMMSEvalRequests.generate_until`.

    Args:
        settings (Mapping): ``generation_kwargs`` of a task.
    """
    left = {k: v for k, v in settings.items() if k != "until" and v is not None}
    found = {key: left.pop(key) for key in list(left) if key in _SETTINGS}
    if "max_gen_toks" in left:
        found.setdefault("max_new_tokens", left.pop("max_gen_toks"))
    samples = found.get("do_sample")
    temperature = left.pop("temperature", None)
    if temperature is None:
        temperature = 1 if samples else 0
    temperature = float(temperature)
    found["do_sample"] = temperature > 0 and samples in (None, True)
    if found["do_sample"]:
        found["temperature"] = temperature
    else:  # what only sampling reads
        found = {k: v for k, v in found.items() if k not in ("top_p", "top_k")}
    return found, sorted(left)


class LMMSEvalRequests:
    """Answer lmms-eval's requests with a :class:`VLMInferencer`.

    A base beside ``lmms_eval.api.model.lmms``, which sets ``task_dict``.

    Args:
        config (str): see :class:`VLMInferencer`, as ``checkpoint`` and ``device``.
        checkpoint (str | None): likewise.
        device (str | None): likewise.
        batch_size (int | str): questions per forward pass.
        max_batch_size (int | None): of lmms-eval; not used.

    Raises:
        ValueError: in several processes, or for another batch size.
    """

    task_dict: Mapping[str, Mapping[str, Any]]

    def __init__(
        self,
        config: str,
        checkpoint: str | None = None,
        device: str | None = None,
        *,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError(
                "the model answers lmms-eval in one process; start lmms-eval without a "
                "launcher, or run tools/test.py --benchmarks on several processes."
            )
        if not str(batch_size).isdecimal() or not int(batch_size):
            raise ValueError(f"batch_size={batch_size!r}: expected 1 or more.")
        self.batch_size = int(batch_size)
        self.inferencer = VLMInferencer(config, checkpoint, device)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the replies to requests, in their order.

        Args:
            requests (Sequence): instances whose ``args`` are context, settings,
                function from document to images, number of the document, task and
                split.

        Raises:
            ValueError: naming task and document, for inputs other than images.
        """
        replies: list[str] = []
        unknown: set[str] = set()
        for settings, rows in itertools.groupby(requests, lambda one: one.args[1]):
            own = list(rows)
            generation, ignored = generation_of(settings)
            unknown.update(ignored)
            # Images of a whole task, decoded, would fill the memory.
            for start in range(0, len(own), self.batch_size):
                batch = own[start : start + self.batch_size]
                texts = self.inferencer(
                    [list(self._images(one)) for one in batch],
                    [one.args[0] for one in batch],
                    self.batch_size,
                    **generation,
                )
                replies += [_until(text, settings.get("until")) for text in texts]
        if unknown:
            print_log(
                f"settings of tasks without a meaning here: {sorted(unknown)}",
                logger="current",
                level=logging.WARNING,
            )
        return replies

    def _images(self, request: Any) -> Iterator[Any]:
        from PIL import Image

        _, _, images_of, number, task, split = request.args
        for one in images_of(self.task_dict[task][split][number]) or ():
            if not isinstance(one, Image.Image):
                raise ValueError(
                    f"task '{task}', document {number}: expected images, got "
                    f"{type(one).__name__}; choose tasks about images."
                )
            yield one.convert("RGB")

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse requests for likelihoods.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "tasks that rank likelihoods are not answered; choose the variant of the "
            "task that generates."
        )

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse requests of several rounds.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("tasks of several rounds are not answered.")


def _until(text: str, ends: str | Sequence[str] | None) -> str:
    """Cut a reply at the first of the strings that end it."""
    for end in [ends] if isinstance(ends, str) else ends or ():
        text = text.split(end)[0] if end else text
    return text


@functools.cache
def _model_class() -> type:
    from lmms_eval.api.model import lmms

    return type(_CLASS, (LMMSEvalRequests, lmms), dict(__module__=__name__))


def __getattr__(name: str) -> Any:
    if name == _CLASS:
        return _model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["LMMSEvalRequests", "generation_of", "manifest"]
