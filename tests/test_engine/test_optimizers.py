"""Parts, schedules and the optimizer wrapper."""

import pytest
import torch
import transformers
from engine_toys import ToyVLM
from torch import nn

from mmvlm.engine.optimizers import optim_wrapper, part_constructor
from mmvlm.engine.optimizers.optim_wrapper import VLMOptimWrapper
from mmvlm.engine.optimizers.part_constructor import (
    PartOptimWrapperConstructor,
    record_part_sizes,
)
from mmvlm.engine.optimizers.schedulers import (
    WarmupCosineLR,
    schedulers_by_step,
    warmup_cosine,
)
from mmvlm.engine.optimizers.warmup_constant import WarmupConstantLR
from mmvlm.engine.optimizers.warmup_linear import WarmupLinearLR


def construct(model, **paramwise):
    cfg = dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.1))
    return PartOptimWrapperConstructor(cfg, paramwise)(model)


def test_groups_follow_parts_and_hold_trainable_parameters_only():
    model = ToyVLM()

    wrapper = construct(
        model,
        parts=dict(connector=dict(lr=5e-4, weight_decay=0.0)),
        norm_and_bias_decay=False,
    )

    rows = {
        (g["part"], g["lr"], g["weight_decay"], len(g["params"]))
        for g in wrapper.optimizer.param_groups
    }
    assert rows == {
        ("connector", 5e-4, 0.0, 1),
        ("connector", 5e-4, 0.0, 3),
        ("language_model", 1e-3, 0.1, 3),
        ("language_model", 1e-3, 0.0, 2),
    }
    held = {id(p) for g in wrapper.optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


def test_a_module_inside_of_a_part_has_its_own_rate():
    """As MMFuser's fuser beside its projector; what it does not set it inherits."""
    model, shown = ToyVLM(), []
    record_part_sizes(model)
    parts = {
        "connector": dict(lr=5e-4, weight_decay=0.3),
        "connector.0": dict(lr=1e-4),
        "language_model.head": dict(weight_decay=0.0),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_constructor, "part_table", shown.append)
        wrapper = construct(model, parts=parts)

    groups = wrapper.optimizer.param_groups
    rows = {g["part"]: (g["lr"], g["weight_decay"], len(g["params"])) for g in groups}
    assert rows == {
        "connector.0": (1e-4, 0.3, 2),
        "connector": (5e-4, 0.3, 2),
        "language_model.head": (1e-3, 0.0, 2),
        "language_model": (1e-3, 0.1, 3),
    }
    held = [id(p) for g in groups for p in g["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters() if p.requires_grad}
    table = {row["part"]: row for row in shown[0]}
    assert table["connector.0"]["params"] == 72 and table["connector"]["params"] == 16
    total = sum(p.numel() for p in model.parameters())
    assert sum(row["params"] for row in shown[0]) == total


def test_patterns_say_what_decays():
    """As Flamingo's gates, and OneLLM's layer norms of the projection."""
    model = ToyVLM()
    decay = {
        "connector.1.weight": True,
        "connector*": False,
        "language_model.body.bias": True,
    }

    wrapper = construct(model, norm_and_bias_decay=False, decay=decay)

    held = {
        id(p)
        for g in wrapper.optimizer.param_groups
        for p in g["params"]
        if g["weight_decay"]
    }
    names = {n for n, p in model.named_parameters() if id(p) in held}
    assert names == {
        "connector.1.weight",
        "language_model.embed.weight",
        "language_model.body.weight",
        "language_model.body.bias",
        "language_model.head.weight",
    }


@pytest.mark.parametrize(
    ("paramwise", "message"),
    [
        (dict(decay={"*gate": False}), r"decay: no parameter fits '\*gate'"),
        (dict(parts={"connector.9": dict(lr=1)}), "no such part. Did you mean 'conn"),
        (dict(parts={"fuser.0": dict(lr=1)}), "parts.fuser.0: the model has no such"),
        (dict(parts=dict(conector=dict(lr=1))), "Did you mean 'connector'"),
        (dict(parts=dict(connector=dict(lrr=1))), r"unknown keys \['lrr'\]"),
        (dict(part=dict()), r"paramwise_cfg: unknown keys \['part'\]"),
    ],
)
def test_wrong_paramwise_settings_are_refused(paramwise, message):
    with pytest.raises(ValueError, match=message):
        construct(ToyVLM(), **paramwise)


def test_nothing_to_train_shows_the_part_table():
    model = ToyVLM(train_parts=dict(connector=False, language_model=False))

    with pytest.raises(ValueError, match=r"nothing to train(.|\n)*connector +88 +0"):
        construct(model)


def test_warmup_cosine_equals_transformers():
    from transformers import get_cosine_schedule_with_warmup

    for total, warmup_steps in ((50, 2), (7, 1), (100, 3)):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
        reference = get_cosine_schedule_with_warmup(optimizer, warmup_steps, total)
        for step in range(total):
            ours = 2.0 * warmup_cosine(step, total, 0.03)
            assert ours == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
            optimizer.step()
            reference.step()


def test_warmup_may_start_above_zero():
    rates = [warmup_cosine(step, 10, 0.2, 0.5, 0.1) for step in range(11)]

    assert rates[:3] == pytest.approx([0.1, 0.55, 1.0])
    assert rates[-1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("kind", "name", "end"),
    [
        (WarmupConstantLR, "get_constant_schedule_with_warmup", ()),
        (WarmupLinearLR, "get_linear_schedule_with_warmup", (50,)),
    ],
)
def test_schedules_behind_the_warmup_equal_transformers(kind, name, end):
    def optimizer():
        return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)

    ours, theirs = optimizer(), optimizer()
    schedule = kind(ours, warmup_ratio=0.1, end=50)
    reference = getattr(transformers, name)(theirs, 5, *end)
    for _ in range(50):
        assert ours.param_groups[0]["lr"] == pytest.approx(reference.get_last_lr()[0])
        for one in (ours, theirs, schedule, reference):
            one.step()


def test_linear_decay_after_warmup_equals_transformers():
    from transformers import get_linear_schedule_with_warmup

    ours, theirs = (
        torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0) for _ in range(2)
    )
    schedule = WarmupLinearLR(ours, warmup_ratio=0.1, end=50)
    reference = get_linear_schedule_with_warmup(theirs, 5, 50)
    for _ in range(50):
        assert ours.param_groups[0]["lr"] == pytest.approx(reference.get_last_lr()[0])
        for one in (ours, theirs, schedule, reference):
            one.step()


def test_cosine_of_lavis_counts_from_the_first_step():
    rates = [
        warmup_cosine(step, 8, 0.5, 0.2, 0.1, from_start=True) for step in range(9)
    ]

    assert rates[:4] == pytest.approx([0.1, 0.325, 0.55, 0.775])
    assert rates[4] == pytest.approx(0.6) and rates[8] == pytest.approx(0.2)


def test_scheduler_drives_every_group_and_resumes():
    def make():
        groups = [dict(params=[nn.Parameter(torch.zeros(1))], lr=lr) for lr in (1.0, 4)]
        optimizer = torch.optim.SGD(groups)
        return optimizer, WarmupCosineLR(optimizer, warmup_ratio=0.2, end=10)

    optimizer, scheduler = make()
    seen = []
    for _ in range(10):
        seen.append([g["lr"] for g in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
        if len(seen) == 4:
            state = scheduler.state_dict(), optimizer.state_dict()
    other, resumed = make()
    other.load_state_dict(state[1])
    resumed.load_state_dict(state[0])

    factors = [warmup_cosine(step, 10, 0.2) for step in range(10)]
    assert seen == [[f, 4 * f] for f in factors]
    assert [g["lr"] for g in other.param_groups] == seen[4]
    other.step()
    resumed.step()
    assert [g["lr"] for g in other.param_groups] == seen[5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(warmup_ratio=3), "warmup_ratio=3"),
        (dict(start_ratio=-1), "start_ratio=-1"),
        (dict(by_epoch=True), "by_epoch=True"),
    ],
)
def test_wrong_schedules_are_refused(arguments, message):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)

    with pytest.raises(ValueError, match=message):
        WarmupCosineLR(optimizer, end=10, **arguments)


