"""Keys of older configs: read under new names, or refused where they are mistakes."""

import pytest

from mmvlm.config import ConfigError, load_config
from mmvlm.config.old_keys import rename_old_keys

TINY = "llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes"
CONTRASTIVE = "clip-tiny_contrastive_none_1xb192-1600i-pt_tiny-scenes"
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
