"""Time every part of the project on this machine, each beside the plain way of doing it.

Makes its own data. Every measurement runs in a process of its own, so that its peak memory is its own; the machine's
matrix-product rate is measured in the same run. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import csv
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

import plain_ways
from common import cli
from common.audio import write_audio
from common.files import writable_folder, write_json

FLOP_PER_SLICE = 59e9  # of one training step of the full-size networks
SEED = 0
RESULT = "result: "
FLAGS = ("base_filters", "batch_size", "jobs", "precision", "plain")  # of a measurement, as the table shows them
EPOCH_STEPS = 1000  # of the epoch whose overhead is asked for


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    parser.add_argument("--output", default="benchmark.json", help="JSON file to write")
    parser.add_argument("--quick", action="store_true", help="16 base filters only, short recordings to convert")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], help="parts to run (default: all)")
    cli.add_gpu(parser)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what a child process is called with
    return cli.run(parser, run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Measure one part in this process, or all of them, each in a child; the exit status."""
    if arguments.measure:
        task = json.loads(arguments.measure)
        part = task.pop("part")
        found = PARTS[part](gpu=arguments.gpu, quick=arguments.quick, **task)
        print(RESULT + json.dumps({"peak_mb": _peak_mb(), **found}))
        return 0
    writable_folder(pathlib.Path(arguments.output).parent, "--output")
    results, rates = [], {}
    print(f"{'part':<66}{'value':>8} {'unit':<9}{'peak MB':>8}  beside")
    for part in arguments.only or (QUICK if arguments.quick else PARTS):
        for group in _tasks(part, arguments):
            plain = []
            for task in group:
                found = {"part": part, **task, **_measure(part, task, arguments)}
                _print_row(found, plain, rates)
                results.append(found)
                if "plain" in found and "value" in found:
                    plain.append(found)
                if part == "machine" and "value" in found:
                    rates[found["precision"]] = found["value"]
    write_json(arguments.output, {**_machine(), "seed": SEED, "quick": arguments.quick, "results": results})
    print(f"Written to {arguments.output}")
    return 0


def _print_row(found: dict, plain: Sequence[dict], rates: dict[str, float]) -> None:
    """One line of the table: a result beside those of the plain ways and the matrix-product rates by precision."""
    name = " ".join([found["part"], *(f"{key}={found[key]}" for key in FLAGS if key in found)])
    if "error" in found:
        print(f"{name:<66}{'-':>8} {found['error']}", flush=True)
        return
    beside = []
    if "plain" not in found:
        beside += [f"{found['value'] / other['value']:.2f} times {other['plain']}" for other in plain]
    rate = rates.get(found.get("precision"))
    if found["part"] == "step" and found["base_filters"] == 64 and rate:
        share = found["value"] * FLOP_PER_SLICE / (rate * 1e9)
        beside.append(f"{100 * share:.0f} % of the matrix-product rate")
    print(
        f"{name:<66}{found['value']:>8.2f} {found['unit']:<9}{found['peak_mb']:>8.0f}  {', '.join(beside)}", flush=True
    )


def _tasks(part: str, arguments: argparse.Namespace) -> list[list[dict]]:
    """What to measure of a part, in groups: the plain ways of a piece of work, then the project's own."""
    precisions = ["float32"]
    if cli.has_gpu(arguments.gpu):
        precisions += ["mixed_bfloat16", "mixed_float16"]
    elif cli.has_bfloat16():
        precisions += ["mixed_bfloat16"]
    sizes = [16] if arguments.quick else [64, 16]
    if part == "machine":
        return [[{"precision": precision}] for precision in precisions]
    if part == "step":
        batch_sizes = [8] if arguments.quick else [1, 8]
        sized = [{"base_filters": n, "batch_size": batch_size} for n in sizes for batch_size in batch_sizes]
        plain = [{"precision": "float32", "plain": way} for way in ("eager", "compiled")]
        ways = [*plain, *({"precision": precision} for precision in precisions)]
        return [[{**size, **way} for way in ways] for size in sized]
    if part == "conversion":
        return [[{"base_filters": n, "plain": "slice by slice"}, {"base_filters": n}] for n in sizes]
    if part == "epoch":
        return [[{"base_filters": n}] for n in sizes]
    if part == "pipeline":
        return [[{}]]
    return [[{"plain": "one process"}, *([] if arguments.quick else [{"jobs": 1}]), {"jobs": 2}]]


def _measure(part: str, task: dict, arguments: argparse.Namespace) -> dict:
    """The result of one measurement in a child process."""
    command = [sys.executable, __file__, "--gpu", str(arguments.gpu), "--measure", json.dumps({"part": part, **task})]
    done = subprocess.run(command + ["--quick"] * arguments.quick, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["no result"])[-1]}
    return json.loads(lines[-1].removeprefix(RESULT))


