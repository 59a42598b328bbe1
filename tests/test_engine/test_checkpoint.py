"""Files are whole or absent, plain, and loaded part by part with a report."""

import os
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_toys import ToyVLM
from mmengine.logging import MessageHub
from torch import nn

from mmvlm.engine.runner import checkpoint as module
from mmvlm.engine.runner.checkpoint import (
    find_last,
    fingerprint,
    load_file,
    load_parts,
    omitted_keys,
    part_of,
    save_atomic,
    write_last,
)


def save(model, path, keys=None, **meta):
    state = {k: v for k, v in model.state_dict().items() if keys is None or k in keys}
    meta.setdefault("parts", sorted(set(map(part_of, state))))
    save_atomic(dict(state_dict=state, meta=meta), path)


def test_saved_file_loads_with_weights_only(tmp_path):
    mixed = [1, "x", None, (2.5, True)]
    save_atomic(dict(a=torch.ones(2), b=mixed), tmp_path / "f.pth")

    content = torch.load(tmp_path / "f.pth", weights_only=True)

    assert content["b"] == mixed
    assert os.listdir(tmp_path) == ["f.pth"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (dict(a=[1, {2: nn.Linear(1, 1)}]), r"checkpoint\['a'\]\[1\]\[2\] is a torch"),
        (dict(a=OrderedDict), "holds tensors and plain values only"),
    ],
)
def test_values_that_are_not_plain_are_refused_by_place(tmp_path, value, message):
    with pytest.raises(TypeError, match=message):
        save_atomic(value, tmp_path / "f.pth")

    assert os.listdir(tmp_path) == []


