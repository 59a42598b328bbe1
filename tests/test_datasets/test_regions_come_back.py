"""Boxes from a file through task, codec and ids, back to pixels of the image."""

import numpy as np
import pytest
from grounding_helpers import write_scenes

from mmvlm.datasets.processor import VLMProcessor
from mmvlm.datasets.transforms.compose import Compose
from mmvlm.datasets.transforms.image import ViewTransform
from mmvlm.registry import (
    CHAT_TEMPLATES,
    CODECS,
    DATASETS,
    TOKENIZERS,
    TRANSFORMS,
)
from mmvlm.structures import FixedTokenCount, VisionEncoderSpec
from mmvlm.text.decoding import decode

CODECS.import_from_location()
TRANSFORMS.import_from_location()
NAMES = [
    name
    for name in sorted(CODECS.module_dict)
    if CODECS.build(dict(type=name)).writes_coordinates
]
OPTIONS = dict(DualPerspectiveViews=dict(grid=2, pad=True))
VIEWS = {
    name: TRANSFORMS.build(dict(type=name, **OPTIONS.get(name, {})))
    for name, kind in sorted(TRANSFORMS.module_dict.items())
    if isinstance(kind, type) and issubclass(kind, ViewTransform)
}
#: Every codec in all its geometries in front of every view.
TRIPLES = [
    (name, geometry, view)
    for name in NAMES
    for geometry in CODECS.get(name).geometries
    for view in VIEWS
]


def shows(view, geometry):
    """Whether the view shows what the geometry's numbers are fractions of."""
    return VIEWS[view].frame == ("stretch" if geometry == "view" else geometry)


#: Side of a cell that a syntax tells apart, a fraction of the frame's side. What it
#: says is off by half of one at most; of Ferret's last, which holds the last pixel.
CELLS = dict(
    Kosmos2Codec=1 / 32,
    LLaVACodec=0.01,
    VisionLLMCodec=1 / 512,
    OFACodec=1 / 999,
    ASMv2Codec=1 / 999,
)
SPEC = VisionEncoderSpec(width=8, num_layers=1, patch_size=8, image_size=32)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refcoco")
    (config,) = write_scenes("refcoco", folder, ["train"]).readers("train")
    return dict(config, task=dict(type="ReferringComprehension"))


def half_a_cell(name, codec, boxes):
    """What the syntax cannot tell of each coordinate, in pixels, (K, 4)."""
    height, width = boxes.size
    padded = codec.geometry == "square_pad"
    sides = (max(boxes.size),) * 2 if padded else (width, height)
    part = 1 / 32 if codec.geometry == "view" else CELLS.get(name, 0.001)
    cell = np.tile(np.multiply(part, sides), (len(boxes), 2))
    unit = codec.to_frame(boxes) * 32
    if name == "Kosmos2Codec":  # nothing more is known of corners that share a cell
        shared = np.floor(unit[:, :2]) == np.ceil(unit[:, 2:]) - 1
        cell = np.where(np.tile(shared, 2), 2 * cell, cell)
    if name == "FerretCodec":
        last = boxes.xyxy >= np.tile([width - 1, height - 1], 2)
        cell = np.where(last, 1 + cell, cell)
    return cell / 2


def test_every_geometry_and_every_view_take_part():
    fitting = [
        (geometry, view) for _, geometry, view in TRIPLES if shows(view, geometry)
    ]
    geometries = {geometry for _, geometry, _ in TRIPLES}
    assert {geometry for geometry, _ in fitting} == geometries
    assert geometries == {"stretch", "square_pad", "view"}
    cropped = {view for view, built in VIEWS.items() if built.frame == "crop"}
    assert {view for _, view in fitting} == set(VIEWS) - cropped


@pytest.mark.parametrize(
    ("name", "geometry", "view"), [t for t in TRIPLES if not shows(t[2], t[1])]
)
def test_a_view_that_does_not_show_the_frame_is_refused(name, geometry, view):
    codec = dict(type=name, geometry=geometry)
    steps = Compose([VIEWS[view], dict(type="WriteRegions", codec=codec)])
    with pytest.raises(ValueError, match=f"{name}: geometry='{geometry}' .*{view}"):
        steps.check_frames()


@pytest.mark.parametrize(
    ("name", "geometry", "view"), [t for t in TRIPLES if shows(t[2], t[1])]
)
def test_a_box_comes_back_to_half_a_pixel_or_half_of_its_cell(
    name, geometry, view, reader
):
    codec = dict(type=name, geometry=geometry)
    tokenizer = TOKENIZERS.build(dict(type="TinyTokenizer", codec=codec))
    template = CHAT_TEMPLATES.build(dict(type="vicuna_v1"))
    data = DATASETS.build(
        dict(
            reader,
            pipeline=[
                dict(type="LoadImages"),
                dict(type=view, **OPTIONS.get(view, {})),
                dict(type="WriteRegions", codec=codec),
                dict(type="EncodeConversation"),
                dict(type="PackVLMInputs"),
            ],
        )
    )
    data.bind(VLMProcessor(tokenizer, template, SPEC, FixedTokenCount(2)))
    codec = CODECS.build(codec)

    for position in range(min(len(data), 6)):
        item = data[position]
        ids = item["inputs"]["streams"]["text"].labels
        found = decode(
            ids[ids >= 0],
            tokenizer,
            codec,
            item["data_samples"].layouts,
            stops=template.stop_strings,
        )
        wanted = item["data_samples"].gt_boxes
        assert found.problems == () and len(found.regions) == len(wanted) == 1
        (region,) = found.regions
        assert (region.image, region.kind) == (0, "box")
        assert region.boxes.frame == "pixel" and region.boxes.size == wanted.size
        moved = np.abs(region.boxes.xyxy - wanted.xyxy)
        bound = np.maximum(0.5, half_a_cell(name, codec, wanted)) + 1e-6
        assert (moved <= bound).all(), (found.text, wanted, moved)
