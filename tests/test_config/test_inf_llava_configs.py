"""INF-LLaVA's configs: recipe, published sizes, prompt, ablations."""

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.registry import CHAT_TEMPLATES, MODELS
from mmvlm.structures import VisionEncoderSpec
from mmvlm.text.llava_format import parse_llava_conversation

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs" / "inf_llava"
PT = "inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb16-1e-pt_llava-558k"
FT = "inf-llava-clip-l14-336_dual-n3_llama3-8b_8xb8-1e-ft_llava-665k"
ABLATIONS = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in (PT, FT))
CLIP = VisionEncoderSpec(1024, 24, 14, 336, num_prefix_tokens=1)
VISION, MLP, LLAMA = 303_507_456, 20_979_712, 8_030_261_248
ENHANCEMENT = 4_400_256


def config(name):
    return load_config(FOLDER / f"{name}.py", check=False)


@pytest.mark.parametrize("name", [PT, FT])
def test_sizes_and_trained_parts_are_the_published_ones(name):
    result = dry_run(config(name))

    sizes = {row.part: row.parameters for row in result.parts}
    trained = {row.part: row.trainable for row in result.parts}
    connector = ENHANCEMENT + MLP
    assert sizes == dict(
        vision_encoder=VISION, connector=connector, language_model=LLAMA
    )
    assert trained == dict(
        vision_encoder=0,
        connector=connector,
        language_model=LLAMA if name == FT else 0,
    )
    assert result.image_tokens == 576
    assert result.batch["global"] == (128 if name == FT else 256)
    assert result.strategy == ("zero3" if name == FT else "zero2")


def test_recipe_is_the_official_one():
    for name, rate, pad in ((PT, 1e-3, False), (FT, 2e-5, True)):
        cfg = config(name)
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.lr, optimizer.weight_decay) == (rate, 0)
        assert cfg.train_cfg.max_epochs == 1
        (schedule,) = cfg.param_scheduler
        assert (schedule.type, schedule.warmup_ratio) == ("WarmupCosineLR", 0.03)
        _, views, encode, _ = cfg.train_dataloader.dataset.pipeline
        assert views.type == "DualPerspectiveViews"
        assert views.get("pad", False) is pad
        assert not views.get("legacy_infer", False)
        assert encode.max_length == 2048
        assert cfg.model.connector.fuser.grid == 3
    assert config(PT).chat_template == "plain"
    assert config(FT).train_dataloader.sampler.type == "ModalityLengthSampler"


def test_prompt_is_the_official_one():
    template = CHAT_TEMPLATES.build(dict(config(FT).chat_template))
    turns = ("<image>\nWhat is it?", "A cat.", "Sure?", "Yes.")
    entries = [
        {"from": ("human", "gpt")[k % 2], "value": v} for k, v in enumerate(turns)
    ]
    record = dict(id="1", image="x.jpg", conversations=entries)

    pieces = template.render(parse_llava_conversation(record, images=["x.jpg"]))

    def turn(role, text):
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"

    text = "".join("<image>" if p.image is not None else p.text for p in pieces)
    # The tokenizer writes another one in front.
    assert text == (
        "<|begin_of_text|>"
        + turn(
            "system",
            "A chat between a curious user and an artificial intelligence assistant. "
            "The assistant gives helpful, detailed, and polite answers to the user's "
            "questions.",
        )
        + turn("user", turns[0])
        + turn("assistant", turns[1])
        + turn("user", turns[2])
        + turn("assistant", turns[3])
    )
    trained = [p.text for p in pieces if p.supervised]
    assert "".join(trained) == "A cat.<|eot_id|>Yes.<|eot_id|>"


def test_every_ablation_has_both_stages():
    found = {re.sub("_8xb.*", "", name) for name in ABLATIONS}

    assert len(ABLATIONS) == 2 * len(found)
    words = {name.split("_")[1].removeprefix("dual-") for name in found}
    assert words >= {"n2", "n4", "n5", "n2-nowhole", "n3-nowhole", "n5-nowhole"}
    assert words >= {"n3-global", "n3-local", "n3-conv3x3", "n3-mul", "n3-add"}
    assert words >= {"n3-max", "n3-weighted", "n3-rawlocal", "n3-rawglobal"}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_differs_in_the_fuser_alone(name):
    base, cfg = config(FT if "-ft_" in name else PT), config(name)

    changed = {k for k in cfg if cfg[k] != base[k]}
    assert changed == ({"model", "load_from"} if "-ft_" in name else {"model"})
    fuser = cfg.model.connector.fuser
    assert fuser != base.model.connector.fuser
    cfg.model.connector.fuser = base.model.connector.fuser
    assert cfg.model == base.model
    if "-ft_" in name:
        stage_1 = name.replace("8xb8-1e-ft_llava-665k", "8xb16-1e-pt_llava-558k")
        assert cfg.load_from.path == f"work_dirs/{stage_1}"
        assert config(stage_1).model.connector.fuser == fuser
    assert fuser.grid == int(re.search(r"dual-n(\d)", name).group(1))


@pytest.mark.parametrize("name", [PT, *(n for n in ABLATIONS if "-pt_" in n)])
def test_a_connector_gives_576_tokens_and_is_as_large_as_the_table_says(name):
    connector = dict(config(name).model.connector)
    with torch.device("meta"):
        built = MODELS.build(dict(connector, vision_spec=CLIP, out_width=4096))

    layout = built.views_of((336, 336))
    assert built.num_output_tokens(layout) == 576
    weights = sum(p.numel() for p in built.parameters())
    word = name.split("_")[1]
    rows = (FOLDER / "README.md").read_text().splitlines()
    (row,) = [r.split("|") for r in rows if r.startswith(f"| `{word}` |")]
    assert row[4].strip() == str(layout.num_views)
    assert row[5].strip() == f"{weights:,}"


#: Names of tables to those of benchmarks; of SEED the authors do not say which part.
BENCHMARKS = {
    **{"SQA-I": "scienceqa_img", "OKVQA": "okvqa", "AI2D": "ai2d"},
    **{"MMB": "mmbench", "MMB-CN": "mmbench_cn", "MMMU": "mmmu_val"},
    **{"LLaVA-W": "llava_bench_wild", "POPE": "pope", "MM-Vet": "mm_vet"},
}


def test_scores_are_the_same_in_every_place():
    models = yaml.safe_load((FOLDER / "metafile.yml").read_text())["Models"]
    readme = (FOLDER / "README.md").read_text()
    checked = 0
    for model in models:
        text = ast.get_docstring(ast.parse((ROOT / model["Config"]).read_text()))
        if not model["Results"]:
            assert "not measured" in text and "Published" not in text
            continue
        (result,) = model["Results"]
        published = text.partition("Published by the authors:")[2].partition("Ours:")[0]
        told = re.findall(r"([A-Z][\w-]*) (\d+(?:\.\d+)?)", published)
        scores = {BENCHMARKS.get(k, k): float(v) for k, v in told}
        assert scores == result["Metrics"]
        assert all(f"{v:.2f}" in readme for v in result["Metrics"].values())
        checked += 1
    assert checked == 18
