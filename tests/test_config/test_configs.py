"""Every shipped config: loads, is well, is named right, and is what it says."""

import ast
import os
import re
from pathlib import Path

import pytest

import mmvlm.registry
from mmvlm.config import ConfigTrace, check_config, load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for path in (ROOT / "configs").rglob("*.py")
    if "_base_" not in path.relative_to(ROOT).parts
)
BASES = sorted((ROOT / "configs" / "_base_").rglob("*.py"))
#: Miniatures: no published sizes, no metafile.
SMALL = {"tiny", "tiny_scenes"}
FULL = [path for path in FILES if not SMALL & set(path.parts)]
#: Published numbers of weights, by words in a config's name.
VISION = {"clip-l14-336": 303_507_456, "siglip-so400m-384": 428_225_600}
LANGUAGE = {
    "vicuna-v15-7b": 6_738_415_616,
    "vicuna-v15-13b": 13_015_864_320,
    "llama3-8b": 8_030_261_248,
    "qwen25-7b": 7_615_616_512,
}
CONNECTOR = {
    "vicuna-v15-7b": 20_979_712,
    "vicuna-v15-13b": 31_467_520,
    "llama3-8b": 20_979_712,
    "qwen25-7b": 16_980_992,
}
#: LoRA of rank 128 on the seven linear layers of every block.
ADAPTERS = {"vicuna-v15-7b": 319_815_680, "vicuna-v15-13b": 500_695_040}
IMAGE_TOKENS = {"clip-l14-336": 576, "siglip-so400m-384": 729}
TYPES = {"mlp2x": ("MLPConnector", 2), "linear": ("LinearConnector", None)}


def _ids(paths):
    return [str(path.relative_to(ROOT / "configs")) for path in paths]


def _one(table, name):
    return next(value for word, value in table.items() if word in name.split("_"))


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_configs_are_found():
    assert len(FULL) >= 10
    assert {path.parent.name for path in FULL} >= {"llava"}


@pytest.mark.parametrize("path", FILES, ids=_ids(FILES))
def test_a_config_loads_and_passes_the_doctor(path):
    cfg = load_config(path, check=False)

    doctor = check_config(cfg, ConfigTrace.read(path))
    assert doctor.problems == [] and doctor.warnings == []
    assert cfg.default_scope == "mmvlm"


@pytest.mark.parametrize("path", FILES, ids=_ids(FILES))
def test_a_name_agrees_with_the_fields(path):
    name, cfg = parse_name(path), load_config(path, check=False)

    if cfg.train_dataloader.batch_size != name.batch:
        pytest.fail(f"name says {name.batch}, is {cfg.train_dataloader.batch_size}")
    key = "max_epochs" if name.by_epoch else "max_iters"
    assert cfg.train_cfg[key] == name.length
    if name.connector in TYPES:
        kind, depth = TYPES[name.connector]
        assert cfg.model.connector.type == kind
        assert cfg.model.connector.get("depth") == depth
    parts = cfg.model.get("train_parts") or {}
    lora = (cfg.model.get("language_model") or {}).get("lora")
    bits = (cfg.model.get("language_model") or {}).get("quantization")
    if name.stage == "pt" and name.connector in TYPES:
        assert parts["connector"] is True
        assert parts["language_model"] is False
    assert bool(lora) == (name.tuning in ("lora", "qlora"))
    assert bool(bits) == (name.tuning == "qlora")
    steps = cfg.optim_wrapper.get("accumulative_counts") or 1
    if cfg.get("base_batch_size"):
        assert name.gpus * name.batch * steps == cfg.base_batch_size


#: What models are made of: a tower or a language model, which makes no chain longer.
PARTS = ("vision_encoders", "language_models")


def _depth(path: Path) -> int:
    """Number of files from here to the farthest base, the parts of models aside."""
    if path.parent.name in PARTS:
        return 0
    for item in ast.parse(path.read_text()).body:
        if isinstance(item, ast.Assign) and getattr(item.targets[0], "id", "") == (
            "_base_"
        ):
            bases = ast.literal_eval(item.value)
            bases = [bases] if isinstance(bases, str) else bases
            return 1 + max(_depth((path.parent / base).resolve()) for base in bases)
    return 1


@pytest.mark.parametrize("path", FILES, ids=_ids(FILES))
def test_a_config_is_short_and_its_chain_too(path):
    text = path.read_text()

    depth = _depth(path)
    assert depth <= 3 + (
        "ablations" in path.parts
    )  # a variant has its parent before it
    assert depth == 1 or len(text.splitlines()) <= 60
    docstring = ast.get_docstring(ast.parse(text))
    for word in ("Command:", "Hardware:"):
        assert word in docstring
    command = re.search(r"Command: (.*)", docstring).group(1)
    assert path.name in command
    assert "Expected:" in docstring or "not measured" in docstring


