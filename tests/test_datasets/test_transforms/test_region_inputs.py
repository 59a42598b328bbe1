"""Regions as boxes, points and masks of the view; full masks stay in the worker."""

import json
import types

import numpy as np
import PIL.Image
import pytest

from mmvlm.datasets.readers.ferret_grit import FerretGRITDataset
from mmvlm.datasets.transforms.anyres_tiles import AnyResTiles
from mmvlm.datasets.transforms.center_crop import CenterCropSquare
from mmvlm.datasets.transforms.compose import Compose
from mmvlm.datasets.transforms.conversation import EncodeConversation
from mmvlm.datasets.transforms.image import PadToSquare
from mmvlm.datasets.transforms.loading import LoadImages
from mmvlm.datasets.transforms.region_inputs import PrepareRegions
from mmvlm.datasets.transforms.regions import WriteRegions
from mmvlm.datasets.transforms.resize_square import ResizeSquare
from mmvlm.structures import Boxes, Conversation, Region, VisionEncoderSpec
from mmvlm.structures.masks import mask_to_rle
from mmvlm.structures.region_pixels import (
    from_view,
    region_pixels,
    to_view,
    view_mask,
    whole_view,
)
from mmvlm.structures.regions import RegionNeeds, covered_cells
from mmvlm.text.codecs.ferret import FerretCodec

SPEC = VisionEncoderSpec(32, 3, 8, 64)
SIZE = (90, 120)  # height, width


def region(box, size=SIZE, **kwargs):
    return Region(0, Boxes(np.array(box, float), size), **kwargs)


def layout_of(view, size=SIZE):
    view.bind(types.SimpleNamespace(spec=SPEC, requested_views=None))
    return view.layout(*size)


def item_of(*regions, view=None, seed=0, sample="one"):
    layout = layout_of(view or ResizeSquare())
    talk = Conversation([], ["a.png"], id=sample)
    return dict(
        regions=regions,
        layouts=[layout],
        conversation=talk,
        rng=np.random.default_rng(seed),
    )


def prepare(item, mode="generate", **needs):
    return PrepareRegions(needs, mode=mode)(item)["inputs"]["region"]


@pytest.mark.golden
def test_pixels_are_those_of_ferret(goldens):
    golden = np.load(goldens / "ferret_sampler.npz")
    shapes = golden["regions/freeform_input_hw"]
    for number, meta in enumerate(json.loads(str(golden["regions/meta_json"]))):
        width, height = meta["image_wh"]
        kind, coor = meta["kind"], meta["coor"]
        rles = ()
        if kind == "freeform":
            rles = (mask_to_rle(shapes),)
        elif kind == "point":
            x1, y1, x2, y2 = map(int, meta["box_xyxy"])
            inside = np.zeros((height, width), np.uint8)
            inside[y1 : y2 + 1, x1 : x2 + 1] = 1
            rles = (mask_to_rle(inside),)
        box = coor * 2 if kind == "point" else coor
        kind = "mask" if kind == "freeform" else kind
        expected = golden[f"regions/mask_{number}"].T.astype(bool)

        found = region_pixels(region(box, (height, width), kind=kind, rles=rles))

        full = np.zeros((height, width), bool)
        x1, y1, x2, y2 = found.box
        full[y1:y2, x1:x2] = found.inside
        assert np.array_equal(full, expected), meta
        for pooler in ("max", "mean"):
            drawn = golden[f"{pooler}/pixel_points"][number] * [width, height]
            x, y = np.rint(drawn).astype(int).T
            assert full[y, x].all()


@pytest.mark.parametrize("view", [ResizeSquare, PadToSquare, AnyResTiles])
def test_boxes_and_points_are_fractions_of_the_view(view):
    item = item_of(region([12, 9, 60, 45]), view=view())
    layout = item["layouts"][0]

    made = prepare(item, points=32)

    back = made.values[0].numpy().reshape(2, 2) * layout.view_size[::-1]
    back = (back - layout.offset) / layout.scale
    np.testing.assert_allclose(back, [[12, 9], [60, 45]], atol=1e-4)
    points = made.extra["points"][0].numpy() * layout.view_size[::-1]
    points = (points - layout.offset) / layout.scale
    np.testing.assert_allclose(points, np.rint(points), atol=1e-3)
    assert (points >= [12, 9]).all() and (points <= [60, 45]).all()
    assert len(np.unique(points, axis=0)) == 32


