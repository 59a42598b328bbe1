"""What drives training: runners, loops, hooks, optimizers, strategies."""
