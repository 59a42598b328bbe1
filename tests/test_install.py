"""requirements/install.sh with an interpreter that only notes what it is asked."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Answers what the script asks of torch and mmcv; notes what it would install.
STUB = r"""#!/usr/bin/env bash
case "$*" in
*torch.version.cuda*)
    [ -n "$FAKE_DEVICE" ] || [ "$FORCE_CUDA" = 1 ] && echo "$FAKE_CUDA" || true ;;
*"import torch, mmcv.ops"*) [ -e "$FAKE/mmcv" ] ;;
*torch.cuda.is_available*) exit 1 ;;
*purelib*) echo "$FAKE/site" ;;
*uninstall*mmcv*) echo "$*" >>"$FAKE/removed" ;;
*"cache remove"*) touch "$FAKE/fresh-cache" ;;
*"pip install"* | *"pip --disable-pip-version-check uninstall"*)
    echo "$* CXX=$CXX CFLAGS=$CFLAGS FORCE_CUDA=$FORCE_CUDA" \
        "ARCH=$TORCH_CUDA_ARCH_LIST CPATH=$CPATH" \
        "DEVICES=${CUDA_VISIBLE_DEVICES-unset}" >>"$FAKE/log"
    case "$*" in
    *mmcv==*)
        [ -z "$FAKE_SLOW" ] || sleep 60
        [ -z "$FAKE_BROKEN_CACHE" ] || [ -e "$FAKE/fresh-cache" ] || exit 0
        touch "$FAKE/mmcv" ;;
    *headless*) touch "$FAKE/headless" ;;
    esac ;;
*"import cv2"*)
    [ -z "$FAKE_NO_LIBGL" ] || [ -e "$FAKE/headless" ] || {
        echo "ImportError: libGL.so.1: cannot open shared object file" >&2; exit 1; } ;;
*"import mmvlm"*) ;;
*) exec REAL_PYTHON "$@" ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """The files that the script reads, and the stub as the environment's python."""
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "mmvlm/version.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB.replace("REAL_PYTHON", sys.executable))
    python.chmod(0o755)
    (tmp_path / "fake" / "site" / "nvidia" / "cu13" / "include").mkdir(parents=True)
    return tmp_path


def environment(clone, **answers):
    variables = {
        k: v
        for k, v in os.environ.items()
        if k not in ("CFLAGS", "CPATH", "CUDA_HOME", "FORCE_CUDA", "VENV", "PYTHON")
        and k != "TORCH_CUDA_ARCH_LIST"
    }
    variables["FAKE"] = str(clone / "fake")
    return {**variables, **{f"FAKE_{k.upper()}": v for k, v in answers.items()}}


