"""A transform that leaves some samples without each kind of target."""

from dataclasses import replace

import numpy as np

from mmvlm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LeaveOut:
    """No text is learnt of the first four samples, no mask of every second pair."""

    def __call__(self, item):
        encoded, number = item["encoded"], item["index"]
        if number < 4:
            ignored = np.full_like(encoded.labels, -100)
            encoded = replace(encoded, labels=ignored)
        if number % 4 > 1:
            encoded = replace(encoded, marks=[])
            item["marked_regions"] = ()
        return {**item, "encoded": encoded}
