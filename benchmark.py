"""Time every part of the project on this machine, each beside the plain way of doing it.

Makes its own data. Every measurement runs in a process of its own, so that its peak memory is its own; the machine's
matrix-product rate is measured in the same run. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
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

import commands
import data

FLOP_PER_SLICE = 59e9  # of one training step of the full-size networks
SEED = 0
RESULT = "result: "


def main(argv: Sequence[str] | None = None) -> int:
    parser = commands.Parser(__doc__)
    parser.add_argument("--output", default="benchmark.json", help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="about two minutes: 16 base filters and short audio only")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], help="parts to run (default: all)")
    commands.add_gpu(parser)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what a child process is called with
    return commands.run(parser, run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Measure one part in this process, or all of them, each in a child; the exit status."""
    if arguments.measure:
        task = json.loads(arguments.measure)
        value = PARTS[task.pop("part")](gpu=arguments.gpu, quick=arguments.quick, **task)
        print(RESULT + json.dumps({**value, "peak_mb": _peak_mb()}))
        return 0
    results = []
    print(f"{'part':<58}{'value':>10} {'unit':<12}{'peak MB':>8}  beside")
    for part in arguments.only or PARTS:
        reference = None
        for task in _tasks(part, arguments):
            found = {"part": part, **task, **_measure(part, task, arguments)}
            results.append(found)
            if reference is None or task.get("plain") or part == "machine":
                reference = found
            name = " ".join([part, *(f"{key}={value}" for key, value in task.items())])
            if "error" in found:
                print(f"{name:<58}{'-':>10} {found['error']}")
                continue
            ratio = found["value"] / reference["value"] if found["unit"] == reference["unit"] else float("nan")
            beside = "" if found is reference else f"{ratio:.2f} times the plain way"
            print(
                f"{name:<58}{found['value']:>10.2f} {found['unit']:<12}{found['peak_mb']:>8.0f}  {beside}", flush=True
            )
            if part != "step":
                continue
            if not found.get("plain"):
                rate = next(
                    (r for r in results if r["part"] == "machine" and r["precision"] == task["precision"]), None
                )
                if rate and task["base_filters"] == 64 and "value" in rate:
                    share = found["value"] * FLOP_PER_SLICE / (rate["value"] * 1e9)
                    print(f"{'':<58}{100 * share:>10.0f} % of the matrix-product rate at 59 GFLOP a slice")
    data.write_json(arguments.output, {**_machine(), "seed": SEED, "quick": arguments.quick, "results": results})
    print(f"Written to {arguments.output}")
    return 0


def _tasks(part: str, arguments: argparse.Namespace) -> list[dict]:
    """What to measure of a part; what follows a plain way (or the first one) is compared with it."""
    precisions = ["float32", *(["mixed_bfloat16", "mixed_float16"] if arguments.gpu >= 0 or _has_bfloat16() else [])]
    sizes = [16] if arguments.quick else [64, 16]
    if part == "machine":
        return [{"precision": precision} for precision in precisions]
    if part == "pipeline":
        return [{}]
    if part == "step":
        tasks = []
        for base_filters in sizes:
            for batch_size in (1, 8):
                common = {"base_filters": base_filters, "batch_size": batch_size}
                tasks.append({**common, "precision": "float32", "plain": True})
                tasks += [{**common, "precision": precision} for precision in precisions]
        return tasks
    if part == "conversion":
        return [task for n in sizes for task in ({"base_filters": n, "plain": True}, {"base_filters": n})]
    return [{"jobs": 1}, {"jobs": 2}]


