"""From the arguments of a train command to a `loop.Run`.

Fixed pair, multitarget and generator only differ in three arguments of `prepare`. TensorFlow is imported only after
the arguments and the data set have been checked.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from common import InputError, cli, weights
from common.files import read_json, silence_stderr, writable_folder
from training import checkpoints, dataset
from training.dataset import Batches

if TYPE_CHECKING:
    from training import loop

Rate = float | str | None  # a number, "auto", or None for that of the preset
PUBLISHED, SMALL = "published", "small"
PRESETS = {PUBLISHED: (0.9, "constant"), SMALL: (0.5, "linear")}  # beta_1 of Adam, schedule of the learning rates

# Learning rates of generator and discriminator that the published weights were trained with, by target.
PUBLISHED_RATES = {
    "guitar_acoustic": (5e-5, 5e-6),
    "string_acoustic": (1e-5, 1e-5),
    "synth_lead_synthetic": (1e-4, 1e-5),
    "any": (1e-5, 5e-6),
}
PUBLISHED_FILTERS = 64
MIN_SLICES = 5000  # from which on the published rates are the default: 4 hours; the published training had 19

# The preset "small": the rate of pix2pix at its 64 filters, higher in proportion where there are fewer.
SMALL_RATE, MAX_SMALL_RATE = 2e-4, 1e-3
DISCRIMINATOR_SHARE = 0.1  # of the generator's rate


# --- arguments --------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser, adversarial: bool = True, several_origins: bool = False) -> None:
    """The arguments that `prepare` reads; `several_origins` lets ``--origin`` take any number of instruments."""
    add, positive = parser.add_argument, cli.positive_int
    origin_help = "instrument to convert from; all its voices (folders <instrument>@<voice>) are trained on"
    if several_origins:
        origin_help += "; several, or any for all that the data set has"
    add("--dataset_path", "--dataset", required=True, help="features, one folder for each instrument")
    add("--origin", required=True, nargs="+" if several_origins else None, help=origin_help)
    text = "vary the origin's room, frequency response, noise, level and tuning, so that the network also works on "
    add("--augment", action="store_true", help=f"{text}instruments and recordings it was not trained on")
    add("--epochs", type=positive, default=100, help="number of epochs, after those of --epoch_offset")
    text = "epochs that weights without a training state in the model's folder were trained for; continues from them "
    add("--epoch_offset", type=cli.number(int, minimum=0), help=f"{text}(default: the number in the weights file)")
    add("--init", help="weights (.h5, or a model's folder) to start from, of any instruments; epochs begin at 1")
    add("--batch_size", type=positive, default=8, help="slices in a batch")
    rate = cli.number(float, above=0, word="auto")
    text = "learning rate: a number, auto for the suggestion of --findlr, or nothing for that of the preset"
    if adversarial:
        add("--gen_lr", type=rate, help=text.replace("rate:", "rate of the generator:"))
        add("--disc_lr", type=rate, help=text.replace("rate:", "rate of the discriminator:"))
    else:
        add("--lr", "--gen_lr", dest="gen_lr", type=rate, help=text)
        parser.set_defaults(disc_lr=None, l1_weight=1.0)
    text = (
        "published: constant rates, beta_1 0.9; small, for small networks and little data: rates that rise over 5 %% "
        "of the steps and fall to zero in the second half, beta_1 0.5; both have rates for where none are given "
        "(default: small below 64 filters or 5000 slices, unless a number is given as a rate)"
    )
    add("--preset", choices=[PUBLISHED, SMALL], help=text)
    share, text = cli.number(float, minimum=0, maximum=0.9), "share of the slices held out for validation, by piece"
    add("--validation_split", type=share, default=0.1, help=text)
    add("--holdout", metavar="FILE", help="the pieces to hold out, one a line, in place of --validation_split")
    add("--seed", type=cli.seed, default=0, help="of weights, data order, split and dropout")
    add("--patience", type=positive, help="stop after so many epochs without a lower validation MAE")
    text = "perceptual: the energy in mel bands and its change from frame to frame count beside L1"
    add("--objective", choices=["published", "perceptual"], default="published", help=text)
    if adversarial:
        add("--l1_weight", type=cli.positive_float, default=100.0, help="of L1 beside the adversarial loss")
    add_common_arguments(parser)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that all train commands share: those of the run, not of the data."""
    add, positive = parser.add_argument, cli.positive_int
    add("--gpu", type=cli.number(int, minimum=-1), default=0, help="CUDA device to train on, or -1 for the CPU")
    text = "filters of the first layer; 64 as published, 16 for a laptop"
    add("--base_filters", type=positive, default=64, help=text)
    add("--models_path", default="trained", help="folder in which the model's folder is made")
    precisions = ["auto", "float32", "mixed_bfloat16", "mixed_float16"]
    text = "number format in which the layers compute; auto: the fastest one that this machine supports"
    add("--precision", choices=precisions, default="auto", help=text)
    add("--max_steps", type=positive, help="stop after this many steps")
    add("--fresh", action="store_true", help="start over; the model's folder is kept under another name")
    add("--tensorboard", action="store_true", help="write scalars, pictures and audio for TensorBoard")


