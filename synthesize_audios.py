"""Play MIDI pieces with the notes of several instruments, from an NSynth folder or from a SoundFont.

Writes <audios_path>/<instrument>/<piece>.wav, 44.1 kHz 16-bit mono; the recordings of a piece have the same length and
onsets on every instrument. A piece is named by its path below --midi_path, folders joined by underscores.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Sequence

from common import cli, jobs
from common.errors import InputError
from common.files import piece_names, read_json, write_json
from synthesis.midi import find_midi, read_midi
from synthesis.mixing import Playing, pitches_needed, write_piece
from synthesis.notes import (
    PITCHES,
    Instrument,
    NoteBank,
    choose_programs,
    default_soundfont,
    find_notes,
    fingerprint,
    has_pitch,
    render_notes,
    soundfont_instruments,
)

INSTRUMENTS = ("keyboard_acoustic", "guitar_acoustic", "string_acoustic", "synth_lead_synthetic")
PARAMETERS_NAME = "synthesis.json"
NOTES_NAME = "notes.json"
MANY_PIECES = 50  # from here on rendering every pitch is quicker than looking which ones are needed


def synthesize_piece(
    midi_path: str, outputs: dict[str, str], instruments: Sequence[Instrument], playing: Playing
) -> dict[str, collections.Counter]:
    """Write one piece's recordings, `outputs` from instrument to file; returns how each one's notes were found.

    Raises:
        InputError: the MIDI file or a note's file cannot be read.
    """
    piece = read_midi(midi_path, playing.sustain_pedal)
    found = {}
    for instrument in instruments:
        if instrument.name in outputs:
            bank = NoteBank(instrument)
            found[instrument.name] = write_piece(outputs[instrument.name], piece, bank, playing)
    return found


def synthesize_folder(arguments: argparse.Namespace) -> int:
    """Do what the arguments ask for; the exit status."""
    names = list(dict.fromkeys(arguments.instruments))
    _check_notes_arguments(arguments, names)
    midis = find_midi(arguments.midi_path, "--midi_path")
    pieces, left_out = piece_names(midis, arguments.midi_path)
    audios = pathlib.Path(arguments.audios_path).resolve()
    playing = Playing(arguments.playback_speed, arguments.duration_rate, arguments.transpose, arguments.sustain_pedal)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_if_alone, audios / PARAMETERS_NAME)
        instruments, source = _instruments(arguments, names, stack)
        programs = {instrument.name: instrument.program for instrument in instruments}  # recorded notes have none
        parameters = {**source, "preset": arguments.preset, **dataclasses.asdict(playing), "programs": programs}
        _keep_parameters(audios / PARAMETERS_NAME, parameters, "--audios_path", arguments.overwrite)

        work = []
        for piece, midi_path in pieces.items():
            outputs = {name: audios / name / f"{piece}.wav" for name in names}
            if arguments.overwrite:  # first of all, so that what an interrupted run leaves is of this run
                for path in outputs.values():
                    path.unlink(missing_ok=True)
            missing = {name: str(path) for name, path in outputs.items() if not jobs.up_to_date(path, midi_path)}
            if missing:
                work.append((str(midi_path.resolve()), missing, instruments, playing))
        _render_missing(arguments, instruments, [midi_path for midi_path, *_ in work], playing)

        totals = {name: collections.Counter() for name in names}
        for index, found, reason in jobs.run(synthesize_piece, work, arguments.jobs, arguments.dask, "pieces"):
            if reason:
                left_out.append((work[index][0], reason))
            for name, counts in (found or {}).items():
                totals[name].update(counts, recordings=1)
    for name, counts in totals.items():
        there = len(pieces) - sum(name in missing for _, missing, *_ in work)
        print(f"{audios / name}: {counts['recordings']} recordings written, {there} already there" + _origins(counts))
    return cli.report_left_out(sorted(left_out))


def _check_notes_arguments(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse flags that contradict each other or name nothing."""
    for flag in ("soundfont", "notes_path", "program"):
        if arguments.nsynth_path and getattr(arguments, flag):
            raise InputError(f"--{flag}: expected only without --nsynth_path, where the notes are recorded ones")
    if arguments.preset and not (arguments.nsynth_path or arguments.notes_path):
        raise InputError("--preset: expected with --nsynth_path, or with --notes_path whose files it names")
    for name in dict(arguments.program):
        if name not in names:
            raise InputError(f"--program: expected one of --instruments ({', '.join(names)}), found {name}")


def _instruments(
    arguments: argparse.Namespace, names: Sequence[str], stack: contextlib.ExitStack
) -> tuple[list[Instrument], dict]:
    """The instruments, and what says in synthesis.json where their notes are from."""
    if arguments.nsynth_path:
        source = {"nsynth_path": str(pathlib.Path(arguments.nsynth_path).resolve())}
        return find_notes(arguments.nsynth_path, names, arguments.preset), source
    soundfont = arguments.soundfont or default_soundfont()
    programs = choose_programs(soundfont, names, dict(arguments.program))
    source = {"soundfont": pathlib.Path(soundfont).name, "sha256": fingerprint(soundfont)}
    folder = arguments.notes_path
    if folder:
        kept = pathlib.Path(folder, NOTES_NAME)
        if not kept.exists() and any(kept.parent.glob("*-*-*.wav")):
            raise InputError(
                f"--notes_path: expected a new folder or one with a {NOTES_NAME}, found other notes in {folder}"
            )
        presets = {f"{name}_{arguments.preset:03d}": program for name, program in programs.items()}
        stack.callback(_remove_if_alone, kept)
        _keep_parameters(kept, {**source, "programs": presets}, "--notes_path", False)
    else:
        # The workers of a cluster see --audios_path, but not this machine's temporary folder.
        beside = pathlib.Path(arguments.audios_path) if arguments.dask else None
        if beside:
            beside.mkdir(parents=True, exist_ok=True)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".notes-", dir=beside))
    return soundfont_instruments(soundfont, programs, folder, arguments.preset), source