@pytest.mark.parametrize("node", ["DATASETS", "DATA_TASKS", "CODECS", "METRICS"])
def test_every_component_of_the_data_is_used_by_a_config(node):
    registry = getattr(mmvlm.registry, node)
    for each in (registry, mmvlm.registry.DATASETS):
        each.import_from_location()
    names = {
        name
        for name, value in registry.module_dict.items()
        if value.__module__.startswith("mmvlm.")
    }
    used = {
        item.value
        for path in [*FILES, *BASES]
        for item in ast.walk(ast.parse(path.read_text()))
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    }
    for name, reader in mmvlm.registry.DATASETS.module_dict.items():
        if name in used:  # and asks by its own task, where a config names none
            used.add((getattr(reader, "default_task", None) or {}).get("type"))

    assert names and names - used == set()


def test_parts_of_models_are_written_once():
    """What several models share stands in one file of ``_base_``."""
    seen = {}
    for path in BASES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node).startswith(
                "dict(type='HF"
            ):
                seen.setdefault(ast.unparse(node), []).append(path.name)
    assert seen
    assert [names for names in seen.values() if len(names) > 1] == []


@pytest.mark.parametrize("path", [*FILES, *BASES], ids=_ids([*FILES, *BASES]))
def test_no_absolute_path_and_a_docstring(path):
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            # One leading slash is the tail of a path that an expression joins.
            absolute = os.path.isabs(node.value) and node.value.count("/") > 1
            assert not absolute, node.value
            assert not node.value.startswith("~"), node.value


LLAVA = [p for p in FULL if p.parent.name == "llava" and "smollm2" not in p.stem]


@pytest.mark.parametrize("path", LLAVA, ids=_ids(LLAVA))
def test_llava_has_the_published_sizes(path):
    name = path.stem
    cfg = load_config(path, check=False)

    result = dry_run(cfg)

    parts = {row.part: row for row in result.parts}
    adapters = _one(ADAPTERS, name) if "lora" in name else 0
    language = _one(LANGUAGE, name)
    connector = _one(CONNECTOR, name)
    vision = next(v for k, v in VISION.items() if k in name)
    assert parts["vision_encoder"].parameters == vision
    assert parts["connector"].parameters == connector
    assert parts["language_model"].parameters == language + adapters
    assert result.parameters == vision + connector + language + adapters
    tokens = next(v for k, v in IMAGE_TOKENS.items() if k in name)
    assert result.image_tokens == tokens
    trained = {k: row.trainable for k, row in parts.items()}
    full = "-ft_" in name
    wanted = language if full else adapters
    assert trained == dict(vision_encoder=0, connector=connector, language_model=wanted)


@pytest.mark.parametrize("path", LLAVA, ids=_ids(LLAVA))
def test_llava_follows_the_official_recipe(path):
    cfg, name = load_config(path, check=False), parse_name(path)
    rate = {("pt", "full"): 1e-3, ("ft", "full"): 2e-5}
    rate = rate.get((name.stage, name.tuning), 2e-4)
    steps = [step["type"] for step in cfg.train_dataloader.dataset.pipeline]
    optimizer = cfg.optim_wrapper.optimizer

    assert optimizer.lr == rate
    assert tuple(optimizer.betas) == (0.9, 0.999)
    assert (optimizer.eps, optimizer.weight_decay) == (1e-8, 0.0)
    assert cfg.optim_wrapper.clip_grad is None
    assert cfg.base_batch_size == (256 if name.stage == "pt" else 128)
    assert cfg.param_scheduler[0].type == "WarmupCosineLR"
    assert cfg.param_scheduler[0].warmup_ratio == 0.03
    assert cfg.train_cfg.max_epochs == 1
    assert cfg.train_dataloader.dataset.pipeline[2].max_length == 2048
    assert cfg.model.connector.select_layers == [-2]
    if name.stage == "pt":
        assert steps[1] == "CenterCropSquare"
        assert cfg.chat_template == "plain"
        assert cfg.train_dataloader.sampler.type == "RandomBatchSampler"
        assert cfg.get("load_from") is None
        return
    assert steps[1] == "PadToSquare"
    assert cfg.train_dataloader.sampler.type == "ModalityLengthSampler"
    assert cfg.load_from.parts == ["connector"]
    stage_1 = path.parent / f"{Path(cfg.load_from.path).name}.py"
    assert stage_1.is_file()
    first = load_config(stage_1, check=False)
    assert first.model.vision_encoder == cfg.model.vision_encoder
    assert first.model.connector == cfg.model.connector
    if name.tuning != "full":
        lora = cfg.model.language_model.lora
        assert (lora.r, lora.alpha, lora.dropout) == (128, 256, 0.05)
        assert cfg.optim_wrapper.paramwise_cfg.parts.connector.lr == 2e-5
    if "vicuna" in name.llm:
        assert cfg.chat_template == "vicuna_v1"


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in FULL}), ids=lambda p: p.name
)
def test_a_method_folder_tells_of_its_configs(folder):
    readme = (folder / "README.md").read_text()
    meta = (folder / "metafile.yml").read_text()

    for path in folder.glob("*.py"):
        assert path.stem in readme, path
        assert f"configs/{folder.name}/{path.name}" in meta, path
    assert "not measured" in readme