def install(clone, *arguments, env=None, **answers):
    done = subprocess.run(
        ["bash", "requirements/install.sh", *arguments],
        cwd=clone,
        env={**environment(clone, **answers), **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    log = clone / "fake" / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return done, lines


def fake_nvcc(clone, release):
    nvcc = clone / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V1'")
    nvcc.chmod(0o755)
    return {"CUDA_HOME": str(clone / "cuda")}


def test_installs_in_order_and_only_once(clone):
    done, lines = install(clone)
    assert done.returncode == 0, done.stderr
    assert "runtime.txt" in lines[0]
    assert "mmcv-lite==2.2.0" in lines[1] and "CXX=/" not in lines[1]
    assert "--no-deps" in lines[2] and "mminstall.txt" in lines[2]
    assert "-e ." in lines[3] and len(lines) == 4

    again, lines = install(clone)
    assert again.returncode == 0
    assert lines == []


def test_operators_replace_the_distribution_without_them(clone):
    install(clone)

    _, lines = install(clone, "ops")
    assert len(lines) == 1 and "--no-binary mmcv mmcv==2.2.0" in lines[0]
    assert "uninstall -q -y mmcv-lite" in (clone / "fake" / "removed").read_text()

    _, lines = install(clone)
    assert lines == [], "a build with operators serves where none are asked for"


def test_the_pinned_file_without_mmcv_is_installed_last(clone):
    install(clone)

    rest = (clone / ".venv" / ".mmvlm" / "mminstall.txt").read_text()
    assert "mmpretrain==" in rest and "xtuner==" in rest and "mmcv==" not in rest


def test_changed_requirements_are_installed_again(clone):
    install(clone)
    with open(clone / "requirements" / "runtime.txt", "a") as file:
        file.write("one-more\n")

    _, lines = install(clone)

    assert len(lines) == 1 and "runtime.txt" in lines[0]


def test_cpu_build_has_its_flags(clone):
    _, lines = install(clone, "ops", env=fake_nvcc(clone, "13.0"), cuda="13.0")

    assert "CFLAGS=-O3 -g0" in lines[1]
    assert "FORCE_CUDA= " in lines[1], "torch with CUDA but no device: for the CPU"


def test_operators_are_compiled_as_cxx20(clone):
    echo = clone / "compiler"
    echo.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\n")
    echo.chmod(0o755)
    _, lines = install(clone, "ops", env={"CXX": str(echo)})

    wrapper = lines[1].partition("CXX=")[2].split()[0]
    said = subprocess.run(
        [wrapper, "-c", "-std=c++17", "a file.cpp"], capture_output=True, text=True
    )
    assert said.stdout == "-c|-std=c++20|a file.cpp|"


def test_cuda_build_has_architectures_and_headers(clone):
    for answers in ({"device": "1"}, {"env": {"FORCE_CUDA": "1"}}):
        shutil.rmtree(clone / ".venv" / ".mmvlm", ignore_errors=True)
        (clone / "fake" / "mmcv").unlink(missing_ok=True)
        shutil.rmtree(clone / "cuda", ignore_errors=True)
        env = {**fake_nvcc(clone, "13.0"), **answers.pop("env", {})}
        # A device asks for the operators by itself, FORCE_CUDA=1 with the group.
        groups = [] if answers else ["ops"]
        _, lines = install(clone, *groups, env=env, cuda="13.0", **answers)

        assert "FORCE_CUDA=1 ARCH=8.0;9.0" in lines[1]
        assert "fake/site/nvidia/cu13/include" in lines[1]


def test_other_cuda_compiler_means_cpu_operators(clone):
    nvcc = fake_nvcc(clone, "12.4")
    done, lines = install(clone, "ops", env=nvcc, cuda="13.0", device="1")

    assert "no nvcc of that major version" in done.stdout
    assert lines[1].endswith("DEVICES=")


def test_cached_build_that_does_not_import_is_built_anew(clone):
    done, lines = install(clone, "ops", broken_cache="1")

    assert done.returncode == 0, done.stderr
    assert "does not fit this torch" in done.stdout
    assert lines[1] == lines[2], "pip keeps the new build in its cache"


def test_missing_libgl_takes_the_headless_build(clone):
    done, lines = install(clone, no_libgl="1")

    assert done.returncode == 0, done.stderr
    assert "uninstall" in lines[1] and "opencv-python-headless==" in lines[2]
    assert "libgl1" in done.stdout


def test_missing_compiler_is_named(clone, tmp_path_factory):
    tools = tmp_path_factory.mktemp("bin")
    names = "bash dirname cat cksum tr grep sed awk mkdir head tail sleep env nproc"
    for name in [*names.split(), "touch"]:
        (tools / name).symlink_to(shutil.which(name))

    env = {"PATH": str(tools), "CXX": "no-compiler"}
    assert install(clone, env=env)[0].returncode == 0, "the demo needs none"

    done, _ = install(clone, "ops", env=env)

    assert done.returncode == 1
    assert "no C++ compiler was found" in done.stderr
    assert "build-essential" in done.stderr


def test_too_old_python_is_refused(clone):
    old = clone / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    shutil.rmtree(clone / ".venv")

    done, _ = install(clone, env={"PYTHON": str(old)})

    assert done.returncode == 1
    assert "no usable Python: need 3.10, 3.11 or 3.12" in done.stderr


def test_unknown_set_and_group_are_refused(clone):
    wrong_set, _ = install(clone, "--set", "latest")
    wrong_group, _ = install(clone, "doc")

    assert "no requirement set 'latest'" in wrong_set.stderr
    assert "newest.txt pinned.txt" in wrong_set.stderr
    assert "unknown argument 'doc'" in wrong_group.stderr
    assert wrong_set.returncode and wrong_group.returncode


def test_set_replaces_pins_by_name(clone):
    install(clone, "--set", "pinned")

    merged = (clone / ".venv" / ".mmvlm" / "runtime.txt").read_text().split("\n")
    assert [x for x in merged if x.startswith("transformers")] == [
        "transformers==4.48.0"
    ]
    assert [x for x in merged if x.startswith("hugging")] == ["huggingface_hub==0.36.2"]
    assert [x for x in merged if x.startswith("numpy")] == ["numpy==2.2.6"]


def test_interrupted_build_goes_on_where_it_stopped(clone):
    script = subprocess.Popen(
        ["bash", "requirements/install.sh", "ops"],
        cwd=clone,
        env=environment(clone, slow="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = clone / "fake" / "log"
    deadline = time.monotonic() + 40
    while not (log.exists() and "mmcv==" in log.read_text()):
        assert time.monotonic() < deadline, "the build did not start"
        time.sleep(0.1)
    script.send_signal(signal.SIGTERM)
    output, _ = script.communicate(timeout=20)
    log.unlink()

    done, lines = install(clone, "ops")

    assert script.returncode == 130
    assert "run the same command again" in output
    assert done.returncode == 0
    assert "mmcv==" in lines[0], "the first step was repeated"
