"""Writes beside the weights what they came from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

import mmvlm
from mmvlm.config.work_dir import write_model_files
from mmvlm.registry import HOOKS

from ..runner.checkpoint import write_atomic

_PACKAGES = ("torch", "transformers", "mmengine", "mmcv", "mmpretrain", "peft", "numpy")


def git_state(folder: str | os.PathLike) -> dict[str, Any]:
    """Return commit, branch and changed files of a git checkout.

    An empty dict outside of one, or without git.
    """

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *args],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.rstrip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no").splitlines()
        return dict(
            commit=git("rev-parse", "HEAD"),
            branch=git("rev-parse", "--abbrev-ref", "HEAD"),
            changed_files=[line[3:] for line in changed],
            diff=git("diff", "HEAD") if changed else "",
        )
    except (OSError, subprocess.SubprocessError):
        return {}


def versions() -> dict[str, str]:
    """Return the versions of python and of the packages that training uses."""
    found = dict(python=sys.version.split()[0], mmvlm=mmvlm.__version__)
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@HOOKS.register_module()
class ProvenanceHook(Hook):
    """Write resolved config, environment and git state into the work dir.

    ``config.py`` is the config after inheritance and command line; with ``tokenizer``
    and ``model.json`` it makes the work dir a model that works anywhere, see
    :func:`mmvlm.config.own_files.use_own_files`. ``run.json`` holds
    the command, versions, devices and git commit, one entry per start of the run;
    ``changes.diff`` holds uncommitted changes of the code, if there are any.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Any) -> None:
        """Write the files before the first step."""
        if not is_main_process():
            return
        folder = Path(runner.work_dir)
        tokenizer = getattr(runner.processor, "tokenizer", None)
        write_model_files(folder, runner.config_text, runner.cfg, tokenizer)
        state = git_state(Path(mmvlm.__file__).parent)
        diff = state.pop("diff", "")
        cuda = torch.cuda.is_available()
        entry = dict(
            time=time.strftime("%Y-%m-%d %H:%M:%S"),
            command=[os.path.basename(sys.executable), *sys.argv],
            seed=runner.seed,
            first_step=runner.iter,
            processes=get_world_size(),
            device=torch.cuda.get_device_name() if cuda else "cpu",
            versions=versions(),
            git=state,
        )
        path = folder / "run.json"
        starts = json.loads(path.read_text()) if path.is_file() else []
        starts.append(entry)
        write_atomic(path, json.dumps(starts, indent=2))
        if diff:
            write_atomic(folder / "changes.diff", diff)
