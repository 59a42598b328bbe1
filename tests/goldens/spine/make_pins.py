"""Write the pins anew: ``python tests/goldens/spine/make_pins.py``, from anywhere.

Only where numbers are meant to change; the message of the commit says why.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import mmvlm  # noqa: F401  isort: skip
import pins


def write(name, value):
    text = json.dumps(value, indent=1)
    (pins.HERE / name).write_text(text + "\n", encoding="utf-8")


def main():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        pins.write_data(Path(folder))
        whole = pins.train_model(Path("model"), resume=False)
        saved = pins.HERE / "model"
        shutil.rmtree(saved, ignore_errors=True)
        saved.mkdir()
        name = f"iter_{pins.SAVED}.pth"
        shutil.copy(Path("model") / name, saved / name)
        (saved / "last_checkpoint").write_text(name)
        resumed = pins.train_model(Path("resumed"), resume=True)
        assert resumed == whole, "a resumed run is another one"
        runs = {
            path.stem: pins.measure(path, Path(path.stem))
            for path in sorted(pins.TINY.glob("*.py"))
        }
        write(
            "pins.json",
            dict(
                machine=pins.machine(),
                runs=runs,
                resumed=resumed,
                replies=pins.replies(),
            ),
        )


if __name__ == "__main__":
    main()
