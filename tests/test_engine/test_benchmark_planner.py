"""Batches of questions: every one once, images together, within the budget."""

import random

import pytest

from mmvlm.engine.benchmarks.planner import BatchPolicy, batches, order, share


@pytest.mark.parametrize("seed", range(30))
def test_plans_hold_every_question_once_within_the_budget(seed):
    draw = random.Random(seed)
    count = draw.randrange(1, 80)
    images = [f"{draw.randrange(12)}.png" for _ in range(count)]
    lengths = [draw.randrange(1, 60) for _ in range(count)]
    policy = BatchPolicy(draw.randrange(1, 400), draw.randrange(1, 9))
    new, world = draw.randrange(1, 20), draw.randrange(1, 5)

    plans = []
    for rank in range(world):
        mine = share(images, rank, world)
        ordered = order(mine, images, lengths)
        plans.append(list(batches(ordered, lengths, new, policy)))

    seen = sorted(one for plan in plans for batch in plan for one in batch)
    assert seen == list(range(count))
    for batch in (batch for plan in plans for batch in plan):
        longest = max(lengths[one] for one in batch) + new
        assert len(batch) <= policy.rows
        assert len(batch) == 1 or len(batch) * longest <= policy.tokens


def test_questions_about_one_image_stay_together_the_longest_first():
    images = ["a", "b", "a", "c", "b"]
    lengths = [3, 9, 4, 5, 2]

    assert order(range(5), images, lengths) == [1, 4, 3, 2, 0]
    assert [share(images, rank, 2) for rank in range(2)] == [[0, 2, 3], [1, 4]]


def test_the_shares_do_not_depend_on_what_is_answered():
    images = [str(number // 3) for number in range(30)]

    assert share(images, 0, 1) == list(range(30))
    assert sorted(share(images, 0, 2) + share(images, 1, 2)) == list(range(30))


def test_a_policy_halves_down_to_one():
    assert BatchPolicy(7, 3).halved() == BatchPolicy(3, 1)
    assert BatchPolicy(1, 1).halved() == BatchPolicy(1, 1)
    with pytest.raises(ValueError, match="at least 1"):
        BatchPolicy(0)
