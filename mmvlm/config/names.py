"""The naming scheme of config files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_SCHEDULE = re.compile(
    r"^(?P<gpus>\d+)xb(?P<batch>\d+)-(?P<number>\d+)(?P<unit>[eki])"
    r"-(?P<stage>pt|ft)(?:-(?P<tuning>lora|qlora|full))?$"
)
_WORDS = re.compile(r"^[a-z0-9]+(?:-[a-z0-9]+)*$")


@dataclass(frozen=True)
class ConfigName:
    """What a file name says.

    Args:
        model, connector, llm, data (str): parts of the name.
        gpus (int): processes that the config was sized for.
        batch (int): samples per process and micro-batch.
        length (int): number of epochs or iterations.
        by_epoch (bool): whether ``length`` counts epochs.
        stage (str): ``pt`` (connector alignment) or ``ft`` (instruction tuning).
        tuning (str): ``lora``, ``qlora`` or ``full``.
        test (str | None): test set, if it differs from the data.
    """

    model: str
    connector: str
    llm: str
    data: str
    gpus: int
    batch: int
    length: int
    by_epoch: bool
    stage: str
    tuning: str
    test: str | None = None


def parse_name(path: str, strict: bool = True) -> ConfigName | None:
    """Parse ``{model}_{connector}_{llm}_{schedule}_{data}.py``.

    Args:
        path (str): the config file.
        strict (bool): raise for a name outside the scheme instead of
            returning None.

    Raises:
        ValueError: saying which part is not understood.
    """
    stem = os.path.splitext(os.path.basename(path))[0]
    try:
        return _parse(stem)
    except ValueError:
        if strict:
            raise
        return None


def _parse(stem: str) -> ConfigName:
    parts = stem.split("_")
    scheme = "{model}_{connector}_{llm}_{schedule}_{data}[_{test}]"
    if len(parts) not in (5, 6):
        raise ValueError(
            f"config name '{stem}': got {len(parts)} parts, expected {scheme}."
        )
    for part in parts:
        if not _WORDS.match(part):
            raise ValueError(
                f"config name '{stem}': '{part}' is not lower-case words joined by '-'."
            )
    match = _SCHEDULE.match(parts[3])
    if match is None:
        raise ValueError(
            f"config name '{stem}': schedule '{parts[3]}' is not "
            "{gpus}xb{batch}-{length}-{pt|ft}[-{lora|qlora|full}], length as 1e, "
            "2k or 20i."
        )
    unit = match["unit"]
    return ConfigName(
        model=parts[0],
        connector=parts[1],
        llm=parts[2],
        data=parts[4],
        test=parts[5] if len(parts) == 6 else None,
        gpus=int(match["gpus"]),
        batch=int(match["batch"]),
        length=int(match["number"]) * (1000 if unit == "k" else 1),
        by_epoch=unit == "e",
        stage=match["stage"],
        tuning=match["tuning"] or "full",
    )
