"""Weights, gradients and optimizer state are spread over GPUs (torch FSDP)."""

strategy = dict(type="VLMFSDPStrategy")
