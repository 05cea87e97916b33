"""What the two predict commands share: their arguments, finding recordings, and the conversion.

The arguments, the recording and the output are checked before a network is loaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import glob
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from common import cli, plots, weights
from common.errors import InputError
from common.files import concerning_one_file, find_files, remove_leftovers, writable_folder
from conversion.files import convert_file, load_converter
from conversion.models import short_name
from conversion.phase import PHASES
from conversion.settings import HIGH_BANDS, INPUT_LEVELS, LEVELS, STEREO, Settings
from data import PUBLISHED
from hum2guitar.converter import HumSettings
from hum2guitar.mel_inverse import MEL_INVERSES
from hum2guitar.pitch import F0_METHODS
from sound.files import AUDIO_EXTENSIONS, FORMATS, SUBTYPES
from sound.streaming import spectrogram

PLOT_EXTENSIONS = (".png", ".pdf", ".svg", ".jpg")

Job = tuple[pathlib.Path, pathlib.Path]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of both predict commands."""
    add = parser.add_argument
    add(
        "--model",
        help="weights file, or a folder with one, where the best weights are taken; without --input, the generators in "
        "the folder are listed",
    )
    add("--input", nargs="+", help="recordings, folders of recordings, or patterns such as takes/*.flac")
    add(
        "--output",
        help="recording to write, whose extension decides the format; for several inputs, a folder (default: beside "
        "the input, with the instrument in the name)",
    )
    cli.add_gpu(parser, default=None)
    add(
        "--overlap",
        type=cli.number(float, minimum=0, maximum=0.5),
        default=Settings.overlap,
        help="share of a slice that is blended with the next slice; 0 as published",
    )
    add(
        "--phase",
        choices=("auto", *PHASES),
        default=Settings.phase,
        help="phase of the input, or refined by Griffin-Lim; auto: what the model recommends, the input's if it says "
        "nothing",
    )
    add(
        "--griffinlim_iterations",
        type=cli.number(int, minimum=0),
        default=Settings.griffinlim_iterations,
        help="iterations of Griffin-Lim",
    )
    add(
        "--input_level",
        choices=("auto", *INPUT_LEVELS),
        default=Settings.input_level,
        help="peak: bring the recording to full scale for the network, as it was in training, and the output back; "
        "keep: as published; auto: what the model recommends, keep if it says nothing",
    )
    add(
        "--high_band",
        choices=HIGH_BANDS,
        default=Settings.high_band,
        help="above the network's band: silence, or the input's own sound",
    )
    add(
        "--level",
        choices=LEVELS,
        default=Settings.level,
        help="normalize: true peak -1 dB, which no player clips; peak: greatest sample 1, as published; match: the "
        "input's RMS; none: as the network makes it; the last two are lowered where they would clip",
    )
    add(
        "--stereo",
        choices=STEREO,
        default=Settings.stereo,
        help="convert each channel, sum and difference, or the mean",
    )
    add(
        "--sample_rate",
        type=cli.number(int, minimum=1000, maximum=768000),
        help="sample rate of the output in Hz (default: the input's, or more if the network's band needs it)",
    )
    add(
        "--subtype",
        choices=list(SUBTYPES),
        help="bits of a sample (default: the format's usual, wav 16)",
    )
    add("--plot", help="picture to write of the spectrograms of input and output, for a single recording")
    plots.add_arguments(parser)
    add("--overwrite", action="store_true", help="convert recordings again whose output is already in the folder")


