"""Whether turns, placeholders and answers are what a template takes."""

from __future__ import annotations

from collections.abc import Iterable

from dataset_doctor.rule import Rule, rule
from dataset_doctor.specimen import Specimen
from mmvlm.structures import Text


@rule
class Placeholders(Rule):
    """Placeholders match images and other inputs."""

    name = "placeholders"
    order = 20
    claims = r"placeholder|<image>"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield where they differ."""
        if specimen.conversation is not None:
            try:
                specimen.conversation.check()
            except ValueError as error:
                yield str(error)


@rule
class Roles(Rule):
    """The user speaks first, turns alternate, the last is an answer.

    A single answer is a document (interleaved sets).
    """

    name = "roles"
    order = 22
    claims = r"has from=|speaker|\brole"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield the first turn that is out of order."""
        if specimen.conversation is None:
            return
        roles = [turn.role for turn in specimen.conversation.turns]
        if roles[:1] == ["system"]:
            roles = roles[1:]
        if roles == ["assistant"]:
            return  # a document, which nobody asked for; chat templates refuse it
        for number, role in enumerate(roles):
            expected = "assistant" if number % 2 else "user"
            if role != expected:
                yield f"turn {number} is the {role}'s, expected the {expected}'s."
                return
        if specimen.training and (not roles or roles[-1] != "assistant"):
            yield f"nothing answers the last of {len(roles)} turns."


@rule
class Answers(Rule):
    """Answers say something."""

    name = "empty answers"
    order = 24
    claims = r"empty answer"

    def check(self, specimen: Specimen) -> Iterable[str]:
        """Yield answers without a word."""
        turns = specimen.conversation.turns if specimen.conversation else ()
        for number, turn in enumerate(turns):
            bare = all(isinstance(p, Text) and not p.text.strip() for p in turn.parts)
            if turn.role == "assistant" and bare and specimen.training:
                yield f"turn {number} is an empty answer."
