"""The second system put together: guitar recordings to segments, three stages through the one training loop.

1. ``1_global``: the global generator alone, on half the mel bands;
2. ``2_local``: the local enhancer around it, the global part frozen;
3. ``3_joint``: everything together.

Each stage is a run of `loop.fit` in a folder of its own, so that it resumes, keeps its history and is left out once
the next one has begun. What is converted with is always ``generator.h5`` in the folder above.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from common import cli
from common.audio import find_audio, write_audio
from common.errors import InputError
from common.files import replacing, writable_folder
from hum2guitar import dataset, harmonics
from hum2guitar.mel_inverse import mel_to_audio
from hum2guitar.pitch import octaves_into_range
from training import start

INSTANCE_NOISE = 0.1  # standard deviation, on what the discriminator judges
SAMPLE_ITERATIONS = 16  # of Griffin-Lim
LOGGED = {
    "D": "discriminator_loss",
    "G": "generator_loss",
    "GAN": "adversarial",
    "feature matching": "feature_matching",
    "MAE": "mae",
    "validation MAE": "val_mae",
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Attributes:
        name: of its folder.
        flag: that says how many epochs it has.
        is_global: trains the global generator alone, on half the bands; otherwise the local enhancer.
        is_frozen: the global part keeps its weights.
        schedule: of the learning rate.
    """

    name: str
    flag: str
    is_global: bool
    is_frozen: bool
    schedule: str


STAGES = (
    Stage("1_global", "n_global_epochs", True, False, "decay"),
    Stage("2_local", "n_fixed_global_epochs", False, True, "constant"),
    Stage("3_joint", "n_joint_epochs", False, False, "decay"),
)


@dataclasses.dataclass(frozen=True)
class Example:
    """A segment to look at and listen to while training: its title, harmonics and mel level ``(n_mels, n_frames)``."""

    title: str
    inputs: np.ndarray
    original: np.ndarray


def train(arguments: argparse.Namespace) -> int:
    """Train as the arguments of train_hum2guitar.py ask for; the exit status."""
    for flag in ("pretrained_global", "pretrained_local"):
        path = getattr(arguments, flag)
        if path and not pathlib.Path(path).is_file():
            raise InputError(f"--{flag}: expected a weights file (.h5), found nothing at {path}")
    start.check_arguments(arguments)
    writable_folder(arguments.out_dir, "--out_dir")
    folder = run_folder(arguments)
    stages = _stages_left(arguments, folder)
    hums = find_audio(arguments.humming_dir, "--humming_dir") if arguments.humming_dir else []
    features = dataset.prepare(
        arguments.guitar_dir, arguments.features_path, arguments.f0, arguments.jobs, harmonics.PUBLISHED
    )
    representation = features.representation
    parts = dataset.split_by_recording(features, arguments.validation_split, arguments.seed)
    training_rows, validation_rows, said = parts
    print(f"{len(training_rows)} segments to train on, {100 * features.voiced:.0f} % of their frames voiced; {said}")
    examples = {"guitar": _guitar_example(features, validation_rows if len(validation_rows) else training_rows)}
    examples |= _humming_example(hums, arguments.f0, representation)
    status = cli.report_left_out(features.left_out)

    with start.start_run(arguments) as strategy:
        runs = []
        for stage in stages:
            shared = (arguments.batch_size, arguments.seed, stage.is_global)
            drop = strategy.num_replicas_in_sync > 1
            batches = dataset.HumBatches(features, training_rows, *shared, drop_remainder=drop)
            held_out = None
            if len(validation_rows):
                held_out = dataset.HumBatches(features, validation_rows, *shared, shuffle=False)
            runs.append((stage, batches, held_out))
        with start.claim_folder(folder, arguments.fresh):
            for stage, batches, held_out in runs:
                _run_stage(arguments, stage, folder, representation, batches, held_out, examples)
    return status


def run_folder(arguments: argparse.Namespace) -> pathlib.Path:
    """The model's folder: ``<models_path>/hum2guitar``, with the run's name behind it where it has one."""
    return pathlib.Path(arguments.models_path, f"hum2guitar_{arguments.name}" if arguments.name else "hum2guitar")


