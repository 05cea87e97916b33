"""The first system put together: data found, networks built, the training loop or the learning-rate finder called.

Fixed pair, multitarget and generator only differ in three arguments of `train`. Imports TensorFlow only after the
arguments and the data set have been checked.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

import data
from common import cli, plots, weights
from common.errors import InputError
from data import Representation
from sound.files import write_audio
from training import checkpoints, dataset, rates, start
from training.augmentation import Augmentation
from training.batches import Batches

SAMPLE_SLICES = 4


def add_arguments(parser: argparse.ArgumentParser, adversarial: bool = True, several_origins: bool = False) -> None:
    """The arguments that all Pix2Pix train scripts share.

    Args:
        parser: the script's.
        adversarial: add the arguments of the discriminator.
        several_origins: ``--origin`` takes any number of instruments.
    """
    origin_help = "instrument to convert from; all its voices (folders <instrument>@<voice>) are trained on"
    if several_origins:
        origin_help += "; several, or any for all that the data set has"
    positive, fraction = cli.positive_int, cli.number(float, minimum=0, maximum=0.9)
    add = parser.add_argument
    add(
        "--dataset_path",
        "--dataset",
        required=True,
        help="features, with a folder for each instrument (compute_features.py)",
    )
    add("--origin", required=True, nargs="+" if several_origins else None, help=origin_help)
    add(
        "--augment",
        action="store_true",
        help="vary the origin's room, frequency response, noise, level and tuning, so that the network also works on "
        "instruments and recordings it was not trained on",
    )
    add("--epochs", type=positive, default=100, help="number of the last epoch")
    add(
        "--epoch_offset",
        type=cli.number(int, minimum=0),
        help="epochs that weights without a training state in the model's folder were trained for; continues from them "
        "(default: the number in the weights file)",
    )
    add("--init", help="weights (.h5, or a model's folder) to start from, of any instruments; epochs begin at 1")
    add("--batch_size", type=positive, default=8, help="slices in a batch")
    rate = cli.number(float, above=0, word="auto")
    rates.add_arguments(parser, rate, adversarial)
    add(
        "--validation_split",
        type=fraction,
        default=0.1,
        help="share of the slices held out for validation, by piece",
    )
    add("--seed", type=cli.seed, default=0, help="of weights, data order, split and dropout")
    add(
        "--lr_schedule",
        choices=["constant", "linear"],
        help="linear: rises over the first 5 %% of the steps, stays until the middle, falls to zero at the end "
        "(default: constant, linear with --preset small)",
    )
    add(
        "--beta_1",
        type=cli.number(float, minimum=0, maximum=0.999),
        help="of Adam; pix2pix uses 0.5 (default: 0.9, with --preset small 0.5)",
    )
    add("--patience", type=positive, help="stop after so many epochs without a lower validation MAE")
    add(
        "--objective",
        choices=["published", "perceptual"],
        default="published",
        help="perceptual: the energy in mel bands and its change from frame to frame count beside L1",
    )
    if adversarial:
        add("--l1_weight", type=cli.positive_float, default=100.0, help="of L1 beside the adversarial loss")
    cli.add_training(parser)
    plots.add_arguments(parser, plot_format=True)


def train(
    arguments: argparse.Namespace,
    origins: Sequence[str],
    targets: Sequence[str],
    style: bool,
    adversarial: bool,
    find_rates: Callable,
    identity: bool = True,
) -> int:
    """Train a model, or find learning rates for it; the exit status.

    Args:
        arguments: of `add_arguments` and `lr_finder.add_arguments`.
        origins: instruments to convert from.
        targets: one, or with `style` any number of instruments.
        style: multitarget: the generator's second channel says which target.
        adversarial: with a discriminator; otherwise the generator alone on L1.
        find_rates: `lr_finder.find`, which takes the place of training with ``--findlr``.
        identity: whether to train on pairs of an instrument with itself.
    """
    start.check_arguments(arguments)
    if arguments.epoch_offset is not None and arguments.epochs <= arguments.epoch_offset:
        raise InputError(
            f"--epochs: expected the number of the last epoch, above --epoch_offset {arguments.epoch_offset}, found "
            f"{arguments.epochs}"
        )
    if arguments.init and arguments.epoch_offset is not None:
        raise InputError("--epoch_offset: expected only without --init, whose epochs begin at 1")
    pairs = dataset.find_pairs(arguments.dataset_path, origins, targets, identity)
    if not style and len(pairs.targets) > 1:
        raise InputError(
            f"--target: expected one voice of {targets[0]}, found {len(pairs.targets)}: name one of "
            f"{', '.join(pairs.targets)}"
        )
    training_rows, validation_rows, split = dataset.split_by_piece(pairs, arguments.validation_split, arguments.seed)
    augmentation = Augmentation(pairs.representation) if arguments.augment else None

    def make_batches(drop_remainder: bool) -> Batches:
        return Batches(
            pairs,
            training_rows,
            arguments.batch_size,
            arguments.seed,
            style,
            drop_remainder=drop_remainder,
            augmentation=augmentation,
        )

    batches = make_batches(drop_remainder=False)  # refuses a batch size above the data before TensorFlow starts
    held_out = None
    if len(validation_rows):
        held_out = Batches(pairs, validation_rows, arguments.batch_size, arguments.seed, style, shuffle=False)
    elif arguments.patience:
        raise InputError("--patience: expected slices held out for validation (--validation_split), found none")
    origin, target = model_names(origins, targets, style)
    folder = pathlib.Path(arguments.models_path, f"{origin}_2_{target}{'' if adversarial else '_generator'}")
    chosen = rates.choose_rates(arguments, target, folder, len(training_rows), adversarial)
    initial = _find_initial_weights(arguments, folder, 1 + style, pairs.representation) if arguments.init else []
    _print_left_out(pairs, identity)
    print(f"{cli.count(len(training_rows), 'slice')} to train on; {split}")

    with start.start_run(arguments) as strategy:
        if strategy.num_replicas_in_sync > 1:
            batches = make_batches(drop_remainder=True)
        networks, precision = _build(arguments, batches.in_channels, adversarial, chosen.beta_1, pairs.representation)
        _load_initial_weights(networks, initial)
        if arguments.findlr:
            flags = (arguments.findlr_steps, arguments.seed, arguments.findlr_divisor, arguments.plot_format)
            find_rates(networks, batches, folder, *flags)
        else:
            with start.claim_folder(folder, arguments.fresh):
                _train(arguments, origin, batches, held_out, folder, chosen, networks, precision, identity)
    return 0


def _print_left_out(pairs: dataset.Pairs, identity: bool) -> None:
    """Say which slices and pairs of a data set are not trained on, and which instruments are on both sides."""
    for instrument, (count, first) in pairs.unfinished.items():
        slices = cli.count(count, "slice")
        print(f"Left out: {slices} of {instrument}, pieces unfinished by compute_features.py, such as {first}")
    for instrument, (count, first) in pairs.unpaired.items():
        print(f"Left out: {cli.count(count, 'slice')} of {instrument} without a counterpart, such as {first}")
    origins, targets = (set(map(dataset.instrument_of, folders)) for folders in (pairs.origins, pairs.targets))
    for instrument in sorted(origins & targets):
        if identity:
            print(f"{instrument} is an origin and a target: the network also learns to return it unchanged")
        else:
            print(f"Left out: {instrument} to itself (--identity trains on it too)")


def _train(
    arguments,
    origin: str,
    batches: Batches,
    held_out,
    folder: pathlib.Path,
    chosen: rates.Rates,
    networks,
    precision,
    with_itself: bool,
) -> None:
    """The part of `train` that needs TensorFlow, in the scope of the distribution strategy."""
    from training import loop

    pairs = batches.pairs
    adversarial = networks.discriminator is not None
    identity = {
        "batch_size": arguments.batch_size,
        "validation_split": arguments.validation_split,
        "base_filters": arguments.base_filters,
        "seed": arguments.seed,
        "origin": list(pairs.origins),
        "target": list(pairs.targets),
        "augment": arguments.augment,
        "dataset_path": str(pairs.folder.resolve()),
        "slices": len(batches.samples),
        "precision": precision,
        "lr_schedule": chosen.lr_schedule,
        "beta_1": chosen.beta_1,
        "gen_lr": chosen.gen_lr,
        "objective": arguments.objective,
    }
    if adversarial:
        identity["l1_weight"] = arguments.l1_weight
        identity["disc_lr"] = chosen.disc_lr
    description = {
        "system": "pix2pix",
        "representation": pairs.representation.to_dict(),
        "origin": origin,
        "origins": list(pairs.origins),
        "targets": [dataset.instrument_of(name) for name in pairs.targets],
        "voices": list(pairs.targets),
        "identity": with_itself,
        "augment": arguments.augment,
        "validation_split": arguments.validation_split,
        "seed": arguments.seed,
    }
    flag = "--gen_lr" if hasattr(arguments, "disc_lr") else "--lr"
    settings = loop.Settings(
        folder,
        description=description,
        identity=identity,
        generator_rate=chosen.gen_lr,
        discriminator_rate=chosen.disc_lr if adversarial else 0.0,
        epochs=arguments.epochs,
        epoch_offset=arguments.epoch_offset,
        max_steps=arguments.max_steps,
        seed=arguments.seed,
        lr_schedule=chosen.lr_schedule,
        patience=arguments.patience,
        checkpoint_minutes=arguments.checkpoint_minutes,
        tensorboard=arguments.tensorboard,
        plot_format=arguments.plot_format,
        jit=arguments.jit,
        advice=f"run the same command with --findlr, or raise {flag}",
    )
    shown = f"{chosen.gen_lr:g}, {chosen.disc_lr:g}" if adversarial else f"{chosen.gen_lr:g}"
    print(f"Training {folder} ({precision})")
    print(f"Learning rates {shown} ({chosen.lr_schedule}, beta_1 {chosen.beta_1:g}): {chosen.reason}")
    sampler = make_sampler(networks.generator, held_out or batches, arguments.plot_scale)
    loop.fit(loop.Run(networks, settings, batches, held_out, sampler))


def model_names(origins: Sequence[str], targets: Sequence[str], style: bool) -> tuple[str, str]:
    """The names of origin and target in a model's folder: of several, "any"; the voice of an instrument is left out."""
    origin = dataset.instrument_of(origins[0]) if len(origins) == 1 else dataset.ANY
    return origin, dataset.ANY if style else dataset.instrument_of(targets[0])


