"""Weights files that several test files make, from tables of the networks that are independent of the program."""

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


def patchgan_table(f):
    """The same of the published discriminator."""
    table, channels = [("input_1", []), ("input_2", []), ("concatenate", [])], 2
    norm = ["gamma", "beta", "moving_mean", "moving_variance"]
    for i in range(4):
        number, of_norm = f"_{i}" if i else "", f"_{i - 1}" if i > 1 else ""
        names = [(f"batch_normalization{of_norm}/{w}:0", (f * 2**i,)) for w in norm]
        kernel = (f"conv2d{number}/kernel:0", (4, 4, channels, f * 2**i))
        table.append((f"sequential{number}", [kernel, *(names if i else [])]))
        channels = f * 2**i
    return [*table, ("conv2d_4", [("conv2d_4/kernel:0", (4, 4, channels, 1)), ("conv2d_4/bias:0", (1,))])]


def hum2guitar_table(network, f):
    """The same of a hum2guitar generator, in the order of its file."""
    kernels = {"global_0": (3, 3, 1, f)}
    for i in (1, 2, 3):
        kernels[f"global_{i}"] = (3, 3, f * 2 ** (i - 1), f * 2**i)
    for i in range(3):
        kernels |= {f"global_residual_{i}_{part}": (3, 3, 8 * f, 8 * f) for part in (1, 2)}
    few, is_local = max(1, f // 2), network == weights.LOCAL_ENHANCER
    kernels["global_up_2"] = (3, 3, 4 * f, 8 * f)
    kernels |= {"local_down": (5, 5, 1, few)} if is_local else {}
    kernels["global_up_1"] = (3, 3, 2 * f, 4 * f)
    kernels |= {"local_1": (3, 3, few, f)} if is_local else {}
    kernels["global_up_0"] = (3, 3, f, 2 * f)
    if is_local:
        kernels |= {f"local_residual_{i}_{part}": (3, 3, f, f) for i in range(3) for part in (1, 2)}
        kernels |= {"local_up": (3, 3, few, f), "local_last": (5, 5, few, 1)}
    else:
        kernels["global_last"] = (3, 3, f, 1)
    return [
        (name, [(f"{name}/kernel:0", kernel), (f"{name}/bias:0", (kernel[2 if "up" in name else 3],))])
        for name, kernel in kernels.items()
    ]


def fill(table, draw):
    """The layers of `weights.write`, with an array ``draw(name, shape)`` for each row of a table."""
    return {group: {name: draw(name, shape) for name, shape in members} for group, members in table}


def arrays_of(path):
    """The arrays of a weights file, in its order."""
    return [array for arrays in weights.read(path).values() for array in arrays.values()]


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
                group.create_dataset(weight, data=arrays[-1])
    return arrays


def write_generator(path, in_channels=1, base_filters=4, seed=0, **settings):
    """Write the weights of a generator drawn at random, as ours or as a published file without description, so that
    its output is neither flat nor saturated; the path."""
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        if "kernel" in name:
            fan_in = 4 * shape[3] if "transpose" in name else 16 * shape[2]
            return rng.normal(0, 0.8 / np.sqrt(fan_in), shape)
        if "gamma" in name or "variance" in name:
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, 0.1, shape)

    weights.write(path, fill(published_table(in_channels, base_filters), draw), settings)
    return path
