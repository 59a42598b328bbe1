"""FLOP of whole models against closed forms."""

import json
import runpy
from pathlib import Path

import pytest
from flops import count_flops, human, render_flops

from mmvlm.config import load_config

ROOT = Path(__file__).resolve().parents[2]
#: Every config but the ablations: they are children of one beside them.
FILES = sorted(
    path
    for path in (ROOT / "configs").rglob("*.py")
    if "_base_" not in path.relative_to(ROOT).parts
    and '"../_base_/' in path.read_text()
)
#: Systems that send tokens to modules by what they are, or look for them.
BY_VALUE = ("cogvlm", "internlm-xcomposer2", "emu", "lavin")
#: Segmenters: neither a language model nor a tower of that name.
UNCOUNTED = ("sam-tiny",)
FINETUNE = "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft_llava-665k"
PRETRAIN = "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k"


def by_part(report):
    return {row.part: row for row in report.parts}


def transformer(layers, width, hidden, tokens, *, gates):
    """Products of a transformer: projections, MLP, and the square of attention."""
    weights = 4 * width * width + (3 if gates else 2) * width * hidden
    return layers * (2 * tokens * weights + 4 * tokens * tokens * width)


def test_a_7b_agrees_with_the_closed_forms():
    report = count_flops(load_config(FINETUNE), prompt_tokens=40, answer_tokens=25)

    parts = by_part(report)
    tokens = 576 + 40 + 25
    clip = transformer(23, 1024, 4096, 577, gates=False)
    clip += 2 * 576 * 1024 * 3 * 14 * 14
    assert parts["vision_encoder"].forward == clip
    # The whole tower of 24 blocks is quoted as 0.38 TFLOP; the last is not run.
    assert clip * 24 / 23 == pytest.approx(0.38e12, rel=0.01)
    connector = 2 * 576 * (1024 * 4096 + 4096 * 4096)
    assert parts["connector"].forward == connector
    head = 2 * 25 * 4096 * 32000
    decoder = transformer(32, 4096, 11008, tokens, gates=True)
    unread = 2 * (tokens - 25) * 3 * 4096 * 11008  # rows of the last MLP
    rotary = 2 * 64 * tokens  # the angles, one product of positions and rates
    expected = decoder - unread + head
    assert parts["language_model"].forward == pytest.approx(expected, abs=rotary)
    # 6.6e9 weights in products, twice each: the decoder's 6.476e9 and the head.
    assert decoder / tokens / 2 == pytest.approx(6.476e9, rel=0.03)
    assert report.tokens == tokens and report.num_views == 1


@pytest.mark.parametrize(
    ("config", "ratio"), [(FINETUNE, 2.0), (PRETRAIN, 1.0)], ids=["full", "frozen"]
)
def test_backward_is_that_of_the_trained_parts(config, ratio):
    parts = by_part(count_flops(load_config(config)))

    assert parts["vision_encoder"].backward == 0
    connector = parts["connector"]
    first = 2 * 576 * 1024 * 4096  # nobody wants the gradient of its input
    assert connector.backward == 2 * connector.forward - first
    model = parts["language_model"]
    # Attention's products have two gradients even where weights are frozen.
    squares = 0 if ratio == 2.0 else 32 * 4 * 704**2 * 4096
    assert model.backward == pytest.approx(ratio * model.forward + squares, rel=1e-6)


def test_forward_only_counts_no_backward(chain):
    report = count_flops(load_config(chain.base), backward=False)

    assert report.forward > 0 and report.backward == 0
    assert {row.backward for row in report.parts} == {None}
    assert render_flops(report).splitlines()[1].endswith("-")


def test_a_trained_encoder_and_a_longer_text_cost_more(chain):
    cfg = load_config(chain.base)
    trained = chain.child("model = dict(train_parts=dict(vision_encoder=True))")

    short, whole = count_flops(cfg), count_flops(load_config(trained))
    long = count_flops(cfg, prompt_tokens=200)

    assert by_part(whole)["vision_encoder"].backward > 0
    assert by_part(whole)["connector"].backward > by_part(short)["connector"].backward
    for name in ("vision_encoder", "connector"):
        assert by_part(long)[name] == by_part(short)[name]
    assert long.forward > short.forward


def test_checkpointing_does_not_count_twice(chain):
    text = "model = dict(language_model=dict(gradient_checkpointing='all'))"
    recomputed = load_config(chain.child(text))

    assert (
        count_flops(recomputed).to_dict()["backward"]
        == count_flops(load_config(chain.base)).backward
    )


def test_no_answer_is_refused(chain):
    with pytest.raises(ValueError, match="answer_tokens=0: expected"):
        count_flops(load_config(chain.base), answer_tokens=0)


def test_numbers_are_written_in_g_and_t():
    assert [human(n) for n in (None, 0, 2_000_000, 366_033_858_560, 19e12)] == [
        "-", "0", "0.002 G", "366.03 G", "19.000 T",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_config_is_counted(path, monkeypatch):
    """Full ones by their tiny twins: the same classes, a tenth of the seconds."""
    monkeypatch.chdir(ROOT)
    cfg = load_config(path, tiny="tiny" not in path.parts, check=False)
    if path.stem.startswith(BY_VALUE):
        with pytest.raises(ValueError, match="cannot be counted without values"):
            count_flops(cfg)
        return
    if path.stem.startswith(UNCOUNTED):
        with pytest.raises(ValueError, match="neither a language_model nor"):
            count_flops(cfg)
        return

    report = count_flops(cfg)

    assert report.forward > 0
    parts = by_part(report)
    if report.tokens:
        assert all(row.forward is not None for row in report.parts)
        # The sample has no region: what reads regions alone learns nothing of it.
        trained = {row.part for row in report.parts if row.trainable}
        assert (report.backward > 0) == (trained != {"region_encoder"})
        assert parts["language_model"].forward > 0
        assert ("connector" in parts) == (report.image_tokens > 0)


def test_the_tool_prints_a_table_and_json(chain, capsys):
    tool = runpy.run_path(str(ROOT / "tools" / "analysis" / "get_flops.py"))["main"]

    assert tool([chain.base, "--prompt", "3"]) == 0
    table = capsys.readouterr().out
    assert tool([chain.base, "--prompt", "3", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert tool([chain.base, "--answer", "0"]) == 1

    assert "1 x 28x28 pixels -> 16 image tokens + 3 prompt + 64 answer" in table
    assert values["tokens"] == 83
    assert human(values["forward"]) in table.splitlines()[-2]
