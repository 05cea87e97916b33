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
import dataclasses
import hashlib
import itertools
import pathlib
import sys
from collections.abc import Sequence

from common import InputError, cli, jobs
from common.files import open_regular, piece_names, remove_leftovers, temporary_folder
from synthesis.etudes import TEXTURES, write_etudes
from synthesis.midi import MAX_BYTES, find_midi, read_midi
from synthesis.mixing import ENDINGS, Playing, keep_parameters, recording_seconds, vary, write_piece
from synthesis.notes import Instrument
from synthesis.voices import find_instruments, parse_voices

INSTRUMENTS = ("keyboard_acoustic", "guitar_acoustic", "string_acoustic", "synth_lead_synthetic")
MAX_VARIATIONS = 100  # two digits in a name
ORIGINS = {  # of notes that were not played as asked for, by their count
    "velocity": "from another velocity",
    "pitch": "from another pitch",
    "silent": "silent because no note is near enough",
}


def synthesize_piece(
    path: str, midi: str, playing: Playing, instrument: Instrument, max_minutes: float
) -> tuple[tuple[str, ...], collections.Counter]:
    """Write a recording to `path`; returns what of the MIDI file was skipped, and the counts of `write_piece`, of
    "recordings", and of the "drum" and "empty" notes that were left out.

    Raises:
        InputError: the MIDI file cannot be read, lasts longer than `max_minutes`, or has no note that can be played.
    """
    piece = read_midi(midi, playing.sustain_pedal)
    minutes = recording_seconds(piece, playing) / 60
    if minutes > max_minutes:
        raise InputError(f"{midi}: lasts {minutes:.0f} minutes; --max_minutes allows {max_minutes:g}")
    counts = write_piece(path, piece, instrument, playing)
    return piece.skipped, counts + collections.Counter(recordings=1, drum=piece.n_drums, empty=piece.n_empty)


def synthesize_folder(arguments: argparse.Namespace) -> int:
    """Play all pieces on all instruments; returns the exit status."""
    midis, seed, rates = arguments.midi_path, arguments.seed, arguments.duration_rate
    if not midis and not arguments.etudes:
        raise InputError("--midi_path or --etudes is required")
    names = arguments.instruments or ([] if arguments.voices else INSTRUMENTS)
    names = [name for name in dict.fromkeys(names) if name not in dict(arguments.voices)]
    audios = pathlib.Path(arguments.audios_path).resolve()
    playing = Playing(
        arguments.playback_speed, rates[0], arguments.transpose, arguments.sustain_pedal, arguments.ending
    )
    with temporary_folder() as temporary:
        instruments = find_instruments(names, arguments.voices, arguments.nsynth_path, str(temporary))
        etudes = write_etudes(temporary, arguments.etudes, seed, arguments.etudes_texture)
        named, left_out = piece_names(find_midi(midis), midis) if midis else ({}, [])
        pieces = [*((path.stem, path) for path in etudes), *named.items()]
        played: dict[str, tuple[str, Playing]] = {}  # MIDI file and how it is played, by the recording's name
        for number, (piece, path) in itertools.product(range(arguments.variations), pieces):
            name, varied = vary(playing, rates, seed, piece, number)
            if name in played:
                raise InputError(f"--midi_path: {path} has the name of another recording, {name}; rename it")
            played[name] = str(path), varied
        parameters = {
            **dataclasses.asdict(playing),
            "duration_rate": rates[0] if len(rates) == 1 else rates,
            "seed": seed if etudes or arguments.variations > 1 or len(rates) > 1 else None,
            "etudes": arguments.etudes_texture if etudes else None,  # earlier versions, with other etudes: their number
        }
        sources: dict[str, dict] = {
            "instruments": {instrument.name: instrument.description for instrument in instruments},
            "pieces": {name: checksum for name, (path, _) in played.items() if (checksum := _checksum(path))},
        }
        keep_parameters(audios, parameters, sources, arguments.overwrite)
        work, n_there = [], {}  # by instrument, so that its notes stay in memory
        for instrument in instruments:
            folder = audios / instrument.name
            remove_leftovers(folder)
            paths = {name: folder / f"{name}.wav" for name in played}
            missing = [name for name, path in paths.items() if arguments.overwrite or not path.exists()]
            work += [(str(paths[name]), *played[name], instrument, arguments.max_minutes) for name in missing]
            n_there[folder] = len(paths) - len(missing)
        left_out += _write_recordings(work, arguments.jobs, n_there)
    return cli.report_left_out(sorted(set(left_out)))


