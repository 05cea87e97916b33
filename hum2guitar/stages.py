"""The training of the second system: guitar recordings to segments, then three stages.

1. ``1_global`` trains the global generator alone, on half the mel bands.
2. ``2_local`` trains the local enhancer around it, with the global part frozen.
3. ``3_joint`` trains both together.

Each stage is a run of `loop.fit` in a folder of its own, which can be resumed and keeps its history. A stage is skipped
once the next one has begun. ``generator.h5`` in the folder above is that of the last stage and the one to convert with.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from common import InputError, cli, plots, weights
from common.files import replacing, writable_folder
from hum2guitar import dataset, harmonics
from hum2guitar.harmonics import HumRepresentation, mel_to_audio
from sound.files import find_audio, write_audio
from training import checkpoints, run

INSTANCE_NOISE = 0.1  # standard deviation of the noise added to what the discriminator judges


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of the training."""

    name: str  # of its folder
    flag: str  # the argument that holds its number of epochs
    is_global: bool  # trains the global generator alone, on half the bands; otherwise the local enhancer
    is_frozen: bool  # the global part keeps its weights


STAGES = (
    Stage("1_global", "n_global_epochs", True, False),
    Stage("2_local", "n_fixed_global_epochs", False, True),
    Stage("3_joint", "n_joint_epochs", False, False),
)


def train(arguments: argparse.Namespace) -> int:
    """Train as the arguments of train_hum2guitar.py ask for; the exit status."""
    pretrained = arguments.pretrained_local or arguments.pretrained_global
    n_replaced = 2 if arguments.pretrained_local else 1 if pretrained else 0  # stages
    if pretrained:
        weights.describe(pretrained)  # a missing or damaged file ends the run here
    run.check_machine(arguments.models_path, arguments.tensorboard)
    output = writable_folder(arguments.out_dir, "--out_dir")
    folder = pathlib.Path(arguments.models_path, f"hum2guitar_{arguments.name}" if arguments.name else "hum2guitar")
    if not arguments.fresh:
        run.refuse_exported(folder)
    epochs = {stage.name: getattr(arguments, stage.flag) for stage in STAGES}
    remaining = _remaining_stages(epochs, folder, arguments.fresh, n_replaced)

    # Data: segments of guitars to train on and to validate with, and what the samples are made of.
    hums = find_audio(arguments.humming_dir, "--humming_dir") if arguments.humming_dir else []
    augment, f0, seed = arguments.augment, arguments.f0, arguments.seed
    features = dataset.prepare(arguments.guitar_dir, arguments.features_path, f0, harmonics.PUBLISHED)
    training_rows, validation_rows, split = dataset.split_by_recording(features, arguments.validation_split, seed)
    print(f"{len(training_rows)} segments to train on, {100 * features.voiced:.0f} % of their frames voiced; {split}")
    shown = validation_rows if len(validation_rows) else training_rows
    examples = dataset.read_examples(features, shown[0], hums, f0, augment)
    runs = []
    for stage in remaining:
        shared = (arguments.batch_size, seed, stage.is_global)
        batches = dataset.HumBatches(features, training_rows, *shared, augment=augment)
        held_out = dataset.HumBatches(features, validation_rows, *shared, shuffle=False, augment=augment)
        runs.append((stage, batches, held_out if len(validation_rows) else None))
    status = cli.report_left_out(features.left_out)

    precision = run.start_tensorflow(arguments.gpu, arguments.precision)
    from training import loop, outputs

    guitar_dir = str(pathlib.Path(arguments.guitar_dir).resolve())
    flags = vars(arguments) | {"guitar_dir": guitar_dir, "segments": len(training_rows), "precision": precision}
    description = {
        "system": "hum2guitar",
        "representation": features.representation.to_dict(),
        "origin": "any pitched sound",
        "targets": ["guitar"],
        "f0": f0,
        "augment": augment,
    }
    with checkpoints.claim(folder, flags, arguments.fresh):
        for stage, batches, held_out in runs:
            networks = _build(stage, arguments.base_filters, precision, seed, arguments.l1)
            _take_over(networks, stage, folder, pretrained, n_replaced)
            sampler = make_sampler(networks.generator, stage, features.representation, examples)

            def end_epoch(target: pathlib.Path, sampler=sampler) -> None:
                write_log(output / arguments.log, folder)  # the history holds this epoch already
                sampler(target)

            def after_step(number: int, stage=stage, sampler=sampler) -> None:
                if number % arguments.plot_interval == 0:
                    target = output / folder.name / stage.name / f"step_{number:07d}"
                    outputs.attempt("samples", lambda: sampler(target))

            trained = loop.Run(
                networks,
                batches,
                held_out,
                end_epoch,
                folder / stage.name,
                description,
                flags,
                generator_rate=arguments.lr,
                discriminator_rate=arguments.lr,
                epochs=epochs[stage.name],
                lr_schedule="constant" if stage.is_frozen else "decay",
                max_steps=arguments.max_steps,
                seed=seed,
                tensorboard=arguments.tensorboard,
                after_step=after_step,
            )
            loop.fit(trained)
            with replacing(folder / "generator.h5") as beside:
                shutil.copyfile(trained.folder / "generator.h5", beside)
            print(f"{folder / 'generator.h5'}: the generator of stage {stage.name}")
    return status


