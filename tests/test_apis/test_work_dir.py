"""A work dir is a model: from any folder, moved, without what it was made from."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

CHANGES = """
tokenizer = dict(type="HFTokenizer", name_or_path="parts/words", pad="unk")
model = dict(
    vision_encoder=dict(name_or_path="parts/tower", config=None),
    language_model=dict(name_or_path="parts/llm", config=None),
)
steps = [dict(type="LoadImages"), dict(type="PadToSquare")]
test_dataloader = dict(
    num_workers=0,
    dataset=dict(
        data_root="data",
        ann_file="test.json",
        pipeline=[
            *steps,
            dict(type="EncodeConversation", max_length=300, mode="generate"),
            dict(type="PackVLMInputs"),
        ],
    ),
)
test_evaluator = dict(type="ExactMatchMetric", out_file=None)
test_cfg = dict()
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="RandomBatchSampler"),
    collate_fn=dict(type="collate_flat"),
    dataset=dict(
        type="LLaVADataset",
        data_root="data",
        ann_file="test.json",
        pipeline=[
            *steps,
            dict(type="EncodeConversation", max_length=300),
            dict(type="PackVLMInputs"),
        ],
    ),
)
train_cfg = dict(max_iters=1)
optim_wrapper = dict(
    type="VLMOptimWrapper", optimizer=dict(type="AdamW", lr=1e-3), dtype=None
)
"""


def python(code, cwd, *args):
    """Run Python or a tool in a fresh process, in another folder."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    command = [code] if str(code).endswith(".py") else ["-c", code]
    done = subprocess.run(
        [sys.executable, *map(str, command), *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=env,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory, config_file, trained):
    """A folder whose run names parts, tokenizer and data by relative paths."""
    from PIL import Image

    from mmvlm.text.tiny_tokenizer import tiny_tokenizer

    home = tmp_path_factory.mktemp("home")
    tiny_tokenizer().save_pretrained(home / "parts" / "words")
    trained.language_model.model.save_pretrained(home / "parts" / "llm")
    tower = trained.vision_encoder
    from transformers import CLIPVisionModel

    whole = CLIPVisionModel(tower.config)
    getattr(whole, "vision_model", whole).load_state_dict(
        tower.vision_model.state_dict()
    )
    whole.save_pretrained(home / "parts" / "tower")
    (home / "data").mkdir()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(home / "data" / "a.png")
    turns = [
        {"from": "human", "value": "<image>\nWhat?"},
        {"from": "gpt", "value": "red"},
    ]
    rows = [dict(id=str(i), image="a.png", conversations=turns) for i in range(4)]
    (home / "data" / "test.json").write_text(json.dumps(rows))
    text = f"_base_ = {str(config_file)!r}\n" + CHANGES
    (home / "mine.py").write_text(text)
    return home


@pytest.fixture(scope="module")
def run(home):
    python(ROOT / "tools/train.py", home, "mine.py", "--work-dir", "run")
    return home / "run"


CHAT = """
import sys, numpy
from mmvlm.apis import VLMInferencer
talk = VLMInferencer(*sys.argv[1:], device="cpu")
image = numpy.full((20, 30, 3), 90, "uint8")
print("reply:", talk.chat(image, "What?"), "|", talk.processor.tokenizer.pad_token)
"""


@pytest.mark.slow
def test_a_moved_work_dir_is_the_model_without_its_sources(run, home, tmp_path):
    (before,) = [
        line
        for line in python(CHAT, home, "mine.py", "run").splitlines()
        if line.startswith("reply:")
    ]
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    tested = python(ROOT / "tools/test.py", tmp_path, run)
    assert "exact_match/num" in tested
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == files
    assert (tmp_path / "work_dirs" / f"{run.name}_test").is_dir()

    moved = tmp_path / "elsewhere" / "model"
    moved.parent.mkdir()
    os.rename(run, moved)
    os.rename(home / "parts", home / "gone")
    try:
        for named in (moved, next(moved.glob("iter_*.pth"))):
            assert before in python(CHAT, tmp_path, named).splitlines()
        out = python(
            ROOT / "tools/chat.py", tmp_path, moved, "--prompt", "Hi", "--device", "cpu"
        )
        assert out.startswith("> Hi\n")
        out = python(
            ROOT / "tools/model_converters/to_hf.py",
            *(tmp_path, "elsewhere/model", "--verify", "hf"),
        )
        assert "verify: ok" in out
        assert "exact_match/num" in python(ROOT / "tools/test.py", home, moved)
    finally:
        os.rename(home / "gone", home / "parts")
        os.rename(moved, run)


def test_what_is_written_beside_the_weights(run, trained):
    facts = json.loads((run / "model.json").read_text())
    assert facts["tokenizers"] == {"tokenizer": "tokenizer"}
    assert facts["configs"]["model.language_model"]["hidden_size"] == 24
    assert facts["configs"]["model.vision_encoder"]["model_type"] == "clip_vision_model"


@pytest.mark.slow
def test_a_work_dir_is_resumed_and_not_overwritten(run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "moved")
    train = ROOT / "tools/train.py"
    before = (moved / "iter_1.pth").stat().st_mtime_ns
    with pytest.raises(AssertionError, match="add --resume to go on with it"):
        python(train, tmp_path, "moved")

    options = ["--cfg-options", "train_cfg.max_iters=2"]
    python(train, tmp_path, "moved", "--resume", *options)

    assert (moved / "iter_1.pth").stat().st_mtime_ns == before
    assert (moved / "iter_2.pth").is_file()


def test_relative_paths_are_those_of_the_start(tmp_path):
    from mmengine.config import Config

    from mmvlm.config.own_files import use_own_files
    from mmvlm.config.work_dir import MODEL

    for name in ("data", "a.json", "images"):
        (tmp_path / name).mkdir()
    (tmp_path / MODEL).write_text(json.dumps(dict(folder=str(tmp_path))))
    rooted = dict(data_root="data", ann_file="a.json", image_prefix="images")
    free = dict(data_root="", ann_file="a.json", image_prefix="images", name="data")
    cfg = Config(dict(sets=[rooted, free]))

    use_own_files(cfg, tmp_path)

    at = str(tmp_path) + os.sep
    assert cfg.sets[0] == {**rooted, "data_root": at + "data"}
    paths = dict(ann_file=at + "a.json", image_prefix=at + "images")
    assert cfg.sets[1] == {**free, **paths}


def test_options_go_over_the_own_files(run):
    from mmvlm.config import load_config

    cfg = load_config(run, check_sources=False)
    assert cfg.tokenizer.name_or_path == str(run / "tokenizer")
    assert os.path.isabs(cfg.test_dataloader.dataset.data_root)
    other = {"tokenizer.name_or_path": "x"}
    cfg = load_config(run, cfg_options=other, check_sources=False)
    assert cfg.tokenizer.name_or_path == "x"


def test_a_folder_that_is_no_work_dir_says_so(tmp_path):
    from mmvlm.apis import VLMInferencer

    with pytest.raises(FileNotFoundError, match="no config"):
        VLMInferencer(tmp_path)


def test_a_config_alone_is_no_model_to_test(config_file):
    done = subprocess.run(
        [sys.executable, ROOT / "tools/test.py", config_file],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "name a checkpoint" in done.stderr


CODE = """
from transformers import PreTrainedTokenizerFast
class WordsTokenizerFast(PreTrainedTokenizerFast):
    pass
"""


@pytest.mark.parametrize("differs", [False, True])
def test_a_tokenizer_with_code_of_its_own(tmp_path, monkeypatch, differs):
    from mmengine.config import Config
    from transformers import dynamic_module_utils

    from mmvlm.config.work_dir import write_model_files
    from mmvlm.registry import TOKENIZERS
    from mmvlm.text.tiny_tokenizer import tiny_tokenizer

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "m"))
    monkeypatch.setattr("builtins.input", lambda *a: pytest.fail("asks a person"))
    source = tmp_path / "words"
    tiny_tokenizer().save_pretrained(source)
    (source / "words.py").write_text(CODE)
    path = source / "tokenizer_config.json"
    fields = json.loads(path.read_text()) | dict(
        tokenizer_class="WordsTokenizerFast",
        auto_map=dict(AutoTokenizer=[None, "words.WordsTokenizerFast"]),
    )
    path.write_text(json.dumps(fields))
    part = dict(type="HFTokenizer", name_or_path=str(source), trust_remote_code=True)
    tokenizer = TOKENIZERS.build(dict(part))
    if differs:  # another one when it is read again
        tokenizer._tokenizer.add_tokens(["<new>"])
        save = type(tokenizer).save_pretrained
        monkeypatch.setattr(
            type(tokenizer),
            "save_pretrained",
            lambda self, folder: save(TOKENIZERS.build(dict(part)), folder),
        )

    told = []
    monkeypatch.setattr(
        "mmvlm.config.work_dir.print_log", lambda text, *a, **k: told.append(text)
    )

    write_model_files(tmp_path / "run", "", Config(dict(tokenizer=part)), tokenizer)

    found = json.loads((tmp_path / "run" / "model.json").read_text())["tokenizers"]
    assert found == ({} if differs else {"tokenizer": "tokenizer"})
    said = "WordsTokenizerFast is another tokenizer when it is saved" in "".join(told)
    assert said == differs


