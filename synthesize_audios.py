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
from collections.abc import Sequence

from common import cli, jobs
from common.errors import InputError
from common.files import (
    check_names,
    concerning_one_file,
    piece_names,
    process_mark,
    read_json,
    remove_files,
    remove_leftovers,
    write_json,
)
from synthesis.etudes import MIN_SECTION, TEXTURES, write_etudes
from synthesis.midi import find_midi, read_midi
from synthesis.mixing import ENDINGS, Playing, pitches_needed, write_piece
from synthesis.notes import NOTES_NAME, PITCHES, SAMPLE_RATE, Instrument, NoteBank, find_notes, has_pitch
from synthesis.recorded import find_recorded_notes, fingerprint_notes, recorded_instrument
from synthesis.soundfonts import (
    check_program,
    choose_programs,
    default_soundfont,
    find_soundfont,
    fingerprint,
    soundfont_instrument,
)
from synthesis.variations import Variation, draw_variation, variation_name, vary_piece
from synthesis.voices import Voice, describe_gaps, parse_voices, prepare_notes

INSTRUMENTS = ("keyboard_acoustic", "guitar_acoustic", "string_acoustic", "synth_lead_synthetic")
PARAMETERS_NAME = "synthesis.json"
MANY_PIECES = 50  # for more pieces, preparing all pitches is quicker than finding out which are needed
MAX_VARIATIONS = 100  # two digits in a name


@dataclasses.dataclass(frozen=True)
class Score:
    """What is played: a MIDI file and how its piece is varied."""

    midi_path: pathlib.Path
    variation: Variation


def synthesize_piece(
    score: Score, outputs: dict[str, str], instruments: Sequence[Instrument], playing: Playing
) -> tuple[dict[str, collections.Counter], list[str]]:
    """Write the recordings of one piece.

    Args:
        score: the piece.
        outputs: from the name of an instrument to the file to write.
        instruments: all instruments; those that are not in `outputs` are skipped.
        playing: how the piece is played.

    Returns:
        counts: by instrument, how its notes were found.
        failures: why an instrument could not play the piece, one line each.

    Raises:
        InputError: the MIDI file cannot be read.
    """
    piece = vary_piece(read_midi(score.midi_path, playing.sustain_pedal), score.variation)
    counts, failures = {}, []
    for instrument in instruments:
        if instrument.name in outputs:
            try:
                with concerning_one_file(outputs[instrument.name]):
                    counts[instrument.name] = write_piece(
                        outputs[instrument.name], piece, NoteBank(instrument), playing
                    )
            except InputError as error:
                failures.append(str(error))
    return counts, failures


def synthesize_folder(arguments: argparse.Namespace) -> int:
    """Play all pieces on all instruments; returns the exit status."""
    voices = [voice for group in arguments.voices for voice in group]
    names = _plain_names(arguments, voices)
    _check_notes_arguments(arguments, names, voices)
    audios = pathlib.Path(arguments.audios_path).resolve()
    playing = Playing(
        arguments.playback_speed,
        arguments.duration_rate,
        arguments.transpose,
        arguments.sustain_pedal,
        arguments.ending,
    )
    with contextlib.ExitStack() as stack:
        if not os.path.lexists(audios / PARAMETERS_NAME):
            stack.callback(_remove_if_alone, audios / PARAMETERS_NAME)
        instruments, descriptions = _find_instruments(arguments, names, voices, stack)
        scores, left_out = _find_scores(arguments, stack)
        parameters = {**dataclasses.asdict(playing), **_score_parameters(arguments), "instruments": descriptions}
        _keep_parameters(audios / PARAMETERS_NAME, parameters, "--audios_path", arguments.overwrite)

        work = []
        for piece, score in scores.items():
            outputs = {name: audios / name / f"{piece}.wav" for name in descriptions}
            if arguments.overwrite:  # remove now, so that an interrupted run leaves only recordings of its own
                for path in outputs.values():
                    with contextlib.suppress(OSError):  # writing it will fail as well, and tell why
                        path.unlink(missing_ok=True)
            missing = {n: str(path) for n, path in outputs.items() if not jobs.up_to_date(path, score.midi_path)}
            if missing:
                work.append((score, missing, instruments, playing))
        _prepare_missing(arguments, instruments, [score for score, *_ in work], playing)

        totals = {name: collections.Counter() for name in descriptions}
        for index, result, reason in jobs.run(synthesize_piece, work, arguments.jobs, "pieces"):
            counted, failures = result or ({}, [reason])
            left_out += [(str(work[index][0].midi_path), failure) for failure in failures]
            for name, counts in counted.items():
                totals[name].update(counts, recordings=1)
    for name, counts in totals.items():
        there = len(scores) - sum(name in missing for _, missing, *_ in work)
        written = cli.count(counts["recordings"], "recording")
        print(f"{audios / name}: {written} written, {there} already there" + _origins(counts))
    return cli.report_left_out(sorted(set(left_out)))