def _median_seconds(work: Callable[[], object], n_times: int) -> float:
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
    cli.start_tensorflow(gpu)
    import tensorflow as tf

    dtype = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}[precision]
    a = tf.cast(tf.random.stateless_normal((2048, 2048), (SEED, 0)), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)), autograph=False)
    seconds = _median_seconds(lambda: product().numpy(), 10)
    return {"value": 2 * 2048**3 / seconds / 1e9, "unit": "GFLOP/s"}


def step(gpu: int, quick: bool, base_filters: int, batch_size: int, precision: str, plain: str = "") -> dict:
    """Training steps of random slices; the plain ways are in float32, eager (as published) and compiled."""
    cli.start_tensorflow(gpu)
    import tensorflow as tf

    import losses
    import model
    from training import loop, optimizers

    if plain:
        update = plain_ways.training_step(base_filters, SEED, is_eager=plain == "eager")
    else:
        networks = loop.Networks(
            model.build_generator(1, base_filters, precision, SEED),
            model.build_discriminator(base_filters, precision, SEED + 1),
            losses.PIX2PIX,
            optimizers.Adam(),
            optimizers.Adam(),
        )
        networks.build()
        update = loop.make_step(networks, SEED)
    rng = np.random.default_rng(SEED)
    inputs, target = (tf.constant(rng.uniform(-1, 1, (batch_size, 256, 256, 1)), tf.float32) for _ in range(2))
    rate, number = tf.constant(1e-5), tf.constant(0)
    n_times = 3 if quick or (base_filters == 64 and batch_size == 8) else 8

    def work() -> float:
        return float(update(inputs, target, rate, rate, number)["mae"])  # waits until the step is done

    return {"value": batch_size / _median_seconds(work, n_times), "unit": "slices/s"}


def pipeline(gpu: int, quick: bool) -> dict:
    """Reading, scaling and batching of feature files alone, batches of 8."""
    cli.start_tensorflow(-1)
    from training import dataset
    from training.batches import Batches, stream_batches

    with tempfile.TemporaryDirectory() as folder:
        _write_features(folder, 256)
        pairs = dataset.find_pairs(folder, "a", ["b"])
        batches = Batches(pairs, pairs.samples, 8, SEED)
        stream = stream_batches(batches, 0, 4 * batches.steps_per_epoch)
        seconds = _median_seconds(lambda: sum(1 for _ in stream), 1 if quick else 3)
    return {"value": 4 * 256 / seconds, "unit": "slices/s"}