def _stages_left(arguments: argparse.Namespace, folder: pathlib.Path) -> list[Stage]:
    """The stages that have epochs, without those that pretrained weights stand for or that later ones have followed.

    Raises:
        InputError: none is left, or the first one would freeze a global part that was never trained.
    """
    from training import checkpoints

    stages = [stage for stage in STAGES if getattr(arguments, stage.flag)]
    if arguments.pretrained_local:
        stages = [stage for stage in stages if not stage.is_global and not stage.is_frozen]
    elif arguments.pretrained_global:
        stages = [stage for stage in stages if not stage.is_global]
    if not stages:
        raise InputError("--n_joint_epochs: expected a stage with epochs to train, found none")
    states = [] if arguments.fresh else [checkpoints.states(folder / stage.name) for stage in stages]
    begun = [index for index, found in enumerate(states) if found]
    if begun:
        return stages[begun[-1] :]
    before = folder / STAGES[0].name / "generator.h5"
    if stages[0].is_frozen and not arguments.pretrained_global and (arguments.fresh or not before.exists()):
        raise InputError(
            "--n_global_epochs: expected epochs of the first stage, its weights as --pretrained_global, or those of an "
            f"earlier run at {before}, found none"
        )
    return stages


def _run_stage(arguments, stage: Stage, folder: pathlib.Path, representation, batches, held_out, examples) -> None:
    """Train one stage to its end, and copy its generator to the model's folder."""
    import model
    from training import distribution, loop

    precision = model.choose_precision(arguments.precision)
    networks = _build(arguments, stage, precision)
    _take_over(arguments, stage, folder, networks)
    identity = {key: getattr(arguments, key) for key in ("batch_size", "validation_split", "base_filters", "seed")}
    identity |= {"guitar_dir": str(pathlib.Path(arguments.guitar_dir).resolve()), "f0": arguments.f0}
    identity |= {"segments": len(batches.segments), "precision": precision, "lr": arguments.lr, "l1": arguments.l1}
    sampler = make_sampler(networks.generator, stage, representation, examples)
    pictures = pathlib.Path(arguments.out_dir, folder.name, stage.name)
    epochs = getattr(arguments, stage.flag)

    def sample(target: pathlib.Path) -> list:
        write_log(pathlib.Path(arguments.out_dir, arguments.log), folder)  # the epoch's row is in its history by now
        return sampler(target, f"epoch {int(target.name)}")

    def after_step(number: int) -> None:
        if number % arguments.plot_interval == 0:
            sampler(pictures / f"step_{number:07d}", f"step {number}")

    settings = loop.Settings(
        folder / stage.name,
        description={
            "system": "hum2guitar",
            "representation": representation.to_dict(),
            "origin": "any pitched sound",
            "targets": ["guitar"],
            "f0": arguments.f0,
            "in_channels": 1,
            "base_filters": arguments.base_filters,
        },
        identity=identity,
        generator_rate=arguments.lr,
        discriminator_rate=arguments.lr,
        epochs=epochs,
        lr_schedule=stage.schedule,
        after_step=after_step if distribution.is_chief() else None,
        **{key: getattr(arguments, key) for key in ("max_steps", "seed", "checkpoint_minutes", "tensorboard", "jit")},
    )
    print(f"Training {settings.folder} ({precision}): {epochs} epochs of {batches.steps_per_epoch} steps")
    loop.fit(loop.Run(networks, settings, batches, held_out, sample))
    if distribution.is_chief():
        with replacing(folder / "generator.h5") as beside:
            shutil.copyfile(settings.folder / "generator.h5", beside)
        print(f"{folder / 'generator.h5'}: the generator of stage {stage.name}")


def _build(arguments: argparse.Namespace, stage: Stage, precision: str):
    """The `loop.Networks` of a stage, with random weights."""
    import tensorflow as tf

    import losses
    from hum2guitar import networks
    from training import loop, optimizers

    def adabelief():
        optimizer = optimizers.AdaBelief()
        return tf.keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer

    build = networks.build_global_generator if stage.is_global else networks.build_local_enhancer
    generator = build(arguments.base_filters, precision, arguments.seed)
    discriminator = networks.build_multiscale_discriminator(arguments.base_filters, precision, arguments.seed + 1)
    return loop.Networks(
        generator,
        discriminator,
        losses.hum2guitar(arguments.l1),
        adabelief(),
        adabelief(),
        instance_noise=INSTANCE_NOISE,
    )