def _plain_names(arguments: argparse.Namespace, voices: Sequence[Voice]) -> list[str]:
    """The instruments that are played without voices."""
    if arguments.instruments is None:
        return [] if voices else list(INSTRUMENTS)
    with_voices = {voice.instrument for voice in voices}
    return [name for name in dict.fromkeys(arguments.instruments) if name not in with_voices]


def _check_notes_arguments(arguments: argparse.Namespace, names: Sequence[str], voices: Sequence[Voice]) -> None:
    """Refuse flags that contradict each other or have no effect."""
    if not arguments.midi_path and not arguments.etudes:
        raise InputError("--midi_path: expected a folder of MIDI files, or --etudes, found neither")
    if arguments.midi_out and not arguments.etudes:
        raise InputError("--midi_out: expected with --etudes, whose MIDI files it keeps")
    for flag, value in (("soundfont", arguments.soundfont), ("program", arguments.program)):
        if arguments.nsynth_path and value:
            raise InputError(f"--{flag}: expected only without --nsynth_path, where the notes are recorded ones")
    prepared = any(voice.kind != "nsynth" for voice in voices) or (names and not arguments.nsynth_path)
    if arguments.notes_path and not prepared:
        raise InputError("--notes_path: expected only without --nsynth_path, where the notes are recorded ones")
    if arguments.preset and not (arguments.nsynth_path or arguments.notes_path):
        raise InputError("--preset: expected with --nsynth_path, or with --notes_path whose files it names")
    for name in dict(arguments.program):
        if name not in names:
            raise InputError(f"--program: expected one of --instruments ({', '.join(names)}), found {name}")
    if any(voice.kind == "nsynth" for voice in voices) and not arguments.nsynth_path:
        raise InputError("--voices: expected --nsynth_path for the voices nsynth:PRESET, found none")


# --- scores -----------------------------------------------------------------------------------------------------------


