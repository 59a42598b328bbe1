"""Phrases of a caption are given, their boxes are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmvlm.registry import DATA_TASKS
from mmvlm.structures import AnnotatedImage, Region, Text, Turn

from .base import DataTask, NothingToAsk, region
from .draws import draws_of
from .selecting import grounded_spans
from .templates import TemplatePool

QUESTIONS = (
    "Where are <phrases>?",
    "Locate <phrases>.",
    "Find <phrases> in the picture.",
    "Give the boxes of <phrases>.",
    "What are the places of <phrases>?",
    "Show me where <phrases> can be seen.",
)


@DATA_TASKS.register_module()
class PhraseGrounding(DataTask):
    """Phrase grounding: all boxes of one phrase, or of all phrases of a caption.

    The same phrase may stand in a caption twice for different things; its
    occurrences are then asked as one, with the boxes of all.

    Needs: captions with spans whose instances have boxes.

    Args:
        templates (str | Sequence[str]): questions with ``<phrases>``; they may
            have ``<caption>``, the text that the phrases are taken from.
        ask (str): ``one`` phrase, drawn; or ``all``, in order, joined by ``, ``.
        repeat_phrase (bool | None): the answer says a phrase before its boxes;
            None: when all are asked, where the answer could not be read otherwise.
        lower (bool): phrases in lower case and without commas, as Ferret asks.

    Raises:
        ValueError: for another ``ask``.
    """

    needs = ("captions.spans", "instances.box")

    def __init__(
        self,
        templates: str | Sequence[str] = QUESTIONS,
        *,
        ask: str = "one",
        repeat_phrase: bool | None = None,
        lower: bool = False,
    ) -> None:
        if ask not in ("one", "all"):
            raise ValueError(f"PhraseGrounding: ask='{ask}', expected 'one' or 'all'.")
        self.templates = TemplatePool(templates, ["phrases"], optional=["caption"])
        self.ask = ask
        self.repeat_phrase = ask == "all" if repeat_phrase is None else repeat_phrase
        self.lower = lower

    def turns(self, annotation: AnnotatedImage, rng: np.random.Generator) -> list[Turn]:
        """Return a question with phrases and an answer with their boxes."""
        draws = draws_of(rng)
        captions = [c for c in annotation.captions if grounded_spans(annotation, c)]
        if not captions:
            raise NothingToAsk("no caption with a grounded phrase.")
        caption = draws.choice(captions)
        phrases: dict[str, list[int]] = {}
        for span, indices in grounded_spans(annotation, caption):
            words = caption.text[span.start : span.end].strip()
            words = words.replace(",", "").lower() if self.lower else words
            known = phrases.setdefault(words, [])
            known += [index for index in indices if index not in known]
        chosen = list(phrases)
        if self.ask == "one":
            chosen = [draws.choice(chosen)]
        answer: list[Text | Region] = []
        for words in chosen:
            items = [annotation.instances[index] for index in phrases[words]]
            phrase = words if self.repeat_phrase else None
            answer += [Text(", ")] if answer else []
            answer.append(region(items, annotation.size, phrase=phrase))
        named: list[Text] = []
        for words in chosen:
            named += [Text(", ")] if named else []
            named.append(Text(words, "expression"))
        question = self.templates.draw(draws, phrases=named, caption=caption.text)
        return [Turn("user", question), Turn("assistant", tuple(answer))]

    def reference(self, annotation: AnnotatedImage) -> list[dict]:
        """Return the phrases with boxes of the one caption, in reading order.

        Returns:
            list[dict]: ``phrase``, ``types`` and ``boxes`` (x1, y1, x2, y2 in pixels as
            the file has them); a phrase that stands twice is there twice.

        Raises:
            ValueError: for several captions, or when a phrase is drawn.
        """
        if len(annotation.captions) != 1 or self.ask != "all":
            raise ValueError(
                f"{len(annotation.captions)} captions, ask='{self.ask}'; to score "
                "phrases read the file with per='sentence' and say ask='all'."
            )
        (caption,) = annotation.captions
        found = []
        for span, indices in grounded_spans(annotation, caption):
            items = [annotation.instances[index] for index in indices]
            boxes = [list(item.meta.get("uncut_box", item.box)) for item in items]
            words = caption.text[span.start : span.end]
            found.append(dict(phrase=words, types=list(span.types), boxes=boxes))
        return found
