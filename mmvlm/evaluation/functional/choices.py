"""Read the letter of an option out of an answer, by the rules in use.

Sources: haotian-liu/LLaVA: llava/eval/eval_science_qa.py and the exact-letter
scripts; open-compass/VLMEvalKit: vlmeval/utils/matching_util.py;
EvolvingLMMs-Lab/lmms-eval: lmms_eval/tasks/mmbench/mmbench_evals.py,
tasks/seedbench/utils.py; InternLM/xtuner: xtuner/tools/mmbench.py.

Every reader maps a text and the options (letter to text) to a letter, or to None
where its rule decides nothing. ``Z`` is a refusal.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Mapping, Sequence

Options = Mapping[str, str]

_NO_REPLY = "Failed to obtain answer via API"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_TO_BLANK = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_SENTENCE = re.compile(r"answer\s+is\s+\**([A-D])\**", re.IGNORECASE)
_SCIENCEQA = re.compile(r"The answer is ([A-Z]).")
_LMMS_BRACKETS = (
    *(("", end) for end in (".", ",", ":", ")", ").")),
    *(("(", end) for end in (")", ").")),
    *((":", end) for end in ("", ",", ".", ")", ").")),
)
#: Letters that lmms-eval looks for, whatever the item offers.
_LMMS_LETTERS = "ABCDE"


def lettered(options: Options | Sequence[str]) -> dict[str, str]:
    """Return options as letter to text; a sequence is lettered from A."""
    if isinstance(options, Mapping):
        return {letter: str(text) for letter, text in options.items()}
    return dict(zip(string.ascii_uppercase, map(str, options), strict=False))


def read_exact(text: str, options: Options) -> str | None:
    """Accept nothing but the bare letter, as behind LLaVA's MMBench and SEED."""
    return text if text in options else None


def read_first_character(text: str, options: Options) -> str | None:
    """Accept the first character in either case, as lmms-eval does for SEED."""
    letter = text.strip()[:1].upper()
    return letter if letter in options else None


def read_scienceqa(text: str, options: Options) -> str | None:
    """Accept ``B``, ``B. ...`` and one ``The answer is B.``; letters A to E first.

    The letter may be one that the item does not offer.
    """
    if text[:1] in set("ABCDE") and (len(text) == 1 or text[1:3] == ". "):
        return text[0]
    found = _SCIENCEQA.findall(text)
    return found[0] if len(found) == 1 else None


def read_letter(text: str, options: Options) -> str | None:
    """Apply the letter stage of VLMEvalKit's exact matching."""
    if _NO_REPLY in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return "Z"
    words = text.translate(_TO_BLANK).split()
    found = [letter for letter in options if letter in words]
    if len(found) == 1 and words.index(found[0]) > len(words) - 5:
        return found[0]
    if not found and "Z" in words:
        return "Z"
    sentence = _SENTENCE.search(text)
    return sentence.group(1).upper() if sentence else None


def read_option_text(text: str, options: Options, bounded: bool = True) -> str | None:
    """Accept the one option whose text the answer contains, case apart.

    Args:
        text (str): the answer.
        options (Mapping): letter to text.
        bounded (bool): refuse answers longer than twice all option texts.
    """
    if bounded and len(text.lower()) > 2 * sum(map(len, options.values())):
        return None
    found = [key for key, option in options.items() if option.lower() in text.lower()]
    return found[0] if len(found) == 1 else None


def read_exact_matching(text: str, options: Options) -> str | None:
    """Apply VLMEvalKit's exact matching: letter stage, then option texts."""
    return read_letter(text, options) or read_option_text(text, options)


def read_lmms(text: str, options: Options) -> str | None:
    """Apply lmms-eval's MMBench rule: whole tokens, brackets, then option texts."""
    words = text.split()
    found = [letter for letter in _LMMS_LETTERS if letter in words]
    api_failed = _NO_REPLY in text
    # An A in more than three words may be the article.
    if len(found) == 1 and not api_failed and not ("A" in words and len(words) > 3):
        return found[0]
    for start, end in () if api_failed else _LMMS_BRACKETS:
        found = [key for key in _LMMS_LETTERS if f"{start}{key}{end}" in words]
        if len(found) == 1:
            return found[0]
    return read_option_text(text, options, bounded=False)


def read_xtuner(text: str, options: Options) -> str | None:
    """Accept the first run of A to D anywhere ("Answer: C" is A): for comparison."""
    found = re.search("[A-D]+", text)
    return found.group() if found else None


READERS: dict[str, Callable[[str, Options], str | None]] = {
    "exact_letter": read_exact,
    "exact_matching": read_exact_matching,
    "scienceqa": read_scienceqa,
    "lmms_eval": read_lmms,
    "first_character": read_first_character,
    "xtuner": read_xtuner,
}


#: Rules that read how likely a model found each option, in place of a text.
LIKELIHOODS = ("option_logits", "ppl")


def likeliest(scores: Mapping[str, float]) -> str | None:
    """Return the letter of the highest score, the first of equal ones.

    None where a score is not a number.
    """
    if any(map(math.isnan, scores.values())):
        return None
    return max(scores, key=scores.__getitem__)


def scienceqa_groups(problem: Mapping) -> list[str]:
    """Return the rows of ScienceQA's breakdown that an item counts in.

    Having a text and having an image overlap; "no context" is neither.

    Args:
        problem (Mapping): ``subject``, ``hint``, ``image``, ``grade``, ``topic`` as in
            ``problems.json``.
    """
    subject = {
        "natural science": "natural",
        "social science": "social",
        "language science": "language",
    }.get(problem["subject"], problem["subject"])
    has_text, has_image = bool(problem["hint"]), bool(problem["image"])
    grade = int(str(problem["grade"]).removeprefix("grade"))
    return [
        subject,
        *(["has_text"] if has_text else []),
        *(["has_image"] if has_image else []),
        *([] if has_text or has_image else ["no_context"]),
        "grade_1_6" if grade <= 6 else "grade_7_12",
        problem["topic"],
    ]
