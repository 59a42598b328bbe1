"""Our step equals the plain padded step in loss and gradients."""

import pytest
from benchmarks.plain_llava import PlainLlavaStep, pad_batch

from mmvlm.testing import tiny_batch, tiny_vlm

STAGES = {
    "stage1": dict(vision_encoder=False, connector=True, language_model=False),
    "stage2": dict(vision_encoder=False, connector=True, language_model=True),
}
BATCHES = {
    "ragged": dict(text_lens=(14, 40, 25, 9), num_images=(1, 1, 1, 1)),
    "equal": dict(text_lens=(20, 20, 20), num_images=(1, 1, 1)),
    "mixed": dict(text_lens=(14, 40, 25, 9), num_images=(1, 0, 2, 0)),
}


def _gradients(model):
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _plain(stage, batch, checkpointing, **options):
    model = tiny_vlm(
        train_parts=STAGES[stage], lm=dict(attention="sdpa", **options)
    ).train()
    loss = PlainLlavaStep(model, checkpointing).loss(pad_batch(batch))
    loss.backward()
    return model, loss.item(), _gradients(model)


def _ours(stage, batch, source, max_logits=2**25, **options):
    model = tiny_vlm(
        train_parts=STAGES[stage], lm=options, max_logits=max_logits
    ).train()
    model.load_state_dict(source.state_dict())
    loss = model(batch, mode="loss")["loss"]
    loss.backward()
    return loss.item(), _gradients(model)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_equal_the_plain_step(stage, kind, checkpointing):
    batch = tiny_batch(seed=3, **BATCHES[kind])
    source, expected, wanted = _plain(stage, batch, checkpointing)

    loss, got = _ours(stage, batch, source)

    assert abs(loss - expected) <= 5e-7 * max(1.0, expected)
    _check_gradients(got, wanted)


def _check_gradients(got, wanted):
    assert set(got) == set(wanted) and wanted
    for name, gradient in wanted.items():
        scale = gradient.abs().max().clamp(min=1e-12)
        error = (got[name] - gradient).abs().max() / scale
        assert error <= 2e-6, f"{name}: {error}"


@pytest.mark.parametrize(
    "options",
    [
        dict(gradient_checkpointing="all"),
        dict(gradient_checkpointing=2),
        dict(attention="sdpa"),
        dict(max_logits=128 * 5),
    ],
    ids=str,
)
def test_options_change_no_number(options):
    batch = tiny_batch(seed=3, **BATCHES["mixed"])
    source, expected, wanted = _plain("stage2", batch, False)

    loss, got = _ours("stage2", batch, source, **options)

    assert abs(loss - expected) <= 5e-7 * max(1.0, expected)
    _check_gradients(got, wanted)


def test_frozen_parts_get_no_gradient():
    batch = tiny_batch(seed=3)
    source, _, _ = _plain("stage1", batch, False)

    _, got = _ours("stage1", batch, source)

    assert got and all(name.startswith("connector.") for name in got)
