import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run, render
from mmvlm.config.memory import GIB, ActivationSize, PartSize, estimate
from mmvlm.config.meta_model import (
    build_on_meta,
    is_offline,
    without_options,
    without_quantization,
)

ROOT = Path(__file__).resolve().parents[2]
STAGE_1 = "llava-clip-l14-336_mlp2x_vicuna-v15-13b_8xb32-1e-pt_llava-558k"


def test_a_13b_takes_less_than_five_seconds_and_no_memory():
    cfg = load_config(STAGE_1)
    start = time.process_time()

    result = dry_run(cfg)

    assert time.process_time() - start < 5
    assert result.parameters == 13_350_839_296
    assert all(p.is_meta for p in build_on_meta(cfg.model).parameters())


def test_table_and_json_tell_the_same():
    result = dry_run(load_config(STAGE_1))

    text, values = render(result), result.to_dict()

    assert "336x336 -> 24x24 grid -> 576 tokens -> 576 tokens" in text
    assert "8 GPU x 32 x 1 accumulated = 256" in text
    assert "> zero2" in text
    assert f"{values['trainable']:,}" == "31,467,520" and "31,467,520" in text
    assert values["parts"][1]["lr"] == 1e-3
    assert values["parts"][0]["lr"] is None
    assert values["image_tokens"] == 576
    assert values["widths"] == dict(vision_encoder=1024, language_model=5120)
    assert values["batch"]["global"] == 256


def test_rates_by_part_and_gpus():
    name = "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb16-1e-ft-lora_llava-665k"
    result = dry_run(load_config(name), gpus=4)

    rates = {row.part: row.lr for row in result.parts}

    assert rates == dict(vision_encoder=None, connector=2e-5, language_model=2e-4)
    assert result.batch["global"] == 64


def test_text_only_models_have_no_token_budget(chain):
    text = (
        "model = dict(_delete_=True, type='VisionLanguageModel', language_model=dict("
        "type='HFCausalLM', random_init=True, config=dict(model_type='llama', "
        "hidden_size=48, intermediate_size=96, num_hidden_layers=1, "
        "num_attention_heads=4, vocab_size=300)))\n"
        "optim_wrapper = dict(paramwise_cfg=None)\n"
    )

    result = dry_run(load_config(chain.child(text)))

    assert result.token_budget is None
    assert [row.part for row in result.parts] == ["language_model"]
    assert "an image" not in render(result)


@pytest.mark.parametrize("layers", [[-2], [-1]])
def test_parts_of_other_names_are_described_alike(layers):
    cfg = load_config(TINY)
    cfg.model.connector.select_layers = layers
    known, model = dry_run(cfg), cfg.model
    model.encoders = dict(tower=model.pop("vision_encoder"))
    model.connectors = dict(bridge=model.pop("connector"))
    model.pop("train_parts", None)
    cfg.optim_wrapper.pop("paramwise_cfg", None)

    result = dry_run(cfg)

    assert [row.part for row in result.parts] == ["tower", "bridge", "language_model"]
    assert result.select_layers == known.select_layers == layers
    assert result.token_budget == known.token_budget
    assert result.parameters == known.parameters


def test_memory_follows_the_closed_form():
    parts = [PartSize(1000, 0, 2.0), PartSize(100, 100), PartSize(64, 0, 0.5)]

    table = estimate(parts, activations=GIB, gpus=4)

    def gib(values):
        return pytest.approx(values / GIB)

    # Trained in float32, with autocast's copy in half precision; two moments.
    assert table["single"]["weights"] == gib(2000 + 32 + 400 + 200)
    assert table["single"]["gradients"] == gib(400)
    assert table["single"]["optimizer"] == gib(800)
    assert table["fsdp"]["weights"] == gib(2432 / 4)
    assert table["fsdp_grad_op"]["weights"] == gib(2432 / 4 + 2232)
    # DeepSpeed: half-precision weights, float32 copies beside the moments.
    assert table["zero2"]["weights"] == gib(2000 + 32 + 200)
    assert table["zero2"]["optimizer"] == gib(300)
    assert table["zero3"]["weights"] == gib(2232 / 4)
    full = estimate(parts, activations=0, gpus=1, half=False)
    assert full["single"]["weights"] == gib(2000 + 32 + 400)
    for row in table.values():
        assert row["activations"] == 1
        assert row["total"] == pytest.approx(sum(row.values()) - row["total"])


