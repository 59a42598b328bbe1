"""The nouns of mmvlm; this package imports no other part of mmvlm."""

from .annotation import (
    AnnotatedImage,
    Caption,
    Instance,
    Relation,
    Span,
    VisualQuestion,
)
from .batch import (
    DECODER_STREAM,
    ENCODER_STREAM,
    TEXT_STREAM,
    Inputs,
    SampleInputs,
    Targets,
    TokenStream,
    VLMBatch,
)
from .boxes import Boxes
from .conversation import Conversation, Image, Media, Region, Text, TextMark, Turn
from .encoded import (
    IGNORE_INDEX,
    SLOT_TOKEN_ID,
    EncodedSample,
    Mark,
    Slot,
)
from .vision import (
    FixedTokenCount,
    InputLayout,
    Instructions,
    LayoutError,
    MapSpec,
    PatchTokenCount,
    TokenCount,
    ViewLayout,
    VisionEncoderSpec,
    VisionFeatures,
)
from .vlm_data_sample import VLMDataSample

__all__ = [
    "DECODER_STREAM",
    "ENCODER_STREAM",
    "IGNORE_INDEX",
    "SLOT_TOKEN_ID",
    "TEXT_STREAM",
    "AnnotatedImage",
    "Boxes",
    "Caption",
    "Conversation",
    "EncodedSample",
    "FixedTokenCount",
    "Image",
    "InputLayout",
    "Inputs",
    "Instance",
    "Instructions",
    "LayoutError",
    "MapSpec",
    "Mark",
    "Media",
    "PatchTokenCount",
    "Region",
    "Relation",
    "SampleInputs",
    "Slot",
    "Span",
    "Targets",
    "Text",
    "TextMark",
    "TokenCount",
    "TokenStream",
    "Turn",
    "VLMBatch",
    "VLMDataSample",
    "ViewLayout",
    "VisionEncoderSpec",
    "VisionFeatures",
    "VisualQuestion",
]
