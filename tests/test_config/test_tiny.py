"""The ``--tiny`` switch: same classes, laptop sizes, and they train."""

import json
import math
from pathlib import Path

import pytest
from PIL import Image

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.tiny import make_tiny, tiny_model
from mmvlm.config.toy_data import make_toy_llava
from mmvlm.datasets.processor import pipelines
from mmvlm.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
FULL = sorted(
    path
    for path in (ROOT / "configs").rglob("*.py")
    if not {"_base_", "tiny", "tiny_scenes"} & set(path.relative_to(ROOT).parts)
)


def test_toy_data_are_complete_and_written_once(tmp_path):
    path = Path(make_toy_llava(tmp_path))
    records = json.loads(path.read_text())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}

    make_toy_llava(tmp_path)

    assert len(records) == 12
    assert len(before) == sum("image" in record for record in records) == 10
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.png")}
    sizes = {Image.open(p).size for p in before}
    assert len(sizes) > 1


def _tower(part):
    """The transformer of a part, inside wrappers or with a second one beside it."""
    for key in ("encoder", "vision_encoder", "low"):
        if key in part:
            return _tower(part[key])
    return part


def _pipeline(cfg):
    """The steps of the training data, the processor's or those of a mixture's first."""
    _, steps = next(pipelines(cfg, "train_dataloader"))
    return [step["type"] for step in steps]


def _width(config):
    """Channels of a tower; Kosmos-2's text model says it in its own word."""
    key = "embed_dim" if config.model_type == "kosmos_2_text_model" else "hidden_size"
    return config[key]


def _unsized(connector):
    """The connector without the sizes that its class gives to ``--tiny``."""
    sizes = getattr(MODELS.get(connector["type"]), "tiny_fields", {})
    return {key: value for key, value in connector.items() if key not in sizes}


@pytest.mark.parametrize("path", FULL, ids=[path.stem for path in FULL])
def test_types_and_connector_stay(path):
    full, tiny = load_config(path, check=False), load_config(path, tiny=True)

    for part in ("vision_encoder", "language_model"):
        assert tiny.model[part].type == full.model[part].type
        old, new = (_tower(cfg.model[part]) for cfg in (full, tiny))
        assert new.type == old.type
        if new.type == "TimmVisionEncoder":  # takes no HF config
            assert new.embed_dim < 64
            continue
        if new.type == "TimmConvNeXt":  # nor does this
            assert max(new.dims) < 64
            continue
        assert new.config.model_type == old.config.model_type
        assert _width(new.config) < 64
        assert "name_or_path" not in new
    assert _unsized(tiny.model.connector) == _unsized(full.model.connector)
    assert tiny.model.train_parts == full.model.train_parts
    assert bool(tiny.model.language_model.get("lora")) == bool(
        full.model.language_model.get("lora")
    )
    assert tiny.chat_template == full.chat_template
    assert _pipeline(tiny) == _pipeline(full)
    # A stream has no sampler.
    both = [cfg.train_dataloader.get("sampler") for cfg in (tiny, full)]
    assert both[0] == both[1]
    assert (tiny.train_dataloader.batch_size, tiny.train_cfg.max_iters) == (2, 2)
    assert tiny.train_dataloader.num_workers == 0
    assert "strategy" not in tiny
    assert tiny.load_from is None


def test_the_tower_is_deep_enough_for_the_layers_selected():
    model = dict(
        type="VisionLanguageModel",
        vision_encoder=dict(
            type="HFVisionEncoder", config=dict(model_type="clip_vision_model")
        ),
        connector=dict(type="X", select_layers=[3, -9, -2]),
    )

    config = tiny_model(model, {})["vision_encoder"]["config"]

    assert config["num_hidden_layers"] == 8


@pytest.mark.parametrize(
    ("change", "blocks"),
    [
        (dict(train_parts=dict(high=dict(last_blocks=6))), 7),
        (dict(train_parts=dict(high=dict(from_block=6))), 8),
        (
            dict(connectors=dict(c=dict(type="LayerTokensConnector", every=5))),
            5,
        ),
    ],
)
def test_named_towers_are_deep_enough_for_rules_and_connectors(change, blocks):
    config = dict(model_type="clip_vision_model")
    tower = dict(type="HFVisionEncoder", config=config)
    connectors = dict(c=dict(type="MLPConnector", depth=2, source="high"))
    model = dict(type="VisionLanguageModel", encoders=dict(high=tower))

    tiny = tiny_model({**model, "connectors": connectors, **change}, {})

    assert tiny["encoders"]["high"]["config"]["num_hidden_layers"] == blocks


