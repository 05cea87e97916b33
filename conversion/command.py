"""What the two predict commands share: their arguments, the model and the recordings they name, and the work on them.

Everything that can be wrong with the arguments is found before a network is loaded.
"""

from __future__ import annotations

import argparse
import functools
import glob
import os
import pathlib
from collections.abc import Callable

import numpy as np

from common import cli, recordings
from common.audio import AUDIO_EXTENSIONS
from common.errors import InputError
from common.files import find_files
from hum2guitar.mel_inverse import MEL_INVERSES
from hum2guitar.pitch import F0_METHODS

PICTURES = (".png", ".pdf", ".svg", ".jpg")
COMMANDS = {1: "predict.py", 2: "predict_multitarget.py"}  # by the channels of the network's input

Job = tuple[pathlib.Path, pathlib.Path]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every command that converts recordings."""
    add = parser.add_argument
    share, count = cli.number(float, minimum=0, maximum=0.5), cli.number(int, minimum=0)
    add("--model", required=True, help="weights file, or a folder with one; without --input, list those in the folder")
    add("--input", help="recording, folder of recordings or quoted pattern such as 'takes/*.flac'")
    add("--output", help="recording to write, its extension says the format; a folder where --input names several")
    cli.add_gpu(parser, default=None)
    add("--overlap", type=share, default=0.25, help="share of a slice blended with the next; 0 as published")
    add("--phase", choices=["input", "griffinlim", "hybrid"], default="input", help="the input's phase, refined by Griffin-Lim, or refined only where the prediction leaves the input")  # fmt: skip  # noqa: E501
    add("--griffinlim_iterations", type=count, default=16, help="turns of Griffin-Lim")
    add("--high_band", choices=["zero", "keep"], default="zero", help="above the network's band: nothing, or the input's own sound")  # fmt: skip  # noqa: E501
    add("--level", choices=["normalize", "match", "none"], default="normalize", help="peak 1, the input's RMS, or as the network makes it; never clips")  # fmt: skip  # noqa: E501
    add("--stereo", choices=["per_channel", "mid_side", "mono"], default="per_channel", help="what is converted of several channels")  # fmt: skip  # noqa: E501
    add("--sample_rate", type=cli.number(int, 1000, 768000), help="of the output in Hz (default: the input's)")
    add("--subtype", choices=["16", "24", "float"], help="bits of a sample (default: the format's usual, wav 16)")
    add("--plot", help="picture of input and output spectrograms to write, of a single recording")
    add("--overwrite", action="store_true", help="convert recordings again whose output is in the folder already")


def add_hum_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments for hum2guitar's weights; with others they are refused."""
    add = parser.add_argument_group("hum2guitar").add_argument
    add("--f0", choices=F0_METHODS, help="how the pitch is found (default: as in training)")
    add("--f0_min", type=cli.positive_float, help="lowest pitch searched in Hz (default: 65, cepstrum 70)")
    add("--f0_max", type=cli.positive_float, help="highest pitch searched in Hz (default: 1050, cepstrum 550)")
    add("--transpose", type=_transposition, default="auto", help="semitones, or auto: octaves up or down into the range that the network was trained on")  # fmt: skip  # noqa: E501
    add("--mel_inverse", choices=MEL_INVERSES, default=MEL_INVERSES[0], help="how a mel spectrogram becomes audio; published is slower and worse")  # fmt: skip  # noqa: E501


def _transposition(text: str) -> float | None:
    semitones = cli.number(float, minimum=-48, maximum=48, word="auto")(text)
    return None if semitones == "auto" else semitones


def settings(arguments: argparse.Namespace):
    """The `transfer.Settings` that the arguments stand for."""
    import dataclasses

    from conversion.settings import Settings
    from hum2guitar import converter

    def given(kind: type) -> dict:
        return {f.name: getattr(arguments, f.name) for f in dataclasses.fields(kind) if hasattr(arguments, f.name)}

    return Settings(**given(Settings), hum=converter.HumSettings(**given(converter.HumSettings)))