def test_small_regions_repeat_their_pixels():
    made = prepare(item_of(region([3, 4, 5, 5])), points=16)

    points = made.extra["points"][0].numpy()
    assert made.extra["num_points"].tolist() == [6]
    assert len(np.unique(points[:6], axis=0)) == 6
    assert len(np.unique(points, axis=0)) == 6


def test_a_mask_has_the_exact_share_of_every_cell():
    rng = np.random.default_rng(0)
    pixels = (rng.random(SIZE) < 0.3).astype(np.uint8)
    one = region([0, 0, 119, 89], kind="mask", rles=(mask_to_rle(pixels),))
    layout = layout_of(PadToSquare())

    found = view_mask(region_pixels(one), layout, SIZE, 8)

    square = np.zeros((120, 120))
    square[15:105] = pixels
    expected = square.reshape(8, 15, 8, 15).mean((1, 3)) * 255
    assert np.abs(found - expected).max() <= 1 and found.dtype == np.uint8
    # Cells are finer than pixels, too, and nothing small is lost.
    fine = view_mask(region_pixels(one), layout, SIZE, 240)
    assert np.array_equal(fine[::2, ::2] == 255, square == 1)
    dot = region([7, 7, 7, 7])
    assert view_mask(region_pixels(dot), layout, SIZE, 4).max() >= 1


def test_cells_that_belong_to_a_region_are_never_none():
    few, half = np.full((2, 2), 3, np.uint8), np.uint8([[0, 128], [127, 255]])
    few[0, 0] = 4

    assert covered_cells(few).tolist() == [[True, False], [False, False]]
    assert covered_cells(half).tolist() == [[False, True], [False, True]]


def test_draws_are_the_samples_own():
    box = region([0, 0, 80, 80])

    def drawn(mode, seed, sample="one", count=2):
        item = item_of(*[box] * count, seed=seed, sample=sample)
        made = prepare(item, mode, points=8, draws=2)
        return made.extra["points"].numpy(), made.extra["draws"].numpy()

    for mode, seed in (("generate", 7), ("train", 0)):
        for one, other in zip(drawn(mode, 0), drawn(mode, seed), strict=True):
            assert np.array_equal(one, other)
    assert not np.array_equal(drawn("train", 0)[0], drawn("train", 1)[0])
    assert not np.array_equal(drawn("generate", 0)[0], drawn("generate", 0, "two")[0])
    # Regions of one sample differ; those that follow change nothing.
    points, _ = drawn("generate", 0)
    alone, _ = drawn("generate", 0, count=1)
    assert not np.array_equal(points[0], points[1])
    assert np.array_equal(points[:1], alone)


def test_a_point_is_a_window_of_eleven_pixels():
    made = prepare(item_of(region([30, 20, 30, 20], kind="point")), points=121)

    assert made.extra["num_points"].tolist() == [121]
    np.testing.assert_allclose(made.values[0] * np.tile([120, 90], 2), [25, 15, 36, 26])