def _take_over(arguments: argparse.Namespace, stage: Stage, folder: pathlib.Path, networks) -> None:
    """Set the weights that a stage begins with: pretrained ones, or what the stage before has left.

    Raises:
        InputError: a weights file holds another network.
    """
    import model
    from hum2guitar.networks import copy_global, global_layers, load_hum2guitar

    if stage.is_global:
        return
    of_global, of_local = (folder / STAGES[index].name for index in (0, 1))
    before = (of_local / "generator.h5") if not stage.is_frozen else None
    if arguments.pretrained_local:
        model.load_into(networks.generator, arguments.pretrained_local)
    elif before is not None and before.exists():
        model.load_into(networks.generator, before)
        model.load_into(networks.discriminator, before.with_name("discriminator.h5"))
    else:
        path = pathlib.Path(arguments.pretrained_global or of_global / "generator.h5")
        if path.exists():
            pretrained = load_hum2guitar(path)
            _check_filters(path, pretrained, networks.generator)
            copy_global(pretrained, networks.generator)
    if stage.is_frozen:
        for layer in global_layers(networks.generator):
            layer.trainable = False


def _check_filters(path: pathlib.Path, pretrained, generator) -> None:
    found, expected = (network.get_layer("global_0").filters for network in (pretrained, generator))
    if found != expected:
        raise InputError(f"{path}: expected a global generator with {expected} base filters, found {found}")


# --- samples and log --------------------------------------------------------------------------------------------------


def _guitar_example(features: dataset.Segments, rows: np.ndarray) -> Example:
    """The first of `rows`."""
    shown = dataset.HumBatches(features, rows[:1], 1, 0, shuffle=False)
    file, number = rows[0]
    return Example(f"guitar: {features.files[file].stem}", *shown.pair(file, number))


def _humming_example(hums: list[pathlib.Path], method: str, representation) -> dict[str, Example]:
    """The first hummed segment with a pitch, moved by octaves into the guitar's range; empty where there are none."""
    if not hums:
        return {}
    found = dataset.read_sample(hums, representation, method)
    if found is None:
        raise InputError(f"--humming_dir: expected a recording with a pitch, found none in {hums[0].parent}")
    name, f0, energy, level = found
    f0 = f0 * 2 ** (octaves_into_range(f0, representation.f0_low, representation.f0_high) / 12)
    return {"humming": Example(f"humming: {name}", harmonics.harmonics_level(f0, energy, representation), level)}


def make_sampler(generator, stage: Stage, representation, examples: dict[str, Example]) -> Callable:
    """A function of (folder, when) that writes a picture and an audio of each example, and gives its samples."""
    import librosa
    import tensorflow as tf

    from common import plots
    from training.loop import Sample

    r = representation
    predict = tf.function(lambda inputs: generator(inputs, training=False), reduce_retracing=True, autograph=False)
    frequencies = librosa.mel_frequencies(r.n_mels + 2, fmin=r.f_min, fmax=r.f_max)[1:-1]

    def sample(folder: pathlib.Path, when: str) -> list:
        samples = []
        for name, example in examples.items():
            inputs = harmonics.halve_bins(example.inputs) if stage.is_global else example.inputs
            output = predict(inputs[np.newaxis, ..., np.newaxis]).numpy()[0, ..., 0]
            output = harmonics.double_bins(output) if stage.is_global else output
            levels = {"harmonics": example.inputs, "original": example.original, "output": output}
            picture = plots.spectrogram_frame(
                [(title, (level - 1) / 2 * r.mel_top_db + r.mel_ref_db) for title, level in levels.items()],
                r.hop_length / r.sample_rate,
                frequencies=frequencies,
                title=f"{example.title}, {stage.name}, {when}",
                decibels=True,
                vmin=r.mel_ref_db - r.mel_top_db,
                vmax=r.mel_ref_db,
            )
            audio = mel_to_audio(harmonics.mel_power(output, r), r.segment_samples, r, SAMPLE_ITERATIONS)
            audio /= max(1.0, np.abs(audio).max())
            plots.save_png(folder / f"{name}.png", picture)
            write_audio(folder / f"{name}.wav", audio, r.sample_rate)
            samples.append(Sample(name, picture, audio, r.sample_rate))
        return samples

    return sample


def write_log(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Write the losses of all epochs of all stages as plain lines, from their histories."""
    lines = []
    for stage in STAGES:
        history = folder / stage.name / "history.csv"
        if history.exists():
            with history.open(encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                values = [f"{label} {float(row[key]):.4f}" for label, key in LOGGED.items() if row.get(key)]
                lines.append(f"{stage.name} epoch {row['epoch']}  " + "  ".join(values) + f"  {row['seconds']} s")
    with replacing(path) as beside:
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