def test_only_our_schedules_count_steps_by_default():
    given = [
        dict(type="WarmupCosineLR"),
        dict(type="WarmupConstantLR"),
        dict(type="StepLR", step_size=1),
    ]

    *ours, other = schedulers_by_step(given)

    assert [one["by_epoch"] for one in ours] == [False, False]
    assert "by_epoch" not in other
    assert "by_epoch" not in given[0]


def wrapper_and_weight(**arguments):
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    return VLMOptimWrapper(optimizer, **arguments), weight


def test_accumulation_sums_and_clears():
    wrapper, weight = wrapper_and_weight(accumulative_counts=3)

    for factor in (1.0, 2.0):
        wrapper.update_params((factor * weight).sum())
        assert torch.equal(weight.detach(), torch.tensor([1.0, 2.0]))
    wrapper.update_params((3.0 * weight).sum())

    assert torch.equal(weight.detach(), torch.tensor([-5.0, -4.0]))
    assert weight.grad is None


def test_short_step_and_mean_over_micro_batches():
    wrapper, weight = wrapper_and_weight(accumulative_counts=3)

    wrapper.begin_step(2, loss_scale=0.5)
    wrapper.update_params((1.0 * weight).sum())
    wrapper.update_params((3.0 * weight).sum())

    assert torch.equal(weight.detach(), torch.tensor([-1.0, 0.0]))