def _find_initial_weights(
    arguments: argparse.Namespace, folder: pathlib.Path, in_channels: int, representation: Representation
) -> list[weights.Description]:
    """The weights files that ``--init`` names: the generator, and the discriminator beside it if it has the same size.

    Empty if the run in `folder` has a state, because it goes on from that.

    Raises:
        InputError: they do not fit the run, or the folder holds other weights to go on from.
    """
    if not arguments.fresh and not arguments.findlr:
        if checkpoints.states(folder):
            print("--init is for the start of a run: this one goes on from its own state")
            return []
        if (folder / "generator.h5").exists():
            raise InputError(
                f"--init: expected a folder without weights of its own, found {folder / 'generator.h5'}; without "
                "--init training goes on from those, and --fresh sets them aside"
            )
    path = pathlib.Path(arguments.init)
    if path.is_dir():
        names = ("generator_best.h5", "generator.h5")
        path = next((path / name for name in names if (path / name).exists()), path)
    found = weights.describe(path)
    if found.network != weights.UNET:
        raise InputError(f"--init: expected the weights of a Pix2Pix generator, found a {found.network} in {path}")
    if found.in_channels != in_channels:
        kinds = {1: "one pair of instruments", 2: "several targets (train_multitarget.py)"}
        raise InputError(
            f"--init: expected a generator for {kinds[in_channels]}, found one for "
            f"{kinds.get(found.in_channels, f'{found.in_channels} channels')} in {path}"
        )
    if found.base_filters != arguments.base_filters:
        raise InputError(
            f"--init: expected weights of --base_filters {arguments.base_filters}, found --base_filters "
            f"{found.base_filters} in {path}"
        )
    if found.representation != representation:
        raise InputError(f"--init: expected weights for the spectrograms of --dataset_path, found others in {path}")
    discriminator = path.with_name("discriminator.h5")
    if not discriminator.exists():
        return [found]
    other = weights.describe(discriminator)
    fits = (other.network, other.base_filters) == (weights.PATCHGAN, found.base_filters)
    return [found, other] if fits else [found]