def epoch(gpu: int, quick: bool, base_filters: int) -> dict:
    """What an epoch of train.py takes beside its 1000 steps of one slice: validation of 111 slices (a split of 0.1),
    samples, weights and state, in percent of the steps."""
    n_held_out, n_trained = 111, 20
    with tempfile.TemporaryDirectory() as folder:
        _write_features(folder, n_trained + n_held_out, n_pieces=n_trained + n_held_out)
        flags = ["--dataset_path", folder, "--origin", "a", "--target", "b", "--models_path", f"{folder}/models"]
        flags += ["--base_filters", str(base_filters), "--batch_size", "1", "--epochs", "3", "--gpu", str(gpu)]
        split = n_held_out / (n_trained + n_held_out)
        peak = _run_command("train.py", *flags, "--precision", "float32", "--validation_split", str(split))
        model = pathlib.Path(folder, "models", "a_2_b")
        with (model / "history.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        ends = [(model / "samples" / f"{number:03d}" / "spectrogram.png").stat().st_mtime for number in (2, 3)]
    in_steps = float(rows[2]["seconds"])  # of the third epoch, where nothing is compiled any more
    n_steps = int(rows[2]["step"]) - int(rows[1]["step"])
    overhead = ends[1] - ends[0] - in_steps
    return {"value": 100 * overhead / (EPOCH_STEPS * in_steps / n_steps), "unit": "%", "peak_mb": peak}


def compute_features(gpu: int, quick: bool, jobs: int = 1, plain: str = "") -> dict:
    """The whole command on 10 minutes of audio in six files, in seconds of audio a second."""
    minutes = 10
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rng = np.random.default_rng(SEED)
        for i in range(6):
            noise = rng.normal(0, 0.1, minutes * 10 * 44100).astype(np.float32)
            write_audio(folder / "audios" / "noise" / f"piece{i}.wav", noise)
        if plain:
            work = functools.partial(plain_ways.compute_features, folder / "audios", folder / "features")
        else:
            flags = ["--audios_path", f"{folder}/audios", "--features_path", f"{folder}/features", "--jobs", str(jobs)]
            work = functools.partial(_run_command, "compute_features.py", *flags)
        return _speed(work, minutes)


def synthesize_audios(gpu: int, quick: bool, jobs: int = 1, plain: str = "") -> dict:
    """The whole command on 60 minutes of music, 250 notes a minute, SoundFont notes made beforehand."""
    import pretty_midi

    minutes, instrument = 60, "keyboard_acoustic"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rng = np.random.default_rng(SEED)
        (folder / "midi").mkdir()
        for i in range(12):
            part = pretty_midi.Instrument(0)
            for start in np.sort(rng.uniform(0, minutes * 5, round(250 * minutes / 12))):
                pitch, velocity, length = int(rng.integers(36, 96)), int(rng.integers(30, 120)), rng.uniform(0.1, 1)
                part.notes.append(pretty_midi.Note(velocity, pitch, start, start + length))
            music = pretty_midi.PrettyMIDI()
            music.instruments.append(part)
            music.write(f"{folder}/midi/piece{i}.mid")
        flags = ["--instruments", instrument, "--notes_path", f"{folder}/notes", "--jobs", str(jobs)]
        flags += ["--midi_path", f"{folder}/midi"]
        _run_command("synthesize_audios.py", *flags, "--audios_path", f"{folder}/first")
        if plain:
            places = folder / "midi", folder / "notes", instrument, folder / "second"
            work = functools.partial(plain_ways.synthesize_audios, *places)
        else:
            work = functools.partial(_run_command, "synthesize_audios.py", *flags, "--audios_path", f"{folder}/second")
        return _speed(work, minutes)


def conversion(gpu: int, quick: bool, base_filters: int, plain: str = "") -> dict:
    """predict.py on 1 (quick) or 5 minutes of mono audio, whole process, overlap 0."""
    minutes = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        weights_path, source, destination = (f"{folder}/{name}" for name in ("generator.h5", "in.wav", "out.wav"))
        _write_weights(weights_path, base_filters)
        audio = np.random.default_rng(SEED).normal(0, 0.1, minutes * 60 * 44100).astype(np.float32)
        write_audio(source, audio)
        if plain:
            work = functools.partial(plain_ways.convert, source, weights_path, destination, gpu)
        else:
            flags = ["--model", weights_path, "--input", source, "--output", destination, "--gpu", str(gpu)]
            work = functools.partial(_run_command, "predict.py", *flags, "--overlap", "0")
        return _speed(work, minutes)


def _speed(work: Callable[[], float | None], minutes: float) -> dict:
    """Seconds of audio that `work` gets through in a second, and the peak memory of the command where it gives that."""
    start = time.perf_counter()
    peak = work()
    found = {"value": 60 * minutes / (time.perf_counter() - start), "unit": "s/s"}
    return found if peak is None else {**found, "peak_mb": peak}


def _write_features(folder: str, n_slices: int, n_pieces: int = 1) -> None:
    """Random slices of instruments a and b, spread over pieces."""
    rng = np.random.default_rng(SEED)
    for instrument in ("a", "b"):
        pathlib.Path(folder, instrument).mkdir()
        for i in range(n_slices):
            level = rng.random((256, 256, 1)).astype(np.float16)
            np.save(pathlib.Path(folder, instrument, f"piece{i % n_pieces}_{i // n_pieces:03d}.npy"), level)


def _write_weights(path: str, base_filters: int) -> None:
    """A generator of random weights; no TensorFlow."""
    from common import weights

    rng = np.random.default_rng(SEED)
    groups = [
        (group, [(name, np.abs(rng.normal(0, 0.02, shape)) + ("variance" in name)) for name, shape in arrays])
        for group, arrays in weights.unet_layout(1, base_filters)
    ]
    weights.write(path, groups, {})


# --- this machine -----------------------------------------------------------------------------------------------------


def _run_command(name: str, *flags: str) -> float:
    """Run a script of this folder, whole process; its peak memory in MB."""
    command = [sys.executable, str(pathlib.Path(__file__).with_name(name)), *flags]
    done = subprocess.run([sys.executable, "-c", _PEAK_OF_COMMAND, *command], check=True, stdout=subprocess.PIPE)
    return float(done.stdout) / _RSS_UNITS


def _peak_mb() -> float:
    """Largest resident memory that this process has had, in MB."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _RSS_UNITS


_RSS_UNITS = 1e6 if sys.platform == "darwin" else 1e3  # of ru_maxrss in a MB
# A process counts what the one it was forked from had taken, so a small one stands between the two.
_PEAK_OF_COMMAND = """
import subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
try:
    import resource
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
except ImportError:  # Windows
    print("nan")
sys.exit(status)
"""


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
    "epoch": epoch,
    "compute_features": compute_features,
    "synthesize_audios": synthesize_audios,
    "conversion": conversion,
}
QUICK = [part for part in PARTS if part != "epoch"]


if __name__ == "__main__":
    raise SystemExit(main())