def _measure(part: str, task: dict, arguments: argparse.Namespace) -> dict:
    """The result of one measurement in a child process."""
    command = [sys.executable, __file__, "--gpu", str(arguments.gpu), "--measure", json.dumps({"part": part, **task})]
    done = subprocess.run(command + ["--quick"] * arguments.quick, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no result"])[-1]}
    return json.loads(lines[-1].removeprefix(RESULT))


def _best_of(work: Callable[[], object], n_times: int) -> float:
    """Median seconds of `work` after one call that is not counted."""
    work()
    seconds = []
    for _ in range(n_times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


# --- parts ------------------------------------------------------------------------------------------------------------


def machine(gpu: int, quick: bool, precision: str) -> dict:
    """Matrix products of 2048 x 2048, in GFLOP/s."""
    commands.start_tensorflow(gpu)
    import tensorflow as tf

    dtype = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}[precision]
    a = tf.cast(tf.random.stateless_normal((2048, 2048), (SEED, 0)), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)), autograph=False)
    seconds = _best_of(lambda: product().numpy(), 10)
    return {"value": 2 * 2048**3 / seconds / 1e9, "unit": "GFLOP/s"}


def step(gpu: int, quick: bool, base_filters: int, batch_size: int, precision: str, plain: bool = False) -> dict:
    """Training steps; the plain way is eager, with Keras' own optimizer and batch normalisation, as published."""
    commands.start_tensorflow(gpu)
    import tensorflow as tf

    import losses
    import model
    import optimizers
    import training

    if plain:
        tf.config.run_functions_eagerly(True)
        model.FusedBatchNormalization = tf.keras.layers.BatchNormalization
    adam = tf.keras.optimizers.Adam if plain else optimizers.Adam
    system = training.System(
        model.build_generator(1, base_filters, precision, SEED),
        model.build_discriminator(base_filters, precision, SEED + 1),
        losses.PIX2PIX,
        adam(),
        adam(),
    )
    system.build()
    update = training.make_step(system, SEED)
    rng = np.random.default_rng(SEED)
    inputs, target = (tf.constant(rng.uniform(-1, 1, (batch_size, 256, 256, 1)), tf.float32) for _ in range(2))
    rate, number = tf.constant(1e-5), tf.constant(0)
    n_times = 3 if quick or (base_filters == 64 and batch_size == 8) else 8

    def work() -> float:
        return float(update(inputs, target, rate, rate, number)["mae"])  # waits until the step is done

    return {"value": batch_size / _best_of(work, n_times), "unit": "slices/s"}


def pipeline(gpu: int, quick: bool) -> dict:
    """Reading, scaling and batching of feature files alone, batches of 8."""
    commands.start_tensorflow(-1)
    import dataset

    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(SEED)
        for instrument in ("a", "b"):
            pathlib.Path(folder, instrument).mkdir()
            for i in range(256):
                level = rng.random((256, 256, 1)).astype(np.float16)
                np.save(pathlib.Path(folder, instrument, f"piece_{i:03d}.npy"), level)
        pairs = dataset.find_pairs(folder, "a", ["b"])
        batches = dataset.Batches(pairs, pairs.samples, 8, SEED)
        stream = dataset.stream(batches, 0, 4 * batches.steps_per_epoch)
        seconds = _best_of(lambda: sum(1 for _ in stream), 1 if quick else 3)
    return {"value": 4 * 256 / seconds, "unit": "slices/s"}


def compute_features(gpu: int, quick: bool, jobs: int) -> dict:
    """The whole command on 1 (quick) or 10 minutes of audio in six files, in seconds of audio a second."""
    minutes = 1 if quick else 10
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(SEED)
        for i in range(6):
            noise = rng.normal(0, 0.1, minutes * 10 * 44100).astype(np.float32)
            data.write_audio(pathlib.Path(folder, "audios", "noise", f"piece{i}.wav"), noise)
        flags = ["--audios_path", f"{folder}/audios", "--features_path", f"{folder}/features", "--jobs", str(jobs)]
        seconds = _seconds_of_command(["compute_features.py", *flags])
    return {"value": 60 * minutes / seconds, "unit": "s/s"}


