"""One optimiser step: losses, gradients, learning rates, averages of weights."""
