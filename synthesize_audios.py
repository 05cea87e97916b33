"""Play MIDI pieces with the notes of several instruments, from an NSynth folder, a SoundFont or recorded notes.

Writes <audios_path>/<instrument>/<piece>.wav, and for the voices of an instrument (--voices) one folder each,
<audios_path>/<instrument>@<voice>/<piece>.wav: 44.1 kHz 16-bit mono. The recordings of a piece have the same length and
onsets on every instrument. A piece is named by its path below --midi_path, folders joined by underscores; generated
pieces (--etudes) are etude_000 and so on, and variations (--variations) of a piece <piece>_v01 and so on.
"""

from __future__ import annotations

import common.environment

import argparse
import collections
import contextlib
import dataclasses
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence

from common import cli, jobs
from common.errors import InputError
from common.files import concerning_one_file, piece_names, process_mark, remove_leftovers
from synthesis.etudes import MIN_SECTION, TEXTURES, write_etudes
from synthesis.midi import Piece, find_midi, read_midi
from synthesis.mixing import ENDINGS, Playing, pitches_needed, recording_seconds, write_piece
from synthesis.notes import PITCHES, Instrument, NoteBank
from synthesis.parameters import keep_parameters, remove_if_alone
from synthesis.scores import Score, plan_scores, vary_piece
from synthesis.voices import find_instruments, find_voices, parse_voices, prepare_notes

INSTRUMENTS = ("keyboard_acoustic", "guitar_acoustic", "string_acoustic", "synth_lead_synthetic")
PARAMETERS_NAME = "synthesis.json"
MANY_PIECES = 50  # for more pieces, preparing all pitches is quicker than finding out which are needed
MAX_VARIATIONS = 100  # two digits in a name
TEMPORARY = ".synthesis-"  # start of the name of a run's temporary folder


@dataclasses.dataclass(frozen=True)
class Played:
    """What came of a piece: by instrument, how its notes were found, and why an instrument could not play it."""

    piece: Piece
    counts: dict[str, collections.Counter]
    failures: list[str]


def synthesize_piece(
    score: Score, outputs: dict[str, str], instruments: Sequence[Instrument], playing: Playing, max_minutes: float
) -> Played:
    """Write the recordings of one piece to `outputs`, the files by the names of the instruments that are to play it.

    Raises:
        InputError: the MIDI file cannot be read, or lasts longer than `max_minutes`.
    """
    piece = vary_piece(read_midi(score.midi_path, playing.sustain_pedal), score.variation)
    playing = dataclasses.replace(playing, duration_rate=score.duration_rate)
    minutes = recording_seconds(piece, playing) / 60
    if minutes > max_minutes:
        raise InputError(f"{score.midi_path}: lasts {minutes:.0f} minutes; --max_minutes allows {max_minutes:g}")
    played = Played(piece._replace(notes=()), {}, [])
    for instrument in instruments:
        if instrument.name in outputs:
            path = outputs[instrument.name]
            try:
                with concerning_one_file(path):
                    played.counts[instrument.name] = write_piece(path, piece, NoteBank(instrument), playing)
            except InputError as error:
                played.failures.append(str(error))
    return played