def test_callbacks_see_all_losses_and_can_stop_the_step():
    wrapper, weight = wrapper_and_weight(accumulative_counts=2)
    seen = []

    def stop():
        raise RuntimeError("no")

    wrapper.callbacks.losses_ready = seen.extend
    wrapper.callbacks.before_step = stop
    wrapper.update_params(weight.sum())
    with pytest.raises(RuntimeError, match="no"):
        wrapper.update_params(2 * weight.sum())

    assert [float(loss) for loss in seen] == [3.0, 6.0]
    assert torch.equal(weight.detach(), torch.tensor([1.0, 2.0]))


def test_clipping_keeps_the_norm_on_the_device():
    wrapper, weight = wrapper_and_weight(clip_grad=dict(max_norm=1.0))

    wrapper.update_params((torch.tensor([3.0, 4.0]) * weight).sum())

    assert float(wrapper.grad_norm) == pytest.approx(5.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([0.4, 1.2]))


def test_bfloat16_computes_in_half_precision_on_the_cpu():
    wrapper, _ = wrapper_and_weight(dtype="bfloat16")
    layer = nn.Linear(4, 4)

    with wrapper.optim_context(layer):
        output = layer(torch.ones(1, 4))

    assert output.dtype == torch.bfloat16
    assert layer(torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", None])
@pytest.mark.parametrize("emulated", [True, False])
def test_emulated_bfloat16_is_said(dtype, emulated, monkeypatch):
    said = []
    monkeypatch.setattr(optim_wrapper, "emulates_bfloat16", lambda: emulated)
    monkeypatch.setattr(optim_wrapper, "print_log", lambda text, *_: said.append(text))

    wrapper_and_weight(dtype=dtype)

    assert ["emulates bfloat16" in text for text in said] == [True] * (
        emulated and dtype == "bfloat16"
    )


@pytest.mark.parametrize("emulated", [True, False])
def test_auto_is_bfloat16_where_it_is_not_emulated(emulated, monkeypatch):
    said = []
    monkeypatch.setattr(optim_wrapper, "emulates_bfloat16", lambda: emulated)
    monkeypatch.setattr(optim_wrapper, "print_log", lambda text, *_: said.append(text))

    wrapper, _ = wrapper_and_weight(dtype="auto")

    assert wrapper.dtype is (None if emulated else torch.bfloat16)
    assert optim_wrapper.wrapper_dtype(dict(dtype="auto")) is wrapper.dtype
    assert said == [
        f"optim_wrapper.dtype='auto': {'float32' if emulated else 'bfloat16'} here."
    ]


@pytest.mark.parametrize(
    ("dtype", "message"), [("half", "expected one of"), ("float16", "needs a GPU")]
)
def test_wrong_precisions_are_refused(dtype, message):
    if dtype == "float16" and torch.cuda.is_available():
        pytest.skip("there is a GPU")

    with pytest.raises(ValueError, match=message):
        wrapper_and_weight(dtype=dtype)
