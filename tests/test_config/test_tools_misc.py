"""The thin tools around mmvlm.config."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("print_config", "check_config", "dry_run", "list_components")
SHIPPED = "llava-clip-l14-336_mlp2x_vicuna-v15-7b_8xb32-1e-pt_llava-558k"


@pytest.fixture
def tool():
    def load(name):
        path = ROOT / "tools" / "misc" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"tool_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    return load


@pytest.mark.parametrize("name", TOOLS)
def test_help(tool, name, capsys):
    with pytest.raises(SystemExit) as stop:
        tool(name)(["--help"])

    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_print_config(tool, chain, capsys):
    child = chain.child("model = dict(connector=dict(depth=3))")

    assert tool("print_config")([child, "--cfg-options", "train_cfg.max_iters=7"]) == 0
    assert "max_iters=7" in capsys.readouterr().out
    assert tool("print_config")([chain.base, "--diff", child]) == 0
    assert capsys.readouterr().out == "~ model.connector.depth: 2 -> 3\n"
    assert tool("print_config")([child, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["connector"]["depth"] == 3
    assert tool("print_config")([child, "--origins"]) == 0
    assert "model.connector.depth = 3  # " in capsys.readouterr().out


def test_a_complaint_goes_to_stderr_with_exit_code_1(tool, chain, capsys):
    broken = chain.child("wrok_dir = 1")

    for name in ("print_config", "check_config", "dry_run"):
        assert tool(name)([broken]) == 1
        streams = capsys.readouterr()
        assert "Did you mean 'work_dir'" in streams.err
        assert not streams.out
    assert tool("print_config")(["no-such-config"]) == 1
    assert "no config 'no-such-config'" in capsys.readouterr().err


def test_check_config_prints_chain_parts_and_warnings(tool, chain, capsys):
    assert tool("check_config")([SHIPPED]) == 0
    text = capsys.readouterr().out
    assert "fine" in text
    assert "configs/_base_/datasets/llava_558k.py" in text
    assert "20,979,712" in text
    assert tool("check_config")([SHIPPED, "--quick", "--gpus", "2"]) == 0
    assert "2 GPU x 32 x 1 accumulated = 64" in capsys.readouterr().out
    assert tool("check_config")([SHIPPED, "--quick", "--files"]) == 1
    assert "no such file" in capsys.readouterr().err


def test_one_ill_config_among_many_fails(tool, chain, capsys):
    broken = chain.child("wrok_dir = 1")

    assert tool("check_config")([chain.base, broken]) == 1
    streams = capsys.readouterr()
    assert "base.py: fine" in streams.out
    assert "child.py: 1 problem" in streams.err


def test_check_config_names_the_command_line(tool, chain, capsys):
    args = [chain.base, "--cfg-options", "model.conector.depth=3"]

    assert tool("check_config")(args) == 1
    assert "model.conector.depth=3 (--cfg-options)" in capsys.readouterr().err


def test_dry_run_json(tool, capsys):
    assert tool("dry_run")([SHIPPED, "--json"]) == 0

    values = json.loads(capsys.readouterr().out)

    assert values["image_tokens"] == 576
    assert values["parameters"] == 7_062_902_784


def test_list_components(tool, capsys):
    assert tool("list_components")(["--kind", "connector"]) == 0
    text = capsys.readouterr().out
    assert "MLPConnector" in text
    assert "mmvlm/models/connectors/mlp.py" in text
    assert "HFCausalLM" not in text
    assert tool("list_components")(["--kind", "conector"]) == 1
    assert "connector" in capsys.readouterr().err
    assert tool("list_components")(["--json", "--kind", "chat_template"]) == 0
    rows = json.loads(capsys.readouterr().out)["chat_template"]
    assert "vicuna_v1" in {row["name"] for row in rows}
    assert all(row["doc"] for row in rows)
