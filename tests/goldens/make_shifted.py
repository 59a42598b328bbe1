"""Write a second set of golden files: other sizes, cases and keys.

    python tests/goldens/make_shifted.py FOLDER
    MMVLM_GOLDENS=FOLDER python -m pytest -m golden tests

Widths, heads, depths, grids, batches and names of cases differ from the files beside
this script, and what belongs to them is computed by this project. Where only official
code can tell, a part of the cases stays. The set shows that tests take everything from
the files; it proves no module right.
"""

import argparse
import shutil
from pathlib import Path

from shifted_arrays import write_arrays
from shifted_cases import write_cases

HERE = Path(__file__).parent


def main():
    """Write the set into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    not_data = shutil.ignore_patterns("*.py", "*.md", "__pycache__")
    shutil.copytree(HERE, folder, dirs_exist_ok=True, ignore=not_data)
    write_arrays(folder)
    write_cases(folder)


if __name__ == "__main__":
    main()