def synthesize_audios(gpu: int, quick: bool, jobs: int) -> dict:
    """The whole command on 6 (quick) or 60 minutes of music, 250 notes a minute, SoundFont notes made beforehand."""
    import pretty_midi

    minutes = 6 if quick else 60
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(SEED)
        pathlib.Path(folder, "midi").mkdir()
        for i in range(12):
            instrument = pretty_midi.Instrument(0)
            for start in np.sort(rng.uniform(0, minutes * 5, round(250 * minutes / 12))):
                pitch, velocity, length = int(rng.integers(36, 96)), int(rng.integers(30, 120)), rng.uniform(0.1, 1)
                instrument.notes.append(pretty_midi.Note(velocity, pitch, start, start + length))
            music = pretty_midi.PrettyMIDI()
            music.instruments.append(instrument)
            music.write(f"{folder}/midi/piece{i}.mid")
        flags = ["--instruments", "keyboard_acoustic", "--notes_path", f"{folder}/notes", "--jobs", str(jobs)]
        flags += ["--midi_path", f"{folder}/midi"]
        _seconds_of_command(["synthesize_audios.py", *flags, "--audios_path", f"{folder}/first"])
        seconds = _seconds_of_command(["synthesize_audios.py", *flags, "--audios_path", f"{folder}/second"])
    return {"value": 60 * minutes / seconds, "unit": "s/s"}


def conversion(gpu: int, quick: bool, base_filters: int, plain: bool = False) -> dict:
    """predict.py on 1 (quick) or 5 minutes of mono audio, whole process, overlap 0.

    The plain way is slice by slice through the Keras network, in this process, imports included.
    """
    minutes = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        weights_path = f"{folder}/generator.h5"
        _write_weights(weights_path, base_filters)
        audio = np.random.default_rng(SEED).normal(0, 0.1, minutes * 60 * 44100).astype(np.float32)
        data.write_audio(f"{folder}/in.wav", audio)
        if plain:
            start = time.perf_counter()
            _convert_plainly(f"{folder}/in.wav", weights_path, f"{folder}/out.wav", gpu)
            seconds = time.perf_counter() - start
        else:
            flags = ["--model", weights_path, "--input", f"{folder}/in.wav", "--output", f"{folder}/out.wav"]
            seconds = _seconds_of_command(["predict.py", *flags, "--overlap", "0", "--gpu", str(gpu)])
    return {"value": 60 * minutes / seconds, "unit": "s/s"}


def _write_weights(path: str, base_filters: int) -> None:
    """A generator of random weights; no TensorFlow."""
    import weights

    rng = np.random.default_rng(SEED)
    groups = [
        (group, [(name, np.abs(rng.normal(0, 0.02, shape)) + ("variance" in name)) for name, shape in arrays])
        for group, arrays in weights.unet_layout(1, base_filters)
    ]
    weights.write(path, groups, {})


def _convert_plainly(source: str, weights_path: str, destination: str, gpu: int) -> None:
    commands.start_tensorflow(gpu)
    import model

    generator = model.load_generator(weights_path)
    magnitude, phase = data.forward_transform(data.read_audio(source))
    slices = data.to_network(data.slice_frames(data.amplitude_to_db(magnitude)))
    outputs = np.concatenate([generator(one[np.newaxis], training=False).numpy() for one in slices])
    level = data.join_slices(data.from_network(outputs), magnitude.shape[1])
    data.write_audio(destination, data.inverse_transform(data.db_to_amplitude(level), phase))


# --- this machine -----------------------------------------------------------------------------------------------------


def _seconds_of_command(command: list[str]) -> float:
    """Wall-clock seconds of a script of this folder, whole process."""
    script = pathlib.Path(__file__).with_name(command[0])
    start = time.perf_counter()
    subprocess.run([sys.executable, str(script), *command[1:]], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _peak_mb() -> float:
    """Largest resident memory of this process and of the commands it has run, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit


def _has_bfloat16() -> bool:
    flags = pathlib.Path("/proc/cpuinfo")
    return flags.exists() and any(flag in flags.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def _machine() -> dict:
    """Versions and processor."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []  # fmt: skip  # noqa: E501
    packages = ("tensorflow", "keras", "numpy", "librosa", "soxr")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(names) or None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


PARTS = {
    "machine": machine,
    "step": step,
    "pipeline": pipeline,
    "compute_features": compute_features,
    "synthesize_audios": synthesize_audios,
    "conversion": conversion,
}


if __name__ == "__main__":
    raise SystemExit(main())
