"""Maps, sampling points and routing weights, drawn and in a page."""

import copy
import json
import re
import runpy
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from feature_maps import look_inside
from feature_page import draw_sampling, mean_range, pca_colours

from mmvlm.apis import VLMInferencer
from mmvlm.apis.loading import LoadedModel
from mmvlm.datasets.processor import VLMProcessor
from mmvlm.models.connectors.fused import FusedConnector
from mmvlm.models.connectors.universal_projection import UniversalProjectionConnector
from mmvlm.models.fusers.base import Fuser
from mmvlm.models.fusers.mmfuser import MMFuser
from mmvlm.models.utils.observing import (
    RoutingWeights,
    SamplingPoints,
    observe,
    report,
)
from mmvlm.structures import VisionFeatures

ROOT = Path(__file__).parents[2]


class LookRight(Fuser):
    """Every query looks at its own cell and at the next one on the right."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.gain = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, features):
        deep = features.patches(-1)
        (rows, columns), views = features.grid, len(deep)
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        here = torch.stack([(x + 0.5) / columns, (y + 0.5) / rows], -1).flatten(0, 1)
        there = here + torch.tensor([1 / columns, 0])
        places = torch.stack([here, there], 1)[None, :, None, None].expand(
            views, -1, 2, 2, -1, -1
        )
        weights = torch.tensor([0.1, 0.15]).expand(places.shape[:-1])
        report(SamplingPoints(self, places, weights))
        report(RoutingWeights(self, torch.full((*deep.shape[:2], 3), 1 / 3)))
        return VisionFeatures(
            (deep * self.gain,), (0,), features.grid, 0, features.layouts
        )


@pytest.fixture(scope="module")
def fused_talk(talk):
    """The session's tiny model with the toy fuser in front of its projector."""
    model = copy.deepcopy(talk.model)
    fuser = LookRight(vision_spec=model.vision_spec, select_layers=(1, -2))
    model.connector = FusedConnector.around(fuser, model.connector.out_width)
    processor = copy.copy(talk.processor).bind(model)
    return VLMInferencer.from_loaded(LoadedModel(talk.cfg, model, processor))


def test_maps_are_those_that_the_modules_saw(fused_talk, image_file):
    maps = look_inside(fused_talk, image_file)

    model = fused_talk.model
    batch = fused_talk.encode([fused_talk.conversation(image_file, "")])
    features = model.vision_encoder(batch.inputs["image"].values, (1, -2))
    for place, layer in enumerate((1, 2)):
        want = features.patches(place)[0].reshape(4, 4, -1)
        np.testing.assert_allclose(maps.layers[layer], want.detach(), atol=1e-6)
    np.testing.assert_allclose(maps.output, 2 * maps.layers[2], rtol=1e-5)
    np.testing.assert_allclose(maps.difference, maps.layers[2], rtol=1e-4, atol=1e-5)
    assert maps.output_name == "LookRight: 16 tokens, 32 wide"
    assert maps.image.shape == (32, 32, 3) and maps.image.dtype == np.uint8
    assert list(maps.sampling) == list(maps.routing) == ["connector.fuser"]
    places, weights = maps.sampling["connector.fuser"]
    assert places.shape == (16, 2, 2, 2, 2) and weights.shape == (16, 2, 2, 2)
    np.testing.assert_allclose(places[5, 0, 0, 1], [2.5 / 4, 1.5 / 4])
    assert maps.routing["connector.fuser"].shape == (16, 3)


def test_parts_may_have_any_names(talk, image_file):
    model = copy.deepcopy(talk.model)
    for old, new in (("vision_encoder", "tower"), ("connector", "bridge")):
        model.add_module(new, model._modules.pop(old))
    model._names = (("tower",), ("bridge",), ())
    renamed = VLMInferencer.from_loaded(LoadedModel(talk.cfg, model, talk.processor))

    maps, known = (look_inside(one, image_file) for one in (renamed, talk))

    assert list(maps.layers) == list(known.layers)
    for layer, values in known.layers.items():
        np.testing.assert_array_equal(maps.layers[layer], values)
    np.testing.assert_array_equal(maps.output, known.output)


def test_the_view_is_the_image_that_the_encoder_sees(talk, images):
    square = images[1][:32, :32]

    maps = look_inside(talk, square, layers=[0, 3])

    assert np.abs(maps.image.astype(int) - square).max() <= 1
    assert list(maps.layers) == [0, 3]
    assert maps.output_name == "MLPConnector: 16 tokens, 24 wide"
    assert maps.output.shape == (4, 4, 24) and maps.difference is None
    with pytest.raises(ValueError, match="view=1: the image has 1 views"):
        look_inside(talk, square, view=1)


def test_reports_go_to_the_watcher_only():
    record = RoutingWeights(torch.nn.Identity(), torch.zeros(1, 1, 2))

    report(record)
    with observe() as outer:
        report(record)
        with observe() as inner:
            report(record)
    report(record)

    assert outer == [record] and inner == [record]


def test_components_are_shared_between_maps():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 5, 6, 8))
    two[0, 0] = one[3, 4]
    one, two = (x - x.mean((0, 1)) for x in (one, two))
    two[0, 0] = one[3, 4]
    two[4, 5] -= two.sum((0, 1))  # centred again

    a, b = pca_colours([one, two + 100])

    assert a.shape == b.shape == (5, 6, 3)
    assert 0 <= min(a.min(), b.min()) and max(a.max(), b.max()) <= 1
    np.testing.assert_allclose(b[0, 0], a[3, 4])
    np.testing.assert_allclose(pca_colours([one * 7])[0], pca_colours([one])[0])
    assert pca_colours([one[..., :2]])[0].shape == (5, 6, 3)
    assert mean_range([np.full((2, 2, 3), -4.0), np.ones((2, 2, 3))]) == 4.0


