"""Mini-Gemini and LLaVA-HR: sizes, trained sets, recipes."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
LLAMA, CLIP, MLP = 6_738_415_616, 303_507_456, 20_979_712
#: Channels of CLIP, of ConvNeXt-L's last stage and of all its stages.
C, S, A = 1024, 1536, 192 + 384 + 768 + 1536
MINING = 2 * C + C * C + C + 2 * (2 * A + A * C + C)
ADAPTER = (S * S + S) + (S * C + C) + (49 * C + C) + (C * C + C)
ADAPTER += (2 * C * (C // 2) + C // 2) + (C // 2 + 1)
ALIGN = (C * C + C) + (S * C + C)


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def found(folder):
    paths = (ROOT / "configs" / folder).glob("*.py")
    paths = [path for path in paths if "-hd-" not in path.name]
    configs = {parse_name(path).stage: load_config(path, check=False) for path in paths}
    results = {stage: dry_run(cfg) for stage, cfg in configs.items()}
    rows = {
        stage: {row.part: (row.parameters, row.trainable) for row in result.parts}
        for stage, result in results.items()
    }
    tokens = {stage: result.image_tokens for stage, result in results.items()}
    return configs, rows, tokens


def check_stages(configs, names):
    assert configs["pt"].optim_wrapper.optimizer.lr == 1e-3
    assert configs["ft"].optim_wrapper.optimizer.lr == 2e-5
    assert (configs["pt"].base_batch_size, configs["ft"].base_batch_size) == (256, 128)
    loaded = configs["ft"].load_from
    assert Path(loaded.path).name == Path(configs["pt"].filename).stem
    assert list(loaded.parts) == names


def test_mini_gemini():
    configs, rows, tokens = found("mini_gemini")

    eyes = rows["pt"]["vision_encoder"][0]
    connector = MINING + MLP
    assert eyes - CLIP > 190_000_000
    assert rows["pt"] == dict(
        vision_encoder=(eyes, 0),
        connector=(connector, connector),
        language_model=(LLAMA, 0),
    )
    assert rows["ft"] == {**rows["pt"], "language_model": (LLAMA, LLAMA)}
    assert tokens == dict(pt=576, ft=576)
    check_stages(configs, ["connector"])


def test_mini_gemini_hd_sees_the_whole_and_four_crops():
    folder = ROOT / "configs/mini_gemini"
    (path,) = folder.glob("*-hd-*.py")
    (plain,) = (p for p in folder.glob("*-ft_*.py") if p != path)
    cfg, base = load_config(path, check=False), load_config(plain, check=False)

    result = dry_run(cfg)

    assert result.image_tokens == 5 * 576
    eyes = cfg.model.vision_encoder
    assert (eyes.image_size, eyes.grid) == (1536, 2)
    assert eyes.high.model_name == "convnext_large_mlp.clip_laion2b_ft_soup_320"
    assert eyes.low == base.model.vision_encoder.low
    per_step = 8 * cfg.train_dataloader.batch_size
    assert per_step * cfg.optim_wrapper.accumulative_counts == cfg.base_batch_size
    encode = cfg.train_dataloader.dataset.pipeline[2]
    assert encode.max_length == cfg.model.language_model.config.max_position_embeddings
    assert cfg.load_from == base.load_from


def test_llava_hr():
    configs, rows, tokens = found("llava_hr")

    eyes = rows["ft"]["vision_encoder"][0]
    mini_gemini = found("mini_gemini")[1]["pt"]["vision_encoder"][0]
    assert eyes == mini_gemini + 3 * ADAPTER + ALIGN
    assert rows["pt"] == dict(
        vision_encoder=(eyes, ALIGN),
        connector=(MLP, MLP),
        language_model=(LLAMA, 0),
    )
    # CLIP's last norm is not used.
    assert rows["ft"] == dict(
        vision_encoder=(eyes, eyes - 2 * C),
        connector=(MLP, MLP),
        language_model=(LLAMA, LLAMA),
    )
    assert tokens == dict(pt=576, ft=1024)
    check_stages(configs, ["vision_encoder", "connector"])