def test_writer_that_dies_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "f.pth"
    save_atomic(dict(version=1), path)
    whole = torch.save

    def cut(obj, file):
        whole(obj, file)
        file.truncate(file.tell() // 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.torch, "save", cut)

    with pytest.raises(KeyboardInterrupt):
        save_atomic(dict(version=2), path)

    assert load_file(path)["state_dict"] == dict(version=1)
    assert os.listdir(tmp_path) == ["f.pth"]


def test_missing_file_names_its_neighbours(tmp_path):
    save_atomic({}, tmp_path / "iter_5.pth")

    with pytest.raises(FileNotFoundError, match=r"does not exist.*iter_5\.pth"):
        load_file(tmp_path / "iter_6.pth")


def test_cut_file_is_refused(tmp_path):
    save_atomic(dict(a=torch.ones(1000)), tmp_path / "f.pth")
    data = (tmp_path / "f.pth").read_bytes()
    (tmp_path / "f.pth").write_bytes(data[: len(data) // 2])

    with pytest.raises(ValueError, match="cannot be read, it may be cut"):
        load_file(tmp_path / "f.pth")


def test_foreign_checkpoint_needs_opt_in(tmp_path):
    class Foreign:
        pass

    globals()["Foreign"] = Foreign
    Foreign.__qualname__ = "Foreign"
    torch.save(dict(state_dict={}, hub=Foreign()), tmp_path / "f.pth")

    with pytest.raises(ValueError, match="allow_pickle=True"):
        load_file(tmp_path / "f.pth")

    assert load_file(tmp_path / "f.pth", allow_pickle=True)["state_dict"] == {}


def test_work_dir_stands_for_its_newest_file(tmp_path):
    model = ToyVLM()
    save(model, tmp_path / "iter_3.pth")
    write_last(tmp_path, "iter_3.pth")

    assert find_last(tmp_path) == str(tmp_path / "iter_3.pth")
    assert load_file(tmp_path)["meta"]["parts"] == sorted(model.parts)


def test_note_of_a_lost_file_is_an_error(tmp_path):
    write_last(tmp_path, "iter_3.pth")

    with pytest.raises(FileNotFoundError, match=r"names 'iter_3\.pth', which is not"):
        find_last(tmp_path)


def test_parts_are_loaded_and_others_reported(tmp_path):
    source, target = ToyVLM(), ToyVLM()
    save(source, tmp_path / "f.pth")
    before = target.language_model["head"].weight.clone()

    report = load_parts(target, tmp_path / "f.pth", parts=["connector"])

    assert torch.equal(target.connector[0].weight, source.connector[0].weight)
    assert torch.equal(target.language_model["head"].weight, before)
    assert report.loaded == dict(connector=4)
    assert report.skipped == dict(language_model=5, vision_encoder=2)
    assert "not asked for: " in str(report)


def test_a_part_goes_into_a_wrapper_under_another_name(tmp_path):
    source, target = ToyVLM(), ToyVLM()
    target.vision_encoder = nn.ModuleDict(dict(encoder=target.vision_encoder))
    save(source, tmp_path / "f.pth")
    rename = dict(vision_encoder="vision_encoder.encoder")

    load_parts(target, tmp_path / "f.pth", ["vision_encoder"], rename=rename)

    inner = target.vision_encoder["encoder"]
    assert torch.equal(inner.weight, source.vision_encoder.weight)
    with pytest.raises(ValueError, match=r"no weights below \['tower'\]"):
        load_parts(target, tmp_path / "f.pth", rename=dict(tower="vision_encoder"))
    with pytest.raises(ValueError, match=r"two weights of .* collide"):
        load_parts(
            target,
            dict(state_dict={"a.weight": torch.ones(1), "b.weight": torch.ones(1)}),
            rename=dict(a="b"),
        )


def test_a_trainable_only_file_goes_to_a_part_of_another_name():
    source, target = ToyVLM(), ToyVLM()
    target.resampler = ToyVLM().connector
    state = {f"connector.{k}": v for k, v in source.connector.state_dict().items()}
    meta = dict(parts=["connector"], omitted=["vision_encoder.weight"])

    load_parts(
        target,
        dict(state_dict=state, meta=meta),
        rename=dict(connector="resampler"),
    )

    assert torch.equal(target.resampler[0].weight, source.connector[0].weight)


def test_three_lists_come_grouped_by_part(tmp_path):
    source = ToyVLM()
    state = source.state_dict()
    del state["connector.0.bias"]
    state["connector.extra"] = torch.ones(1)
    state["language_model.head.bias"] = torch.ones(3)
    save_atomic(dict(state_dict=state, meta={}), tmp_path / "f.pth")

    with pytest.raises(ValueError, match="does not fit") as caught:
        load_parts(ToyVLM(), tmp_path / "f.pth")
    report = load_parts(ToyVLM(), tmp_path / "f.pth", strict=False)

    text = str(caught.value)
    assert "missing in connector (1): connector.0.bias" in text
    assert "unexpected in connector (1): connector.extra" in text
    assert re.search(r"mismatched in language_model \(1\).*\(3,\) in the file", text)
    assert report.missing == dict(connector=["connector.0.bias"])
    assert report.loaded == dict(connector=3, language_model=4, vision_encoder=2)


def test_strict_load_leaves_the_model_alone_on_error(tmp_path):
    source, target = ToyVLM(), ToyVLM()
    state = source.state_dict()
    del state["connector.0.bias"]
    save_atomic(dict(state_dict=state, meta={}), tmp_path / "f.pth")
    before = {k: v.clone() for k, v in target.state_dict().items()}

    with pytest.raises(ValueError, match="does not fit"):
        load_parts(target, tmp_path / "f.pth")

    assert all(torch.equal(before[k], v) for k, v in target.state_dict().items())


def test_part_that_gets_nothing_is_an_error_even_when_not_strict(tmp_path):
    save(ToyVLM(), tmp_path / "f.pth", keys=["connector.0.weight"])

    with pytest.raises(ValueError, match=r"gives nothing for \['vision_encoder'\]"):
        load_parts(ToyVLM(), tmp_path / "f.pth", ["vision_encoder"], strict=False)


def test_trainable_only_file_is_complete_with_its_frozen_parts(tmp_path):
    source = ToyVLM()
    omitted = omitted_keys(source)
    state = source.state_dict()
    kept = set(state) - omitted
    frozen = fingerprint({k: state[k] for k in omitted})
    save(source, tmp_path / "f.pth", kept, omitted=sorted(omitted), frozen=frozen)

    report = load_parts(ToyVLM(), tmp_path / "f.pth")

    assert omitted == {"vision_encoder.weight", "vision_encoder.bias"}
    assert report.is_clean and set(report.loaded) == {"connector", "language_model"}


def test_other_frozen_part_is_warned_of(tmp_path, caplog):
    torch.manual_seed(0)
    source, other = ToyVLM(), ToyVLM()
    omitted = omitted_keys(source)
    state = source.state_dict()
    frozen = fingerprint({k: state[k] for k in omitted})
    content = dict(
        state_dict={k: v for k, v in state.items() if k not in omitted},
        meta=dict(
            parts=["connector", "language_model"],
            omitted=sorted(omitted),
            frozen=frozen,
        ),
    )

    same = module.frozen_differences(source, content["meta"])
    different = module.frozen_differences(other, content["meta"])

    assert same == [] and different == ["vision_encoder"]


def test_fingerprint_survives_half_precision_but_not_another_value():
    state = dict(a=torch.randn(50), b=torch.randn(3, 3))

    half = {k: v.bfloat16() for k, v in state.items()}
    changed = dict(state, a=state["a"] + 1)

    assert fingerprint(half) == fingerprint(state)
    assert fingerprint(changed)["a"] != fingerprint(state)["a"]


def test_data_parallel_prefix_is_taken_off(tmp_path):
    source = ToyVLM()
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    save_atomic(dict(state_dict=state, meta={}), tmp_path / "f.pth")

    assert load_parts(ToyVLM(), tmp_path / "f.pth").is_clean


def test_mmengine_checkpoints_load_without_pickle(tmp_path):
    hub = MessageHub("of a foreign run")
    for value in (1.0, np.float32(2)):
        hub.update_scalar("train/loss", value)
    state = dict(state_dict=dict(a=torch.ones(1)), message_hub=hub.state_dict())
    torch.save(state, tmp_path / "f.pth")

    assert load_file(tmp_path / "f.pth")["state_dict"]["a"] == 1


def test_command_of_the_message_writes_weights_that_load(tmp_path):
    foreign = dict(state_dict=dict(a=torch.ones(1)), made=Path("x"))
    torch.save(foreign, tmp_path / "f.pth")

    with pytest.raises(ValueError, match="write its weights anew") as caught:
        load_file(tmp_path / "f.pth")
    code = str(caught.value).split('python -c "')[1].split('".')[0]
    exec(code)

    assert load_file(tmp_path / "f.weights.pth")["state_dict"]["a"] == 1
