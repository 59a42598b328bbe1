"""The wheel and the editable install."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mmvlm

ROOT = Path(__file__).parents[1]
#: What a build reads; a copy keeps build artefacts out of the work tree.
SOURCES = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "model-index.yml",
    "requirements",
    "mmvlm",
    "configs",
    "tools",
)


def run(*command, cwd, **kwargs):
    done = subprocess.run(
        [str(x) for x in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        **kwargs,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def source_copy(tmp_path_factory):
    target = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", ".mim", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignore)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(scope="module")
def wheel(source_copy, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        *("-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"),
        *("--outdir", out),
        cwd=source_copy,
    )
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def tracked(folder):
    """Files below a folder of the repository, as a wheel should carry them."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
class TestWheel:
    def test_is_named_after_the_version(self, wheel):
        names = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = wheel.read(names[0]).decode()

        assert re.search(r"^Name: mmvlm$", metadata, re.M)
        assert re.search(rf"^Version: {re.escape(mmvlm.__version__)}$", metadata, re.M)

    @pytest.mark.parametrize("folder", ["configs", "tools"])
    def test_carries_every_config_and_tool(self, wheel, folder):
        inside = {
            name.removeprefix("mmvlm/.mim/")
            for name in wheel.namelist()
            if name.startswith(f"mmvlm/.mim/{folder}/")
        }

        assert len(inside) > 3
        assert inside == tracked(folder)

    def test_carries_every_module_and_the_type_marker(self, wheel):
        modules = {n for n in tracked("mmvlm") if n.endswith(".py")}

        names = set(wheel.namelist())

        assert modules - names == set()
        assert "mmvlm/py.typed" in names
        sources = {n for n in tracked("mmvlm") if n.endswith(".cpp")}
        assert sources and sources - names == set()
        assert any(n.endswith("LICENSE") for n in names)

    def test_carries_nothing_else(self, wheel):
        outside = [
            name
            for name in wheel.namelist()
            if not name.startswith("mmvlm/") and ".dist-info/" not in name
        ]
        assert outside == []
        assert not [n for n in wheel.namelist() if "__pycache__" in n]

    def test_works_where_it_is_unpacked(self, wheel, tmp_path):
        wheel.extractall(tmp_path)
        script = (
            "import mmvlm, pathlib; from mmengine import Config;"
            "home = pathlib.Path(mmvlm.__file__).parent;"
            "configs = sorted((home / '.mim/configs/tiny').glob('*.py'));"
            "assert configs; print(home, Config.fromfile(configs[0]).filename)"
        )

        out = run(
            sys.executable,
            *("-c", script),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )

        assert out.startswith(str(tmp_path))


@pytest.mark.slow
def test_editable_install_links_configs(source_copy, tmp_path):
    run(
        sys.executable,
        *("-m", "pip", "install", "--no-build-isolation", "--no-deps", "-q"),
        *("--target", tmp_path, "-e", source_copy),
        cwd=tmp_path,
    )

    links = source_copy / "mmvlm" / ".mim"
    assert (links / "configs").is_symlink()
    assert (links / "configs").resolve() == source_copy / "configs"
    assert list(tmp_path.glob("__editable__*mmvlm*"))


class TestRequirements:
    """setup.py gives ranges; the pins of runtime.txt lie inside them."""

    @pytest.fixture(scope="class")
    def declared(self):
        namespace = {"__file__": str(ROOT / "setup.py"), "__name__": "setup"}
        text = (ROOT / "setup.py").read_text().split("\nsetup(\n")[0]
        exec(compile(text, "setup.py", "exec"), namespace)
        lines = namespace["read_requirements"]("runtime", with_pins=False)
        return {Requirement(line).name: Requirement(line) for line in lines}

    @staticmethod
    def pins(name):
        for line in (ROOT / "requirements" / name).read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                yield Requirement(line)

    def test_no_exact_pin_is_forced_on_users(self, declared):
        assert not [str(r) for r in declared.values() if "==" in str(r.specifier)]

    @pytest.mark.parametrize("name", ["runtime.txt", "sets/pinned.txt"])
    def test_pins_lie_inside_the_ranges(self, declared, name):
        for pin in self.pins(name):
            wanted = declared[pin.name.replace("_", "-")]
            for clause in pin.specifier:
                if clause.operator == "==":
                    assert wanted.specifier.contains(clause.version), (pin, wanted)

    def test_compiled_or_pinning_packages_are_left_out(self, declared):
        assert not {"mmcv", "mmpretrain", "xtuner"} & set(declared)
