"""Time the training step, its input, compute_features.py and predict.py on this machine, each in its own process.

Beside the training step and the conversion stand the plain ways that one would write first: Keras' own layers and
optimizer, slices one by one, whole files in memory. They give the same results (tests/test_benchmark.py).
"""

from __future__ import annotations

import common.environment

import argparse
import concurrent.futures
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

import data
from common import cli
from common.files import write_array
from sound.files import read_audio, write_audio
from training import dataset
from training.run import start_tensorflow

FLOP_PER_SLICE = 59e9  # of one training step of the full-size networks
SEED = 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--gpu", type=cli.number(int, minimum=-1), default=0, help="CUDA device to use, -1 for the CPU")
    return cli.run(parser, run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Print a table of all measurements; the exit status."""
    print(f"{'part':<66}{'value':>8} {'unit':<9}  beside")
    rates: dict[str, float] = {}  # matrix products in GFLOP/s by precision
    for part, ways in list_tasks(arguments.gpu):
        plain: dict[str, float] = {}
        for way in ways:
            name = " ".join([part.__name__, *(f"{key}={value}" for key, value in way.items() if key != "gpu")])
            value, unit = measure_in_child(part, way)
            notes = [f"{value / other:.2f} times {what}" for what, other in plain.items() if "plain" not in way]
            if "plain" in way:
                plain[way["plain"]] = value
            elif part is matrix_product:
                rates[way["precision"]] = value
            elif part is step and way["base_filters"] == 64 and way["precision"] in rates:
                share = value * FLOP_PER_SLICE / (rates[way["precision"]] * 1e9)
                notes.append(f"{100 * share:.0f} % of the matrix-product rate")
            print(f"{name:<66}{value:>8.2f} {unit:<9}  {', '.join(notes)}", flush=True)
    return 0


def list_tasks(gpu: int) -> list[tuple[Callable, list[dict]]]:
    """Functions to measure with, and the arguments of each call: the plain ways of a piece of work, then our own."""
    precisions = ("float32", "auto")
    ways = [{"precision": "float32", "plain": way} for way in ("eager", "compiled")]
    ways += [{"precision": precision} for precision in precisions]
    tasks: list[tuple[Callable, list[dict]]] = [
        (matrix_product, [{"gpu": gpu, "precision": precision} for precision in precisions]),
        (pipeline, [{}]),
        (features, [{"jobs": 1}, {"jobs": 2}]),
    ]
    for base_filters in (64, 16):
        sized = {"gpu": gpu, "base_filters": base_filters}
        tasks += [(step, [{**sized, "batch_size": n, **way} for way in ways]) for n in (1, 8)]
        tasks.append((conversion, [{**sized, "plain": "slice by slice"}, sized]))
    return tasks


def measure_in_child(part: Callable, way: dict) -> tuple[float, str]:
    """Value and unit of one measurement, made in a new process."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(part, **way).result()


# --- parts: value and unit of each ------------------------------------------------------------------------------------


def matrix_product(gpu: int, precision: str) -> tuple[float, str]:
    """Matrix products of 2048 x 2048."""
    precision = start_tensorflow(gpu, precision)
    import tensorflow as tf

    a = tf.cast(tf.random.stateless_normal((2048, 2048), (SEED, 0)), precision.removeprefix("mixed_"))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)), autograph=False)
    return 2 * 2048**3 / median_seconds(lambda: product().numpy(), 10) / 1e9, "GFLOP/s"


def step(gpu: int, base_filters: int, batch_size: int, precision: str, plain: str = "") -> tuple[float, str]:
    """Training steps of random slices. The plain ways have Keras' layers: "eager" (as published) and "compiled"."""
    precision = start_tensorflow(gpu, precision)
    import tensorflow as tf

    import losses
    import model
    from training.step import Adam, Networks, make_step

    tf.config.run_functions_eagerly(plain == "eager")
    batch_norm = tf.keras.layers.BatchNormalization if plain else model.FusedBatchNormalization
    networks = Networks(
        model.build_generator(1, base_filters, precision, SEED, batch_norm),
        model.build_discriminator(base_filters, precision, SEED + 1, batch_norm),
        losses.pix2pix(),
        *(tf.keras.optimizers.Adam() if plain else Adam() for _ in range(2)),
    )
    update = make_step(networks, SEED)
    rng = np.random.default_rng(SEED)
    inputs, target = (tf.constant(rng.uniform(-1, 1, (batch_size, 256, 256, 1)), tf.float32) for _ in range(2))
    rate, number = tf.constant(1e-5), tf.constant(0)
    seconds = median_seconds(lambda: float(update(inputs, target, rate, rate, number)["mae"]), 5)  # waits for the end
    return batch_size / seconds, "slices/s"


