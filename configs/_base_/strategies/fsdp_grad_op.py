"""Gradients and optimizer state are spread over GPUs, weights between steps.

Weights are gathered once per step and kept from forward to backward.
"""

strategy = dict(type="VLMFSDPStrategy", reshard_after_forward=False)