def _load_initial_weights(networks, initial: Sequence[weights.Description]) -> None:
    """Set the weights of `networks` to those of `_find_initial_weights`."""
    import model

    for network, description in zip((networks.generator, networks.discriminator), initial, strict=False):
        if network is not None:
            model.load_into(network, description.path)
            print(f"Starting from {description.path} ({description.summary})")


def _build(
    arguments: argparse.Namespace, in_channels: int, adversarial: bool, beta_1: float, representation: Representation
):
    """The `loop.Networks` of the arguments and the precision that they compute in."""
    import tensorflow as tf

    import losses
    import model
    from training import loop, optimizers

    precision = model.choose_precision(arguments.precision)

    def adam():
        optimizer = optimizers.Adam(beta_1=beta_1)
        return tf.keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer

    batch_norm = model.training_batch_norm()
    generator = model.build_generator(in_channels, arguments.base_filters, precision, arguments.seed, batch_norm)
    l1_weight = arguments.l1_weight if adversarial else 1.0
    perceptual = representation if arguments.objective == "perceptual" else None
    objective = losses.pix2pix(adversarial, l1_weight, perceptual)
    if not adversarial:
        return loop.Networks(generator, None, objective, adam()), precision
    discriminator = model.build_discriminator(arguments.base_filters, precision, arguments.seed + 1, batch_norm)
    return loop.Networks(generator, discriminator, objective, adam(), adam()), precision


