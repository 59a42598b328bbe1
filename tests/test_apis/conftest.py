"""A tiny config on disk, a checkpoint of it, and images."""

import numpy as np
import pytest
import torch

CONFIG = """
default_scope = "mmvlm"
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        name_or_path="pretrained/gone/tower",
        config=dict(
            model_type="clip_vision_model",
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            projection_dim=32,
        ),
    ),
    connector=dict(type="MLPConnector", depth=2, select_layers=[-2]),
    language_model=dict(
        type="HFCausalLM",
        name_or_path="pretrained/gone/llm",
        config=dict(
            model_type="llama",
            vocab_size=260,
            hidden_size=24,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        ),
        lora=None,
    ),
    generation=dict(max_new_tokens=12, do_sample=False),
)
tokenizer = dict(type="TinyTokenizer")
chat_template = "vicuna_v1"
test_dataloader = dict(
    batch_size=2,
    sampler=dict(type="SequentialBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="LLaVADataset",
        ann_file="nothing.json",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="PadToSquare"),
            dict(type="EncodeConversation", max_length=40, mode="generate"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
"""


@pytest.fixture(scope="session")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny_llava.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def trained(config_file):
    """A random model of the config, seeded, that babbles in plain letters."""
    from mmvlm.config import load_config
    from mmvlm.registry import MODELS
    from mmvlm.text.tiny_tokenizer import tiny_tokenizer

    cfg = load_config(config_file).model.to_dict()
    for part in ("vision_encoder", "language_model"):
        cfg[part]["name_or_path"] = None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(cfg)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
            tokenizer, head = tiny_tokenizer(), model.language_model.model.lm_head
            for row in range(len(head.weight)):
                text = tokenizer.decode([row])
                if not (text.isascii() and text.isalpha()):
                    head.weight[row] = 0
    return model.eval()


@pytest.fixture(scope="session")
def checkpoint(trained, tmp_path_factory):
    from mmvlm.engine.runner.checkpoint import save_atomic

    path = tmp_path_factory.mktemp("weights") / "last.pth"
    save_atomic(dict(state_dict=trained.state_dict(), meta={}), path)
    return path


@pytest.fixture(scope="session")
def images():
    draw = np.random.default_rng(0)
    return [
        draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for height, width in ((20, 33), (48, 48), (31, 17))
    ]


@pytest.fixture(scope="session")
def image_file(images, tmp_path_factory):
    from PIL import Image

    path = tmp_path_factory.mktemp("images") / "noise.png"
    Image.fromarray(images[0]).save(path)
    return path


@pytest.fixture(scope="session")
def talk(config_file, checkpoint):
    from mmvlm.apis import VLMInferencer

    return VLMInferencer(config_file, checkpoint, device="cpu")