def _check_used(wanted, description) -> None:
    """Refuse settings that differ from the default and that the network of `description` has no use for."""
    if description.system == "hum2guitar":
        given, unused = wanted, ("phase", "high_band")
    else:
        given, unused = wanted.hum, vars(wanted.hum)
    for name in unused:
        if getattr(given, name) != getattr(type(given), name):
            raise InputError(
                f"--{name}: expected with other models only, found {description.path} of {description.system}"
            )


# --- models -----------------------------------------------------------------------------------------------------------


def find_weights(path: str | os.PathLike) -> list[pathlib.Path]:
    """The .h5 and .onnx files at or below `path`, sorted; hidden ones are left out.

    Raises:
        InputError: nothing there.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(
            f"--model: expected a weights file (.h5 or .onnx) or a folder with one, found nothing at {path}"
        )
    found = find_files(path, (".h5", ".onnx"))
    if not found:
        raise InputError(f"--model: expected weights (.h5 or .onnx) in the folder, found none in {path}")
    return found


def list_models(arguments: argparse.Namespace) -> int:
    """Print the generators found at or below ``--model`` with what they say of themselves; the exit status.

    Raises:
        InputError: there is an output but no input, or the only file is none of weights.
    """
    from common import weights
    from conversion.network import describe

    if arguments.output is not None:
        raise InputError("--input: expected with --output, found nothing")
    left_out = []
    for found in find_weights(arguments.model):
        try:
            description = describe(found)
            if description.network not in weights.DISCRIMINATORS:
                print(f"{found}: {description.summary} ({COMMANDS[_n_inputs(description)]})")
        except InputError as error:
            if found == pathlib.Path(arguments.model):
                raise
            left_out.append((str(found), str(error)))
    return cli.report_left_out(left_out)


def describe_generator(path: str | os.PathLike):
    """The `weights.Description` of the one generator that `path` names.

    A folder stands for the generator.h5 in it, or else for the only one below it, or else for its only weights file.

    Raises:
        InputError: no weights file, several, or one that no recording can be given to.
    """
    from common import weights
    from conversion.network import describe

    found = find_weights(path)
    named = [file for file in found if file.name == "generator.h5"] or found
    named = [file for file in named if file.parent == pathlib.Path(path)] or named
    if len(named) > 1:
        raise InputError(f"--model: expected one generator, found several in {path}: {', '.join(map(str, named))}")
    description = describe(named[0])
    if description.network in weights.DISCRIMINATORS:
        raise InputError(f"{named[0]}: expected the weights of a generator, found those of a discriminator")
    _n_inputs(description)
    return description


def find_generator(path: str | os.PathLike, n_inputs: int):
    """`describe_generator` of one that is given `n_inputs` recordings.

    Raises:
        InputError: as there, or weights for the other command.
    """
    description = describe_generator(path)
    n_found = _n_inputs(description)
    if n_found != n_inputs:
        kinds = {1: "a network without style input", 2: "multitarget weights (two input channels)"}
        raise InputError(
            f"{description.path}: expected {kinds[n_inputs]}, found {kinds[n_found]}: use {COMMANDS[n_found]}"
        )
    return description


def _n_inputs(description) -> int:
    """How many recordings a generator is given: 1, or 2 with a style."""
    if description.in_channels not in (None, *COMMANDS):
        raise InputError(f"{description.path}: expected 1 or 2 input channels, found {description.in_channels}")
    return description.in_channels or 1


# --- recordings -------------------------------------------------------------------------------------------------------


def find_jobs(source: str, destination: str | None) -> tuple[list[Job], bool]:
    """What is to be converted to what.

    Args:
        source: a recording, a folder, or a pattern such as ``takes/**/*.flac``.
        destination: a recording, or a folder where `source` names several; their subfolders are mirrored there.

    Returns:
        jobs: (recording, output) each.
        is_many: whether `source` names several recordings.

    Raises:
        InputError: nothing found, or an output that cannot be.
    """
    if destination is None:
        raise InputError("--output: expected with --input, found nothing")
    target = pathlib.Path(destination)
    is_pattern = glob.has_magic(source) and not os.path.lexists(source)
    if not is_pattern and not os.path.isdir(source):
        if not os.path.isfile(source):
            found = "no regular file" if os.path.exists(source) else "nothing"
            raise InputError(f"--input: expected a recording, a folder or a pattern, found {found} at {source}")
        recording = pathlib.Path(source)
        return [(recording, _output(target / recording.name) if target.is_dir() else target)], False
    if not target.is_dir() and (target.exists() or target.suffix.lower() in AUDIO_EXTENSIONS):
        raise InputError(
            f"--output: expected a folder where --input names several recordings, found a file's name: {target}"
        )
    base = _fixed_part(source) if is_pattern else pathlib.Path(source)
    if target.resolve() == base.resolve():
        raise InputError(f"--output: expected another folder than that of --input, found {target}")
    if is_pattern:
        paths = [pathlib.Path(path) for path in glob.glob(source, recursive=True)]
    else:
        paths = find_files(base, AUDIO_EXTENSIONS)
    # What an earlier run put into an output folder inside the input folder is no recording to convert.
    paths = [path for path in paths if path.is_file() and target.resolve() not in path.resolve().parents]
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(base).parts)]
    if not paths:
        raise InputError(f"--input: expected recordings, found none in {source}")
    return [(path, _output(target / path.relative_to(base))) for path in sorted(paths)], True


def _fixed_part(pattern: str) -> pathlib.Path:
    """The folder above the first wildcard of a pattern."""
    parts = pathlib.Path(pattern).parts
    n_fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return pathlib.Path(*parts[:n_fixed])


def _output(path: pathlib.Path) -> pathlib.Path:
    """`path`, or that with .wav behind it if its format is only read: a.m4a.wav does not meet the output of a.wav."""
    return path if path.suffix.lower() in recordings.FORMATS else path.with_name(f"{path.name}.wav")


def convert(
    arguments: argparse.Namespace, description, read_style: Callable[[], np.ndarray | None] = lambda: None
) -> int:
    """Convert what the arguments name with the generator of `description`; the exit status.

    Args:
        arguments: those of `add_arguments`, with an input.
        description: of the generator, from `find_generator`.
        read_style: gives the style slice of a multitarget generator, once all else was found fit.
    """
    from conversion.files import convert_file, load_converter

    wanted = settings(arguments)
    _check_used(wanted, description)
    jobs, is_many = find_jobs(arguments.input, arguments.output)
    _check_plot(arguments.plot, is_many)
    make = functools.cache(lambda: load_converter(description, wanted, arguments.gpu, read_style()))
    if not is_many:
        ((source, output),) = jobs
        convert_file(source, output, make, wanted)
        print(output)
        if arguments.plot:
            _plot(arguments.plot, source, output, wanted.high_band == "keep")
        return 0
    left_out = []
    todo = jobs if arguments.overwrite else [job for job in jobs if not job[1].exists()]
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} of {len(jobs)} already in {arguments.output} (--overwrite converts them again)")
    converter = make() if todo else None  # before the loop: damaged weights are nobody else's fault
    for source, output in todo:
        try:
            convert_file(source, output, converter, wanted)
            print(output)
        except InputError as error:
            left_out.append((str(source), str(error)))
    return cli.report_left_out(left_out)


def _check_plot(plot: str | None, is_many: bool) -> None:
    if plot and is_many:
        raise InputError("--plot: expected with a single recording as --input, found several")
    if plot and pathlib.Path(plot).suffix.lower() not in PICTURES:
        raise InputError(f"--plot: expected an extension of {' '.join(PICTURES)}, found {plot}")


def _plot(path: str, source: pathlib.Path, output: pathlib.Path, all_bins: bool) -> None:
    """Draw the spectrograms of input and output one above the other, up to the network's band or to all there is."""
    import dataclasses

    from common import plots
    from conversion.streaming import spectrogram
    from data import PUBLISHED

    shown = dataclasses.replace(PUBLISHED, n_bins=PUBLISHED.n_fft // 2 + 1) if all_bins else PUBLISHED
    panels, seconds = [], 0.0
    for title, recording in (("input", source), ("output", output)):
        level, seconds = spectrogram(recording, plots.MAX_COLUMNS, shown)
        name = recording.name.encode("utf-8", "backslashreplace").decode()  # which may be no text
        panels.append((f"{title}: {name}", level))
    plots.save_spectrograms(path, panels, seconds, hz_per_bin=shown.bin_hz)
