"""MMFuser's configs: published sizes, trained weights, rates, one change each."""

from pathlib import Path

import pytest

from mmvlm.config import load_config
from mmvlm.config.dry_run import dry_run
from mmvlm.config.names import parse_name

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs" / "mmfuser").glob("*.py"))
PRIMITIVES = [path for path in FILES if "_mmfuser_" in path.name]
ABLATIONS = [path for path in FILES if path not in PRIMITIVES]
LANGUAGE = {"vicuna-v15-7b": 6_738_415_616, "vicuna-v15-13b": 13_015_864_320}
PROJECTOR = {"vicuna-v15-7b": 20_979_712, "vicuna-v15-13b": 31_467_520}
CROSS, SELF, NORM, GAMMA = 2_886_400, 2_296_000, 2_048, 1_024
FUSER = CROSS + SELF + 3 * NORM + 2 * GAMMA
#: Four linear layers of width 1024; with pooling one more and a LayerNorm.
LINEAR = 1024 * 1024 + 1024
#: Weights between encoder and projector, by the connector's name.
FUSERS = {
    "mmfuser-cross": CROSS + 2 * NORM + GAMMA,
    "mmfuser-global": 8 * LINEAR + 3 * NORM + 2 * GAMMA,
    "mmfuser-sra": 10 * LINEAR + 5 * NORM + 2 * GAMMA,
    "layer-mean": 0,
    "layer-learned": 5,
    "layer-concat": 0,
    "layer-fpn": 5 * LINEAR + 9 * 1024 * 1024 + 1024,
}


def _ids(paths):
    return [path.stem.removeprefix("llava-clip-l14-336_") for path in paths]


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_paper_s_number_of_weights():
    assert FUSER == 5_190_592
    assert len(PRIMITIVES) == 4 and len(ABLATIONS) == 28


@pytest.mark.parametrize("path", FILES, ids=_ids(FILES))
def test_sizes_and_trained_weights(path):
    name = parse_name(path)

    result = dry_run(load_config(path, check=False))

    fuser = FUSERS.get(name.connector, FUSER)
    projector = PROJECTOR[name.llm]
    if name.connector == "layer-concat":
        projector += 4 * 1024 * 5120  # the first layer sees five layers
    rows = {}
    for row in result.parts:
        part = row.part.partition(".")[0]
        have = rows.get(part, (0, 0))
        rows[part] = (have[0] + row.parameters, have[1] + row.trainable)
    language = LANGUAGE[name.llm]
    assert rows == dict(
        vision_encoder=(303_507_456, 0),
        connector=(fuser + projector, fuser + projector),
        language_model=(language, language if name.stage == "ft" else 0),
    )
    assert result.image_tokens == 576


@pytest.mark.parametrize("path", FILES, ids=_ids(FILES))
def test_rates_are_the_official_ones(path):
    name, cfg = parse_name(path), load_config(path, check=False)
    rates = {row.part: row.lr for row in dry_run(cfg).parts if row.trainable}

    common = 1e-3 if name.stage == "pt" else 2e-5
    wanted = {part: common for part in rates}
    own = name.stage == "pt" and (
        name.connector == "mmfuser-fuser-lr"
        or (name.llm == "vicuna-v15-13b" and name.connector != "mmfuser-one-lr")
    )
    if own and FUSERS.get(name.connector, FUSER):
        wanted["connector.fuser"] = 1e-4
    assert rates == wanted
    assert ("connector.fuser" in rates) == ("connector.fuser" in wanted)
    assert ("language_model" in rates) == (name.stage == "ft")


@pytest.mark.parametrize("path", PRIMITIVES, ids=_ids(PRIMITIVES))
def test_all_but_the_connector_is_llavas(path):
    cfg = load_config(path, check=False)
    twin = path.name.replace("_mmfuser_", "_mlp2x_")
    llava = load_config(ROOT / "configs" / "llava" / twin, check=False)

    for field in ("train_dataloader", "param_scheduler", "chat_template", "strategy"):
        assert cfg[field] == llava[field]
    assert cfg.optim_wrapper.optimizer == llava.optim_wrapper.optimizer
    for part in ("vision_encoder", "language_model", "train_parts"):
        assert cfg.model[part] == llava.model[part]
    fuser = cfg.model.connector.fuser
    # The official list counts from the end of 25 hidden states.
    assert fuser.select_layers == [25 + layer for layer in (-22, -17, -12, -7, -2)]


def _flat(value, path=""):
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            found.update(_flat(item, f"{path}/{key}"))
        return found or {path: {}}
    return {path: value}


@pytest.mark.parametrize("path", ABLATIONS, ids=_ids(ABLATIONS))
def test_an_ablation_changes_one_decision(path):
    name, cfg = parse_name(path), load_config(path, check=False)
    parent = path.name.replace(f"_{name.connector}_", "_mmfuser_")
    parent = load_config(path.parent / parent, check=False)

    own, other = _flat(cfg.to_dict()), _flat(parent.to_dict())

    changed = {
        key for key in own.keys() | other.keys() if own.get(key) != other.get(key)
    }
    allowed = ["/model/connector/fuser"]
    if name.stage == "pt" and name.connector.endswith("-lr"):
        allowed = ["/optim_wrapper/paramwise_cfg/parts"]
    if name.stage == "ft":
        allowed.append("/load_from/path")
    assert changed and all(key.startswith(tuple(allowed)) for key in changed), changed


@pytest.mark.parametrize("path", FILES, ids=_ids(FILES))
def test_stage_two_starts_from_its_stage_one(path):
    name, cfg = parse_name(path), load_config(path, check=False)
    if name.stage == "pt":
        assert cfg.load_from is None
        return
    first = path.parent / f"{Path(cfg.load_from.path).name}.py"

    assert parse_name(first).connector == name.connector
    assert cfg.load_from.parts == ["connector"]
    first = load_config(first, check=False)
    assert first.model.connector == cfg.model.connector
    assert first.model.vision_encoder == cfg.model.vision_encoder
