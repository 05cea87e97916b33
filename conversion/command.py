"""What the two predict commands share: their arguments, finding recordings, and converting them one by one."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import itertools
import os
import pathlib
from collections.abc import Callable, Sequence

from common import cli, plots, weights
from common.errors import InputError
from common.files import concerning_one_file, remove_leftovers, without_converted
from conversion.converter import HIGH_BANDS, INPUT_LEVELS, LEVELS, STEREO, Settings
from conversion.files import Converter, convert_file
from conversion.phase import PHASES
from data import PUBLISHED
from hum2guitar.converter import HumSettings
from hum2guitar.pitch import F0_METHODS
from sound.files import AUDIO_EXTENSIONS, SUBTYPES, find_audio
from sound.streaming import spectrogram

# --- arguments --------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of both predict commands."""
    add, default = parser.add_argument, Settings()
    add("recordings", nargs="*", help="the same as --input")
    add("--model", help="weights file, or a folder with one; without recordings, the models in the folder are listed")
    add("--input", nargs="+", default=[], help="recordings, folders of recordings, or patterns such as takes/*.flac")
    add(
        "--output",
        help="recording to write, whose extension decides the format; for several inputs, a folder (default: beside "
        "the input, with the instrument in the name)",
    )
    cli.add_gpu(parser, default=None)
    add(
        "--overlap",
        type=cli.number(float, minimum=0, maximum=0.5),
        default=default.overlap,
        help="share of a slice that is blended with the next slice; 0 as published",
    )
    add(
        "--phase",
        choices=PHASES,
        default=default.phase,
        help="phase of the input as published, or refined by Griffin-Lim",
    )
    add(
        "--input_level",
        choices=("auto", *INPUT_LEVELS),
        default=default.input_level,
        help="peak: bring the recording to full scale for the network, as it was in training, and the output back; "
        "keep: as published; auto: what the model recommends, keep if it says nothing",
    )
    add(
        "--high_band",
        choices=HIGH_BANDS,
        default=default.high_band,
        help="above the network's band: silence, or the input's own sound",
    )
    add(
        "--level",
        choices=LEVELS,
        default=default.level,
        help="normalize: true peak -1 dB, which no player clips; peak: greatest sample 1, as published; match: the "
        "input's RMS; none: as the network makes it; the last two are lowered where they would clip",
    )
    add(
        "--stereo",
        choices=STEREO,
        default=default.stereo,
        help="joint: one prediction for all channels, which keeps their places; or convert each channel, or the mean",
    )
    add(
        "--mix",
        type=cli.number(float, minimum=0, maximum=1),
        default=default.mix,
        help="share of the input in the output, at equal loudness",
    )
    add("--subtype", choices=list(SUBTYPES), help="bits of a sample (default: the format's usual, wav 16)")
    add(
        "--plot",
        nargs="?",
        const="",
        help="picture to write of the spectrograms of input and output; without a name, beside each output",
    )
    add("--overwrite", action="store_true", help="convert recordings again whose output is already there")


