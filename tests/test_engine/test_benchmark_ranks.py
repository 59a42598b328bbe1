"""Ranks that meet through files: nobody waits for one that is gone."""

import threading

import pytest

from mmvlm.engine.benchmarks.ranks import RankLost, Ranks


@pytest.fixture
def pair(tmp_path):
    ranks = [Ranks(tmp_path, rank, 2) for rank in range(2)]
    yield ranks
    for rank in ranks:
        rank.end()


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def test_rank_0_stays_until_the_last_one_has_come(pair):
    for _ in range(2):  # what an earlier run left does not count
        pair[0].begin(lambda: None)
        waiting = in_thread(pair[0].meet)
        waiting.join(0.6)
        assert waiting.is_alive()

        pair[1].begin(lambda: None)

        waiting.join(10)
        assert not waiting.is_alive()
        for rank in pair:
            rank.end()


def test_others_wait_until_rank_0_has_prepared_the_folder(pair):
    order = []
    waiting = in_thread(lambda: (pair[1].begin(lambda: None), order.append("begun")))
    waiting.join(0.5)

    pair[0].begin(lambda: order.append("prepared"))

    waiting.join(10)
    assert order == ["prepared", "begun"]


def test_a_rank_that_is_gone_is_missed_unless_its_work_is_done(pair):
    pair[0].begin(lambda: None)
    pair[1].begin(lambda: None)
    pair[0].check()
    pair[1].check()

    pair[1].end()

    pair[0].check(lambda rank: True)
    with pytest.raises(RankLost, match="rank 1 of 2 has ended before"):
        pair[0].check()


def test_a_second_run_in_the_folder_is_refused(pair, tmp_path):
    pair[0].begin(lambda: None)

    with pytest.raises(RuntimeError, match="another process writes to"):
        Ranks(tmp_path, 0, 1).begin(lambda: pytest.fail("it prepared"))
