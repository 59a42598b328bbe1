"""mmpretrain backbones inside mmvlm's scope."""

import torch
from mmengine.registry import DefaultScope

from mmvlm.registry import MODELS


def test_builds_while_a_run_has_set_the_default_scope():
    cls = MODELS.get("MMPretrainVisionEncoder")

    with DefaultScope.overwrite_default_scope("mmvlm"):
        DefaultScope.get_instance("test_mmpretrain_vision", scope_name="mmvlm")
        encoder = cls.tiny().eval()
    side = encoder.spec.image_size
    features = encoder(torch.zeros(1, 3, side, side), (-1,))

    assert features.patches().shape[-1] == encoder.spec.width
