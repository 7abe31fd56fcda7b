"""The training loop: epochs, losses, optimizers, validation, logs and checkpoints."""