def test_a_query_outside_of_the_grid_is_refused():
    sampling = (np.zeros((4, 1, 1, 1, 2)), np.ones((4, 1, 1, 1)))

    with pytest.raises(ValueError, match="row 2, column 0 lies outside of the grid"):
        draw_sampling(np.zeros((8, 8, 3), np.uint8), (2, 2), (2, 0), sampling, "x")


def _with_connector(talk, connector):
    """Return a talk with the session's tiny towers around another connector."""
    model = copy.deepcopy(talk.model)
    spec, width = model.vision_spec, model.connector.out_width
    model.connector = connector(spec, width)
    processor = copy.copy(talk.processor).bind(model)
    return VLMInferencer.from_loaded(LoadedModel(talk.cfg, model, processor))


def test_mmfuser_shows_where_its_attentions_looked(talk, image_file):
    fused_talk = _with_connector(
        talk, lambda spec, width: FusedConnector.around(MMFuser.tiny(spec), width)
    )

    maps = look_inside(fused_talk, image_file)

    names = ["connector.fuser.cross_attn", "connector.fuser.self_attn"]
    assert list(maps.sampling) == names and not maps.routing
    for name, levels in zip(names, (2, 1), strict=True):
        places, weights = maps.sampling[name]
        assert places.shape == (16, 4, levels, 2, 2)
        np.testing.assert_allclose(weights.sum((2, 3)), 1, rtol=1e-5)
        # Untrained: point k of a head lies k + 1 cells away; head 0 looks right.
        centre = np.array([1.5, 2.5]) / 4
        away = (places[2 * 4 + 1, 0, 0] - centre) * 4
        np.testing.assert_allclose(away, [[1, 0], [2, 0]], atol=1e-5)
    assert maps.output.shape == (4, 4, 32)
    np.testing.assert_allclose(maps.difference, 0, atol=1e-6)  # the gammas are zero


def test_onellm_shows_how_it_weighs_its_experts(talk, image_file):
    routed = _with_connector(talk, UniversalProjectionConnector.tiny)
    router = routed.model.connector.routers["image"]
    torch.nn.init.zeros_(router.fc2.weight)
    router.fc2.bias.data = torch.tensor([0.0, 0.0, -50.0])

    maps = look_inside(routed, image_file)

    assert list(maps.routing) == ["connector"] and not maps.sampling
    weights = maps.routing["connector"]
    np.testing.assert_allclose(weights, np.tile([0.5, 0.5, 0], (5, 1)), atol=1e-6)
    assert maps.output is None


def test_the_tool_writes_images_and_a_page(
    fused_talk, config_file, checkpoint, image_file, tmp_path, monkeypatch, capsys
):
    path = str(ROOT / "tools" / "analysis" / "visualize_features.py")
    tool = runpy.run_path(path)["main"]
    arguments = [str(config_file), str(checkpoint), "--image", str(image_file)]
    arguments += ["--device", "cpu", "--out", str(tmp_path)]

    assert tool([*arguments, "--query", "9,0"]) == 1
    assert "outside of the grid of 4 rows" in capsys.readouterr().err
    assert tool(arguments) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"maps.png", "features.html"}

    monkeypatch.setitem(tool.__globals__, "VLMInferencer", lambda *a, **k: fused_talk)
    assert tool([*arguments, "--pixel", "31,1"]) == 0

    names = ("maps", "sampling-connector.fuser", "routing-connector.fuser")
    for name in names:
        with PIL.Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100
    page = (tmp_path / "features.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    data = json.loads(re.search(r'json">(.*?)</script>', page).group(1))
    assert data["query"] == [0, 3] and (data["rows"], data["columns"]) == (4, 4)
    # Query 5, second point: the centre of the cell on its right.
    assert data["xy"][5 * 8 * 2 + 2 : 5 * 8 * 2 + 4] == [625, 375]
    assert max(data["w"]) == 255


def test_a_packed_view_is_shown_in_its_own_shape(talk, tmp_path):
    from mmvlm.datasets.transforms.slices import SliceViews
    from mmvlm.models.connectors.sliced import SlicedConnector
    from mmvlm.models.vision_encoders.any_aspect import AnyAspectVisionEncoder

    model = copy.deepcopy(talk.model)
    model.vision_encoder = AnyAspectVisionEncoder(model.vision_encoder)
    spec = model.vision_spec
    model.connector = SlicedConnector(
        dict(type="ResamplerConnector", grid=2, heads=4),
        vision_spec=spec,
        out_width=model.connector.out_width,
    ).eval()
    cfg = copy.deepcopy(talk.cfg)
    views = dict(type="SliceViews", keep_aspect=True)
    cfg.test_dataloader.dataset.pipeline[1] = views
    processor = VLMProcessor.from_config(cfg, model)
    model.bind(processor)
    other = VLMInferencer.from_loaded(LoadedModel(cfg, model, processor))
    path = tmp_path / "wide.png"
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (spec.image_size, 4 * spec.image_size, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path)

    maps = look_inside(other, str(path), view=1)

    slicer = SliceViews(
        size=spec.image_size, patch_size=spec.patch_size, keep_aspect=True
    )
    rows, cols = slicer.layout(*pixels.shape[:2]).grids[1]
    assert maps.grid == (rows, cols)
    patch = spec.patch_size
    assert maps.image.shape == (rows * patch, cols * patch, 3)
    assert all(one.shape[:2] == (rows, cols) for one in maps.layers.values())
