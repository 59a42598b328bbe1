"""``transformers serve`` over an exported folder answers in our words."""

import base64
import importlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from io import BytesIO

import numpy as np
import pytest
from converting import to_hf
from PIL import Image

from mmvlm.apis import VLMInferencer

TOKENS = 8


@pytest.fixture
def server():
    """Start servers of folders; they end with the test."""
    for name in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(name)
    started = []

    def start(folder, log):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        cli = "transformers.commands.transformers_cli"
        try:
            importlib.import_module(cli)
        except ModuleNotFoundError:
            cli = "transformers.cli.transformers"  # 5.x
        code = f"import {cli} as cli; cli.main()"
        options = ("--host", "127.0.0.1", "--port", str(port), "--device", "cpu")
        command = [sys.executable, "-c", code, "serve", *options]
        if cli.startswith("transformers.commands"):
            command += ["--force_model", str(folder)]
        with open(log, "w") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                env=dict(os.environ, HF_HUB_OFFLINE="1"),
            )
        started.append(process)
        return process, f"http://127.0.0.1:{port}/v1/chat/completions"

    yield start
    for process in started:
        process.kill()
        process.wait()


def ask(process, url, folder, image, question, seconds=240):
    """Ask once the server listens; returns the words of its stream."""
    buffer = BytesIO()
    image.save(buffer, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    content = [
        dict(type="image_url", image_url=dict(url=uri)),
        dict(type="text", text=question),
    ]
    settings = json.loads((folder / "generation_config.json").read_text())
    settings.update(do_sample=False, max_new_tokens=TOKENS)
    body = dict(
        model=str(folder),
        messages=[dict(role="user", content=content)],
        max_tokens=TOKENS,
        stream=True,
        generation_config=json.dumps(settings),
    )
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(request, timeout=seconds) as reply:
                lines = reply.read().decode().splitlines()
            break
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
        except OSError:
            alive = process.poll() is None and time.monotonic() < end
            assert alive, (folder.parent / "serve.log").read_text()[-2000:]
            time.sleep(0.5)
    chunks = [json.loads(x[6:]) for x in lines if x.startswith("data: {")]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.slow
@pytest.mark.multiproc
def test_a_served_folder_answers_in_our_words(
    server, config_file, checkpoint, tmp_path
):
    to_hf(config_file, checkpoint, tmp_path / "hf")
    noise = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
    question, greedy = "What is shown?", dict(do_sample=False, max_new_tokens=TOKENS)
    ours = VLMInferencer(config_file, checkpoint, "cpu").chat(noise, question, **greedy)

    process, url = server(tmp_path / "hf", tmp_path / "serve.log")
    image = Image.fromarray(noise)
    served = ask(process, url, tmp_path / "hf", image, question)

    assert served.strip() == ours.strip() != ""