def synthesize_folder(arguments: argparse.Namespace) -> int:
    """Play all pieces on all instruments; returns the exit status."""
    names = _plain_names(arguments)
    _check_flags(arguments, names)
    audios, rates = pathlib.Path(arguments.audios_path).resolve(), arguments.duration_rate
    playing = Playing(
        arguments.playback_speed, rates[0], arguments.transpose, arguments.sustain_pedal, arguments.ending
    )
    remove_leftovers(tempfile.gettempdir(), TEMPORARY)
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}{process_mark()}"))
        voices = [voice for group in arguments.voices for voice in group]
        sources = find_voices(names, voices, arguments.nsynth_path, arguments.soundfont, dict(arguments.program))
        instruments, descriptions = find_instruments(sources, temporary)
        etudes = write_etudes(
            temporary, arguments.etudes, arguments.seed, arguments.etudes_texture, arguments.etudes_seconds
        )
        pieces, left_out = _find_pieces(arguments.midi_path, etudes)
        scores = plan_scores(pieces, arguments.variations, arguments.seed, rates)
        parameters = {
            **dataclasses.asdict(playing),
            "duration_rate": rates[0] if len(rates) == 1 else rates,
            "seed": arguments.seed if etudes or arguments.variations > 1 or len(rates) > 1 else None,
            "variations": arguments.variations,
            "etudes": arguments.etudes,
            "etudes_texture": arguments.etudes_texture if etudes else None,
            "etudes_seconds": arguments.etudes_seconds if etudes else None,
            "instruments": descriptions,
        }
        if not os.path.lexists(audios / PARAMETERS_NAME):
            stack.callback(remove_if_alone, audios / PARAMETERS_NAME)
        keep_parameters(audios / PARAMETERS_NAME, parameters, arguments.overwrite)
        missing = _find_missing(audios, scores, descriptions, arguments.overwrite)
        _prepare_notes(instruments, [scores[name] for name in missing], playing, arguments.jobs)
        work = [(scores[name], files, instruments, playing, arguments.max_minutes) for name, files in missing.items()]
        played = []
        for index, result, reason in jobs.run(synthesize_piece, work, arguments.jobs, "pieces"):
            path = work[index][0].midi_path
            left_out += [(str(path), failure) for failure in ([reason] if reason else result.failures)]
            if result:
                played.append(result)
                if result.piece.skipped:
                    print(f"{path}: skipped {', '.join(result.piece.skipped)}", file=sys.stderr)
    for name in descriptions:
        there = sum(name not in files for files in missing.values()) + len(scores) - len(missing)
        _report(audios / name, there, [result.counts[name] for result in played if name in result.counts])
    _report_midi([result.piece for result in played])
    return cli.report_left_out(sorted(set(left_out)))


def _plain_names(arguments: argparse.Namespace) -> list[str]:
    """The instruments that are played without voices."""
    with_voices = {voice.instrument for group in arguments.voices for voice in group}
    names = arguments.instruments or ([] if with_voices else INSTRUMENTS)
    return [name for name in dict.fromkeys(names) if name not in with_voices]