def add_hum_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for hum2guitar models; with other models they are refused."""
    add = parser.add_argument_group("hum2guitar").add_argument
    add("--f0", choices=F0_METHODS, help="how the pitch is found (default: as in training)")
    add("--f0_min", type=cli.positive_float, help="lowest pitch to look for, in Hz (default: 65, cepstrum 70)")
    add("--f0_max", type=cli.positive_float, help="highest pitch to look for, in Hz (default: 1050, cepstrum 550)")
    add(
        "--transpose",
        type=_parse_transposition,
        default="auto",
        help="semitones, or auto: octaves up or down into the range of the training guitars",
    )
    add(
        "--mel_inverse",
        choices=MEL_INVERSES,
        default=HumSettings.mel_inverse,
        help="how a mel spectrogram becomes audio; published is slower and worse",
    )


def _parse_transposition(text: str) -> float | None:
    """Semitones; None for "auto"."""
    semitones = cli.number(float, minimum=-48, maximum=48, word="auto")(text)
    return None if semitones == "auto" else semitones


def read_hum_settings(arguments: argparse.Namespace) -> HumSettings:
    """The settings that the arguments of `add_hum_arguments` ask for."""
    return HumSettings(
        f0=arguments.f0,
        f0_min=arguments.f0_min,
        f0_max=arguments.f0_max,
        transpose=arguments.transpose,
        mel_inverse=arguments.mel_inverse,
    )


def read_settings(arguments: argparse.Namespace, hum: HumSettings | None = None) -> Settings:
    """The settings that the arguments of `add_arguments` ask for.

    Args:
        hum: from `read_hum_settings`; None for the defaults.
    """
    return Settings(
        overlap=arguments.overlap,
        phase=arguments.phase,
        griffinlim_iterations=arguments.griffinlim_iterations,
        input_level=arguments.input_level,
        high_band=arguments.high_band,
        level=arguments.level,
        stereo=arguments.stereo,
        sample_rate=arguments.sample_rate,
        subtype=arguments.subtype,
        hum=hum or HumSettings(),
    )


def _check_used(settings: Settings, description: weights.Description) -> None:
    """Refuse settings that the generator does not use, unless they have their default value."""
    if description.system == "hum2guitar":
        unused, defaults, names = settings, Settings(), ("phase", "input_level", "high_band")
    else:
        unused, defaults = settings.hum, HumSettings()
        names = tuple(field.name for field in dataclasses.fields(HumSettings))
    for name in names:
        if getattr(unused, name) != getattr(defaults, name):
            raise InputError(
                f"--{name}: expected with other models only, found {description.path} of {description.system}"
            )


# --- recordings -------------------------------------------------------------------------------------------------------


def name_output(source: str, instrument: str) -> str:
    """Where the output goes if nothing else is asked for: ``piano.guitar.wav`` beside ``piano.mp3``.

    For a folder it is a folder beside it, ``takes.guitar``.

    Raises:
        InputError: `source` is a pattern.
    """
    if os.path.isdir(source):
        return f"{os.path.normpath(source)}.{instrument}"
    if glob.has_magic(source) and not os.path.lexists(source):
        raise InputError("--output: expected a folder where --input is a pattern, found nothing")
    return str(pathlib.Path(source).with_suffix(f".{instrument}.wav"))


def find_all_jobs(sources: Sequence[str], destination: str | None, instrument: str) -> tuple[list[Job], bool]:
    """The recordings of all `sources` to convert, and where each output goes; see `find_jobs`.

    Args:
        sources: recordings, folders and patterns.
        destination: a recording; for several recordings, a folder; None for the places that `name_output` gives.
        instrument: for these names.

    Raises:
        InputError: as `find_jobs`, or two recordings would be written to one file.
    """
    is_folder = destination is not None and destination.endswith(("/", os.sep))
    if len(sources) == 1 and not (is_folder and os.path.isfile(sources[0])):
        return find_jobs(sources[0], destination or name_output(sources[0], instrument))
    places: dict[pathlib.Path, pathlib.Path] = {}
    for source in dict.fromkeys(sources):
        place = destination or name_output(source, instrument)
        if destination and os.path.isfile(source):
            _check_folder(pathlib.Path(destination))
            place = str(_output_path(pathlib.Path(destination, pathlib.Path(source).name)))
        for recording, output in find_jobs(source, place)[0]:
            if places.setdefault(output, recording) != recording:
                raise InputError(
                    f"--input: expected recordings of different names, found {places[output]} and {recording}"
                )
    # An unquoted pattern also finds what an earlier run has written beside its recordings.
    jobs = [(recording, output) for output, recording in places.items() if recording not in places]
    return jobs, len(sources) > 1


def _check_folder(target: pathlib.Path) -> None:
    """Refuse an output for several recordings that is, or is named like, a file."""
    if not target.is_dir() and (target.exists() or target.suffix.lower() in AUDIO_EXTENSIONS):
        raise InputError(
            f"--output: expected a folder where --input names several recordings, found a file's name: {target}"
        )


def find_jobs(source: str, destination: str) -> tuple[list[Job], bool]:
    """The recordings to convert, and where each output goes.

    Args:
        source: a recording, a folder, or a pattern such as ``takes/**/*.flac``.
        destination: a recording; for several recordings, a folder in which their subfolders are mirrored.

    Returns:
        jobs: (recording, output) each.
        is_many: whether `source` is a folder or a pattern.

    Raises:
        InputError: there are no recordings, or `destination` does not suit `source`.
    """
    target = pathlib.Path(destination)
    is_pattern = glob.has_magic(source) and not os.path.lexists(source)
    if not is_pattern and not os.path.isdir(source):
        if not os.path.isfile(source):
            found = "no regular file" if os.path.exists(source) else "nothing"
            raise InputError(f"--input: expected a recording, a folder or a pattern, found {found} at {source}")
        recording = pathlib.Path(source)
        return [(recording, _output_path(target / recording.name) if target.is_dir() else target)], False
    _check_folder(target)
    base = _fixed_part(source) if is_pattern else pathlib.Path(source)
    if target.resolve() == base.resolve():
        raise InputError(f"--output: expected another folder than that of --input, found {target}")
    if is_pattern:
        paths = [pathlib.Path(path) for path in glob.glob(source, recursive=True)]
    else:
        paths = find_files(base, AUDIO_EXTENSIONS)
    # The output folder may lie inside the input folder: leave out what an earlier run has written to it.
    paths = [path for path in paths if path.is_file() and target.resolve() not in path.resolve().parents]
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(base).parts)]
    if not paths:
        raise InputError(f"--input: expected recordings, found none in {source}")
    return [(path, _output_path(target / path.relative_to(base))) for path in sorted(paths)], True


def _fixed_part(pattern: str) -> pathlib.Path:
    """The folder above the first wildcard of a pattern."""
    parts = pathlib.Path(pattern).parts
    n_fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return pathlib.Path(*parts[:n_fixed])


def _output_path(path: pathlib.Path) -> pathlib.Path:
    """`path`, with .wav appended if its format cannot be written.

    The extension is not replaced, so that a.m4a does not overwrite the output of a.wav.
    """
    return path if path.suffix.lower() in FORMATS else path.with_name(f"{path.name}.wav")


def convert(
    arguments: argparse.Namespace,
    description: weights.Description,
    settings: Settings,
    load_style: Callable[[], np.ndarray] | None = None,
) -> int:
    """Convert the recordings that the arguments name; the exit status.

    Args:
        arguments: those of `add_arguments`, with ``--input``.
        description: of the generator, from `models.find_generator`.
        settings: from `read_settings`.
        load_style: returns the style slice of a multitarget generator; called after all other checks.

    Raises:
        InputError: an argument, the weights or the only recording is not what is expected.
    """
    _check_used(settings, description)
    jobs, is_many = find_all_jobs(arguments.input, arguments.output, short_name(description))
    _check_plot(arguments.plot, is_many)
    for folder in {destination.parent for _, destination in jobs}:
        remove_leftovers(folder)
    if arguments.model is None or os.path.isdir(arguments.model):
        print(f"Model: {description.path}: {description.summary}")

    @functools.cache
    def load():
        style = load_style() if load_style else None
        return load_converter(description, settings, arguments.gpu, style)

    if not is_many:
        ((source, destination),) = jobs
        convert_file(source, destination, load, settings)
        print(destination)
        if arguments.plot:
            _save_plot(arguments.plot, source, destination, arguments.plot_scale, all_bins=settings.high_band == "keep")
        return 0
    left_out = []
    todo = jobs if arguments.overwrite else [job for job in jobs if not os.path.exists(job[1])]
    if len(todo) < len(jobs):
        where = f"in {arguments.output}" if arguments.output else "there"
        print(f"{len(jobs) - len(todo)} of {len(jobs)} already {where} (--overwrite converts them again)")
    if todo:
        load()  # before the loop, so that bad weights are not blamed on a recording
    for source, destination in todo:
        try:
            with concerning_one_file(destination):
                convert_file(source, destination, load, settings)
            print(destination)
        except InputError as error:
            left_out.append((str(source), str(error)))
    return cli.report_left_out(left_out)


def _check_plot(plot: str | None, is_many: bool) -> None:
    """Refuse a plot of several recordings, or in a format that is not offered."""
    if plot and is_many:
        raise InputError("--plot: expected with a single recording as --input, found several")
    if plot and pathlib.Path(plot).suffix.lower() not in PLOT_EXTENSIONS:
        raise InputError(f"--plot: expected an extension of {' '.join(PLOT_EXTENSIONS)}, found {plot}")
    if plot:
        writable_folder(pathlib.Path(plot).parent, "--plot")


def _save_plot(path: str, source: pathlib.Path, output: pathlib.Path, scale: str, all_bins: bool) -> None:
    """Write the spectrograms of input and output, one above the other.

    Args:
        scale: of the frequency axis, as in `plots.spectrogram_figure`.
        all_bins: show all frequencies, not only the network's band.
    """
    representation = PUBLISHED
    if all_bins:
        representation = dataclasses.replace(PUBLISHED, n_bins=PUBLISHED.n_fft // 2 + 1)
    panels, seconds = [], 0.0
    for title, recording in (("input", source), ("output", output)):
        level, seconds = spectrogram(recording, plots.MAX_COLUMNS, representation)
        name = recording.name.encode("utf-8", "backslashreplace").decode()  # file names may hold any bytes
        panels.append((f"{title}: {name}", level))
    plots.save_spectrograms(path, panels, seconds, hz_per_bin=representation.bin_hz, scale=scale)
