"""Which questions go through the model together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchPolicy:
    """What a batch may hold.

    Args:
        tokens (int): rows times the longest row, new tokens included.
        rows (int): most prompts.
    """

    tokens: int = 16384
    rows: int = 64

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.rows < 1:
            raise ValueError(f"{self}: expected at least 1 token and 1 row.")

    def halved(self) -> BatchPolicy:
        """Return the policy after a batch that was too large for the memory."""
        return BatchPolicy(max(1, self.tokens // 2), max(1, self.rows // 2))


def share(images: Sequence[str], rank: int, world_size: int) -> list[int]:
    """Return the positions that a rank answers: every so-manieth image's.

    The shares depend on the questions alone, so that a restart with as many ranks
    gives each what it had begun.

    Args:
        images (Sequence[str]): what the question of each position shows.
        rank (int): of this process.
        world_size (int): processes.
    """
    places: dict[str, int] = {}
    owners = (places.setdefault(one, len(places)) % world_size for one in images)
    return [position for position, owner in enumerate(owners) if owner == rank]


def order(
    positions: Sequence[int], images: Sequence[str], lengths: Sequence[int]
) -> list[int]:
    """Return positions with those of an image together, the longest first.

    What is too much for the memory so shows at once.

    Args:
        positions (Sequence[int]): to be answered.
        images (Sequence[str]): by position, what the question shows.
        lengths (Sequence[int]): by position, tokens of the prompt.
    """
    groups: dict[str, list[int]] = {}
    for position in positions:
        groups.setdefault(images[position], []).append(position)
    for members in groups.values():
        members.sort(key=lambda one: -lengths[one])
    ranked = sorted(groups.values(), key=lambda members: -lengths[members[0]])
    return [position for members in ranked for position in members]


def batches(
    ordered: Sequence[int],
    lengths: Sequence[int],
    new_tokens: int,
    policy: BatchPolicy,
) -> Iterator[list[int]]:
    """Cut positions into batches; a prompt too long for the policy stands alone.

    Args:
        ordered (Sequence[int]): of :func:`order`.
        lengths (Sequence[int]): by position, tokens of the prompt.
        new_tokens (int): most tokens of an answer.
        policy (BatchPolicy): what a batch may hold.
    """
    batch: list[int] = []
    longest = 0
    for position in ordered:
        wider = max(longest, lengths[position] + new_tokens)
        if batch and (
            wider * (len(batch) + 1) > policy.tokens or len(batch) >= policy.rows
        ):
            yield batch
            batch, wider = [], lengths[position] + new_tokens
        batch.append(position)
        longest = wider
    if batch:
        yield batch