def pipeline(n_slices: int = 256) -> tuple[float, str]:
    """Reading, scaling and batching of feature files alone, batches of 8."""
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(SEED)
        for instrument in ("a", "b"):
            for i in range(n_slices):
                write_array(f"{folder}/{instrument}/piece_{i:03d}.npy", rng.random((256, 256, 1)).astype(np.float16))
        pairs = dataset.find_pairs(folder, ["a"], ["b"])
        batches = dataset.Batches(pairs, pairs.samples, 8, SEED)
        stop = 4 * batches.steps_per_epoch
        seconds = median_seconds(lambda: sum(1 for _ in dataset.iterate_batches(batches, 0, stop)), 3)
        return 4 * n_slices / seconds, "slices/s"


def features(jobs: int, minutes: float = 10) -> tuple[float, str]:
    """compute_features.py on `minutes` of audio in six files, the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(6):
            noise = np.random.default_rng(i).normal(0, 0.1, round(minutes * 10 * 44100)).astype(np.float32)
            write_audio(f"{folder}/audios/noise/piece{i}.wav", noise)
        flags = ["--audios_path", f"{folder}/audios", "--features_path", f"{folder}/features", "--jobs", str(jobs)]
        start = time.perf_counter()
        run_script("compute_features.py", *flags)
        return 60 * minutes / (time.perf_counter() - start), "s/s"


def conversion(gpu: int, base_filters: int, plain: str = "", minutes: float = 5) -> tuple[float, str]:
    """predict.py on mono audio, the whole process, overlap 0."""
    with tempfile.TemporaryDirectory() as folder:
        weights_path, source, destination = (f"{folder}/{name}" for name in ("generator.h5", "in.wav", "out.wav"))
        # In a process of its own, so that TensorFlow stays out of this one.
        code = f"import model; model.save(model.build_generator(1, {base_filters}, seed=0), {weights_path!r}, {{}})"
        run_script("-c", code)
        audio = np.random.default_rng(SEED).normal(0, 0.1, round(minutes * 60 * 44100)).astype(np.float32)
        write_audio(source, audio)
        flags = ["--model", weights_path, "--input", source, "--output", destination, "--gpu", str(gpu)]
        start = time.perf_counter()
        if plain:
            convert_plainly(source, weights_path, destination, gpu)
        else:
            run_script("predict.py", *flags, "--overlap", "0")
        return 60 * minutes / (time.perf_counter() - start), "s/s"


def median_seconds(work: Callable[[], object], n_times: int) -> float:
    """Median seconds of `work`, after one call that is not counted."""
    seconds = []
    for _ in range(n_times + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def run_script(*command: str) -> None:
    """Run Python in this folder."""
    folder = pathlib.Path(__file__).parent
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True, cwd=folder)


def convert_plainly(source: str, weights_path: str, destination: str, gpu: int = -1) -> None:
    """Convert a recording slice by slice with the Keras network, all of it in memory."""
    start_tensorflow(gpu)
    import model

    generator = model.load_generator(weights_path)
    magnitude, phase = data.forward_transform(read_audio(source))
    slices = data.to_network(data.slice_frames(data.amplitude_to_db(magnitude)))
    outputs = np.concatenate([generator(one[np.newaxis], training=False).numpy() for one in slices])
    level = data.join_slices(data.from_network(outputs), magnitude.shape[1])
    audio = data.inverse_transform(data.db_to_amplitude(level), phase)
    write_audio(destination, audio / np.abs(audio).max())


if __name__ == "__main__":
    raise SystemExit(main())
