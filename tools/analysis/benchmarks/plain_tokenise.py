"""The plain ways from a LLaVA record to ids and labels, as baselines.

Ways of the field rebuilt in few lines: LLaVA's for Vicuna, which encodes every round
a second time to count its tokens, and xtuner's, which encodes every text alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mmvlm.structures import IGNORE_INDEX, SLOT_TOKEN_ID

_TAG = "<image>"
Encode = Callable[[dict], tuple[np.ndarray, np.ndarray]]


def llava_rule(tokenizer: Any, system: str, max_length: int = 2048) -> Encode:
    """Return LLaVA's way for Vicuna: one string, rounds counted token by token."""

    def tokens(text: str) -> list[int]:
        chunks = [tokenizer(chunk).input_ids for chunk in text.split(_TAG)]
        offset = int(bool(chunks[0]) and chunks[0][0] == tokenizer.bos_token_id)
        ids = list(chunks[0])
        for chunk in chunks[1:]:
            ids.append(SLOT_TOKEN_ID)
            ids.extend(chunk[offset:])
        return ids

    def encode(record: dict) -> tuple[np.ndarray, np.ndarray]:
        text = f"{system} "
        for entry in record["conversations"]:
            value = entry["value"]
            if _TAG in value:
                value = value.replace(_TAG, "").strip()
                value = f"{_TAG}\n{value}".strip()
            if entry["from"] == "human":
                text += f"USER: {value} "
            else:
                text += f"ASSISTANT: {value}</s>"
        input_ids = torch.tensor(tokens(text), dtype=torch.long)
        target = input_ids.clone()
        total = int(target.ne(tokenizer.pad_token_id).sum())
        separator = " ASSISTANT: "
        at = 1
        target[:at] = IGNORE_INDEX
        for turn in text.split("</s>"):
            parts = turn.split(separator)
            if not turn or len(parts) != 2:
                break
            length = len(tokens(turn))
            question = len(tokens(parts[0] + separator)) - 2
            target[at : at + question] = IGNORE_INDEX
            at += length
        target[at:] = IGNORE_INDEX
        if at < max_length and at != total:
            target[:] = IGNORE_INDEX
        return input_ids.numpy(), target.numpy()

    return encode


def xtuner_rule(tokenizer: Any, instruction: str, separator: str = "") -> Encode:
    """Return xtuner's way: question and answer alone, BOS and EOS by id.

    Args:
        tokenizer (Any): a transformers tokenizer.
        instruction (str): the template's INSTRUCTION, with ``{input}``.
        separator (str): the template's SEP, behind every answer.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id

    def ids_of(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    def encode(record: dict) -> tuple[np.ndarray, np.ndarray]:
        input_ids: list[int] = []
        labels: list[int] = []
        turns = record["conversations"]
        for number in range(0, len(turns), 2):
            prompt = turns[number]["value"]
            if _TAG in prompt:
                prompt = f"{_TAG}\n{prompt.replace(_TAG, '').strip()}".strip()
            prompt = instruction.format(input=prompt, round=number // 2 + 1)
            ids = [bos]
            for index, chunk in enumerate(prompt.split(_TAG)):
                ids += [SLOT_TOKEN_ID] * bool(index) + ids_of(chunk)
            answer_ids = [*ids_of(turns[number + 1]["value"]), eos]
            behind = ids_of(separator) if separator else []
            input_ids += ids + answer_ids + behind
            labels += (
                [IGNORE_INDEX] * len(ids) + answer_ids + [IGNORE_INDEX] * len(behind)
            )
        return np.array(input_ids), np.array(labels)

    return encode