def test_checkpointing_keeps_less():
    size = dict(
        tokens=4096, width=512, layers=8, intermediate=1024, vocab=100, logit_rows=10
    )

    kept = ActivationSize(**size, checkpointing=True).total()

    assert kept < ActivationSize(**size, checkpointing=False).total() / 4


@pytest.mark.parametrize(
    ("model", "offline"),
    [
        (dict(type="A", part=dict(type="B", name_or_path="x", config=dict(a=1))), True),
        (dict(type="A", part=dict(type="B", name_or_path="x")), False),
        (dict(type="A", part=[dict(type="B", pretrained=True)]), False),
        (dict(type=dict), False),
    ],
)
def test_is_offline(model, offline):
    assert is_offline(model) is offline


def test_named_parts_lose_what_says_nothing_of_the_architecture(chain):
    cfg = load_config(chain.base)
    tower = dict(cfg.model.vision_encoder, gradient_checkpointing=True)
    others = ("connector", "language_model", "type")
    model = {key: cfg.model[key] for key in others}
    model["encoders"] = dict(high=dict(tower, quantization=dict(bits=4)))
    offline = dict(tower, name_or_path="nowhere/at/all")

    plain, bits = without_quantization(model)
    assert plain["encoders"] == dict(high=tower) and bits == dict(high=4)
    few = without_options(plain, "gradient_checkpointing")
    assert few["encoders"] == dict(high=dict(cfg.model.vision_encoder))
    assert build_on_meta({**few, "encoders": dict(high=offline)}).high.spec.width == 32


TINY = "llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes"
FOLDERS = {
    "vision_encoder": dict(
        model_type="clip_vision_model",
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    ),
    "language_model": dict(
        model_type="llama",
        vocab_size=320,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
    ),
}


def dry_run_of_folders(folder):
    """The tool on a config whose parts are folders, in a process of its own."""
    options = []
    for part in FOLDERS:
        path = folder / f"llama-{part}"
        options += [f"model.{part}.config=None", f"+model.{part}.name_or_path={path}"]
    command = [sys.executable, str(ROOT / "tools/misc/dry_run.py"), TINY, "--json"]
    return subprocess.run(
        [*command, "--cfg-options", *options], capture_output=True, text=True
    )


@pytest.mark.slow
def test_local_folders_without_config_are_read(tmp_path):
    for part, config in FOLDERS.items():
        (tmp_path / f"llama-{part}").mkdir()
        path = tmp_path / f"llama-{part}" / "config.json"
        path.write_text(json.dumps(config))

    done = dry_run_of_folders(tmp_path)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["widths"] == dict(vision_encoder=16, language_model=24)
    assert [part["type"] for part in found["parts"]][::2] == [
        "HFVisionEncoder",
        "HFCausalLM",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file or directory: '.*config.json'"),
        ("{}", "config.json has no 'model_type'"),
        ('{"model_type": ', "Expecting value"),
    ],
)
def test_a_folder_that_is_no_model_is_told_though_its_name_has_one(
    tmp_path, text, told
):
    (tmp_path / "llama").mkdir()
    if text is not None:
        (tmp_path / "llama" / "config.json").write_text(text)
    part = dict(type="HFCausalLM", name_or_path=str(tmp_path / "llama"))

    match = f"language_model.name_or_path='.*': no model.*{told}"
    with pytest.raises(FileNotFoundError, match=match):
        build_on_meta(part)
