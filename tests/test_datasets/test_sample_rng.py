"""A sample's draws are those of numpy's generator with the same seed."""

import copy
import pickle

import numpy as np

from mmvlm.datasets.sample_rng import SampleGenerator


def test_draws_are_those_of_the_plain_generator():
    ours, plain = SampleGenerator(3, 1, 7, 0), np.random.default_rng((3, 1, 7, 0))

    assert ours.integers(1000) == plain.integers(1000)
    assert ours.random() == plain.random()
    np.testing.assert_array_equal(ours.permutation(9), plain.permutation(9))


def test_a_copy_goes_on_where_it_was_taken():
    first = SampleGenerator(5)
    first.random()
    copies = [copy.deepcopy(first), pickle.loads(pickle.dumps(first))]

    following = first.random()
    assert [one.random() for one in copies] == [following, following]