# --- from arguments to a run ------------------------------------------------------------------------------------------


def prepare(
    arguments: argparse.Namespace,
    origins: Sequence[str],
    targets: Sequence[str],
    style: bool = False,
    adversarial: bool = True,
) -> loop.Run:
    """The run that the arguments ask for, to train it or to find its learning rates.

    Args:
        arguments: of `add_arguments`, and ``findlr``.
        origins: instruments to convert from.
        targets: one, or with `style` any number of instruments.
        style: multitarget: the generator's second channel says which target; pairs of an instrument with itself are
            left out.
        adversarial: with a discriminator; otherwise the generator alone.
    """
    check_machine(arguments.models_path, arguments.tensorboard)
    batches, held_out = find_data(arguments, origins, targets, style)
    pairs, in_channels, base_filters, seed = batches.pairs, 2 if style else 1, arguments.base_filters, arguments.seed
    origin = dataset.instrument_of(origins[0]) if len(origins) == 1 else dataset.ANY
    target = dataset.ANY if style else dataset.instrument_of(targets[0])
    folder = pathlib.Path(arguments.models_path, f"{origin}_2_{target}{'' if adversarial else '_generator'}")
    is_new = arguments.fresh or not checkpoints.states(folder)
    if arguments.findlr or (is_new and not arguments.fresh):  # a run that goes on needs its state alone
        refuse_exported(folder)
    gen_lr, disc_lr, preset = choose_rates(
        arguments.gen_lr, arguments.disc_lr, arguments.preset, base_filters, target, folder, len(batches.samples)
    )
    initial: list[weights.Description] = []
    if arguments.init and arguments.epoch_offset is not None:
        raise InputError("--epoch_offset cannot be combined with --init, whose epochs begin at 1")
    if arguments.init and is_new:
        if not (arguments.fresh or arguments.findlr) and (folder / "generator.h5").exists():
            raise InputError(f"--init: {folder} has weights of its own; --fresh sets them aside")
        initial = find_initial_weights(arguments.init, in_channels, base_filters, pairs)

    precision = start_tensorflow(arguments.gpu, arguments.precision)
    import losses
    import model
    from training import loop, outputs, step

    batch_norm = model.FusedBatchNormalization
    generator = model.build_generator(in_channels, base_filters, precision, seed, batch_norm)
    discriminator = None
    if adversarial:
        discriminator = model.build_discriminator(base_filters, precision, seed + 1, batch_norm)
    for network, found in zip((generator, discriminator), initial, strict=False):
        if network is not None:
            model.load_into(network, found.path)
            print(f"Starting from {found.path} ({found.summary})")
    beta_1, lr_schedule = PRESETS[preset]
    perceptual = pairs.representation if arguments.objective == "perceptual" else None
    networks = step.Networks(
        generator,
        discriminator,
        losses.pix2pix(adversarial, arguments.l1_weight, perceptual),
        *(step.scaled(step.Adam(beta_1=beta_1), precision) for _ in range(2)),
    )
    shown = f"{gen_lr:g}, {disc_lr:g}" if adversarial else f"{gen_lr:g}"
    print(f"Learning rates: {shown} (--preset {preset}: {lr_schedule}, beta_1 {beta_1:g})")
    flags = vars(arguments) | {
        "origin": list(pairs.origins),
        "target": list(pairs.targets),
        "dataset_path": str(pairs.folder.resolve()),
        "slices": len(batches.samples),
        "precision": precision,
        "preset": preset,
        "gen_lr": gen_lr,
        "disc_lr": disc_lr,
    }
    description = {
        "system": "pix2pix",
        "representation": pairs.representation.to_dict(),
        "origin": origin,
        "origins": list(pairs.origins),
        "targets": [dataset.instrument_of(name) for name in pairs.targets],
        "voices": list(pairs.targets),
        "identity": not style,  # whether pairs of an instrument with itself were trained on
        "augment": arguments.augment,
        "validation_split": arguments.validation_split,
        "seed": seed,
    }
    return loop.Run(
        networks,
        batches,
        held_out,
        outputs.make_sampler(generator, held_out or batches),
        folder,
        description,
        flags,
        generator_rate=gen_lr,
        discriminator_rate=disc_lr,
        epochs=arguments.epochs,
        lr_schedule=lr_schedule,
        epoch_offset=arguments.epoch_offset,
        max_steps=arguments.max_steps,
        seed=seed,
        patience=arguments.patience,
        tensorboard=arguments.tensorboard,
        fresh=arguments.fresh,
    )


