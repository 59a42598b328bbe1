"""Answers that may be said, as a tree of tokens (OFA's trie)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class TokenTree:
    """Tell which tokens may follow what was said.

    Paper: Wang et al., "OFA: Unifying Architectures, Tasks, and Modalities Through a
    Simple Sequence-to-Sequence Learning Framework", ICML 2022, arXiv 2202.03052.

    Args:
        sequences (Iterable[Sequence[int]]): whole answers, both end marks included.
        eos_id (int): all that may follow what begins no answer.

    Example:
        >>> tree = TokenTree([[0, 10, 2], [0, 11, 12, 2]], eos_id=2)
        >>> tree.allowed([0]), tree.allowed([0, 99])
        ([10, 11], [2])
    """

    def __init__(self, sequences: Iterable[Sequence[int]], eos_id: int) -> None:
        self.eos_id = eos_id
        self._root: dict[int, dict] = {}
        for sequence in sequences:
            node = self._root
            for token in sequence:
                node = node.setdefault(int(token), {})

    def allowed(self, said: Sequence[int]) -> list[int]:
        """Return the tokens that may come next, sorted; none behind a whole answer."""
        node = self._root
        for token in said:
            if token not in node:
                return [self.eos_id]
            node = node[token]
        return sorted(node)

    def allowed_behind(self, prompt: Sequence[int], said: Sequence[int]) -> list[int]:
        """Return what may come next where a decoder must first say a prompt.

        Args:
            prompt (Sequence[int]): tokens behind the one that opens every answer.
            said (Sequence[int]): so far, with the opening token.
        """
        done = len(said) - 1
        if done < len(prompt):
            return [int(prompt[done])]
        return self.allowed([*said[:1], *said[1 + len(prompt) :]])