def _keep_parameters(path: pathlib.Path, parameters: dict, flag: str, overwrite: bool) -> None:
    """Write `parameters` to `path` unless they stand there already; programs of further instruments join them.

    With `overwrite`, others may stand there: what was recorded with them goes, also of instruments not asked for now.

    Raises:
        InputError: naming `flag`, if others stand there and `overwrite` is off.
    """
    kept = read_json(path) if path.exists() else parameters
    programs = kept.get("programs", {})
    old = {**kept, **programs, "programs": None}
    new = {**parameters, **{**programs, **parameters["programs"]}, "programs": None}
    # An instrument that is only in `new` joins; any other difference would mix two kinds of recordings.
    other = [
        f"{key} {old.get(key)} (now {new.get(key)})"
        for key in {**old, **new}
        if old.get(key) != new.get(key) and (key in old or key not in parameters["programs"])
    ]
    if other and not overwrite:
        remedy = "take another folder" + " or --overwrite" * (flag == "--audios_path")
        raise InputError(f"{flag}: expected the parameters in {path}, found others: {', '.join(other)}; {remedy}")
    for name in programs if other else ():
        for recording in path.parent.glob(f"{name}/*.wav"):
            recording.unlink()
    joined = parameters if other else {**parameters, "programs": {**programs, **parameters["programs"]}}
    if not path.exists() or joined != kept:
        write_json(path, joined)


def _remove_if_alone(path: pathlib.Path) -> None:
    """Remove a file of parameters, and its folder, where no recording lies beside: bad input leaves nothing behind."""
    if not any(path.parent.rglob("*.wav")):
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _render_missing(
    arguments: argparse.Namespace, instruments: Sequence[Instrument], midi_paths: Sequence[str], playing: Playing
) -> None:
    """Render the notes from the SoundFont that are needed and not there: all of them to keep or for many pieces."""
    if arguments.nsynth_path:
        return
    if arguments.notes_path or len(midi_paths) > MANY_PIECES:
        pitches = set(PITCHES)
    else:
        pitches = set()
        for midi_path in midi_paths:
            with contextlib.suppress(InputError):  # told when its turn comes
                pitches |= pitches_needed(read_midi(midi_path), playing.transpose)
    work = [
        (instrument, pitch)
        for instrument in instruments
        for pitch in sorted(pitches)
        if not has_pitch(instrument, pitch)
    ]
    for _, _, reason in jobs.run(render_notes, work, arguments.jobs, arguments.dask, "notes"):
        if reason:
            raise InputError(f"--soundfont: {reason}")


def _origins(counts: collections.Counter) -> str:
    """What a report says of notes that are not the ones asked for."""
    if not counts["played"]:
        return ""
    said = [f"{counts['velocity']} from another velocity"] * bool(counts["velocity"])
    said += [f"{counts['pitch']} from another pitch"] * bool(counts["pitch"])
    said += [f"{counts['silent']} silent for want of a note near enough"] * bool(counts["silent"])
    return f"; {counts['played']} notes" + (f", {', '.join(said)}" if said else ", all as asked for")


def _program(text: str) -> tuple[str, int]:
    """An argparse type: ``instrument=program``."""
    match = re.fullmatch(r"(\w+)=(\d{1,3})", text)
    if not match or int(match[2]) > 127:
        raise argparse.ArgumentTypeError(f"expected INSTRUMENT=0..127 such as guitar_acoustic=24, found {text!r}")
    return match[1], int(match[2])


def _instrument(text: str) -> str:
    """An argparse type: a name that serves as a folder and in NSynth's file names."""
    if not re.fullmatch(r"\w+", text):
        raise argparse.ArgumentTypeError(f"expected a name such as guitar_acoustic, found {text!r}")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--nsynth_path", help="folder of NSynth notes or the download's root; without it, notes come from a SoundFont")
    add("--midi_path", required=True, help="folder of .mid and .midi files, subfolders too")
    add("--audios_path", required=True, help="folder to write the recordings to")
    add("--playback_speed", type=cli.positive_float, default=1, help="divides all times of a piece")
    add("--duration_rate", type=cli.positive_float, default=4, help="multiplies each note's length")
    add("--transpose", type=cli.number(int, -127, 127), default=0, help="semitones added to every pitch")
    add("--sustain_pedal", action="store_true", help="lengthen notes while the pedal (CC 64) is down")
    add("--instruments", nargs="+", type=_instrument, default=INSTRUMENTS, help="NSynth family and source")
    add("--preset", type=cli.number(int, 0, 999), default=0, help="number of each instrument's preset in NSynth, or in the names of the files in --notes_path")  # fmt: skip  # noqa: E501
    add("--soundfont", help="SoundFont file (.sf2) for the notes, by default TimGM6mb.sf2 of pretty_midi")
    add("--program", nargs="+", action="extend", type=_program, default=[], metavar="INSTRUMENT=PROGRAM",
        help="General MIDI program (from 0) in the SoundFont instead of the instrument's usual one")  # fmt: skip
    add("--notes_path", help="keep all notes of the SoundFont's instruments in this folder, in NSynth's layout")
    add(
        "--overwrite",
        action="store_true",
        help="make every recording anew, also with other parameters: other instruments' go then",
    )
    jobs.add_arguments(parser)
    return cli.run(parser, synthesize_folder, argv)


if __name__ == "__main__":
    raise SystemExit(main())
