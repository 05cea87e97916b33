"""The training of the second system: guitar recordings to segments, then three stages.

1. ``1_global`` trains the global generator alone, on half the mel bands.
2. ``2_local`` trains the local enhancer around it, with the global part frozen.
3. ``3_joint`` trains both together.

Each stage is a run of `loop.fit` in a folder of its own, which can be resumed and keeps its history. A stage is skipped
once the next one has weights. ``generator.h5`` in the folder above is that of the last stage, to convert with.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from common import InputError, cli, plots, weights
from common.files import replacing, writable_folder
from hum2guitar import dataset, harmonics
from hum2guitar.harmonics import HumRepresentation, mel_to_audio
from sound.files import find_audio, write_audio
from training import checkpoints, run
from training.dataset import hold_out

if TYPE_CHECKING:
    from training import step

INSTANCE_NOISE = 0.1  # standard deviation of the noise added to what the discriminator judges
GLOBAL, LOCAL, JOINT = STAGES = ("1_global", "2_local", "3_joint")


def train(arguments: argparse.Namespace) -> int:
    """Train as the arguments of train_hum2guitar.py ask for; the exit status."""
    run.check_machine(arguments.models_path, arguments.tensorboard)
    output = writable_folder(arguments.out_dir, "--out_dir")
    folder = pathlib.Path(arguments.models_path, f"hum2guitar_{arguments.name}" if arguments.name else "hum2guitar")
    if not arguments.fresh:
        run.refuse_exported(folder)
    counts = (arguments.n_global_epochs, arguments.n_fixed_global_epochs, arguments.n_joint_epochs)
    epochs = dict(zip(STAGES, counts, strict=True))
    pretrained = {GLOBAL: arguments.pretrained_global, LOCAL: arguments.pretrained_local}
    starts = plan(epochs, pretrained, folder, arguments.fresh)

    # Data: segments of guitars to train on and to validate with, and what the samples are made of.
    hums = find_audio(arguments.humming_dir, "--humming_dir") if arguments.humming_dir else []
    augment, f0, seed = arguments.augment, arguments.f0, arguments.seed
    features = dataset.prepare(arguments.guitar_dir, arguments.features_path, f0)
    is_held_out, _ = hold_out(features.segments[:, 0], arguments.validation_split, seed)
    training_rows, validation_rows = features.segments[~is_held_out], features.segments[is_held_out]
    print(f"{len(training_rows)} segments to train on, {len(validation_rows)} held out for validation")
    shown = validation_rows if len(validation_rows) else training_rows
    examples = dataset.read_examples(features, shown[0], hums, f0, augment)
    batches = {}
    for stage in starts:
        shared = (arguments.batch_size, seed, stage == GLOBAL)
        training = dataset.HumBatches(features, training_rows, *shared, augment=augment)
        held_out = dataset.HumBatches(features, validation_rows, *shared, shuffle=False, augment=augment)
        batches[stage] = (training, held_out if len(validation_rows) else None)
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
        for stage, start in starts.items():
            networks = build_networks(stage, start, arguments.base_filters, precision, seed, arguments.l1)
            sampler = make_sampler(networks.generator, stage, features.representation, examples)

            def end_epoch(target: pathlib.Path, sampler=sampler) -> None:
                write_log(output / arguments.log, folder)  # the history holds this epoch already
                sampler(target)

            def after_step(number: int, stage=stage, sampler=sampler) -> None:
                if number % arguments.plot_interval == 0:
                    target = output / folder.name / stage / f"step_{number:07d}"
                    outputs.attempt("samples", lambda: sampler(target))

            trained = loop.Run(
                networks,
                *batches[stage],
                end_epoch,
                folder / stage,
                description,
                flags,
                generator_rate=arguments.lr,
                discriminator_rate=arguments.lr,
                epochs=epochs[stage],
                lr_schedule="constant" if stage == LOCAL else "decay",
                max_steps=arguments.max_steps,
                seed=seed,
                tensorboard=arguments.tensorboard,
                after_step=after_step,
            )
            loop.fit(trained)
            with replacing(folder / "generator.h5") as beside:
                shutil.copyfile(trained.folder / "generator.h5", beside)
            print(f"{folder / 'generator.h5'}: the generator of stage {stage}")
    return status


def plan(
    epochs: dict[str, int], pretrained: dict[str, str | None], folder: pathlib.Path, fresh: bool
) -> dict[str, list[pathlib.Path]]:
    """The stages to train, with the files of generator and, if known, discriminator that each starts from.

    Stages without epochs are left out, as are those that `pretrained` weights replace, and those before a stage with
    epochs that has begun in the model's `folder`, unless the run is `fresh`. A stage that has begun needs no files but
    its own.

    Raises:
        InputError: nothing is to be trained, the second stage has no global generator, or `pretrained` weights are
            damaged or those of another network.
    """
    starts: dict[str, list[pathlib.Path]] = {}
    start: list[pathlib.Path] = []
    for stage in STAGES:
        path, given = folder / stage / "generator.h5", pretrained.get(stage)
        is_begun = path.exists() and not fresh
        if given:
            found = weights.describe(given)
            network = weights.GLOBAL_GENERATOR if stage == GLOBAL else weights.LOCAL_ENHANCER
            if found.network != network:
                raise InputError(f"{given}: expected the weights of a {network}, found those of a {found.network}")
            starts, start = {}, [found.path]
            continue
        if epochs[stage]:
            starts = {stage: []} if is_begun else {**starts, stage: start}
        if epochs[stage] or is_begun:
            start = [path] if stage == GLOBAL else [path, path.with_name("discriminator.h5")]
    if not starts:
        raise InputError("--n_joint_epochs: no stage has epochs to train")
    if starts.get(LOCAL) == [] and (fresh or not (folder / LOCAL / "generator.h5").exists()):
        raise InputError(
            "--n_global_epochs: the second stage needs a first one, of this or an earlier run, or weights "
            "as --pretrained_global"
        )
    return starts


def build_networks(
    stage: str, start: list[pathlib.Path], base_filters: int, precision: str, seed: int, l1: float
) -> step.Networks:
    """The networks of a stage, with weights from the files `start` as far as these have the same layers."""
    import losses
    from hum2guitar import networks
    from training import step

    build = networks.build_global_generator if stage == GLOBAL else networks.build_local_enhancer
    generator = build(base_filters, precision, seed)
    discriminator = networks.build_multiscale_discriminator(base_filters, precision, seed + 1)
    for network, path in zip((generator, discriminator), start, strict=False):
        networks.load_shared(network, path)
    for layer in generator.layers:
        layer.trainable = stage != LOCAL or not layer.name.startswith("global_")
    for_generator, for_discriminator = (step.scaled(step.AdaBelief(), precision) for _ in range(2))
    objective = losses.hum2guitar(l1)
    return step.Networks(generator, discriminator, objective, for_generator, for_discriminator, INSTANCE_NOISE)


# --- samples and log --------------------------------------------------------------------------------------------------


def make_sampler(generator, stage: str, representation: HumRepresentation, examples: dict[str, tuple]) -> Callable:
    """A function that writes picture and audio of each example to a folder, named after the epoch or step."""
    import librosa
    import tensorflow as tf

    r = representation
    predict = tf.function(lambda inputs: generator(inputs, training=False), reduce_retracing=True, autograph=False)
    frequencies = librosa.mel_frequencies(r.n_mels + 2, fmin=r.f_min, fmax=r.f_max)[1:-1]

    def sample(folder: pathlib.Path) -> None:
        time = f"epoch {int(folder.name)}" if folder.name.isdigit() else folder.name.replace("_", " ")
        for name, (title, harmonics_level, original) in examples.items():
            inputs = harmonics.halve_bins(harmonics_level) if stage == GLOBAL else harmonics_level
            output = predict(inputs[np.newaxis, ..., np.newaxis]).numpy()[0, ..., 0]
            output = harmonics.double_bins(output) if stage == GLOBAL else output
            plots.save_spectrograms(
                folder / f"{name}.png",
                [
                    ("harmonics", (harmonics_level - 1) / 2 * r.harmonics_top_db + r.harmonics_ref_db),
                    ("original", (original - 1) / 2 * r.mel_top_db + r.mel_ref_db),
                    ("output", (output - 1) / 2 * r.mel_top_db + r.mel_ref_db),
                ],
                r.hop_length / r.sample_rate,
                frequencies,
                title=f"{title}, {stage}, {time}",
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
    histories = [(name, folder / name / "history.csv") for name in STAGES]
    text = "\n".join(f"{name}\n{file.read_text(encoding='utf-8')}" for name, file in histories if file.exists())
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