def _checksum(path: str) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.sha256(file.read(MAX_BYTES + 1)).hexdigest()[:16]
    except InputError:
        return ""  # reported when the piece is played


def _write_recordings(
    work: Sequence[tuple[str, str, Playing, Instrument, float]], n_processes: int, n_there: dict[pathlib.Path, int]
) -> list[tuple[str, str]]:
    """Call `synthesize_piece` with all `work` and say what was done; (file, reason) of the MIDI files left out.

    Args:
        n_there: number of recordings that are in each instrument's folder already.
    """
    left_out = []
    written: dict[pathlib.Path, collections.Counter] = {folder: collections.Counter() for folder in n_there}
    read: dict[str, collections.Counter] = {}  # the counts of one recording of each piece
    for index, result, reason in jobs.run(synthesize_piece, work, n_processes, "recordings"):
        path, midi, *_ = work[index]
        if reason:
            left_out.append((midi, reason))
            continue
        skipped, counts = result
        if skipped and midi not in read:
            print(f"{midi}: skipped {', '.join(skipped)}", file=sys.stderr)
        read[midi] = counts
        written[pathlib.Path(path).parent] += counts
    for folder, total in written.items():
        parts = [f"{total[key]} {words}" for key, words in ORIGINS.items() if total[key]] or ["all as asked for"]
        notes = f"; {cli.count(total['played'], 'note')}, {', '.join(parts)}" if total["played"] else ""
        made = cli.count(total["recordings"], "recording")
        print(f"{folder}: {made} written, {n_there[folder]} already there{notes}")
    if read:
        total = sum(read.values(), collections.Counter())
        left = f"{cli.count(total['drum'], 'drum note')} and {cli.count(total['empty'], 'note')} of no length left out"
        print(f"{cli.count(len(read), 'piece')}: {cli.count(total['played'], 'note')} read, {left}")
    return left_out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--nsynth_path", help="folder of NSynth notes or the download's root; without it, notes come from a SoundFont")
    add("--midi_path", help="folder of MIDI files, subfolders too")
    add("--etudes", type=cli.number(int, 0, 1000), default=0, help="how many generated pieces of a minute to play")
    add("--etudes_texture", choices=TEXTURES, default="mixed", help="melody: one note at a time, as for hum2guitar")
    text = "play each piece so many times: as it is, then each time in another key, at another tempo and loudness"
    add("--variations", type=cli.number(int, 1, MAX_VARIATIONS), default=1, help=text)
    add("--seed", type=cli.seed, default=0, help="of generated pieces, variations and several note lengths")
    add("--audios_path", required=True, help="folder to write the recordings to")
    add("--playback_speed", type=cli.positive_float, default=1, help="divides all times of a piece")
    text = "multiplies each note's length; of several values, each piece takes one, drawn from --seed"
    add("--duration_rate", type=cli.positive_float, nargs="+", default=[4], help=text)
    text = "ring: until the last note has rung out; cut: where the piece ends, as published"
    add("--ending", choices=ENDINGS, default=ENDINGS[0], help=text)
    add("--transpose", type=cli.number(int, -127, 127), default=0, help="semitones added to every pitch")
    add("--sustain_pedal", action="store_true", help="lengthen notes while the pedal (CC 64) is down")
    add("--max_minutes", type=cli.number(float, above=0, maximum=1440), default=60, help="leave out longer pieces")
    text = f"NSynth family and source (default: none with --voices, otherwise {' '.join(INSTRUMENTS)})"
    add("--instruments", nargs="+", help=text)
    text = (
        "play an instrument with several voices, each in its folder <instrument>@<voice>. A SOURCE is "
        "FILE.sf2:PROGRAM, nsynth:PRESET or a folder of recorded notes with names such as C#4.ogg, A0v8.wav, 060.flac"
    )
    voices = "INSTRUMENT=SOURCE[,SOURCE...]"
    add("--voices", nargs="+", action="extend", type=parse_voices, default=[], metavar=voices, help=text)
    text = "make every recording again; if parameters changed, remove all recordings made with the old ones"
    add("--overwrite", action="store_true", help=text)
    jobs.add_arguments(parser)
    return cli.run(parser, synthesize_folder, argv)


if __name__ == "__main__":
    raise SystemExit(main())
