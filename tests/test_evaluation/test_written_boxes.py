"""A right box, written for a protocol, is right under that protocol."""

import numpy as np
import pytest

from mmvlm.evaluation.functional.referring import PROTOCOLS, judge_box
from mmvlm.evaluation.functional.written_boxes import written_box


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_a_written_box_is_right(name):
    rng = np.random.default_rng(3)
    for _ in range(60):
        height, width = rng.integers(200, 900, 2).tolist()
        x1, y1 = rng.uniform(0, 0.4, 2) * (width, height)
        x2, y2 = rng.uniform(0.7, 1, 2) * (width, height)
        box, size = [x1, y1, x2, y2], (height, width)
        text = written_box(name, box, size, "a dog")
        read = {"regions": [box]} if not text else {}

        found = judge_box(name, text, box, size, expression="a dog", **read)

        assert found.strict, (name, text, box, size)