def find_data(
    arguments: argparse.Namespace, origins: Sequence[str], targets: Sequence[str], style: bool
) -> tuple[Batches, Batches | None]:
    """Batches of the slices to train on, and of those that are held out (None without); prints how many they are."""
    pairs = dataset.find_pairs(arguments.dataset_path, origins, targets, with_itself=not style)
    if not style and len(pairs.targets) > 1:
        raise InputError(f"--target: {targets[0]} has several voices: name one of {', '.join(pairs.targets)}")
    training_rows, validation_rows, split = dataset.split_by_piece(
        pairs, arguments.validation_split, arguments.seed, arguments.holdout
    )
    shared = (arguments.batch_size, arguments.seed, style)
    batches = Batches(pairs, training_rows, *shared, augment=arguments.augment)
    held_out = Batches(pairs, validation_rows, *shared, shuffle=False) if len(validation_rows) else None
    if arguments.patience and held_out is None:
        raise InputError("--patience needs slices that are held out: --validation_split")
    for line in pairs.left_out:
        print(f"Left out: {line}")
    print(f"{cli.count(len(training_rows), 'slice')} to train on; {split}")
    if arguments.validation_split > 0.5:
        print("--validation_split is the share held out; the published scripts' 0.9, the share trained on, is 0.1 here")
    return batches, held_out


def find_initial_weights(
    init: str, in_channels: int, base_filters: int, pairs: dataset.Pairs
) -> list[weights.Description]:
    """The weights files that ``--init`` names: the generator, and the discriminator beside it if it has the same size.
    A generator that does not fit the run is an error."""
    path = pathlib.Path(init)
    if path.is_dir():
        path = path / ("generator_best.h5" if (path / "generator_best.h5").exists() else "generator.h5")
    found = weights.describe(path)
    if found.network != weights.UNET:
        raise InputError(f"--init: {path} holds a {found.network}, no Pix2Pix generator")
    if found.in_channels != in_channels:
        kind = "one pair of instruments" if found.in_channels == 1 else "several targets (train_multitarget.py)"
        raise InputError(f"--init: {path} is a generator for {kind}")
    if found.base_filters != base_filters:
        raise InputError(f"--init: {path} needs --base_filters {found.base_filters}")
    if found.representation != pairs.representation:
        raise InputError(f"--init: {path} is for other spectrograms than those of --dataset_path")
    discriminator = path.with_name("discriminator.h5")
    if discriminator.exists():
        other = weights.describe(discriminator)
        if (other.network, other.base_filters) == (weights.PATCHGAN, base_filters):
            return [found, other]
    return [found]


