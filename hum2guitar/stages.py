"""The training of the second system: guitar recordings to segments, then three stages.

1. ``1_global`` trains the global generator alone, on half the mel bands.
2. ``2_local`` trains the local enhancer around it, with the global part frozen.
3. ``3_joint`` trains both together.

Each stage is a run of `loop.fit` in a folder of its own, which can be resumed and keeps its history. A stage is skipped
once the next one has begun. ``generator.h5`` in the folder above is that of the last stage and the one to convert with.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from common import cli, plots
from common.errors import InputError
from common.files import replacing, writable_folder
from hum2guitar import dataset, harmonics
from hum2guitar.harmonics import HumRepresentation
from hum2guitar.mel_inverse import mel_to_audio
from hum2guitar.pitch import octaves_into_range
from hum2guitar.plucks import pluck
from sound.files import find_audio, write_audio
from training import run

INSTANCE_NOISE = 0.1  # standard deviation of the noise added to what the discriminator judges
SAMPLE_ITERATIONS = 16  # of Griffin-Lim
LOGGED = {  # label in the log: column of history.csv
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
        flag: the argument that holds its number of epochs.
        is_global: whether it trains the global generator alone, on half the bands; otherwise the local enhancer.
        is_frozen: whether the global part keeps its weights.
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
    """A segment for samples during training: title, harmonics and mel level, both ``(n_mels, n_frames)``."""

    title: str
    inputs: np.ndarray
    original: np.ndarray


def train(arguments: argparse.Namespace) -> int:
    """Train as the arguments of train_hum2guitar.py ask for; the exit status."""
    pretrained = {"--pretrained_global": arguments.pretrained_global, "--pretrained_local": arguments.pretrained_local}
    for flag, path in pretrained.items():
        if path and not pathlib.Path(path).is_file():
            raise InputError(f"{flag}: expected a weights file (.h5), found nothing at {path}")
    run.check_machine(arguments.models_path, arguments.tensorboard)
    writable_folder(arguments.out_dir, "--out_dir")
    folder = run_folder(arguments)
    if not arguments.fresh:
        run.refuse_exported(folder)
    remaining = _remaining_stages(arguments, folder)
    hums = find_audio(arguments.humming_dir, "--humming_dir") if arguments.humming_dir else []
    features = dataset.prepare(arguments.guitar_dir, arguments.features_path, arguments.f0, harmonics.PUBLISHED)
    representation = features.representation
    training_rows, validation_rows, split = dataset.split_by_recording(
        features, arguments.validation_split, arguments.seed
    )
    print(f"{len(training_rows)} segments to train on, {100 * features.voiced:.0f} % of their frames voiced; {split}")
    shown = validation_rows if len(validation_rows) else training_rows
    examples = {"guitar": _guitar_example(features, shown, arguments.augment)}
    examples |= _humming_example(hums, arguments.f0, representation, arguments.augment)
    status = cli.report_left_out(features.left_out)

    with run.start(arguments.gpu, arguments.batch_size, arguments.seed) as strategy:
        runs = []
        for stage in remaining:
            shared = (arguments.batch_size, arguments.seed, stage.is_global)
            drop, augment = strategy.num_replicas_in_sync > 1, arguments.augment
            batches = dataset.HumBatches(
                features, training_rows, *shared, drop_remainder=drop, augment=augment, plucked=augment
            )
            held_out = None
            if len(validation_rows):
                held_out = dataset.HumBatches(features, validation_rows, *shared, shuffle=False, plucked=augment)
            runs.append((stage, batches, held_out))
        with run.claim_folder(folder, arguments.fresh):
            run.write_run_file(folder, vars(arguments))
            for stage, batches, held_out in runs:
                _run_stage(arguments, stage, folder, representation, batches, held_out, examples)
    return status


def run_folder(arguments: argparse.Namespace) -> pathlib.Path:
    """The model's folder: ``<models_path>/hum2guitar``, or ``hum2guitar_<name>`` if the run has a name."""
    return pathlib.Path(arguments.models_path, f"hum2guitar_{arguments.name}" if arguments.name else "hum2guitar")


