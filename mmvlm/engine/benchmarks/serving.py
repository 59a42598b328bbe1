"""Let a served model answer the questions of benchmarks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as Images

from mmvlm.evaluation.chat_client import ChatClient, EndpointError, Reply
from mmvlm.registry import SCORERS
from mmvlm.structures import Conversation, Image, Text, Turn

from .answering import RULE
from .questions import Question, Questions

#: Transforms of questions for a server: it makes its own views.
SERVER_PIPELINE = (dict(type="LoadImages"),)
#: Decoding settings that endpoints share, by our names.
_SETTINGS = dict(max_new_tokens="max_tokens", temperature="temperature", top_p="top_p")


def chat_settings(gen: dict[str, Any]) -> dict[str, Any]:
    """Return decoding settings as endpoints take them.

    Args:
        gen (dict): of a benchmark.

    Raises:
        ValueError: naming one that endpoints do not know.
    """
    left = {key: value for key, value in gen.items() if key != "do_sample"}
    unknown = sorted(set(left) - set(_SETTINGS))
    if unknown:
        raise ValueError(
            f"generation.{unknown[0]}: a server does not know it; it takes "
            f"{', '.join(_SETTINGS)} and do_sample."
        )
    if not gen.get("do_sample"):
        left |= dict(temperature=0.0, top_p=None)
    return {_SETTINGS[key]: value for key, value in left.items()}


def check_server_does(questions: Questions) -> None:
    """Refuse a server where it cannot do what a benchmark needs.

    Raises:
        ValueError: with the way out, where more than the text of an answer is scored,
            or for settings that a server does not know.
    """
    name, scorer = questions.benchmark.name, questions.benchmark.scorer
    if RULE in questions.gen:
        what = f"rule '{questions.gen[RULE]}' scores options by the model itself"
    elif SCORERS.build(dict(scorer)).needs_regions:
        what = "its scorer takes boxes or masks of the answers"
    else:
        chat_settings(questions.gen)
        return
    raise ValueError(
        f"{name}: {what}, a server gives texts alone. Leave out --server, or choose "
        "another --rule."
    )


class ServerAnswers:
    """Ask a served model, which applies its own template and views.

    Args:
        client (ChatClient): asks it.
        gen (dict): decoding settings.

    Raises:
        ValueError: for settings that a server does not know.
    """

    def __init__(self, client: ChatClient, gen: dict[str, Any]) -> None:
        self.client, self.settings = client, chat_settings(gen)

    def __call__(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """Return the records of questions, in their order.

        A request that the server refuses (a prompt too long for it) is an answer
        ``error``.

        Raises:
            EndpointError: when other requests are left without a reply.
            ValueError: for a question that is not text and images.
        """
        bodies = [
            self.client.endpoint.body(messages_of(one.item), **self.settings)
            for one in questions
        ]
        replies = self.client.ask(bodies)
        lost = [one for one in replies if one.text is None and not one.refused]
        if lost:
            raise EndpointError(
                f"{self.client.endpoint.url} left {len(lost)} of {len(replies)} "
                f"questions without a reply ({lost[0].error}). What it answered is "
                "kept: run the same command again."
            )
        return [
            _record(question, reply)
            for question, reply in zip(questions, replies, strict=True)
        ]


def _record(question: Question, reply: Reply) -> dict[str, Any]:
    record = dict(question.record, meta=dict(question.record["meta"]))
    record["prompt"] = shown_prompt(question.item)
    if reply.text is None:
        record["meta"]["error"] = reply.error
        return dict(record, finish="error")
    record["meta"]["served_by"] = reply.model
    finish = "length" if reply.finish == "length" else "stop"
    tokens = reply.completion_tokens
    return dict(record, text=reply.text, finish=finish, num_tokens=tokens)


def shown_prompt(item: dict[str, Any]) -> str:
    """Return what a server is asked, images as ``<image>``, turns as lines."""
    return "\n".join(
        "".join(_shown(part) for part in turn.parts)
        for turn in prompt_turns(item["conversation"])
    )


def _shown(part: Any) -> str:
    return part.text if isinstance(part, Text) else "<image>"


def prompt_turns(talk: Conversation) -> list[Turn]:
    """Return the turns of a conversation up to its last question."""
    return talk.turns[:-1] if talk.turns[-1].role == "assistant" else talk.turns


def messages_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a question as chat messages, images inside as PNG.

    Args:
        item (dict): ``conversation``, and ``images`` as ``LoadImages`` gives them.

    Raises:
        ValueError: naming the question, for what is neither text nor image.
    """
    talk: Conversation = item["conversation"]
    messages = []
    for turn in prompt_turns(talk):
        content: list[dict[str, Any]] = []
        for part in turn.parts:
            if isinstance(part, Image):
                url = {"url": png_url(item["images"][part.index])}
                content.append({"type": "image_url", "image_url": url})
            elif isinstance(part, Text):
                # Servers put images on lines of their own.
                text = part.text.strip("\n") if talk.images else part.text
                content += [{"type": "text", "text": text}] if text else []
            else:
                raise ValueError(
                    f"question '{talk.id}' holds a {type(part).__name__}: a server "
                    "takes text and images only. Leave this benchmark out."
                )
        only_text = all(one["type"] == "text" for one in content)
        text = "".join(one["text"] for one in content) if only_text else None
        messages.append(dict(role=turn.role, content=text if only_text else content))
    return messages


def png_url(image: np.ndarray) -> str:
    """Return an image, (H, W, 3) uint8 RGB, as a URL that holds it."""
    file = io.BytesIO()
    Images.fromarray(image).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
