"""Weights files that several test files make."""

import h5py
import numpy as np

from common import weights


def published_table(in_channels, f):
    """(group, [(weight name, shape)]) as the table of the published generator has it, for `f` base filters."""
    norm = ["gamma", "beta", "moving_mean", "moving_variance"]
    down = [f, 2 * f, 4 * f, 8 * f, 8 * f, 8 * f, 8 * f, 8 * f]
    # Transposed convolutions: (out, in); from sequential_9 on, in is the concatenation with the mirrored skip.
    up = [
        (8 * f, 8 * f), (8 * f, 16 * f), (8 * f, 16 * f), (8 * f, 16 * f),
        (4 * f, 16 * f), (2 * f, 8 * f), (f, 4 * f),
    ]  # fmt: skip
    table = [("input_1", []), ("sequential", [("conv2d/kernel:0", (4, 4, in_channels, f))])]
    for i in range(1, 8):
        number = "" if i == 1 else f"_{i - 1}"
        names = [(f"batch_normalization{number}/{w}:0", (down[i],)) for w in norm]
        table.append((f"sequential_{i}", [(f"conv2d_{i}/kernel:0", (4, 4, down[i - 1], down[i])), *names]))
    for i, (n_out, n_in) in enumerate(up):
        number = "" if i == 0 else f"_{i}"
        names = [(f"batch_normalization_{7 + i}/{w}:0", (n_out,)) for w in norm]
        table.append((f"sequential_{8 + i}", [(f"conv2d_transpose{number}/kernel:0", (4, 4, n_out, n_in)), *names]))
    table.insert(10, ("concatenate", []))  # between sequential_8 and sequential_9
    last = [("conv2d_transpose_7/kernel:0", (4, 4, 1, 2 * f)), ("conv2d_transpose_7/bias:0", (1,))]
    return [*table, ("conv2d_transpose_7", last)]


def write_published(path, table, seed=0):
    """A file as Keras 2 would have written it, of random weights; the arrays in the order of the table."""
    rng, arrays = np.random.default_rng(seed), []
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in table]
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.2.4-tf"
        for name, members in table:
            group = file.create_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight, _ in members]
            for weight, shape in members:
                array = rng.uniform(0.5, 1.5, shape) if "variance" in weight else rng.normal(0, 0.1, shape)
                arrays.append(array.astype(np.float32))
                group[weight] = arrays[-1]
    return arrays


def write_model(path, in_channels=1, seed=0, **settings):
    """A generator with 2 base filters and random weights."""
    rng = np.random.default_rng(seed)
    groups = [
        (group, [(name, np.ones(shape) if "gamma" in name or "variance" in name else rng.normal(0, 0.05, shape))
                 for name, shape in arrays])
        for group, arrays in weights.unet_layout(in_channels, 2)
    ]  # fmt: skip
    weights.write(path, groups, {"system": "pix2pix", "network": "unet", **settings})
    return path
