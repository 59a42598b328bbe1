"""Ten-answer accuracy of VQAv2, OK-VQA, TextVQA and VizWiz, and its normalisers.

Source: GT-Vision-Lab/VQA: PythonEvaluationTools/vqaEvaluation/vqaEval.py;
haotian-liu/LLaVA: llava/eval/m4c_evaluator.py, eval_textvqa.py. Two habits that
published numbers contain are kept: at most 32 periods are deleted, and VQAv2 does
not normalise when all annotators agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ANY_MARK = re.compile(f"[{re.escape(_MARKS)}]")
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_FINAL_PERIOD = re.compile(r"\.(?!\d)")
_MAX_PERIODS = 32

_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten".split()
    )
} | {"none": "0"}
_ARTICLES = {"a", "an", "the"}
# The table of the official script maps each of these with one apostrophe left out
# to the word itself, but for one entry that takes the apostrophe away.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've
it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
somebody'll somebody's someone'd someone'd've someone'll someone's something'd
something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've
why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've
you'd you'd've you'll you're you've
""".split()
CONTRACTIONS = {
    word[:at] + word[at + 1 :]: word
    for word in _CONTRACTED
    for at, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}
# VizWiz writes all but five of them with the typographic apostrophe.
_VIZWIZ_ASCII = {"ain't", "aren't", "can't", "could've", "couldn't"}
VIZWIZ_CONTRACTIONS = {
    short: word if word in _VIZWIZ_ASCII else word.replace("'", "\u2019")
    for short, word in CONTRACTIONS.items()
}


def clean_blanks(text: str) -> str:
    """Turn line ends and tabs into blanks and strip."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def process_punctuation(text: str) -> str:
    """Delete or blank out punctuation marks, delete periods not before a digit.

    A mark is deleted where the text has it beside a blank, or has a digit, a comma
    and a digit anywhere; else each of it becomes a blank.
    """
    if found := set(_ANY_MARK.findall(text)):
        delete_all = _DIGIT_COMMA_DIGIT.search(text) is not None
        table = {
            ord(mark): ""
            if delete_all or f"{mark} " in text or f" {mark}" in text
            else " "
            for mark in found
        }
        text = text.translate(table)
    return _FINAL_PERIOD.sub("", text, count=_MAX_PERIODS)


def process_words(text: str, contractions: dict[str, str] = CONTRACTIONS) -> str:
    """Lower the case, write numbers as digits, drop articles, mend contractions."""
    words = [_NUMBERS.get(word, word) for word in text.lower().split()]
    kept = [contractions.get(word, word) for word in words if word not in _ARTICLES]
    return " ".join(kept)


@lru_cache(maxsize=1 << 16)
def normalise_vqa(text: str) -> str:
    """Normalise as the VQA evaluator does: marks, then words.

    Example:
        >>> normalise_vqa("The two dogs.")
        '2 dogs'
    """
    return process_words(process_punctuation(text))


@lru_cache(maxsize=1 << 16)
def normalise_vizwiz(text: str) -> str:
    """Normalise a prediction as the VizWiz evaluator does."""
    return process_words(process_punctuation(clean_blanks(text)), VIZWIZ_CONTRACTIONS)


@lru_cache(maxsize=1 << 16)
def normalise_evalai(text: str) -> str:
    """Normalise as the EvalAI (M4C) processor of LLaVA does, for uploads and TextVQA.

    Example:
        >>> normalise_evalai("The dog's bowl, please?")
        "dog 's bowl please"
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return process_words(process_punctuation(clean_blanks(text.strip())))


def leave_one_out(prediction: str, answers: Sequence[str]) -> float:
    """Return the mean over annotators of min(1, matches among the others / 3).

    Of ten annotators 0, 1, 2, 3 and 4 or more matches give 0, 0.3, 0.6, 0.9 and 1.
    """
    matches = sum(answer == prediction for answer in answers)
    if not matches:
        return 0.0
    others = len(answers) - matches
    total = matches * min(1.0, (matches - 1) / 3) + others * min(1.0, matches / 3)
    return total / len(answers)


def score_vqa(text: str, answers: Sequence[str]) -> tuple[float, str]:
    """Score as the VQA evaluator does; return score (0-1) and compared text."""
    text, answers = clean_blanks(text), [clean_blanks(answer) for answer in answers]
    if len(set(answers)) > 1:
        text, answers = normalise_vqa(text), [normalise_vqa(a) for a in answers]
    return leave_one_out(text, answers), text


def score_both_sides(text: str, answers: Sequence[str]) -> tuple[float, str]:
    """Score with both sides always normalised, as TextVQA and lmms-eval do."""
    text = normalise_evalai(text)
    return leave_one_out(text, [normalise_evalai(answer) for answer in answers]), text


def score_vizwiz(text: str, answers: Sequence[str]) -> tuple[float, str]:
    """Score as the VizWiz evaluator does: the answers are compared as they are."""
    text = normalise_vizwiz(text)
    return leave_one_out(text, answers), text


def unanswerability(
    answerable: Sequence[int], predicted: Sequence[int]
) -> tuple[float, float]:
    """Return average precision and F1 of the class "unanswerable", 0-1.

    A prediction is yes or no, so that the precision-recall curve has two steps: the
    predicted items, then all.

    Args:
        answerable (Sequence[int]): 1 where annotators could answer.
        predicted (Sequence[int]): 1 where the model gave an answer.
    """
    positives = sum(not a for a in answerable)
    chosen = sum(not p for p in predicted)
    hits = sum(not a and not p for a, p in zip(answerable, predicted, strict=True))
    if not positives:
        return 0.0, 0.0
    recall = hits / positives
    first = recall * hits / chosen if chosen else 0.0
    rest = (1 - recall) * positives / len(answerable)
    return first + rest, 2 * hits / (positives + chosen)


def question_of_prompt(prompt: str) -> str:
    """Return the lower-case question of a TextVQA prompt that LLaVA recorded.

    Raises:
        ValueError: when the prompt has none of the four known layouts.
    """
    lines = prompt.split("\n")
    if prompt.startswith("OCR tokens: "):
        found = re.search(r"Question: (.*?) Short answer:", prompt, re.DOTALL)
        question = found and found.group(1)
    elif "Reference OCR token: " in prompt and len(lines) == 3:
        question = lines[1 if prompt.startswith("Reference OCR token:") else 0]
    else:
        question = lines[0] if len(lines) == 2 else None
    if question is None:
        raise ValueError(
            f"no question in the prompt {prompt!r}: expected a question and the "
            "short-answer line, with an optional line 'Reference OCR token: ...'."
        )
    return question.lower()