# --- learning rates ---------------------------------------------------------------------------------------------------


def choose_rates(
    gen_lr: Rate, disc_lr: Rate, preset: str | None, base_filters: int, target: str, folder: pathlib.Path, n_slices: int
) -> tuple[float, float, str]:
    """Learning rates of generator and discriminator, those of a preset in place of what is None, and the preset.

    The published rates belong to the published size: 64 filters and hours of audio. In a small network or on little
    data they are so low that a run ends worse than copying its input (docs/training.md).

    Args:
        gen_lr, disc_lr: a number, "auto" for what ``--findlr`` wrote into the model's `folder`, or None.
        target: the published rates depend on it.
        n_slices: to train on.
    """
    if preset is None:
        is_full_size = base_filters >= PUBLISHED_FILTERS and n_slices >= MIN_SLICES
        preset = PUBLISHED if is_full_size or isinstance(gen_lr, float) or isinstance(disc_lr, float) else SMALL
    defaults = PUBLISHED_RATES.get(target, PUBLISHED_RATES["guitar_acoustic"])
    if preset == SMALL:
        rate = min(SMALL_RATE * PUBLISHED_FILTERS / base_filters, MAX_SMALL_RATE)
        defaults = (rate, DISCRIMINATOR_SHARE * rate)
    chosen, path = [], folder / f"{checkpoints.LR_FINDER}.json"
    for flag, given, default in (("gen_lr", gen_lr, defaults[0]), ("disc_lr", disc_lr, defaults[1])):
        suggested = read_json(path).get(flag) if given == "auto" and path.exists() else None
        if given == "auto" and suggested is None:
            raise InputError(f"a learning rate of auto needs the suggestion of --findlr, and there is none in {path}")
        chosen.append(float(suggested or given or default))
    return chosen[0], chosen[1], preset


# --- what every train command starts with -----------------------------------------------------------------------------


def check_machine(models_path: str, tensorboard: bool) -> None:
    """Check what a run needs of its machine, before the data are read and TensorFlow is imported."""
    writable_folder(models_path, "--models_path")
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs the package tensorboard: pip install tensorboard")


def refuse_exported(folder: pathlib.Path) -> None:
    """Raise an `InputError` if training in `folder` would write over a model that was made to be passed on."""
    generator = folder / "generator.h5"
    if generator.exists() and weights.describe(generator).settings.get("exported"):
        ways = f"another --models_path (--init {generator} starts from it), or --fresh to keep it under another name"
        raise InputError(f"{folder} holds a finished model: give {ways}")


def start_tensorflow(gpu: int, precision: str = "float32") -> str:
    """Import TensorFlow, which nothing may have done before, with CUDA device `gpu` alone (-1: with the CPU alone).

    Returns:
        `precision`, or what "auto" stands for here: mixed_bfloat16 on a GPU of compute capability 8 or more and on a
        CPU with bf16 instructions, mixed_float16 on a GPU of compute capability 7, and float32 otherwise.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # faster convolutions, off by default on some processors
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if gpu == -1 else "2")
    with silence_stderr():  # its start-up messages bypass Python's logging
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if gpu != -1 and not gpus:
        print("No CUDA GPU found: working on the CPU (--gpu -1 hides this line).", file=sys.stderr)
    fastest = "mixed_bfloat16" if has_bfloat16() else "float32"
    for device in gpus:
        tf.config.experimental.set_memory_growth(device, True)  # do not reserve all of its memory
        major, _ = tf.config.experimental.get_device_details(device).get("compute_capability", (0, 0))
        fastest = "mixed_bfloat16" if major >= 8 else "mixed_float16" if major == 7 else "float32"
    if precision == "auto":
        print(f"Computing in {fastest}")
        return fastest
    return precision


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bf16, according to Linux; False on other systems."""
    described = pathlib.Path("/proc/cpuinfo")
    text = described.read_text(encoding="ascii", errors="replace") if described.exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text
