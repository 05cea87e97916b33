"""Time every part of the project on this machine, each beside the plain way to do it.

Makes its own data. Each measurement runs in a process of its own. The machine's matrix-product rate is measured in the
same run. Prints a table and writes JSON.

The plain ways, at the end of this file, are what one would write first: one process, whole files in memory, Keras' own
layers and optimizer. They give the same results (tests/test_benchmark.py). Each imports what it needs when it is
called, so that a timing includes what a user waits for.
"""

from __future__ import annotations

import common.environment

import argparse
import functools
import importlib.metadata
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

import data
from common import cli, devices
from common.files import writable_folder, write_json
from sound.files import read_audio, write_audio

FLOP_PER_SLICE = 59e9  # of one training step of the full-size networks
SEED = 0
RESULT = "result: "  # starts the line with which a child process returns its result
SHOWN = ("base_filters", "batch_size", "jobs", "precision", "plain")  # parameters that the table shows


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--output", default="benchmark.json", help="JSON file to write")
    parser.add_argument(
        "--quick", action="store_true", help="leave out the full-size networks and convert a short recording"
    )
    parser.add_argument("--only", nargs="+", choices=[*PARTS], help="parts to run (default: all)")
    cli.add_gpu(parser)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # given to child processes
    return cli.run(parser, run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Measure one part in this process, or all of them, each in a child process; the exit status."""
    if arguments.measure:
        task = json.loads(arguments.measure)
        part = PARTS[task.pop("part")]
        print(RESULT + json.dumps(part(gpu=arguments.gpu, quick=arguments.quick, **task)))
        return 0
    writable_folder(pathlib.Path(arguments.output).parent, "--output")
    results, rates = [], {}
    print(f"{'part':<66}{'value':>8} {'unit':<9}  beside")
    for part in arguments.only or PARTS:
        for group in list_tasks(part, arguments.gpu, arguments.quick):
            plain = []
            for task in group:
                result = {"part": part, **task, **measure_in_child(part, task, arguments.gpu, arguments.quick)}
                print_row(result, plain, rates)
                results.append(result)
                if "plain" in result and "value" in result:
                    plain.append(result)
                if part == "machine" and "value" in result:
                    rates[result["precision"]] = result["value"]
    write_json(arguments.output, {**describe_machine(), "seed": SEED, "quick": arguments.quick, "results": results})
    print(f"Written to {arguments.output}")
    return 0


def list_tasks(part: str, gpu: int, quick: bool) -> list[list[dict]]:
    """Parameters of each measurement of a part, in groups: first the plain ways of a piece of work, then our own."""
    precisions = ["float32"]
    if devices.has_gpu(gpu):
        precisions += ["mixed_bfloat16", "mixed_float16"]
    elif devices.has_bfloat16():
        precisions += ["mixed_bfloat16"]
    sizes = [16] if quick else [64, 16]
    if part == "machine":
        return [[{"precision": precision}] for precision in precisions]
    if part == "step":
        batch_sizes = [8] if quick else [1, 8]
        sized = [{"base_filters": n, "batch_size": batch_size} for n in sizes for batch_size in batch_sizes]
        plain = [{"precision": "float32", "plain": way} for way in ("eager", "compiled")]
        ways = [*plain, *({"precision": precision} for precision in precisions)]
        return [[{**size, **way} for way in ways] for size in sized]
    if part == "conversion":
        return [[{"base_filters": n, "plain": "slice by slice"}, {"base_filters": n}] for n in sizes]
    if part == "pipeline":
        return [[{}]]
    return [[{"plain": "one process"}, *([] if quick else [{"jobs": 1}]), {"jobs": 2}]]


def measure_in_child(part: str, task: dict, gpu: int, quick: bool) -> dict:
    """One measurement, made in a child process: value and unit, or {"error": the last line of its stderr}."""
    command = [sys.executable, __file__, "--gpu", str(gpu), "--measure", json.dumps({"part": part, **task})]
    if quick:
        command.append("--quick")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no result"])[-1]}
    return json.loads(lines[-1].removeprefix(RESULT))


def print_row(result: dict, plain: Sequence[dict], rates: dict[str, float]) -> None:
    """Print one line of the table.

    Args:
        result: of `measure_in_child`, with its part and parameters.
        plain: results of the plain ways of the same work, to print the ratio to.
        rates: matrix products in GFLOP/s by precision, to print the share of for full-size steps.
    """
    name = " ".join([result["part"], *(f"{key}={result[key]}" for key in SHOWN if key in result)])
    if "error" in result:
        print(f"{name:<66}{'-':>8} {result['error']}", flush=True)
        return
    notes = []
    if "plain" not in result:
        notes += [f"{result['value'] / other['value']:.2f} times {other['plain']}" for other in plain]
    rate = rates.get(result.get("precision"))
    if result["part"] == "step" and result["base_filters"] == 64 and rate:
        share = result["value"] * FLOP_PER_SLICE / (rate * 1e9)
        notes.append(f"{100 * share:.0f} % of the matrix-product rate")
    columns = f"{name:<66}{result['value']:>8.2f} {result['unit']:<9}"
    print(f"{columns}  {', '.join(notes)}", flush=True)


# --- parts ------------------------------------------------------------------------------------------------------------


def measure_machine(gpu: int, quick: bool, precision: str) -> dict:
    """Matrix products of 2048 x 2048, in GFLOP/s."""
    devices.start_tensorflow(gpu)
    import tensorflow as tf

    dtype = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}[precision]
    a = tf.cast(tf.random.stateless_normal((2048, 2048), (SEED, 0)), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)), autograph=False)
    seconds = median_seconds(lambda: product().numpy(), 10)
    return {"value": 2 * 2048**3 / seconds / 1e9, "unit": "GFLOP/s"}


def measure_step(gpu: int, quick: bool, base_filters: int, batch_size: int, precision: str, plain: str = "") -> dict:
    """Training steps of random slices. The plain ways are in float32: "eager" (as published) and "compiled"."""
    devices.start_tensorflow(gpu)
    import tensorflow as tf

    import losses
    import model
    from training.step import Adam, Networks, make_step

    if plain:
        update = make_plain_step(base_filters, is_eager=plain == "eager")
    else:
        networks = Networks(
            model.build_generator(1, base_filters, precision, SEED, model.training_batch_norm()),
            model.build_discriminator(base_filters, precision, SEED + 1, model.training_batch_norm()),
            losses.PIX2PIX,
            Adam(),
            Adam(),
        )
        networks.build()
        update = make_step(networks, SEED)
    rng = np.random.default_rng(SEED)
    inputs, target = (tf.constant(rng.uniform(-1, 1, (batch_size, 256, 256, 1)), tf.float32) for _ in range(2))
    rate, number = tf.constant(1e-5), tf.constant(0)
    n_times = 3 if quick or (base_filters == 64 and batch_size == 8) else 8

    def step() -> float:
        return float(update(inputs, target, rate, rate, number)["mae"])  # waits until the step is done

    return {"value": batch_size / median_seconds(step, n_times), "unit": "slices/s"}


def measure_pipeline(gpu: int, quick: bool) -> dict:
    """Reading, scaling and batching of feature files alone, batches of 8."""
    devices.start_tensorflow(-1)
    from training import dataset
    from training.dataset import Batches, stream_batches

    with tempfile.TemporaryDirectory() as folder:
        write_features(folder, 256)
        pairs = dataset.find_pairs(folder, ["a"], ["b"])
        batches = Batches(pairs, pairs.samples, 8, SEED)
        stream = stream_batches(batches, 0, 4 * batches.steps_per_epoch)
        seconds = median_seconds(lambda: sum(1 for _ in stream), 1 if quick else 3)
    return {"value": 4 * 256 / seconds, "unit": "slices/s"}


def measure_compute_features(gpu: int, quick: bool, jobs: int = 1, plain: str = "", minutes: float = 10) -> dict:
    """The whole command on `minutes` of audio in six files, in seconds of audio a second."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rng = np.random.default_rng(SEED)
        for i in range(6):
            noise = rng.normal(0, 0.1, round(minutes * 10 * 44100)).astype(np.float32)
            write_audio(folder / "audios" / "noise" / f"piece{i}.wav", noise)
        if plain:
            work = functools.partial(compute_features_plainly, folder / "audios", folder / "features")
        else:
            flags = ["--audios_path", f"{folder}/audios", "--features_path", f"{folder}/features", "--jobs", str(jobs)]
            work = functools.partial(run_command, "compute_features.py", *flags)
        return measure_speed(work, minutes)


def measure_conversion(gpu: int, quick: bool, base_filters: int, plain: str = "") -> dict:
    """predict.py on 1 (quick) or 5 minutes of mono audio, the whole process, overlap 0."""
    minutes = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        weights_path, source, destination = (f"{folder}/{name}" for name in ("generator.h5", "in.wav", "out.wav"))
        write_weights(weights_path, base_filters)
        audio = np.random.default_rng(SEED).normal(0, 0.1, minutes * 60 * 44100).astype(np.float32)
        write_audio(source, audio)
        if plain:
            work = functools.partial(convert_plainly, source, weights_path, destination, gpu)
        else:
            flags = ["--model", weights_path, "--input", source, "--output", destination, "--gpu", str(gpu)]
            work = functools.partial(run_command, "predict.py", *flags, "--overlap", "0")
        return measure_speed(work, minutes)


PARTS = {
    "machine": measure_machine,
    "step": measure_step,
    "pipeline": measure_pipeline,
    "compute_features": measure_compute_features,
    "conversion": measure_conversion,
}


# --- what the parts share ---------------------------------------------------------------------------------------------


def median_seconds(work: Callable[[], object], n_times: int) -> float:
    """Median seconds of `work`, after one call that is not counted."""
    work()
    seconds = []
    for _ in range(n_times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def measure_speed(work: Callable[[], object], minutes: float) -> dict:
    """How many seconds of audio `work` handles in a second."""
    start = time.perf_counter()
    work()
    return {"value": 60 * minutes / (time.perf_counter() - start), "unit": "s/s"}


def write_features(folder: str, n_slices: int) -> None:
    """Write random slices of the instruments a and b."""
    rng = np.random.default_rng(SEED)
    for instrument in ("a", "b"):
        pathlib.Path(folder, instrument).mkdir()
        for i in range(n_slices):
            level = rng.random((256, 256, 1)).astype(np.float16)
            np.save(pathlib.Path(folder, instrument, f"piece_{i:03d}.npy"), level)


def write_weights(path: str, base_filters: int) -> None:
    """Write a generator of random weights, in a process of its own: TensorFlow stays out of this one."""
    code = "import sys, model; model.save(model.build_generator(1, int(sys.argv[2]), seed=0), sys.argv[1], {})"
    command = [sys.executable, "-c", code, path, str(base_filters)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, cwd=pathlib.Path(__file__).parent)


def run_command(name: str, *flags: str) -> None:
    """Run a script of this folder as a process."""
    command = [sys.executable, str(pathlib.Path(__file__).with_name(name)), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def describe_machine() -> dict:
    """Processor, number of cores and versions."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    packages = ("tensorflow", "keras", "numpy", "librosa", "soxr")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(names) or None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


# --- the plain ways ---------------------------------------------------------------------------------------------------


def make_plain_step(base_filters: int, is_eager: bool) -> Callable:
    """The float32 update of both networks with Keras' own batch normalisation and Adam, eager or compiled.

    Returns:
        As `training.step.make_step`.
    """
    import tensorflow as tf

    import losses
    import model
    from training.step import Networks, make_step

    tf.config.run_functions_eagerly(is_eager)
    batch_norm = tf.keras.layers.BatchNormalization
    networks = Networks(
        model.build_generator(1, base_filters, seed=SEED, batch_norm=batch_norm),
        model.build_discriminator(base_filters, seed=SEED + 1, batch_norm=batch_norm),
        losses.PIX2PIX,
        tf.keras.optimizers.Adam(),
        tf.keras.optimizers.Adam(),
    )
    networks.build()
    return make_step(networks, SEED)


def compute_features_plainly(audios: pathlib.Path, features: pathlib.Path) -> None:
    """The slices of all recordings, one after another, as float64."""
    import librosa

    window = np.hanning(1024)
    for path in sorted(audios.glob("*/*.wav")):
        folder = features / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        audio, _ = librosa.load(path, sr=44100)
        magnitude = 2 * np.abs(librosa.stft(audio, n_fft=1024, hop_length=512, window=window)) / window.sum()
        level = np.log1p(magnitude[:256] * 2**16) / np.log1p(2**16)
        level = np.pad(level, ((0, 0), (0, -level.shape[1] % 256)))
        for number in range(level.shape[1] // 256):
            part = level[:, 256 * number : 256 * (number + 1), np.newaxis]
            np.save(folder / f"{path.stem}_{number:03d}.npy", part.astype(np.float64))


def convert_plainly(source: str, weights_path: str, destination: str, gpu: int = -1) -> None:
    """Convert a recording slice by slice with the Keras network, all of it in memory."""
    devices.start_tensorflow(gpu)
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
