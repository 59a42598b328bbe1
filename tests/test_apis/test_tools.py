"""tools/chat.py and the converters, as a user starts them."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from mmengine.logging import MMLogger

ROOT = Path(__file__).resolve().parents[2]
LORA = dict(r=2, alpha=8, dropout=0.0, target_modules="all-linear")


def run(tool, *args, stdin=""):
    """Run a tool in a fresh process."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    return subprocess.run(
        [sys.executable, ROOT / "tools" / tool, *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
    )


def call(tool, *args):
    """Run a tool's main() in this process; returns what it hands to sys.exit."""
    folder = "" if tool == "chat.py" else "model_converters"
    module = runpy.run_path(str(ROOT / "tools" / folder / tool))
    return module["main"](list(map(str, args)))


@pytest.fixture
def keep_log_level():
    """chat.py quietens the logger of its process."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.usefixtures("keep_log_level")
def test_chat_with_given_prompts(config_file, checkpoint, image_file, talk, capsys):
    prompts = ["What is this?", "And why?"]
    first = talk.chat(image_file, prompts[0], max_new_tokens=6)
    second = talk.chat(image_file, prompts[1], [(prompts[0], first)], max_new_tokens=6)

    capsys.readouterr()

    status = call(
        "chat.py",
        *(config_file, checkpoint, "--device", "cpu", "--image", image_file),
        *("--max-new-tokens", 6, "--temperature", 0, "--prompt", *prompts),
    )

    assert status == 0
    assert (
        capsys.readouterr().out
        == f"> {prompts[0]}\n{first}\n> {prompts[1]}\n{second}\n"
    )


@pytest.mark.slow
def test_chat_from_the_terminal(config_file, checkpoint, image_file, talk, tmp_path):
    notes = tmp_path / "notes.png"
    notes.write_text("no image")
    lines = ["Hello?", f"/image {image_file}", "Hello?", f"/image {notes}", "/what"]
    alone, seen = talk.chat(None, "Hello?"), talk.chat(image_file, "Hello?")

    got = run(
        "chat.py", config_file, checkpoint, "--device", "cpu", stdin="\n".join(lines)
    )

    assert got.returncode == 0, got.stderr
    told = [line.lstrip("> ") for line in got.stdout.splitlines()]
    assert told[:2] == [alone, seen] and alone != seen
    assert "notes.png' is not an image" in told[2]
    assert "no command /what" in told[3]


@pytest.mark.usefixtures("keep_log_level")
def test_chat_tells_what_is_wrong(config_file, tmp_path):
    status = call("chat.py", config_file, tmp_path / "gone.pth", "--prompt", "x")
    assert status.startswith("error: ") and "gone.pth" in status


def test_to_hf_verifies(config_file, checkpoint, tmp_path, capsys):
    assert call("to_hf.py", config_file, checkpoint, tmp_path / "hf", "--verify") == 0
    out = capsys.readouterr().out
    assert "verify: ok" in out and "3 prompts" in out
    # Pixels and ids of the exported processor are ours too.
    pads = hasattr(transformers, "LlavaImageProcessor")
    assert ("note:" not in out) if pads else ("image processor differs" in out)


def test_to_hf_verifies_half_precision(config_file, checkpoint, tmp_path, capsys):
    # Both sides hold rounded weights, and rotary frequencies that nobody rounds.
    half = ("--dtype", "bfloat16", "--verify")
    assert call("to_hf.py", config_file, checkpoint, tmp_path / "hf", *half) == 0


def test_to_hf_fails_when_the_logits_differ(
    config_file, checkpoint, tmp_path, monkeypatch, capsys
):
    import converting

    def spoiled(model, folder, *args, **kwargs):
        from safetensors.torch import load_file, save_file

        path = Path(folder) / "model.safetensors"
        state = load_file(path)
        (key,) = [key for key in state if key.endswith("linear_2.weight")]
        state[key][0, 0] += 1
        save_file(state, path, metadata=dict(format="pt"))
        return verify(model, folder, *args, **kwargs)

    verify = converting.verify_export
    monkeypatch.setattr(converting, "verify_export", spoiled)
    status = call("to_hf.py", config_file, checkpoint, tmp_path / "hf", "--verify")
    assert status == 1
    assert "verify: FAILED" in capsys.readouterr().out


def test_from_hf_undoes_to_hf(config_file, checkpoint, tmp_path):
    assert call("to_hf.py", config_file, checkpoint, tmp_path / "hf") == 0

    back = tmp_path / "back.pth"
    assert call("from_hf.py", tmp_path / "hf", back, "--config", config_file) == 0

    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    after = torch.load(back, weights_only=True)["state_dict"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_from_hf_prints_a_config_that_chats(
    config_file, checkpoint, image_file, talk, tmp_path, capsys
):
    from mmvlm.apis import VLMInferencer

    call("to_hf.py", config_file, checkpoint, tmp_path / "hf")
    capsys.readouterr()
    call("from_hf.py", tmp_path / "hf", tmp_path / "x.pth", "--print-config")
    out = capsys.readouterr().out
    rest = config_file.read_text()
    text = out[out.index("model = dict(") :] + rest[rest.index("chat_template") :]
    (tmp_path / "printed.py").write_text('default_scope = "mmvlm"\n' + text)

    other = VLMInferencer(tmp_path / "printed.py", tmp_path / "x.pth", "cpu")

    got = other.chat(image_file, "What?", max_new_tokens=12)
    assert got == talk.chat(image_file, "What?")


@pytest.fixture
def lora_checkpoint(config_file, checkpoint, tmp_path):
    """A trainable-only file: adapters and connector; the base stays outside."""
    from mmvlm.config import load_config
    from mmvlm.engine.runner.checkpoint import save_atomic
    from mmvlm.registry import MODELS

    cfg = load_config(config_file).model.to_dict()
    for part in ("vision_encoder", "language_model"):
        cfg[part]["name_or_path"] = None
    cfg["language_model"]["lora"] = LORA
    torch.manual_seed(3)
    model = MODELS.build(cfg)
    state = {
        key: torch.randn_like(value) * 0.1
        for key, value in model.state_dict().items()
        if "lora_" in key or key.startswith("connector.")
    }
    omitted = sorted(set(model.state_dict()) - set(state))
    meta = dict(omitted=omitted, parts=["connector", "language_model"])
    save_atomic(dict(state_dict=state, meta=meta), tmp_path / "lora.pth")
    base = torch.load(checkpoint, weights_only=True)["state_dict"]
    renamed = {k.replace(".base_layer.", "."): k for k in omitted}
    wrapped = {renamed[k]: v for k, v in base.items() if k in renamed}
    save_atomic(dict(state_dict={**wrapped, **state}, meta={}), tmp_path / "whole.pth")
    text = config_file.read_text().replace("lora=None", f"lora={LORA!r}")
    (tmp_path / "lora.py").write_text(text)
    return tmp_path / "lora.py", tmp_path / "whole.pth"


def test_merge_lora_keeps_replies_and_connector(
    lora_checkpoint, config_file, image_file, tmp_path
):
    from mmvlm.apis import VLMInferencer

    config, whole = lora_checkpoint
    out = tmp_path / "merged.pth"
    assert call("merge_lora.py", config, whole, out) == 0

    before = VLMInferencer(config, whole, "cpu")
    after = VLMInferencer(config_file, out, "cpu")
    batch = before.encode([before.conversation(image_file, "What?")])
    with torch.no_grad():
        one, two = (talk.model(batch, None, mode="tensor") for talk in (before, after))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    kept, given = (
        torch.load(path, weights_only=True)["state_dict"] for path in (out, whole)
    )
    names = [key for key in given if key.startswith(("connector.", "vision_"))]
    assert len(names) > 4
    assert all(torch.equal(kept[key], given[key]) for key in names)


def test_to_hf_merges_adapters(lora_checkpoint, tmp_path, capsys):
    config, whole = lora_checkpoint
    assert call("to_hf.py", config, whole, tmp_path / "hf", "--verify") == 0
    assert "verify: ok" in capsys.readouterr().out


def test_merge_lora_does_not_overwrite_its_input(lora_checkpoint):
    config, whole = lora_checkpoint
    assert "name another file" in call("merge_lora.py", config, whole, whole)


def test_from_llava_imports_a_projector(config_file, checkpoint, tmp_path):
    weights = torch.load(checkpoint, weights_only=True)["state_dict"]
    state = {
        k.replace("connector.proj.", "model.mm_projector."): v
        for k, v in weights.items()
        if k.startswith("connector.")
    }
    torch.save(state, tmp_path / "mm_projector.bin")
    out = tmp_path / "stage1.pth"

    source = tmp_path / "mm_projector.bin"
    assert call("from_llava.py", source, out, "--config", config_file) == 0

    loaded = torch.load(out, weights_only=True)
    assert loaded["meta"]["parts"] == ["connector"]
    assert all(torch.equal(weights[k], v) for k, v in loaded["state_dict"].items())


def test_imported_projector_fits_a_run(config_file, checkpoint, trained, tmp_path):
    from mmvlm.engine.runner.checkpoint import load_parts

    test_from_llava_imports_a_projector(config_file, checkpoint, tmp_path)
    report = load_parts(trained, str(tmp_path / "stage1.pth"))
    assert report.loaded == {"connector": 4} and report.is_clean


@pytest.mark.parametrize("tool", ["to_hf", "from_hf", "from_llava", "merge_lora"])
def test_converters_have_help(tool, capsys):
    with pytest.raises(SystemExit) as stop:
        call(f"{tool}.py", "--help")
    assert stop.value.code == 0
    assert "checkpoint" in capsys.readouterr().out


LORA_CONFIGS = sorted(
    path
    for path in (ROOT / "configs").glob("[!_]*/*.py")
    if "lora" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", LORA_CONFIGS, ids=lambda path: path.stem)
def test_options_for_merged_weights_fit_every_lora_config(path):
    from converting import without_lora

    from mmvlm.config import load_config
    from mmvlm.config.meta_model import build_on_meta

    model = load_config(path).model.to_dict()
    parts = [n for n, p in model.items() if isinstance(p, dict) and "lora" in str(p)]
    pairs = [o.split("=") for o in without_lora(model, set(parts) - {"train_parts"})]
    has_lora = any("lora_" in key for key in build_on_meta(model).state_dict())
    if not has_lora or "monkey" in path.stem:  # its own adapters, which stay apart
        return
    assert pairs, "no option, so nothing is switched off"
    values = {"None": None, "False": False}
    cfg = load_config(path, cfg_options={key: values[v] for key, v in pairs})
    assert not any("lora_" in key for key in build_on_meta(cfg.model).state_dict())


def test_to_llava_writes_a_folder_that_comes_back(config_file, checkpoint, tmp_path):
    import json

    out = tmp_path / "official"
    assert call("to_llava.py", checkpoint, out, "--config", config_file) == 0

    names = {path.name for path in out.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer_config.json"} <= names
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlavaLlamaForCausalLM"]
    assert config["image_aspect_ratio"] == "pad"
    assert config["mm_vision_tower"] == "pretrained/gone/tower"
    again = call("to_llava.py", checkpoint, out, "--config", config_file)
    assert "is not empty; pass --overwrite" in again
    back = tmp_path / "back.pth"
    assert call("from_llava.py", out, back, "--config", config_file) == 0
    before = torch.load(checkpoint, weights_only=True)["state_dict"]
    after = torch.load(back, weights_only=True)["state_dict"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