def _remaining_stages(arguments: argparse.Namespace, folder: pathlib.Path) -> list[Stage]:
    """The stages to train: those with epochs that neither pretrained weights replace nor a later stage has followed.

    Raises:
        InputError: none is left, or the first one would freeze a global part that was never trained.
    """
    from training import checkpoints

    remaining = [stage for stage in STAGES if getattr(arguments, stage.flag)]
    if arguments.pretrained_local:
        remaining = [stage for stage in remaining if not stage.is_global and not stage.is_frozen]
    elif arguments.pretrained_global:
        remaining = [stage for stage in remaining if not stage.is_global]
    if not remaining:
        raise InputError("--n_joint_epochs: expected a stage with epochs to train, found none")
    states = [] if arguments.fresh else [checkpoints.states(folder / stage.name) for stage in remaining]
    begun = [index for index, states_of_stage in enumerate(states) if states_of_stage]
    if begun:
        return remaining[begun[-1] :]
    before = folder / STAGES[0].name / "generator.h5"
    if remaining[0].is_frozen and not arguments.pretrained_global and (arguments.fresh or not before.exists()):
        raise InputError(
            "--n_global_epochs: expected epochs of the first stage, its weights as --pretrained_global, or those of an "
            f"earlier run at {before}, found none"
        )
    return remaining


def _run_stage(arguments, stage: Stage, folder: pathlib.Path, representation, batches, held_out, examples) -> None:
    """Train one stage, and copy its generator to the model's folder."""
    import model
    from training import loop, outputs, step

    precision = model.choose_precision(arguments.precision)
    networks = _build(arguments, stage, precision)
    _take_over(arguments, stage, folder, networks)
    flags = {
        "batch_size": arguments.batch_size,
        "validation_split": arguments.validation_split,
        "base_filters": arguments.base_filters,
        "seed": arguments.seed,
        "guitar_dir": str(pathlib.Path(arguments.guitar_dir).resolve()),
        "f0": arguments.f0,
        "segments": len(batches.segments),
        "precision": precision,
        "lr": arguments.lr,
        "l1": arguments.l1,
        **({"augment": True} if arguments.augment else {}),
    }
    sampler = make_sampler(networks.generator, stage, representation, examples)
    pictures = pathlib.Path(arguments.out_dir, folder.name, stage.name)
    epochs = getattr(arguments, stage.flag)

    def sample(target: pathlib.Path) -> list:
        write_log(pathlib.Path(arguments.out_dir, arguments.log), folder)  # the history holds this epoch already
        return sampler(target, f"epoch {int(target.name)}")

    def after_step(number: int) -> None:
        if number % arguments.plot_interval == 0:
            outputs.attempt("samples", lambda: sampler(pictures / f"step_{number:07d}", f"step {number}"), [])

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
            "augment": arguments.augment,
        },
        flags=flags,
        generator_rate=arguments.lr,
        discriminator_rate=arguments.lr,
        epochs=epochs,
        lr_schedule=stage.schedule,
        max_steps=arguments.max_steps,
        seed=arguments.seed,
        tensorboard=arguments.tensorboard,
        after_step=after_step if step.is_chief() else lambda _: None,
    )
    print(f"Training {settings.folder} ({precision}): {epochs} epochs of {batches.steps_per_epoch} steps")
    loop.fit(loop.Run(networks, settings, batches, held_out, sample))
    if step.is_chief():
        with replacing(folder / "generator.h5") as beside:
            shutil.copyfile(settings.folder / "generator.h5", beside)
        print(f"{folder / 'generator.h5'}: the generator of stage {stage.name}")


def _build(arguments: argparse.Namespace, stage: Stage, precision: str):
    """The `step.Networks` of a stage, with random weights."""
    import tensorflow as tf

    import losses
    from hum2guitar import networks
    from training import step

    def adabelief():
        optimizer = step.AdaBelief()
        return tf.keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer

    build = networks.build_global_generator if stage.is_global else networks.build_local_enhancer
    generator = build(arguments.base_filters, precision, arguments.seed)
    discriminator = networks.build_multiscale_discriminator(arguments.base_filters, precision, arguments.seed + 1)
    return step.Networks(
        generator,
        discriminator,
        losses.hum2guitar(arguments.l1),
        adabelief(),
        adabelief(),
        instance_noise=INSTANCE_NOISE,
    )


