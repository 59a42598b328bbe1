"""Released differences become weights."""

import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmvlm.export.delta import add_delta

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def states(rows=3):
    """A base, what it became with new rows and a projector, and the difference."""
    torch.manual_seed(0)
    base = {EMBED: torch.randn(6, 4), HEAD: torch.randn(6, 4), "a.b": torch.randn(5)}
    whole = {name: value + 1 for name, value in base.items()}
    for name in (EMBED, HEAD):
        whole[name] = torch.cat([whole[name], torch.randn(rows, 4)])
    whole["model.mm_projector.weight"] = torch.randn(4, 2)
    delta = dict(whole)
    for name, value in base.items():
        delta[name] = torch.cat(
            [whole[name][: len(value)] - value, whole[name][len(value) :]]
        )
    return base, whole, delta


def test_old_rows_are_added_and_new_ones_taken():
    base, whole, delta = states()
    found = add_delta(delta, dict(base, **{"a.rotary_emb.inv_freq": torch.ones(2)}))
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value)
    half = {name: value.bfloat16() for name, value in delta.items()}
    assert {v.dtype for v in add_delta(half, base).values()} == {torch.bfloat16}


def test_another_base_is_refused():
    base, _, delta = states()
    with pytest.raises(ValueError, match=r"delta: lacks 1 weights .*: \['c'\]"):
        add_delta(delta, dict(base, c=torch.ones(1)))
    with pytest.raises(ValueError, match=r"'a.b' is \(5,\) in the difference and \(4,"):
        add_delta(delta, dict(base, **{"a.b": torch.ones(4)}))
    wide = dict(base, **{EMBED: torch.ones(99, 4)})
    with pytest.raises(ValueError, match="embed_tokens"):
        add_delta(delta, wide)


def test_the_tool_writes_a_folder(tmp_path):
    base, whole, delta = states()
    for name, state in (("base", base), ("delta", delta)):
        (tmp_path / name).mkdir()
        save_file(state, str(tmp_path / name / "model.safetensors"))
    (tmp_path / "delta" / "config.json").write_text("{}")
    tool = Path(__file__).parents[2] / "tools/model_converters/add_delta.py"
    out = tmp_path / "out"

    args = [str(tmp_path / "delta"), str(out), "--base", str(tmp_path / "base")]
    assert runpy.run_path(str(tool))["main"](args) == 0

    found = load_file(str(out / "model.safetensors"))
    torch.testing.assert_close(found[EMBED], whole[EMBED])
    assert (out / "config.json").read_text() == "{}"
