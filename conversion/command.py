"""What the two predict commands share: their arguments, finding recordings, and converting them one by one."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import importlib.util
import itertools
import os
import pathlib
from collections.abc import Callable, Sequence

from common import cli, plots, weights
from common.errors import InputError
from common.files import concerning_one_file, remove_leftovers, without_converted
from conversion.converter import HIGH_BANDS, INPUT_LEVELS, LEVELS, PHASES, STEREO, Settings
from conversion.files import Converter, convert_file
from data import PUBLISHED
from hum2guitar.pitch import F0_METHODS
from sound.files import AUDIO_EXTENSIONS, SUBTYPES, find_audio
from sound.streaming import spectrogram

PICTURES = (".png", ".pdf", ".svg", ".jpg")
# Settings that the networks of a system do not use.
UNUSED = {"pix2pix": ("f0", "transpose"), "hum2guitar": ("phase", "input_level", "high_band")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of both predict commands; the defaults are those of `Settings`."""
    add = parser.add_argument
    add("recordings", nargs="*", help="the same as --input")
    add("--model", help="weights file, or a folder with one; without recordings, the models in the folder are listed")
    add("--input", nargs="+", default=[], help="recordings, folders of recordings, or patterns such as takes/*.flac")
    text = "recording to write, whose extension decides the format; for several inputs, a folder "
    add("--output", help=text + "(default: beside the input, with the instrument in the name)")
    text = "CUDA device to use, -1 for the CPU (default: 0 if there is one)"
    add("--gpu", type=cli.number(int, minimum=-1), help=text)
    text = "share of a slice that is blended with the next slice; 0 as published"
    add("--overlap", type=cli.number(float, minimum=0, maximum=0.5), help=text)
    add("--phase", choices=PHASES, help="phase of the input as published, or refined by Griffin-Lim")
    text = (
        "peak: bring the recording to full scale for the network, as it was in training, and the output back; "
        "keep: as published; auto: what the model recommends, keep if it says nothing"
    )
    add("--input_level", choices=("auto", *INPUT_LEVELS), help=text)
    add("--high_band", choices=HIGH_BANDS, help="above the network's band: silence, or the input's own sound")
    text = (
        "normalize: true peak -1 dB, which no player clips; peak: greatest sample 1, as published; match: the input's "
        "RMS; none: as the network makes it; the last two are lowered where they would clip"
    )
    add("--level", choices=LEVELS, help=text)
    text = "joint: one prediction for all channels, which keeps their places; or convert each channel, or the mean"
    add("--stereo", choices=STEREO, help=text)
    text = "share of the input in the output, at equal loudness"
    add("--mix", type=cli.number(float, minimum=0, maximum=1), help=text)
    add("--subtype", choices=list(SUBTYPES), help="bits of a sample (default: the format's usual, wav 16)")
    text = "picture to write of the spectrograms of input and output; without a name, beside each output"
    add("--plot", nargs="?", const="", help=text)
    add("--overwrite", action="store_true", help="convert recordings again whose output is already there")
    parser.set_defaults(**dataclasses.asdict(Settings()))