def make_sampler(generator, batches: Batches, plot_scale: str = plots.SCALES[0]) -> Callable[[pathlib.Path], list]:
    """The samples of an epoch: the start of the first piece of `batches`, a picture and an audio for each target.

    Features hold no phase, so the audio has one that Griffin-Lim finds for the input, the same in every epoch.
    """
    import tensorflow as tf

    from training.loop import Sample

    pairs, representation = batches.pairs, batches.pairs.representation
    first_piece = pairs.pieces[batches.samples[0, 0]]
    examples = []
    for t, target in enumerate(pairs.targets):
        rows = (pairs.pieces[batches.samples[:, 0]] == first_piece) & (batches.samples[:, 1] == t)
        if rows.any():
            chosen = batches.samples[rows][:SAMPLE_SLICES]
            shown = Batches(pairs, chosen, len(chosen), batches.seed, batches.style, shuffle=False)
            examples.append((pairs.origins[chosen[0, 2]], target, *shown.load(0)))
    predict = tf.function(lambda inputs: generator(inputs, training=False), reduce_retracing=True, autograph=False)
    phases: dict[str, np.ndarray] = {}

    def sample(folder: pathlib.Path) -> list[Sample]:
        samples = []
        for origin, target, inputs, truth in examples:
            levels = {"input": inputs[..., :1], "prediction": predict(inputs).numpy(), "target": truth}
            joined = {title: data.join_slices(data.from_network(slices)) for title, slices in levels.items()}
            if target not in phases:
                phases[target] = _griffin_lim_phase(joined["input"], representation)
            magnitude = data.db_to_amplitude(np.clip(joined["prediction"], 0, 1), representation.amin)
            audio = data.inverse_transform(magnitude, phases[target], representation=representation)
            audio /= max(1.0, np.abs(audio).max())
            suffix = f"_{target}" if batches.style else ""
            picture = plots.spectrogram_frame(
                list(joined.items()),
                representation.hop_length / representation.sample_rate,
                representation.bin_hz,
                scale=plot_scale,
                title=f"{pairs.piece_names[first_piece]}: {origin} to {target}, epoch {int(folder.name)}",
            )
            plots.save_png(folder / f"spectrogram{suffix}.png", picture)
            write_audio(folder / f"audio{suffix}.wav", audio, representation.sample_rate)
            samples.append(Sample(f"sample{suffix}", picture, audio, representation.sample_rate))
        return samples

    return sample


def _griffin_lim_phase(level: np.ndarray, representation: Representation) -> np.ndarray:
    """A phase that fits a log level (n_bins, n_frames), as `data.forward_transform` gives it (Griffin & Lim, 1984)."""
    import librosa

    full = np.zeros((representation.n_fft // 2 + 1, level.shape[1]), np.float32)
    full[: len(level)] = data.db_to_amplitude(np.clip(level, 0, 1), representation.amin)
    audio = librosa.griffinlim(
        full, n_iter=32, hop_length=representation.hop_length, window=representation.window, random_state=0
    )
    return data.forward_transform(audio, representation)[1]
