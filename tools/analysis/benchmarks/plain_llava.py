"""The plain LLaVA-style step: the yardstick of our own.

Padded batch, every block of the tower with all hidden states kept, one
concatenation per sample inside the forward, logits of every position, the loss
over all of them. It shares weights with a ``VisionLanguageModel`` so that loss
and gradients can be held against ours, and time and memory too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from mmvlm.structures import IGNORE_INDEX, VLMBatch


def pad_batch(batch: VLMBatch) -> dict[str, torch.Tensor]:
    """Lay a flat batch out as LLaVA's collator would: one id per image.

    Returns:
        dict: ``input_ids`` (B, L) with -200 once per image, ``labels``,
        ``attention_mask``, and ``pixel_values`` with one zero image for each
        sample without one.
    """
    ids, labels, pixels, seen = [], [], [], 0
    text, images = batch.text, batch.inputs.get("image")
    for number, (row, goal) in enumerate(
        zip(
            text.input_ids.split(text.seq_lens),
            text.labels.split(text.seq_lens),
            strict=True,
        )
    ):
        keep = torch.ones(len(row), dtype=torch.bool)
        owner = () if images is None else images.owner
        own = [k for k, sample in enumerate(owner) if sample == number]
        starts = [int(s) for s in (row == -200).nonzero().flatten()]
        at = 0
        for image in own:
            length = images.slot_lens[image]
            keep[starts[at] + 1 : starts[at] + length] = False
            at += length
        ids.append(row[keep])
        labels.append(goal[keep])
        if own:
            pixels += [images.values[seen : seen + len(own)]]
            seen += len(own)
        elif images is not None:
            pixels.append(torch.zeros_like(images.values[:1]))
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = torch.tensor([len(row) for row in ids])
    return dict(
        input_ids=pad(ids, batch_first=True),
        labels=pad(labels, batch_first=True, padding_value=IGNORE_INDEX),
        attention_mask=torch.arange(int(lengths.max()))[None] < lengths[:, None],
        pixel_values=torch.cat(pixels) if pixels else None,
    )


class PlainLlavaStep:
    """Loss of a padded batch the way LLaVA's code computes it.

    Args:
        model (VisionLanguageModel): whose weights are used; its language model
            must be built with ``attention='sdpa'`` or ``'eager'``.
        checkpointing (bool): recompute every decoder block in backward, as the
            published recipe does.
    """

    def __init__(self, model: Any, checkpointing: bool = False) -> None:
        from transformers import CLIPVisionModel

        self.model = model
        self.llm = model.language_model.model
        tower = CLIPVisionModel(model.vision_encoder.config)
        inner = getattr(tower, "vision_model", tower)
        inner.load_state_dict(model.vision_encoder.vision_model.state_dict())
        self.tower = tower.eval().requires_grad_(False)
        self.layer = model.connector.select_layers[0]
        if checkpointing:
            self.llm.gradient_checkpointing_enable(dict(use_reentrant=False))
        self.llm.train()

    def encode(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Run the whole tower, keep all hidden states, project one of them."""
        with torch.no_grad():
            out = self.tower(pixel_values, output_hidden_states=True)
        return self.model.connector.proj(out.hidden_states[self.layer][:, 1:])

    def merge(self, padded: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Insert images sample by sample, then pad again."""
        images = list(self.encode(padded["pixel_values"]))
        rows, goals = [], []
        table = self.llm.get_input_embeddings()
        for ids, labels, mask in zip(
            padded["input_ids"],
            padded["labels"],
            padded["attention_mask"],
            strict=True,
        ):
            ids, labels = ids[mask], labels[mask]
            places = torch.where(ids == -200)[0].tolist()
            embeds, targets, last = [], [], 0
            for place in places:
                embeds.append(table(ids[last:place]))
                targets.append(labels[last:place])
                image = images.pop(0)
                embeds.append(image)
                targets.append(labels.new_full((len(image),), IGNORE_INDEX))
                last = place + 1
            embeds.append(table(ids[last:]))
            targets.append(labels[last:])
            if not places:
                embeds.append(images.pop(0)[:0])
            rows.append(torch.cat(embeds))
            goals.append(torch.cat(targets))
        length = max(len(row) for row in rows)
        width = rows[0].shape[-1]
        inputs, labels, masks = [], [], []
        for row, goal in zip(rows, goals, strict=True):
            gap = length - len(row)
            inputs.append(torch.cat([row, row.new_zeros(gap, width)]))
            labels.append(torch.cat([goal, goal.new_full((gap,), IGNORE_INDEX)]))
            masks.append(torch.arange(length) < len(row))
        masks = torch.stack(masks)
        return dict(
            inputs_embeds=torch.stack(inputs),
            labels=torch.stack(labels),
            attention_mask=masks,
            position_ids=torch.arange(length) * masks,
        )

    def loss(self, padded: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean cross entropy over the trained tokens of the padded batch.

        Shape:
            - ``padded['input_ids']``: (B, L)
            - output: ()
        """
        merged = self.merge(padded)
        logits = self.llm(
            inputs_embeds=merged["inputs_embeds"],
            attention_mask=merged["attention_mask"].long(),
            position_ids=merged["position_ids"],
            use_cache=False,
        ).logits.float()
        shifted = logits[:, :-1].reshape(-1, logits.shape[-1])
        return cross_entropy(
            shifted, merged["labels"][:, 1:].reshape(-1), ignore_index=IGNORE_INDEX
        )