def add_hum_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for hum2guitar models; with other models they are refused."""
    add = parser.add_argument_group("hum2guitar").add_argument
    add("--f0", choices=F0_METHODS, help="how the pitch is found (default: as in training)")
    add(
        "--transpose",
        type=cli.number(float, minimum=-48, maximum=48, word="auto"),
        default="auto",
        help="semitones, or auto: octaves up or down into the range of the training guitars",
    )


def read_settings(arguments: argparse.Namespace) -> Settings:
    """The settings that the arguments ask for."""
    values = vars(arguments)
    hum = {field.name: values[field.name] for field in dataclasses.fields(HumSettings) if field.name in values}
    hum = {name: None if value == "auto" else value for name, value in hum.items()}
    names = {field.name for field in dataclasses.fields(Settings)} - {"hum"}
    return Settings(**{name: values[name] for name in names}, hum=HumSettings(**hum))


def check_used(settings: Settings, description: weights.Description) -> None:
    """Refuse settings that the generator does not use, unless they have their default value.

    Raises:
        InputError: naming the flag.
    """
    used, defaults = dataclasses.asdict(settings), dataclasses.asdict(Settings())
    hum, hum_defaults = used.pop("hum"), defaults.pop("hum")
    if description.system == "hum2guitar":
        unused = [name for name in ("phase", "input_level", "high_band") if used[name] != defaults[name]]
    else:
        unused = [name for name in hum if hum[name] != hum_defaults[name]]
    if unused:
        raise InputError(f"--{unused[0]}: {description.path} of {description.system} does not use it")


# --- recordings -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Jobs:
    """Recordings to convert.

    Attributes:
        pairs: (recording, output) each.
        is_many: whether folders, patterns or several recordings were asked for, of which some may fail.
    """

    pairs: list[tuple[pathlib.Path, pathlib.Path]]
    is_many: bool


def find_jobs(sources: Sequence[str], output: str | None, instrument: str) -> Jobs:
    """The recordings that `sources` name, and where each output goes.

    An output is called ``piano.guitar.wav``, beside ``piano.mp3`` or in the folder `output`. The outputs of a folder
    ``takes`` go to ``takes.guitar`` and mirror its folders. Outputs of earlier runs are left out.

    Args:
        sources: recordings, folders, and patterns such as ``takes/**/*.flac``.
        output: a folder, or for a single recording the output itself; None for the places above.
        instrument: for the names.

    Raises:
        InputError: there are no recordings, or two would be written to one file.
    """
    target = None if output is None else pathlib.Path(output)
    is_many = len(sources) > 1 or os.path.isdir(sources[0]) or _is_pattern(sources[0])
    if target and not is_many and not target.is_dir() and not output.endswith(("/", os.sep)):
        _check_recording(sources[0])
        return Jobs([(pathlib.Path(sources[0]), target)], False)
    if target and not target.is_dir() and (target.exists() or target.suffix.lower() in AUDIO_EXTENSIONS):
        raise InputError(f"--output: {target} is the name of a file, but several recordings need a folder")
    found: dict[pathlib.Path, pathlib.Path] = {}  # recording: folder of its output
    for source in sources:
        place = base = pathlib.Path(source)
        if os.path.isdir(source):
            paths = find_audio(base, "--input")
            place = base.with_name(f"{base.resolve().name}.{instrument}")
        elif _is_pattern(source):
            paths = [pathlib.Path(path) for path in sorted(glob.glob(source, recursive=True)) if os.path.isfile(path)]
            place = base = pathlib.Path(*itertools.takewhile(lambda part: not glob.has_magic(part), base.parts))
        else:
            _check_recording(source)
            paths = [base]
            place = base = base.parent
        if target and not os.path.isfile(source) and target.resolve() != base.resolve():
            paths = [path for path in paths if target.resolve() not in path.resolve().parents]
        if not paths:
            raise InputError(f"--input: found no recordings in {source}")
        found |= {path: (target or place) / path.relative_to(base).parent for path in paths}
    taken: dict[pathlib.Path, pathlib.Path] = {}  # output: its recording
    for path in without_converted(found):
        made = found[path] / f"{path.stem}.{instrument}.wav"
        made = made if made not in taken else made.with_name(f"{path.name}.{instrument}.wav")
        if taken.setdefault(made, path) != path:
            raise InputError(f"--input: {taken[made]} and {path} would both become {made}")
    return Jobs([(path, made) for made, path in taken.items()], is_many)


def _is_pattern(source: str) -> bool:
    return glob.has_magic(source) and not os.path.lexists(source)


def _check_recording(path: str) -> None:
    if not os.path.isfile(path):
        raise InputError(f"--input: found no recording, folder or pattern {path}")
    if path.lower().endswith((".mid", ".midi")):
        raise InputError(f"{path}: is MIDI, which has no sound yet: play it with synthesize_audios.py")


# --- conversion -------------------------------------------------------------------------------------------------------


def check_plot(name: str | None, is_many: bool) -> None:
    """Refuse the name of a picture whose format is not offered, or that stands for several recordings."""
    if name and is_many:
        raise InputError("--plot: takes no name with several recordings: their pictures go beside the outputs")
    if name and pathlib.Path(name).suffix.lower() not in (".png", ".pdf", ".svg", ".jpg"):
        raise InputError(f"--plot: expected a name that ends in .png, .pdf, .svg or .jpg, found {name}")


def convert_all(
    jobs: Jobs, load: Callable[[], Converter], settings: Settings, plot: str | None, overwrite: bool
) -> int:
    """Convert recordings one by one; the exit status. Of many, those that cannot be converted are listed at the end.

    Args:
        jobs: from `find_jobs`.
        load: returns the converter, the same one at each call.
        settings: how to convert.
        plot: name of the picture; "" for one beside each output, None for none.
        overwrite: convert those of many again whose output is there.

    Raises:
        InputError: the weights or the only recording cannot be used.
    """
    left_out = []
    for folder in {output.parent for _, output in jobs.pairs}:
        remove_leftovers(folder)
    todo = [pair for pair in jobs.pairs if overwrite or not jobs.is_many or not pair[1].exists()]
    if n_there := len(jobs.pairs) - len(todo):
        print(f"{n_there} of {len(jobs.pairs)} already there (--overwrite converts them again)")
    if todo and jobs.is_many:
        load()  # before the loop, so that bad weights are not blamed on a recording
    for source, output in todo:
        try:
            with concerning_one_file(output):
                convert_file(source, output, load, settings)
                print(output)
                if plot is not None:
                    picture = pathlib.Path(plot or output.with_suffix(".png"))
                    _save_plot(picture, source, output, settings.high_band == "keep")
        except InputError as error:
            if not jobs.is_many:
                raise
            left_out.append((str(source), str(error)))
    return cli.report_left_out(left_out)


def _save_plot(path: pathlib.Path, source: pathlib.Path, output: pathlib.Path, all_bins: bool) -> None:
    """Write the spectrograms of input and output, one above the other.

    Args:
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
    plots.save_spectrograms(path, panels, seconds, hz_per_bin=representation.bin_hz)