def _take_over(arguments: argparse.Namespace, stage: Stage, folder: pathlib.Path, networks) -> None:
    """Set the weights that a stage starts from: pretrained ones, or those of the stage before.

    Raises:
        InputError: a weights file holds another network.
    """
    import model
    from hum2guitar.networks import copy_global, global_layers, load_hum2guitar

    if stage.is_global:
        return
    global_folder, local_folder = (folder / STAGES[index].name for index in (0, 1))
    if arguments.pretrained_local:
        model.load_into(networks.generator, arguments.pretrained_local)
    elif not stage.is_frozen and (local_folder / "generator.h5").exists():
        model.load_into(networks.generator, local_folder / "generator.h5")
        model.load_into(networks.discriminator, local_folder / "discriminator.h5")
    else:
        path = pathlib.Path(arguments.pretrained_global or global_folder / "generator.h5")
        if path.exists():
            pretrained = load_hum2guitar(path)
            found, expected = (one.get_layer("global_0").filters for one in (pretrained, networks.generator))
            if found != expected:
                raise InputError(f"{path}: expected a global generator with {expected} base filters, found {found}")
            copy_global(pretrained, networks.generator)
    if stage.is_frozen:
        for layer in global_layers(networks.generator):
            layer.trainable = False


# --- samples and log --------------------------------------------------------------------------------------------------


def _guitar_example(features: dataset.Segments, rows: np.ndarray, plucked: bool) -> Example:
    """The segment of the first of `rows`."""
    batches = dataset.HumBatches(features, rows[:1], 1, 0, shuffle=False, plucked=plucked)
    file, number = rows[0]
    return Example(f"guitar: {features.files[file].stem}", *batches.pair(file, number))


def _humming_example(
    hums: list[pathlib.Path], method: str, representation: HumRepresentation, plucked: bool
) -> dict[str, Example]:
    """The first segment of `hums` that has a pitch, moved into the guitar's range by octaves; empty without hums."""
    if not hums:
        return {}
    found = dataset.read_sample(hums, representation, method)
    if found is None:
        raise InputError(f"--humming_dir: expected a recording with a pitch, found none in {hums[0].parent}")
    name, f0, energy, level = found
    f0 = f0 * 2.0 ** octaves_into_range(f0, energy, representation.f0_low, representation.f0_high)
    energy = pluck(f0, energy, representation) if plucked else energy
    return {"humming": Example(f"humming: {name}", harmonics.harmonics_level(f0, energy, representation), level)}


def make_sampler(generator, stage: Stage, representation, examples: dict[str, Example]) -> Callable:
    """A function of (folder, time) that writes picture and audio of each example to a folder and returns them."""
    import librosa
    import tensorflow as tf

    from training.outputs import Sample

    r = representation
    predict = tf.function(lambda inputs: generator(inputs, training=False), reduce_retracing=True, autograph=False)
    frequencies = librosa.mel_frequencies(r.n_mels + 2, fmin=r.f_min, fmax=r.f_max)[1:-1]

    def sample(folder: pathlib.Path, time: str) -> list:
        samples = []
        for name, example in examples.items():
            inputs = harmonics.halve_bins(example.inputs) if stage.is_global else example.inputs
            output = predict(inputs[np.newaxis, ..., np.newaxis]).numpy()[0, ..., 0]
            output = harmonics.double_bins(output) if stage.is_global else output
            of_harmonics, of_mel = (r.harmonics_top_db, r.harmonics_ref_db), (r.mel_top_db, r.mel_ref_db)
            levels = {
                "harmonics": (example.inputs, *of_harmonics),
                "original": (example.original, *of_mel),
                "output": (output, *of_mel),
            }
            picture = plots.spectrogram_frame(
                [(title, (level - 1) / 2 * top + ref) for title, (level, top, ref) in levels.items()],
                r.hop_length / r.sample_rate,
                frequencies,
                title=f"{example.title}, {stage.name}, {time}",
                scale_db=(r.mel_ref_db - r.mel_top_db, r.mel_ref_db),
            )
            audio = mel_to_audio(harmonics.mel_power(output, r), r.segment_samples, r, SAMPLE_ITERATIONS)
            audio /= max(1.0, np.abs(audio).max())
            plots.save_png(folder / f"{name}.png", picture)
            write_audio(folder / f"{name}.wav", audio, r.sample_rate)
            samples.append(Sample(name, picture, audio, r.sample_rate))
        return samples

    return sample


def write_log(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Write the losses of all epochs of all stages as lines of text, from their histories."""
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