@pytest.mark.parametrize("kind", [ResizeSquare, PadToSquare])
@pytest.mark.parametrize("size", [(403, 610), (610, 403)])
def test_a_jpeg_decoded_at_a_quarter_keeps_a_point_in_its_own_pixels(
    kind, size, tmp_path
):
    """11 x 11 pixels of the file: of the smaller array they would be 44 x 44."""
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "a.jpg")
    turns = [
        {"from": "human", "value": "<image>\nWhat is <bbox_location0>?"},
        {"from": "gpt", "value": "A dog."},
    ]
    record = dict(id="one", image="a.jpg", image_h=size[0], image_w=size[1])
    record.update(conversations=turns, box_x1y1x2y2=[[[190, 201, 210, 221]], []])
    (tmp_path / "vg_object.json").write_text(json.dumps([record]))
    items = []
    for draft in (None, 96):
        steps = [
            LoadImages(draft=draft),
            kind(96, (0.5, 0.5, 0.5), "bicubic"),
            WriteRegions(FerretCodec(), require_tokens=False),
            PrepareRegions(dict(points=121), mode="generate"),
        ]
        options = dict(data_root=str(tmp_path), point_share=1.0, use_masks=False)
        items.append(FerretGRITDataset("vg_object.json", pipeline=steps, **options)[0])

    shapes = [item["images"][0].shape[:2] for item in items]
    assert shapes == [size, (-(-size[0] // 4), -(-size[1] // 4))]
    whole, reduced = (item["inputs"]["region"] for item in items)
    # The last block, which is cut, takes as much of the view as a whole one.
    np.testing.assert_allclose(reduced.values, whole.values, atol=3 / min(size))
    for item in items:
        places = item["inputs"]["region"].extra["points"][0].numpy()
        places = from_view(places, item["layouts"][0], size)
        np.testing.assert_allclose(places, np.rint(places), atol=1e-3)
        found = {tuple(place) for place in np.rint(places).astype(int).tolist()}
        assert found == {(x, y) for x in range(195, 206) for y in range(206, 217)}


def test_points_of_a_box_that_others_annotated_at_another_size():
    half = Region(0, Boxes(np.array([6.0, 4.5, 30, 22.5]), (45, 60)))

    one, other = (prepare(item_of(r)).values for r in (half, region([12, 9, 60, 45])))

    np.testing.assert_allclose(one, other, atol=1e-6)


def test_what_a_crop_cuts_away_is_an_error():
    with pytest.raises(ValueError, match=r"region 0: .*cuts away.*ResizeSquare"):
        prepare(item_of(region([0, 0, 5, 5]), view=CenterCropSquare()), points=4)

    made = prepare(item_of(region([0, 0, 119, 89]), view=CenterCropSquare()), points=64)
    points = made.extra["points"].numpy()
    assert (points >= 0).all() and (points < 1).all()


@pytest.mark.parametrize(
    "one, message",
    [
        (region([130, 10, 140, 20]), "region 0{file}: the box .*has no pixel"),
        (
            region([130, 100] * 2, kind="point"),
            "region 0{file}: the point .*120 x 90 pixels; give its place in pixels of",
        ),
        (Region(1, Boxes(np.array([1, 1, 9, 9]), SIZE)), "image 1, but .* shows 1"),
    ],
)
def test_regions_that_are_not_there(one, message):
    with pytest.raises(ValueError, match=f"sample one of .*{message.format(file='')}"):
        prepare(item_of(one), points=4)
    message = message.format(file=r" \('set/a.png'\)")
    with pytest.raises(ValueError, match=f"sample one of .*{message}"):
        prepare(dict(item_of(one), image_paths=["set/a.png"]), points=4)


def test_a_model_without_region_encoder_needs_nothing():
    step = PrepareRegions()
    step.bind(types.SimpleNamespace(region_needs=None))
    item = item_of(region([1, 1, 9, 9]))

    assert "inputs" not in step(item)
    step.bind(types.SimpleNamespace(region_needs=RegionNeeds(mask=4)))
    assert "inputs" in step(item)


def test_draws_for_a_prompt_are_refused_in_the_mode_of_training():
    with pytest.raises(ValueError, match="PrepareRegions: mode='test', expected"):
        PrepareRegions(mode="test")
    bound = types.SimpleNamespace(region_needs=None)
    steps = [PrepareRegions(), PrepareRegions(mode="generate")]
    with pytest.raises(ValueError, match=r"mode='train'\), PrepareRegions\(mode='gen"):
        Compose(steps).bind(bound)
    Compose([steps[1], EncodeConversation(mode="generate")]).check_modes()


def test_needs_of_several_readers():
    union = RegionNeeds.union([RegionNeeds(8, 1), RegionNeeds(4, 2, 16)])

    assert union == RegionNeeds(8, 2, 16) and RegionNeeds.union([]) is None
    with pytest.raises(ValueError, match=r"sides|masks of \[8, 16\]"):
        RegionNeeds.union([RegionNeeds(mask=8), RegionNeeds(mask=16)])


def test_the_view_that_shows_the_whole_image():
    assert whole_view(layout_of(AnyResTiles())) == 0
    assert whole_view(layout_of(ResizeSquare())) == 0


def test_places_go_where_the_layout_says():
    layout = layout_of(PadToSquare())

    corner = to_view(np.array([[0.0, 0.0], [120, 90]]), layout, SIZE)

    np.testing.assert_allclose(corner, [[0, 0.125], [1, 0.875]])