def add_hum_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for hum2guitar models; with other models they are refused."""
    add = parser.add_argument_group("hum2guitar").add_argument
    add("--f0", choices=F0_METHODS, help="how the pitch is found (default: as in training)")
    kind = cli.number(float, minimum=-48, maximum=48, word="auto")
    add("--transpose", type=kind, help="semitones, or auto: octaves up or down into the range of the training guitars")


def read_settings(arguments: argparse.Namespace, description: weights.Description) -> Settings:
    """The settings that the arguments ask for.

    Raises:
        InputError: one of them is not the default, and the generator does not use it; names the flag.
    """
    settings = Settings(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Settings)})
    for name in UNUSED[description.system]:
        if getattr(settings, name) != getattr(Settings(), name):
            raise InputError(f"--{name}: {description.path} of {description.system} does not use it")
    return settings


# --- recordings -------------------------------------------------------------------------------------------------------


def find_outputs(
    sources: Sequence[str], output: str | None, instrument: str, is_many: bool
) -> dict[pathlib.Path, pathlib.Path]:
    """The recordings that `sources` name, each with its output.

    An output is called ``piano.guitar.wav``, beside ``piano.mp3`` or in the folder `output`. The outputs of a folder
    ``takes`` go to ``takes.guitar`` and mirror its folders. Outputs of earlier runs are left out.

    Args:
        sources: recordings, folders, and patterns such as ``takes/**/*.flac``.
        output: a folder, or for a single recording the output itself; None for the places above.
        instrument: for the names.
        is_many: whether a folder, a pattern or several recordings are asked for.

    Raises:
        InputError: there are no recordings, or two would be written to one file.
    """
    target = None if output is None else pathlib.Path(output)
    if target and is_many and not target.is_dir() and (target.exists() or target.suffix.lower() in AUDIO_EXTENSIONS):
        raise InputError(f"--output: {target} is the name of a file, but several recordings need a folder")
    folders: dict[pathlib.Path, pathlib.Path] = {}  # of the outputs, by recording
    for source in sources:
        base, paths = _find_recordings(source)
        place = target or (base.with_name(f"{base.resolve().name}.{instrument}") if os.path.isdir(source) else base)
        if target and not os.path.isfile(source) and target.resolve() != base.resolve():
            paths = [path for path in paths if target.resolve() not in path.resolve().parents]
        if not paths:
            raise InputError(f"--input: found no recording, folder or pattern {source}")
        folders |= {path: place / path.relative_to(base).parent for path in paths}
    if target and not is_many and not target.is_dir() and not output.endswith(("/", os.sep)):
        return {pathlib.Path(sources[0]): target}
    taken: dict[pathlib.Path, pathlib.Path] = {}  # output: its recording
    for path in without_converted(folders):
        made = folders[path] / f"{path.stem}.{instrument}.wav"
        made = made if made not in taken else made.with_name(f"{path.name}.{instrument}.wav")
        if taken.setdefault(made, path) != path:
            raise InputError(f"--input: {taken[made]} and {path} would both become {made}")
    return {path: made for made, path in taken.items()}


def _find_recordings(source: str) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """The folder that a source stands for, and the recordings in and below it that it names."""
    path = pathlib.Path(source)
    if path.is_dir():
        return path, find_audio(path, "--input")
    if path.is_file() and path.suffix.lower() in (".mid", ".midi"):
        raise InputError(f"{path}: is MIDI, which has no sound yet: play it with synthesize_audios.py")
    if not _is_pattern(source):
        return path.parent, [path] if path.is_file() else []
    found = [pathlib.Path(name) for name in sorted(glob.glob(source, recursive=True)) if os.path.isfile(name)]
    return pathlib.Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)), found


def _is_pattern(source: str) -> bool:
    return glob.has_magic(source) and not os.path.lexists(source)


def convert_all(
    sources: Sequence[str],
    instrument: str,
    load: Callable[[], Converter],
    settings: Settings,
    output: str | None,
    plot: str | None,
    overwrite: bool,
) -> int:
    """Convert recordings one by one; the exit status. Of many, those that cannot be converted are listed at the end.

    Args:
        sources, instrument, output: as of `find_outputs`.
        load: returns the converter, the same one at each call.
        settings: how to convert.
        plot: name of the picture; "" for one beside each output, None for none.
        overwrite: convert those of many again whose output is there.

    Raises:
        InputError: the weights, the only recording or the name of the picture cannot be used.
    """
    is_many = len(sources) > 1 or os.path.isdir(sources[0]) or _is_pattern(sources[0])  # of which some may fail
    outputs = find_outputs(sources, output, instrument, is_many)
    if plot and is_many:
        raise InputError("--plot: takes no name with several recordings: their pictures go beside the outputs")
    if plot and pathlib.Path(plot).suffix.lower() not in PICTURES:
        raise InputError(f"--plot: expected a name that ends in one of {' '.join(PICTURES)}, found {plot}")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot needs the package matplotlib: pip install matplotlib")
    for folder in {made.parent for made in outputs.values()}:
        remove_leftovers(folder)
    todo = {path: made for path, made in outputs.items() if overwrite or not is_many or not made.exists()}
    if len(todo) < len(outputs):
        n_there = len(outputs) - len(todo)
        print(f"{n_there} of {len(outputs)} already there (--overwrite converts them again)")
    if todo and is_many:
        load()  # before the loop, so that bad weights are not blamed on a recording
    left_out = []
    for source, made in todo.items():
        try:
            with concerning_one_file(made):
                convert_file(source, made, load, settings)
                print(made)
                if plot is not None:
                    _save_plot(pathlib.Path(plot or made.with_suffix(".png")), source, made, settings.high_band)
        except InputError as error:
            if not is_many:
                raise
            left_out.append((str(source), str(error)))
    return cli.report_left_out(left_out)


def _save_plot(path: pathlib.Path, source: pathlib.Path, output: pathlib.Path, high_band: str) -> None:
    """Write the spectrograms of input and output, one above the other, of the frequencies that the output has."""
    n_bins = PUBLISHED.n_bins if high_band == "zero" else PUBLISHED.n_fft // 2 + 1
    representation = dataclasses.replace(PUBLISHED, n_bins=n_bins)
    panels, seconds = [], 0.0
    for title, recording in (("input", source), ("output", output)):
        level, seconds = spectrogram(recording, plots.MAX_COLUMNS, representation)
        name = recording.name.encode("utf-8", "backslashreplace").decode()  # file names may hold any bytes
        panels.append((f"{title}: {name}", level))
    plots.save_spectrograms(path, panels, seconds, representation.bin_hz)
