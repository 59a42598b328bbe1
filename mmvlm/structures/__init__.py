"""The nouns of mmvlm; this package imports no other part of mmvlm."""

from .annotation import (
    AnnotatedImage,
    Caption,
    Instance,
    Relation,
    Span,
    VisualQuestion,
)
from .boxes import Boxes
from .conversation import Conversation, Image, Media, Region, Text, TextMark, Turn
from .encoded import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    EncodedSample,
    Mark,
    ModalityInputs,
    Slot,
    VLMBatch,
)
from .vision import (
    FixedTokenCount,
    Instructions,
    LayoutError,
    ModalityLayout,
    PatchTokenCount,
    TokenCount,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)
from .vlm_data_sample import VLMDataSample

__all__ = [
    "IGNORE_INDEX",
    "SLOT_TOKEN_ID",
    "AnnotatedImage",
    "Boxes",
    "Caption",
    "Conversation",
    "EncodedSample",
    "FixedTokenCount",
    "Image",
    "Instance",
    "Instructions",
    "LayoutError",
    "Mark",
    "Media",
    "ModalityInputs",
    "ModalityLayout",
    "PatchTokenCount",
    "Region",
    "Relation",
    "Slot",
    "Span",
    "Text",
    "TextMark",
    "TokenCount",
    "Turn",
    "VLMBatch",
    "VLMDataSample",
    "ViewLayout",
    "VisionEncoderSpec",
    "VisionFeatures",
    "VisualQuestion",
]