def _remaining_stages(epochs: dict[str, int], folder: pathlib.Path, fresh: bool, n_replaced: int) -> list[Stage]:
    """The stages to train: those with epochs that neither pretrained weights replace nor a later stage has followed."""
    remaining = [stage for stage in STAGES[n_replaced:] if epochs[stage.name]]
    if not remaining:
        raise InputError("--n_joint_epochs: no stage has epochs to train")
    begun = [] if fresh else [i for i, stage in enumerate(remaining) if checkpoints.states(folder / stage.name)]
    if begun:
        return remaining[begun[-1] :]
    before = folder / STAGES[0].name / "generator.h5"
    if remaining[0].is_frozen and not n_replaced and (fresh or not before.exists()):
        raise InputError(
            "--n_global_epochs: the second stage needs a first one, weights as --pretrained_global, or those of an "
            f"earlier run at {before}"
        )
    return remaining


def _build(stage: Stage, base_filters: int, precision: str, seed: int, l1: float):
    """The `step.Networks` of a stage, with random weights."""
    import losses
    from hum2guitar import networks
    from training import step

    build = networks.build_global_generator if stage.is_global else networks.build_local_enhancer
    return step.Networks(
        build(base_filters, precision, seed),
        networks.build_multiscale_discriminator(base_filters, precision, seed + 1),
        losses.hum2guitar(l1),
        *(step.scaled(step.AdaBelief(), precision) for _ in range(2)),
        instance_noise=INSTANCE_NOISE,
    )


def _take_over(networks, stage: Stage, folder: pathlib.Path, pretrained: str | None, n_replaced: int) -> None:
    """Set the weights that a stage starts from: `pretrained`, for `n_replaced` stages, or those of the stage before."""
    import model
    from hum2guitar.networks import copy_global, global_layers

    if stage.is_global:
        return
    of_global, of_local = (folder / before.name / "generator.h5" for before in STAGES[:2])
    if n_replaced == 2:
        model.load_into(networks.generator, pretrained)
    elif not stage.is_frozen and of_local.exists():
        model.load_into(networks.generator, of_local)
        model.load_into(networks.discriminator, of_local.with_name("discriminator.h5"))
    elif pretrained or of_global.exists():
        copy_global(pretrained or of_global, networks.generator)
    if stage.is_frozen:
        for layer in global_layers(networks.generator):
            layer.trainable = False


# --- samples and log --------------------------------------------------------------------------------------------------


def make_sampler(generator, stage: Stage, representation: HumRepresentation, examples: dict[str, tuple]) -> Callable:
    """A function that writes picture and audio of each example to a folder, named after the epoch or step."""
    import librosa
    import tensorflow as tf

    r = representation
    predict = tf.function(lambda inputs: generator(inputs, training=False), reduce_retracing=True, autograph=False)
    frequencies = librosa.mel_frequencies(r.n_mels + 2, fmin=r.f_min, fmax=r.f_max)[1:-1]

    def sample(folder: pathlib.Path) -> None:
        time = f"epoch {int(folder.name)}" if folder.name.isdigit() else folder.name.replace("_", " ")
        for name, (title, harmonics_level, original) in examples.items():
            inputs = harmonics.halve_bins(harmonics_level) if stage.is_global else harmonics_level
            output = predict(inputs[np.newaxis, ..., np.newaxis]).numpy()[0, ..., 0]
            output = harmonics.double_bins(output) if stage.is_global else output
            plots.save_spectrograms(
                folder / f"{name}.png",
                [
                    ("harmonics", (harmonics_level - 1) / 2 * r.harmonics_top_db + r.harmonics_ref_db),
                    ("original", (original - 1) / 2 * r.mel_top_db + r.mel_ref_db),
                    ("output", (output - 1) / 2 * r.mel_top_db + r.mel_ref_db),
                ],
                r.hop_length / r.sample_rate,
                frequencies,
                title=f"{title}, {stage.name}, {time}",
                scale_db=(r.mel_ref_db - r.mel_top_db, r.mel_ref_db),
                beside=True,
                dpi=plots.SCREEN_DPI,
            )
            audio = mel_to_audio(harmonics.mel_power(output, r), r)[: r.segment_samples]
            audio /= max(1.0, np.abs(audio).max())
            write_audio(folder / f"{name}.wav", audio, r.sample_rate)

    return sample


def write_log(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Write the histories of all stages into one file, a title and a table for each."""
    histories = [(stage.name, folder / stage.name / "history.csv") for stage in STAGES]
    text = "\n".join(f"{name}\n{file.read_text(encoding='utf-8')}" for name, file in histories if file.exists())
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
