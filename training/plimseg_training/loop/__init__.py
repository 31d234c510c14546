"""The training loop: steps, state, checkpoints, several processes."""
