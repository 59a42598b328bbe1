"""Ground truth and predictions of one sample."""

from __future__ import annotations

from mmengine.structures import BaseDataElement


class VLMDataSample(BaseDataElement):
    """What metrics, visualizers and dumps consume.

    Metainfo: ``sample_id``, ``dataset``, ``index`` (row in the dataset),
    ``conversation`` (:class:`Conversation`), ``image_paths``, ``layouts`` and
    what the reader put into ``Conversation.meta`` under ``meta``.

    Data fields, all optional: ``gt_text`` (str), ``pred_text`` (str),
    ``pred_ids`` (list[int]), ``finish`` (why the reply ended), ``pred_states`` ((C, Dl)
    of tokens that were asked for, see :class:`Generation`), ``pred_regions`` (tuple of
    :class:`Region`, in pixels of the original image), ``pred_spans`` (first and last
    (exclusive) character of each in ``pred_text``), ``pred_quoted`` (likewise of
    tokens of the codec that the reply only spells) and ``problems`` (tuple of str:
    what of the reply could not be read),
    ``gt_boxes`` / ``pred_boxes`` (:class:`Boxes`).
    """
