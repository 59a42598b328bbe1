"""Pure scoring functions: no torch.distributed, no mmengine."""