def _check_flags(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse flags that contradict each other or have no effect."""
    if not arguments.midi_path and not arguments.etudes:
        raise InputError("--midi_path or --etudes is required")
    for flag, value in (("soundfont", arguments.soundfont), ("program", arguments.program)):
        if arguments.nsynth_path and value:
            raise InputError(f"--{flag} cannot be combined with --nsynth_path")
    for name in dict(arguments.program):
        if name not in names:
            raise InputError(f"--program: {name} is none of --instruments ({', '.join(names)})")


def _find_pieces(
    folder: str | None, etudes: Sequence[pathlib.Path]
) -> tuple[dict[str, pathlib.Path], list[tuple[str, str]]]:
    """The MIDI files of etudes and of a folder by the names of their pieces, and (file, reason) of what is left out."""
    pieces = {path.stem: path for path in etudes}
    named, left_out = piece_names(find_midi(folder, "--midi_path"), folder) if folder else ({}, [])
    for name, path in named.items():
        if pieces.setdefault(name, path.resolve()) in etudes:
            left_out.append((str(path), f"{path}: an etude has the name {name!r}"))
    return pieces, left_out


def _find_missing(
    audios: pathlib.Path, scores: dict[str, Score], names: Iterable[str], overwrite: bool
) -> dict[str, dict[str, str]]:
    """The recordings to write: for each score that has any, the files by instrument."""
    missing: dict[str, dict[str, str]] = {}
    for name in names:
        remove_leftovers(audios / name)
        for piece, score in scores.items():
            path = audios / name / f"{piece}.wav"
            if overwrite:  # remove now, so that an interrupted run leaves only recordings of its own
                with contextlib.suppress(OSError):  # writing it will fail as well, and tell why
                    path.unlink(missing_ok=True)
            if not jobs.up_to_date(path, score.midi_path):
                missing.setdefault(piece, {})[name] = str(path)
    return missing


def _prepare_notes(
    instruments: Sequence[Instrument], scores: Sequence[Score], playing: Playing, n_processes: int
) -> None:
    """Prepare the notes that the scores need."""
    prepared = [instrument for instrument in instruments if instrument.source]
    if not prepared or not scores:
        return
    pitches = set(PITCHES if len(scores) > MANY_PIECES else ())
    for score in scores if not pitches else ():
        with contextlib.suppress(InputError):  # reported when the piece is played
            pitches |= pitches_needed(vary_piece(read_midi(score.midi_path), score.variation), playing.transpose)
    work = [(i, pitch) for i in prepared for pitch in sorted(pitches) if i.can_play(pitch)]
    for _, _, reason in jobs.run(prepare_notes, work, n_processes, "notes"):
        if reason:
            raise InputError(reason)


def _report(folder: pathlib.Path, n_there: int, counts: Sequence[collections.Counter]) -> None:
    """Say what was written to an instrument's folder, how many notes were replaced, and by what."""
    total = sum(counts, collections.Counter())
    origins = {
        "velocity": "from another velocity",
        "pitch": "from another pitch",
        "silent": "silent because no note is near enough",
    }
    parts = [f"{total[key]} {words}" for key, words in origins.items() if total[key]] or ["all as asked for"]
    notes = f"; {cli.count(total['played'], 'note')}, {', '.join(parts)}" if total["played"] else ""
    print(f"{folder}: {cli.count(len(counts), 'recording')} written, {n_there} already there{notes}")


def _report_midi(pieces: Sequence[Piece]) -> None:
    """Say how many notes were read, and how many were left out and why."""
    if pieces:
        n_notes, drums, empty = (sum(getattr(p, field) for p in pieces) for field in ("n_notes", "n_drums", "n_empty"))
        left_out = f"{cli.count(drums, 'drum note')} and {cli.count(empty, 'note')} of no length left out"
        print(f"{cli.count(len(pieces), 'piece')}: {cli.count(n_notes, 'note')} read, {left_out}")


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
    """Run the command; returns the exit status."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--nsynth_path", help="folder of NSynth notes or the download's root; without it, notes come from a SoundFont")
    add("--midi_path", help="folder of MIDI files, subfolders too")
    add("--etudes", type=cli.number(int, 0, 1000), default=0, help="how many generated pieces to play")
    add("--etudes_texture", choices=TEXTURES, default="mixed", help="melody: one note at a time, as for hum2guitar")
    add("--etudes_seconds", type=cli.number(float, MIN_SECTION, 3600), default=60, help="length of a generated piece")
    add(
        "--variations",
        type=cli.number(int, 1, MAX_VARIATIONS),
        default=1,
        help="play each piece so many times: as it is, then each time in another key, at another tempo and loudness",
    )
    add("--seed", type=cli.seed, default=0, help="of generated pieces, variations and several note lengths")
    add("--audios_path", required=True, help="folder to write the recordings to")
    add("--playback_speed", type=cli.positive_float, default=1, help="divides all times of a piece")
    add(
        "--duration_rate",
        type=cli.positive_float,
        nargs="+",
        default=[4],
        help="multiplies each note's length; of several values, each piece takes one, drawn from --seed",
    )
    add(
        "--ending",
        choices=ENDINGS,
        default=ENDINGS[0],
        help="ring: until the last note has rung out; cut: where the piece ends, as published",
    )
    add("--transpose", type=cli.number(int, -127, 127), default=0, help="semitones added to every pitch")
    add("--sustain_pedal", action="store_true", help="lengthen notes while the pedal (CC 64) is down")
    add("--max_minutes", type=cli.number(float, above=0, maximum=1440), default=60, help="leave out longer pieces")
    add(
        "--instruments",
        nargs="+",
        type=_instrument,
        help=f"NSynth family and source (default: none with --voices, otherwise {' '.join(INSTRUMENTS)})",
    )
    add(
        "--voices",
        nargs="+",
        action="extend",
        type=parse_voices,
        default=[],
        metavar="INSTRUMENT=SOURCE[,SOURCE...]",
        help="play an instrument with several voices, each in its folder <instrument>@<voice>. A SOURCE is "
        "FILE.sf2:PROGRAM, nsynth:PRESET or a folder of recorded notes with names such as C#4.ogg, A0v8.wav, 060.flac",
    )
    add("--soundfont", help="SoundFont file (.sf2) for the notes, by default TimGM6mb.sf2 of pretty_midi")
    add(
        "--program",
        nargs="+",
        action="extend",
        type=_program,
        default=[],
        metavar="INSTRUMENT=PROGRAM",
        help="General MIDI program (from 0) in the SoundFont instead of the instrument's usual one",
    )
    add(
        "--overwrite",
        action="store_true",
        help="make every recording again; if parameters changed, remove all recordings made with the old ones",
    )
    jobs.add_arguments(parser)
    return cli.run(parser, synthesize_folder, argv)


if __name__ == "__main__":
    raise SystemExit(main())
