"""TinyScenes' questions in the wordings in which benchmarks ask for short answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmvlm.datasets.readers.questions import OPTION_LETTER, SHORT_ANSWER

from .ground_truth import image_number
from .questions import choices_of, letter_of, questions_of
from .samples import SceneSample
from .scene import pick
from .tasks import STYLE_FORMS, TASKS, Question, draw_balanced

YES_NO = "Please answer yes or no."
SELECT_OPTION = "Please select the correct answer from the options above. \n"
#: Behind questions to say yes or no to: that of POPE and MME, HallusionBench's, and
#: both, as for MME's questions whose own ending is left in.
YES_NO_ENDINGS = (f"\n{SHORT_ANSWER}", f"\n{YES_NO}", f" {YES_NO}\n{SHORT_ANSWER}")
#: Questions with options: LLaVA-1.5's, ScienceQA's and VLMEvalKit's.
OPTION_LAYOUTS = (
    f"{{question}}\n{{lines}}\n{OPTION_LETTER}",
    f"Context: N/A\nQuestion: {{question}}\nOptions: {{row}}\n{OPTION_LETTER}",
    f"Question: {{question}}\nOptions:\n{{lines}}\n{SELECT_OPTION}",
)


def prompted(
    sample: SceneSample, part: int, turns: Sequence[Question], share: float
) -> Sequence[Question]:
    """Write a share of the conversations with response format prompts.

    LLaVA-1.5 learns from a mixture of which a share asks for a word, or for the letter
    of an option; a model that never saw such prompts answers benchmarks with anything.
    Of the conversations with prompts a half has a question with options, a quarter one
    to say yes or no to, both answers equally often, and nothing else; a quarter asks
    its own short question first, with a prompt, and keeps the others. On average they
    are shorter, so that prompts cost no time.

    Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024,
    arXiv 2310.03744, section 3.2.

    Args:
        sample (SceneSample): whose turns they are.
        part (int): number of the conversation among those of its sample, from 0.
        turns (Sequence[Question]): of the conversation.
        share (float): of conversations, 0-1; the others come back as they are. Scenes
            and their questions are drawn before, by another generator.

    Returns:
        Sequence[Question]: turns to write.
    """
    rng = np.random.default_rng([image_number(sample), part, 3])
    forms = STYLE_FORMS[sample.scene.style.name]
    short = [q for q in turns if forms.get(q.task, {}).get(q.form) is not None]
    if rng.random() >= share or not short:
        return turns
    kind = pick(("options", "options", "yes-no", "short"), rng)
    if kind == "yes-no":
        question = draw_balanced(list(TASKS["existence"](sample.scene, rng)), rng)
        return [replace(question, text=f"{question.text}{pick(YES_NO_ENDINGS, rng)}")]
    question = pick(short, rng)
    if kind == "options":
        return [_with_options(sample, question, pick(OPTION_LAYOUTS, rng))]
    first = replace(question, text=f"{question.text}\n{SHORT_ANSWER}")
    return [first, *(turn for turn in turns if turn is not question)]


def _with_options(sample: SceneSample, question: Question, layout: str) -> Question:
    """Ask for the letter of an option."""
    options, place = choices_of(sample, questions_of(sample).index(question))
    text = layout.format(
        question=question.text,
        lines="\n".join(f"{letter_of(n)}. {text}" for n, text in enumerate(options)),
        row=" ".join(f"({letter_of(n)}) {text}" for n, text in enumerate(options)),
    )
    return replace(question, text=text, answer=letter_of(place))
