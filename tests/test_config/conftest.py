"""A small chain of configs on disk, for the tests of this folder."""

from pathlib import Path

import pytest

_MODEL = """
model = dict(
    type="VisionLanguageModel",
    vision_encoder=dict(
        type="HFVisionEncoder",
        random_init=True,
        config=dict(
            model_type="clip_vision_model",
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=28,
            patch_size=7,
        ),
    ),
    connector=dict(
        type="MLPConnector",
        random_init=True,
        depth=2,
        select_layers=[-2],
    ),
    language_model=dict(
        type="HFCausalLM",
        random_init=True,
        config=dict(
            model_type="llama",
            vocab_size=300,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
        ),
    ),
    train_parts=dict(vision_encoder=False, connector=True, language_model=True),
)
tokenizer = dict(type="TinyTokenizer")
chat_template = "vicuna_v1"
optim_wrapper = dict(
    type="VLMOptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3),
    constructor="PartOptimWrapperConstructor",
    paramwise_cfg=dict(parts=dict(connector=dict(lr=1e-4))),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    dataset=dict(
        type="LLaVADataset",
        data_root="nowhere",
        ann_file="a.json",
        pipeline=[
            dict(type="LoadImages"),
            dict(type="PadToSquare"),
            dict(type="EncodeConversation", max_length=512),
            dict(type="PackVLMInputs"),
        ],
    ),
)
train_cfg = dict(type="VLMTrainLoop", max_iters=2)
"""


class Chain:
    """Writes ``base.py`` and children of it; returns their paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = self.write("base.py", _MODEL)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def child(self, text: str, name: str = "child.py") -> str:
        return self.write(name, f'_base_ = ["base.py"]\n{text}\n')

    def line(self, name: str, needle: str) -> int:
        """Number of the first line that holds ``needle``."""
        lines = (self.folder / name).read_text().splitlines()
        return next(n for n, line in enumerate(lines, 1) if needle in line)


@pytest.fixture
def chain(tmp_path) -> Chain:
    return Chain(tmp_path)
