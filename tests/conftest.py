"""Fixtures that several test files share."""

import numpy as np
import pytest

import weights


@pytest.fixture(scope="session")
def write_generator():
    """A function that writes the weights of a generator drawn at random, as ours or as a published file without
    description, so that its output is neither flat nor saturated; gives the path."""

    def write(path, in_channels=1, base_filters=4, seed=0, **settings):
        rng = np.random.default_rng(seed)
        groups = []
        for group, members in weights.unet_layout(in_channels, base_filters):
            arrays = []
            for name, shape in members:
                if "kernel" in name:
                    fan_in = 4 * shape[3] if "transpose" in name else 16 * shape[2]
                    array = rng.normal(0, 0.8 / np.sqrt(fan_in), shape)
                elif "gamma" in name or "variance" in name:
                    array = rng.uniform(0.5, 1.5, shape)
                else:
                    array = rng.normal(0, 0.1, shape)
                arrays.append((name, array))
            groups.append((group, arrays))
        weights.write(path, groups, settings)
        return path

    return write