def test_a_wrapped_encoder_and_its_scales_shrink_together():
    clip = dict(model_type="clip_vision_model", num_hidden_layers=24)
    encoder = dict(type="HFVisionEncoder", name_or_path="clip", config=clip)
    model = dict(
        type="VisionLanguageModel",
        vision_encoder=dict(
            type="S2VisionEncoder", encoder=encoder, scales=(336, 672, 1008)
        ),
        connector=dict(type="X", select_layers=[-5]),
        train_parts=dict(vision_encoder=dict(from_block=12)),
    )

    tiny = tiny_model(model, {})["vision_encoder"]

    assert tiny["scales"] == [28, 56, 84]
    assert tiny["encoder"]["config"]["image_size"] == 28
    assert tiny["encoder"]["config"]["num_hidden_layers"] == 14
    assert "name_or_path" not in tiny["encoder"]


def test_a_path_without_architecture_is_refused(chain):
    cfg = load_config(chain.base)
    cfg.model.language_model = dict(type="HFCausalLM", name_or_path="some/model")

    with pytest.raises(ValueError, match=r"model\.language_model has no 'config'"):
        make_tiny(cfg)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("qwen-vl-bigg_resampler-q256_qwen-7b_8xb1-5e-ft_custom", "<box>"),
        ("pink-clip-l14-224_linear_llama2-7b-chat_8xb4-6e-ft_pink-mix", None),
    ],
)
def test_the_toy_tokenizer_has_a_codecs_tokens_that_no_model_brings(name, expected):
    path = next(path for path in FULL if path.stem == name)

    tokenizer = load_config(path, tiny=True).tokenizer

    assert "codec" not in tokenizer
    found = [t for t in tokenizer.special_tokens if t in ("<box>", "<loc>")]
    assert found == ([expected] if expected else [])


@pytest.mark.slow
@pytest.mark.parametrize("path", FULL, ids=[path.stem for path in FULL])
def test_every_full_config_trains_two_tiny_steps(path, tmp_path):
    from mmvlm.engine.runner import build_runner

    cfg = load_config(path, tiny=True)
    cfg.work_dir = str(tmp_path)
    cfg.launcher = "none"
    cfg.default_hooks.provenance = None
    runner = build_runner(cfg)
    before = {
        name: [p.detach().clone() for p in part.parameters()]
        for name, part in runner.model.parts.items()
    }

    runner.train()

    assert runner.iter == 2
    assert math.isfinite(float(runner.message_hub.get_scalar("train/loss").current()))
    rules = cfg.model.train_parts
    for name, part in runner.model.parts.items():
        if rules[name] == dict(only=["tokenizers"]):
            continue  # those of sounds and depth, which toy data have not
        if type(part).__name__ == "SAMMaskHead":
            continue  # nor have they masks
        if getattr(part, "fills", ()) == ("region",):
            continue  # toy data point at nothing
        changed = any(
            not old.equal(new)
            for old, new in zip(before[name], part.parameters(), strict=True)
        )
        assert changed == bool(rules[name]), name
    assert list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize(
    "encoder",
    [
        dict(type="TimmVisionEncoder", model_name="vit_large_patch14_clip_336"),
        dict(
            type="MMPretrainVisionEncoder",
            backbone=dict(type="mmpretrain.VisionTransformer", arch="base"),
            checkpoint="vit.pth",
        ),
        dict(
            type="HFVisionEncoder",
            name_or_path="facebook/dinov2-large",
            config=dict(model_type="dinov2", hidden_size=1024, num_hidden_layers=24),
        ),
    ],
    ids=lambda e: e["type"],
)
def test_every_kind_of_encoder_has_a_twin(chain, encoder):
    cfg = load_config(
        chain.child(f"model = dict(vision_encoder=dict(_delete_=True, **{encoder!r}))"),
        tiny=True,
    )

    result = dry_run(cfg)

    assert cfg.model.vision_encoder.type == encoder["type"]
    assert result.parts[0].parameters < 100_000
    assert result.image_tokens == 16


def test_a_twin_keeps_adapters_but_not_packed_weights(chain):
    lora = dict(r=128, alpha=256, target_modules=["q_proj"])
    options = {
        "+model.language_model.lora": lora,
        "+model.language_model.quantization": dict(bits=4),
        "model.train_parts.language_model": "lora",
    }

    part = load_config(chain.base, options, tiny=True).model.language_model

    assert part.lora == dict(r=4, alpha=8, target_modules=["q_proj"])
    assert "quantization" not in part