def test_towers_inside_other_towers_lose_their_sources_too():
    from mmvlm.apis.loading import without_pretrained
    from mmvlm.export.importing import meta_state

    clip = dict(
        model_type="clip_vision_model",
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=16,
        patch_size=8,
    )
    llama = dict(
        model_type="llama",
        vocab_size=300,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
    )
    inner = dict(type="HFVisionEncoder", name_or_path="gone", config=clip)
    model = dict(
        type="VisionLanguageModel",
        vision_encoder=dict(type="S2VisionEncoder", encoder=inner, scales=[16, 32]),
        connector=dict(type="MLPConnector", depth=2, select_layers=[-2]),
        language_model=dict(type="HFCausalLM", name_or_path="gone", config=llama),
    )
    keys = meta_state(model).keys()
    whole = without_pretrained(model, keys)
    assert "name_or_path" not in whole["vision_encoder"]["encoder"]
    assert "name_or_path" not in whole["language_model"]
    assert inner["name_or_path"] == "gone"
    assert all(isinstance(v, torch.Tensor) for v in meta_state(whole).values())

    part = [key for key in keys if not key.startswith("vision_encoder.")]
    kept = without_pretrained(model, part)
    assert kept["vision_encoder"]["encoder"]["name_or_path"] == "gone"
