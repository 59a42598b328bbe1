"""Keys of older configs: read under new names, or refused where they are mistakes."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmvlm.config import ConfigError, load_config
from mmvlm.config.old_keys import rename_old_keys

ROOT = Path(__file__).parents[2]
TINY = "llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes"
CONTRASTIVE = "clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes"
DENSEFUSION = "densefusion-clip-l14-336_mlp2x_vicuna-v15-7b_16xb8-1e-ft_densefusion-1m"
NEW = dict(type="VisualRegressionHead", weight=0.5)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (dict(type="EmuVLM", regression_weight=0.5), "head"),
        (dict(type="EmuVLM", head=dict(weight=0.5)), "head"),
        (
            dict(
                type="VisionLanguageModel",
                heads=dict(images=dict(NEW, weight=1.0)),
                regression_weight=0.5,
            ),
            "images",
        ),
    ],
)
def test_emus_weight_becomes_that_of_its_head(model, name):
    cfg = dict(model=model)

    (line,) = rename_old_keys(cfg)

    new = dict(type="VisionLanguageModel", heads={name: NEW})
    assert cfg == dict(model=new)
    assert f"model.heads=dict({name}=dict(type='VisualRegressionHead', weight=" in line
    assert not rename_old_keys(cfg)


@pytest.mark.parametrize("config", [TINY, CONTRASTIVE])
@pytest.mark.parametrize("key", ["head", "regression_weight"])
def test_a_key_of_emu_in_another_system_is_refused(config, key):
    value = 0.5 if key == "regression_weight" else dict(box=dict(type="BoxHead"))

    with pytest.raises(ConfigError, match=rf"\b{key}\b"):
        load_config(config, {f"+model.{key}": value})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            dict(type="EncodeConversation", count_pictures=False, count_images=True),
            dict(type="EncodeConversation", count_images=False),
        ),
        (
            dict(type="MMMUDataset", pictures="all"),
            dict(type="MMMUDataset", images="all"),
        ),
        (
            dict(type="Kosmos2GRITDataset", size_from="picture"),
            dict(type="Kosmos2GRITDataset", size_from="image"),
        ),
    ],
)
def test_arguments_of_other_names_are_read(old, new):
    cfg = dict(train_dataloader=dict(dataset=dict(pipeline=[dict(other=1), old])))

    (line,) = rename_old_keys(cfg)

    assert cfg["train_dataloader"]["dataset"]["pipeline"] == [dict(other=1), new]
    assert line.startswith("train_dataloader.dataset.pipeline.1.") and "read as" in line
    assert not rename_old_keys(cfg)


def test_a_child_with_an_older_key_wins_over_its_base(tmp_path):
    child = tmp_path / "child.py"
    child.write_text(
        f"_base_ = '{ROOT}/configs/densefusion/{DENSEFUSION}.py'\n"
        "train_dataloader = dict(dataset=dict(pipeline=[\n"
        "    dict(type='LoadImages'), dict(type='CenterCropSquare'),\n"
        "    dict(type='EncodeConversation', count_pictures=True),\n"
        "    dict(type='PackVLMInputs')]))\n"
    )

    cfg = load_config(child)

    step = cfg.train_dataloader.dataset.pipeline[2]
    assert step.count_images is True and "count_pictures" not in step


def test_a_lazy_config_with_an_older_key_is_read(tmp_path):
    child = tmp_path / "lazy.py"
    child.write_text(
        "from mmvlm.datasets.transforms.conversation import EncodeConversation\n"
        "step = dict(type=EncodeConversation, count_pictures=False)\n"
    )

    cfg = Config.fromfile(child, lazy_import=True)
    (line,) = rename_old_keys(cfg._cfg_dict)

    assert "count_pictures=False is read as count_images=False" in line
    assert dict.keys(cfg._cfg_dict["step"]) == {"type", "count_images"}
