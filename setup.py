"""Build mmvlm. Project data that setuptools cannot derive stands here."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()

# requirements/runtime.txt pins what was installed and run together; a package
# must not force these pins on other environments. Where a bound is known to
# matter it stands here, everything else goes by name.
RANGES = {
    "torch": ">=2.6",
    "numpy": "<2.4",
    "opencv-python": ">=4.8,<5",
    "mmengine": ">=0.10.6,<1",
    "transformers": ">=4.48",
    "peft": ">=0.14",
    "setuptools": "<81",
    "safetensors": ">=0.5",
}
# Folders and files that a wheel carries beside the code, as OpenMMLab's do.
MIM_ENTRIES = ("configs", "tools", "model-index.yml")


def read_version() -> str:
    """Read the version without importing the package."""
    text = (ROOT / "mmvlm" / "version.py").read_text()
    return re.search(r'^__version__ = "([^"]+)"$', text, re.M).group(1)


def read_requirements(name: str, with_pins: bool) -> list[str]:
    """Read requirements/NAME.txt; without pins each line gets its range."""
    lines = []
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        if not with_pins:
            package = re.match(r"[\w.-]+", line).group().replace("_", "-")
            line = package + RANGES.get(package, "")
        if line not in lines:
            lines.append(line)
    return lines


class BuildWithMim(build_py):
    """Put configs and tools into mmvlm/.mim, where mmengine and mim look."""

    def run(self) -> None:
        """Build the package, then add the entries (links when editable)."""
        super().run()
        if self.editable_mode:
            self._fill(ROOT / "mmvlm" / ".mim", link=True)
        else:
            self._fill(Path(self.build_lib) / "mmvlm" / ".mim", link=False)

    @staticmethod
    def _fill(target: Path, link: bool) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for entry in MIM_ENTRIES:
            source, goal = ROOT / entry, target / entry
            if goal.is_symlink() or goal.is_file():
                goal.unlink()
            elif goal.is_dir():
                shutil.rmtree(goal)
            if not source.exists():
                continue
            if link:
                os.symlink(os.path.relpath(source, target), goal)
            elif source.is_dir():
                shutil.copytree(
                    source, goal, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
                )
            else:
                shutil.copy2(source, goal)


setup(
    name="mmvlm",
    version=read_version(),
    description="Assemble, train, ablate and benchmark vision-language models",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="mmvlm contributors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="vision-language model, multimodal, LLaVA, mmengine, OpenMMLab",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=["mmvlm", "mmvlm.*"]),
    package_data={"mmvlm": ["py.typed", "models/ops/csrc/*.cpp"]},
    include_package_data=True,
    python_requires=">=3.10",
    install_requires=read_requirements("runtime", with_pins=False),
    entry_points={"lmms_eval.models": ["mmvlm = mmvlm.apis.lmms_eval:manifest"]},
    extras_require={
        "optional": read_requirements("optional", with_pins=True),
        "eval": read_requirements("eval", with_pins=True),
        "judge": read_requirements("judge", with_pins=True),
        "tests": read_requirements("tests", with_pins=True),
        "docs": read_requirements("docs", with_pins=True),
    },
    cmdclass={"build_py": BuildWithMim},
    zip_safe=False,
)
