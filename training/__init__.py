"""The training loop, its data and its state, and the Pix2Pix models trained with it."""
