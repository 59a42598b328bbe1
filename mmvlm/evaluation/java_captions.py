"""The Java programs of pycocoevalcap 1.2: PTB tokenizer and METEOR.

They are called directly, in a temporary folder: the package's own wrapper writes into
its installation and, when a caption holds a character that Java takes for the end of
a line, gives every later caption to the wrong image.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmvlm.evaluation.functional.ptb import PUNCTUATION

_TOKENIZER_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_METEOR_JAR = "meteor/meteor-1.5.jar"
# What Java's readers or Python's splitlines() end a line at.
_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


def find_java() -> Path | str:
    """Return pycocoevalcap's folder, or what has to be installed."""
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        return "pycocoevalcap is not installed (pip install pycocoevalcap==1.2)"
    if shutil.which("java") is None:
        return "no java is on the PATH (install a Java runtime, 8 or newer)"
    return Path(next(iter(found.submodule_search_locations)))


def _run(arguments: Sequence[str], text: str) -> list[str]:
    folder = find_java()
    if isinstance(folder, str):
        raise RuntimeError(folder)
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            ["java", *(a.format(folder=folder) for a in arguments)],
            input=text.encode(),
            capture_output=True,
            cwd=scratch,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(
            f"java failed: {done.stderr.decode(errors='replace')[-500:]}"
        )
    return done.stdout.decode().split("\n")


def tokenize_java(texts: Sequence[str]) -> list[str]:
    """Tokenize captions as pycocoevalcap does, punctuation removed.

    Raises:
        RuntimeError: when Java or the package is missing, or when it returns another
            number of lines than it was given.
    """
    lines = [_LINE_ENDS.sub(" ", text) for text in texts]
    arguments = [
        *("-cp", "{folder}/" + _TOKENIZER_JAR),
        *("-Dfile.encoding=UTF-8", "edu.stanford.nlp.process.PTBTokenizer"),
        *("-preserveLines", "-lowerCase"),
    ]
    found = _run(arguments, "".join(line + "\n" for line in lines))[:-1]
    if len(found) != len(lines):
        raise RuntimeError(
            f"the PTB tokenizer returned {len(found)} lines for {len(lines)} captions."
        )
    return [
        " ".join(
            token for token in line.rstrip().split(" ") if token not in PUNCTUATION
        )
        for line in found
    ]


def meteor_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, list[float]]:
    """Return METEOR 1.5 of a set and of each item, 0-1, from tokenized captions.

    Paper: Denkowski and Lavie, "Meteor Universal", 2014.

    Raises:
        RuntimeError: when Java or the package is missing, or answers with nonsense.
    """

    def field(text: str) -> str:
        return " ".join(text.replace("|||", " ").split())

    arguments = [
        "-jar",
        "-Xmx2G",
        "{folder}/" + _METEOR_JAR,
        *"- - -stdio -l en".split(),
    ]
    requests = [
        " ||| ".join(["SCORE", *map(field, refs), field(hypothesis)])
        for hypothesis, refs in zip(hypotheses, references, strict=True)
    ]
    statistics = _run([*arguments, "-norm"], "".join(r + "\n" for r in requests))[:-1]
    final = "EVAL ||| " + " ||| ".join(statistics) + "\n"
    found = _run([*arguments, "-norm"], final)[:-1]
    try:
        values = [float(line) for line in found]
    except ValueError:
        values = []
    if len(values) != len(hypotheses) + 1:
        raise RuntimeError(
            f"METEOR returned {len(values)} numbers for {len(hypotheses)} captions."
        )
    return values[-1], values[:-1]