def _find_scores(
    arguments: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[dict[str, Score], list[tuple[str, str]]]:
    """The scores by the names of their recordings, and (file, reason) of what is left out."""
    pieces, left_out = {}, []
    midis = find_midi(arguments.midi_path, "--midi_path") if arguments.midi_path else []
    if arguments.etudes:
        folder = arguments.midi_out or stack.enter_context(_temporary_folder(".etudes-"))
        etudes = write_etudes(
            folder, arguments.etudes, arguments.seed, arguments.etudes_texture, arguments.etudes_seconds
        )
        pieces = {path.stem: path.resolve() for path in etudes}
        if not arguments.midi_out:
            for (
                path
            ) in etudes:  # written in each run; recordings are up to date as long as the parameters stay the same
                os.utime(path, (0, 0))
    if arguments.midi_path:
        named, left_out = piece_names(
            [path for path in midis if path.resolve() not in pieces.values()], arguments.midi_path
        )
        for name, path in named.items():
            if name in pieces:
                left_out.append(
                    (str(path), f"{path}: expected a piece name of its own, found {name!r} taken by an etude")
                )
            else:
                pieces[name] = path.resolve()
    scores = {}
    for number in range(arguments.variations):
        for piece, path in pieces.items():
            name = variation_name(piece, number)
            if number and name in pieces:
                reason = f"{pieces[name]}: expected another name than that of variation {number} of {path}"
                raise InputError(f"--variations: {reason}")
            scores[name] = Score(path, draw_variation(arguments.seed, piece, number))
    return scores, left_out


def _score_parameters(arguments: argparse.Namespace) -> dict:
    """What synthesis.json says about the scores; None for a flag that has no effect."""
    generated, varied = arguments.etudes > 0, arguments.variations > 1
    return {
        "seed": arguments.seed if generated or varied else None,
        "variations": arguments.variations,
        "etudes": arguments.etudes,
        "etudes_texture": arguments.etudes_texture if generated else None,
        "etudes_seconds": arguments.etudes_seconds if generated else None,
    }


def _temporary_folder(prefix: str) -> tempfile.TemporaryDirectory:
    remove_leftovers(tempfile.gettempdir(), prefix)
    return tempfile.TemporaryDirectory(prefix=f"{prefix}{process_mark()}")


# --- instruments ------------------------------------------------------------------------------------------------------


def _find_instruments(
    arguments: argparse.Namespace, names: Sequence[str], voices: Sequence[Voice], stack: contextlib.ExitStack
) -> tuple[list[Instrument], dict[str, dict]]:
    """The instruments and voices, and by name what synthesis.json says about their notes."""
    sources = {**_plain_sources(arguments, names), **_voice_sources(voices)}
    recordings = {name: find_recorded_notes(voice.place) for name, voice in sources.items() if voice.kind == "folder"}
    descriptions = {}
    for name, voice in sources.items():
        if voice.kind == "nsynth":
            place = {"nsynth_path": str(pathlib.Path(arguments.nsynth_path).resolve())}
            descriptions[name] = {**place, "preset": voice.number}
        elif voice.kind == "soundfont":
            place = {"soundfont": pathlib.Path(voice.place).name, "sha256": fingerprint(voice.place)}
            descriptions[name] = {**place, "program": voice.number}
        else:
            place = {"folder": pathlib.Path(voice.place).resolve().name}
            descriptions[name] = {**place, "sha256": fingerprint_notes(recordings[name])}
    prepared = {name: descriptions[name] for name, voice in sources.items() if voice.kind != "nsynth"}
    folder = _notes_folder(arguments, prepared, stack) if prepared else ""

    instruments = []
    for name, voice in sources.items():
        if voice.kind == "nsynth":
            flag = "--preset" if name in names else "--voices"
            (found,) = find_notes(arguments.nsynth_path, [voice.instrument], voice.number, flag)
            instrument = dataclasses.replace(found, name=name)
        elif voice.kind == "soundfont":
            preset = arguments.preset if name in names else 0
            instrument = soundfont_instrument(name, voice.place, voice.number, folder, preset)
        else:
            instrument = recorded_instrument(name, recordings[name], folder)
        if name not in names and (gaps := describe_gaps(instrument)):
            print(gaps, file=sys.stderr)
        instruments.append(instrument)
    return instruments, descriptions


def _plain_sources(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, Voice]:
    """Where the notes of the instruments without voices come from."""
    if not names:
        return {}
    if arguments.nsynth_path:
        return {name: Voice(name, "nsynth", number=arguments.preset) for name in names}
    soundfont = find_soundfont(arguments.soundfont) if arguments.soundfont else default_soundfont()
    programs = choose_programs(soundfont, names, dict(arguments.program))
    return {name: Voice(name, "soundfont", str(soundfont), program) for name, program in programs.items()}


def _voice_sources(voices: Sequence[Voice]) -> dict[str, Voice]:
    """The voices by the names of their folders, their SoundFonts found.

    Raises:
        InputError: a SoundFont or its program is not there, or two voices have the same name.
    """
    sources: dict[str, Voice] = {}
    for voice in voices:
        found = voice
        if voice.kind == "soundfont":
            found = dataclasses.replace(voice, place=str(find_soundfont(voice.place, "--voices")))
            check_program(found.place, voice.number, f"{voice.instrument}={voice.place}:{voice.number}", "--voices")
        other = next((old for name, old in sources.items() if name.casefold() == found.name.casefold()), None)
        if other:
            places = f"{other.place or 'nsynth'} and {found.place or 'nsynth'}"
            raise InputError(f"--voices: expected voices of different names, found {found.name} twice ({places})")
        sources[found.name] = found
    return sources


def _notes_folder(arguments: argparse.Namespace, prepared: dict[str, dict], stack: contextlib.ExitStack) -> str:
    """The folder for prepared notes: that of --notes_path with its notes.json, or a temporary one."""
    folder = arguments.notes_path
    if not folder:
        return stack.enter_context(_temporary_folder(".notes-"))
    kept = pathlib.Path(folder, NOTES_NAME)
    if not kept.exists() and any(kept.parent.glob("*-*-*.wav")):
        raise InputError(
            f"--notes_path: expected a new folder or one with a {NOTES_NAME}, found other notes in {folder}"
        )
    presets = {f"{name}_{0 if '@' in name else arguments.preset:03d}": about for name, about in prepared.items()}
    if not os.path.lexists(kept):
        stack.callback(_remove_if_alone, kept)
    _keep_parameters(kept, {"sample_rate": SAMPLE_RATE, "instruments": presets}, "--notes_path", False)
    return folder


def _keep_parameters(path: pathlib.Path, parameters: dict, flag: str, overwrite: bool) -> None:
    """Write `parameters` to `path`, merged with those that are there.

    Other instruments may be added, more variations and etudes, and parameters that had no effect before (None). With
    `overwrite`, parameters may change: all recordings that were made with the old ones are removed.

    Raises:
        InputError: naming `flag`, if a parameter has changed and `overwrite` is off; or the file is damaged.
    """
    kept = _read_parameters(path) if os.path.lexists(path) else parameters
    if "ending" in parameters:
        kept = {"ending": "cut", **kept}  # older versions knew no other
    old, new = kept.get("instruments", {}), parameters["instruments"]
    growing = ("variations", "etudes")
    common = {
        key: (kept.get(key), parameters.get(key))
        for key in {**kept, **parameters}
        if key not in ("instruments", *growing)
    }
    changed = {key: values for key, values in common.items() if None not in values and values[0] != values[1]}
    if "instruments" not in kept:  # written by an older version
        changed["instruments"] = (sorted(kept.get("programs", {})), sorted(new))
    changed_names = [name for name in new if name in old and old[name] != new[name]]
    others = [f"{key} {before} (now {now})" for key, (before, now) in changed.items()]
    others += [
        f"{name} {key} {old[name].get(key)} (now {new[name].get(key)})"
        for name in changed_names
        for key in {**old[name], **new[name]}
        if old[name].get(key) != new[name].get(key)
    ]
    if others and not overwrite:
        remedy = "take another folder" + (" or --overwrite" if flag == "--audios_path" else "")
        raise InputError(f"{flag}: expected the parameters in {path}, found others: {', '.join(others)}; {remedy}")
    outdated = {*old, *kept.get("programs", {})} if changed else set(changed_names)
    if outdated:
        remove_files(path.parent, "*.wav", outdated)
    joined = {**parameters, "instruments": {**({} if changed else old), **new}}
    if not changed:
        joined |= {key: max(kept[key], parameters[key]) for key in growing if key in kept and key in parameters}
        joined |= {key: before for key, (before, now) in common.items() if now is None}
    if not path.exists() or joined != kept:
        write_json(path, joined)


def _read_parameters(path: pathlib.Path) -> dict:
    """The parameters of an earlier run.

    Raises:
        InputError: the file holds none, or names that are none of folders beside it.
    """
    kept = read_json(path)
    for key in ("instruments", "programs"):
        names = kept.get(key, {})
        described = key == "programs" or (isinstance(names, dict) and all(isinstance(d, dict) for d in names.values()))
        if not isinstance(names, dict) or not described:
            raise InputError(f"{path}: expected {key} by name, found {str(names)[:100]}")
        check_names(names, path)
    numbers = [kept[key] for key in ("variations", "etudes") if key in kept]
    if not all(type(number) is int for number in numbers):
        raise InputError(f"{path}: expected whole numbers of variations and etudes, found {numbers}")
    return kept


def _remove_if_alone(path: pathlib.Path) -> None:
    """Remove a file of parameters and its folder if nothing was recorded there, so that mistakes leave nothing."""
    if not any(path.parent.rglob("*.wav")):
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def _prepare_missing(
    arguments: argparse.Namespace, instruments: Sequence[Instrument], scores: Sequence[Score], playing: Playing
) -> None:
    """Prepare the notes that are missing: those that the scores need, or all for --notes_path and many scores."""
    prepared = [instrument for instrument in instruments if instrument.source]
    if not prepared or not scores:
        return
    if arguments.notes_path or len(scores) > MANY_PIECES:
        pitches = set(PITCHES)
    else:
        pitches = set()
        for score in scores:
            with contextlib.suppress(InputError):  # reported when the piece is played
                pitches |= pitches_needed(vary_piece(read_midi(score.midi_path), score.variation), playing.transpose)
    work = [
        (instrument, pitch)
        for instrument in prepared
        for pitch in sorted(pitches)
        if instrument.can_play(pitch) and not has_pitch(instrument, pitch)
    ]
    for _, _, reason in jobs.run(prepare_notes, work, arguments.jobs, "notes"):
        if reason:
            raise InputError(reason)


def _origins(counts: collections.Counter) -> str:
    """The part of the report that says how many notes were replaced, and by what."""
    if not counts["played"]:
        return ""
    origins = {
        "velocity": "from another velocity",
        "pitch": "from another pitch",
        "silent": "silent because no note is near enough",
    }
    parts = [f"{counts[key]} {words}" for key, words in origins.items() if counts[key]] or ["all as asked for"]
    return f"; {cli.count(counts['played'], 'note')}, {', '.join(parts)}"


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
    add("--midi_path", help="folder of .mid and .midi files, subfolders too")
    add("--etudes", type=cli.number(int, 0, 1000), default=0, help="how many generated pieces to play")
    add("--etudes_texture", choices=TEXTURES, default="mixed", help="melody: one note at a time, as for hum2guitar")
    add("--etudes_seconds", type=cli.number(float, MIN_SECTION, 3600), default=60, help="length of a generated piece")
    add("--midi_out", help="keep the MIDI files of the generated pieces in this folder")
    add(
        "--variations",
        type=cli.number(int, 1, MAX_VARIATIONS),
        default=1,
        help="play each piece so many times: as it is, then each time in another key, at another tempo and loudness",
    )
    add("--seed", type=cli.seed, default=0, help="of the generated pieces and the variations")
    add("--audios_path", required=True, help="folder to write the recordings to")
    add("--playback_speed", type=cli.positive_float, default=1, help="divides all times of a piece")
    add("--duration_rate", type=cli.positive_float, default=4, help="multiplies each note's length")
    add(
        "--ending",
        choices=ENDINGS,
        default=ENDINGS[0],
        help="ring: until the last note has rung out, as long for every instrument; cut: where the piece ends, as "
        "published",
    )
    add("--transpose", type=cli.number(int, -127, 127), default=0, help="semitones added to every pitch")
    add("--sustain_pedal", action="store_true", help="lengthen notes while the pedal (CC 64) is down")
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
    add(
        "--preset",
        type=cli.number(int, 0, 999),
        default=0,
        help="number of each instrument's preset in NSynth, or in the names of the files in --notes_path",
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
    add("--notes_path", help="keep all prepared notes, of SoundFonts and recorded ones, in this folder")
    add(
        "--overwrite",
        action="store_true",
        help="make every recording again; if parameters changed, remove all recordings made with the old ones",
    )
    jobs.add_arguments(parser)
    return cli.run(parser, synthesize_folder, argv)


if __name__ == "__main__":
    raise SystemExit(main())
