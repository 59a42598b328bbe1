"""One small model trains on TinyScenes in every format that asks about images."""

import json
import math

import pytest

from mmvlm.config import load_config
from mmvlm.datasets.tiny_scenes.build import make_tiny_scenes
from mmvlm.datasets.tiny_scenes.formats import format_datasets
from mmvlm.engine.hooks.progress_hook import read_scalars
from mmvlm.engine.runner import build_runner
from mmvlm.registry import SCENE_WRITERS

SCENE_WRITERS.import_from_location()
#: What a chat about images cannot train on, and why.
REFUSED = {"mmc4": "documents", "obelics": "documents", "modalities": "holds"}
FORMATS = sorted(set(SCENE_WRITERS.module_dict) - set(REFUSED))
CONFIG = "configs/tiny/llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    make_tiny_scenes(
        folder, num_train=24, num_test=9, formats=(*FORMATS, *REFUSED), seed=4
    )
    return folder


def mixture(data, formats):
    cfg = load_config(CONFIG, check=False)
    pipeline = cfg.train_dataloader.dataset.to_dict()["pipeline"]
    codec = dict(type="LLaVACodec", geometry="stretch")
    sets = format_datasets(str(data), formats, pipeline, codec)
    return cfg, sets


@pytest.mark.slow
def test_a_model_trains_on_all_formats_at_once(data, tmp_path):
    cfg, sets = mixture(data, FORMATS)
    cfg.train_dataloader.batch_size = len(sets)
    cfg.train_dataloader.dataset = dict(
        type="MixtureDataset", datasets=sets, by="samples", size=3 * len(sets)
    )
    cfg.tokenizer.name_or_path = str(data / "tokenizer")
    cfg.load_from, cfg.work_dir = None, str(tmp_path)
    cfg.train_cfg.max_iters = 3
    cfg.pop("test_dataloader"), cfg.pop("test_cfg"), cfg.pop("test_evaluator")

    runner = build_runner(cfg)
    runner.train()

    assert len({config["name"].split("-")[0] for config in sets}) == len(FORMATS)
    counts = runner.train_loop.dataloader.dataset.counts
    assert len(counts) == len(sets) and min(counts) >= 1
    losses = [row["loss"] for row in read_scalars(str(tmp_path)) if "loss" in row]
    assert losses and all(map(math.isfinite, losses))


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_chat_about_images_cannot_use_is_refused(data, name):
    with pytest.raises(ValueError, match=f"'{name}' .*{REFUSED[name]}"):
        mixture(data, [name])


def test_a_format_that_was_not_written_is_named(data):
    summary = json.loads((data / "tiny_scenes.json").read_text())
    assert "refcoco" in summary["formats"]

    with pytest.raises(KeyError, match="'refcocoo' was not written"):
        mixture(data, ["refcocoo"])


def test_regions_are_written_before_they_are_encoded(data):
    _, (config,) = mixture(data, ["refcoco"])

    steps = [step["type"] for step in config["pipeline"]]
    assert steps.index("WriteRegions") + 1 == steps.index("EncodeConversation")
