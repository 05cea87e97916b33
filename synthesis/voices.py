"""Voices: where the notes of an instrument come from, as --voices says, and folders of recorded notes."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import sys
from collections.abc import Sequence

import numpy as np

from common.errors import InputError
from sound.blocks import resample
from sound.files import find_audio, open_audio, read_audio
from synthesis import soundfonts
from synthesis.notes import (
    HELD_SECONDS,
    MAX_SHIFT,
    NOTE_SECONDS,
    PITCHES,
    SAMPLE_RATE,
    VELOCITIES,
    Instrument,
    align_onset,
    find_notes,
    nearest,
    prepared_instrument,
    release_envelope,
)

VELOCITY_EXPONENT = 2

_NOTE = re.compile(r"(?:^|.*[^a-z0-9])([a-g])([#sb]?)(-?\d)(?:[ _-]?v(\d{1,3}))?", re.IGNORECASE)
_NUMBER = re.compile(r"(?:.+_\d{3}-|p?)(\d{2,3})(?:[ _-]v?(\d{1,3}))?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Voice:
    """One source of notes for an instrument.

    Attributes:
        name: of the folder of recordings, such as keyboard_acoustic@grand.
        instrument: NSynth's family and source, such as keyboard_acoustic.
        kind: "soundfont", "nsynth" or "folder".
        place: the SoundFont's file or the folder of recorded notes.
        number: the program in the SoundFont, or NSynth's preset.
    """

    name: str
    instrument: str
    kind: str
    place: str = ""
    number: int = 0


def parse_voices(text: str) -> list[Voice]:
    """An argparse type: the voices of one instrument, INSTRUMENT=SOURCE[,SOURCE...]."""
    match = re.fullmatch(r"(\w+)=(.+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected INSTRUMENT=SOURCE[,SOURCE...], found {text!r}")
    return [_parse_source(match[1], source) for source in match[2].split(",")]


def _parse_source(instrument: str, source: str) -> Voice:
    kind, place, number = "folder", source, 0
    name = pathlib.Path(source).resolve().name
    if (match := re.fullmatch(r"(.+\.sf2):(\d{1,3})", source, re.IGNORECASE)) and int(match[2]) <= 127:
        kind, place, number = "soundfont", match[1], int(match[2])
        name = f"{pathlib.Path(place).stem}-{number}"
    elif match := re.fullmatch(r"nsynth:(\d{1,3})", source):
        kind, place, number = "nsynth", "", int(match[1])
        name = f"nsynth-{number:03d}"
    elif not source or re.search(r"^nsynth:|\.sf[23](:.*)?$", source, re.IGNORECASE):
        expected = "FILE.sf2:0..127, nsynth:0..999 or a folder of recorded notes"
        raise argparse.ArgumentTypeError(f"expected {expected}, found {source!r} for {instrument}")
    name = re.sub(r"[^a-zA-Z0-9_.-]+", "_", name).strip("_.") or "voice"
    return Voice(f"{instrument}@{name}", instrument, kind, place, number)


def find_instruments(
    names: Sequence[str], voices: Sequence[Voice], nsynth_path: str | None, folder: str
) -> list[Instrument]:
    """The instruments that `names` and `voices` ask for.

    Args:
        names: instruments without voices, played from NSynth's notes or from the default SoundFont.
        voices: what `--voices` asks for.
        nsynth_path: folder of NSynth's notes.
        folder: where notes are to be prepared.

    Raises:
        InputError: a source or its notes are not there, or two voices have the same name.
    """
    if nsynth_path:
        plain = [Voice(name, name, "nsynth") for name in names]
    else:
        default = str(soundfonts.default_soundfont())
        plain = [Voice(name, name, "soundfont", default, soundfonts.program(name)) for name in names]
    instruments: dict[str, Instrument] = {}
    for voice in [*plain, *voices]:
        if voice.name.casefold() in instruments:
            raise InputError(f"--voices: two voices are called {voice.name}")
        if voice.kind == "soundfont":
            instrument = soundfonts.soundfont_instrument(voice.name, voice.place, voice.number, folder)
        elif voice.kind == "folder":
            instrument = recorded_instrument(voice.name, voice.place, folder)
        elif nsynth_path:
            instrument = find_notes(nsynth_path, voice.instrument, voice.number, voice.name)
        else:
            raise InputError("--voices: nsynth:PRESET needs --nsynth_path")
        silent = [pitch for pitch in PITCHES if not instrument.can_play(pitch)]
        if silent and voice in voices:
            reason = f"more than {MAX_SHIFT} semitones from a recorded pitch"
            print(f"{voice.name}: {len(silent)} of {len(PITCHES)} pitches stay silent, {reason}", file=sys.stderr)
        instruments[voice.name.casefold()] = instrument
    return list(instruments.values())


# --- recorded notes ---------------------------------------------------------------------------------------------------


RecordedNotes = dict[tuple[int, int], str]  # from (pitch, velocity) to the file of a recorded note


def recorded_instrument(name: str, place: str | os.PathLike, folder: str | os.PathLike) -> Instrument:
    """An instrument whose notes are prepared into `folder` from the recorded notes in the folder `place`.

    Raises:
        InputError: as `find_recorded_notes`.
    """
    notes, digest = find_recorded_notes(place), hashlib.sha256()
    for key, path in sorted(notes.items()):
        digest.update(repr(key).encode())
        digest.update(pathlib.Path(path).read_bytes())
    about = {"folder": pathlib.Path(place).resolve().name, "sha256": digest.hexdigest()}
    return prepared_instrument(name, functools.partial(prepare_pitch, notes), notes, folder, about)


def prepare_pitch(notes: RecordedNotes, pitch: int) -> list[np.ndarray]:
    """The notes of one pitch at each of `VELOCITIES`; float32 ``(n,)`` at `SAMPLE_RATE` each.

    Each is the recording of the nearest pitch, and of its layers the nearest velocity: mixed down, shifted by
    resampling, its onset aligned, and let go after 3 s with the time constant of the published release. A note recorded
    at velocity r and wanted at v is multiplied by (v / r)^2, so that recordings of several layers keep their levels,
    and a single layer gets dynamics. The square is the default of SoundFonts (SoundFont 2.04 specification, section
    8.4.1); FluidR3's piano follows it exactly.

    Raises:
        InputError: a recording cannot be read.
    """
    recorded = nearest({p for p, _ in notes}, pitch)
    layers = {velocity: path for (p, velocity), path in notes.items() if p == recorded}
    chosen = {velocity: nearest(layers, velocity) for velocity in VELOCITIES}
    shifted = {layer: _prepare_recording(layers[layer], pitch - recorded) for layer in set(chosen.values())}
    return [shifted[layer] * np.float32((velocity / layer) ** VELOCITY_EXPONENT) for velocity, layer in chosen.items()]


def _prepare_recording(path: str, semitones: int) -> np.ndarray:
    """A recorded note, shifted, aligned and let go."""
    with open_audio(path) as recording:
        rate = recording.sample_rate
    audio = read_audio(path, None)
    needed = round((NOTE_SECONDS + 1) * rate * 2 ** (semitones / 12))  # a second for what lies before the onset
    note = align_onset(resample(audio[:needed], rate * 2 ** (semitones / 12), SAMPLE_RATE), SAMPLE_RATE)
    note = note[: NOTE_SECONDS * SAMPLE_RATE]
    released = note[HELD_SECONDS * SAMPLE_RATE :]
    released *= release_envelope(len(released), SAMPLE_RATE)
    return note


def parse_note_name(stem: str) -> tuple[int, int | None, int | None] | None:
    """MIDI pitch, velocity and velocity layer that the name of a recorded note says; None if it says no pitch.

    Understood are notes (``A0``, ``C#4``, ``Cs4``, ``Db4``, with a layer ``A0v8``; C4 is 60; other words may stand
    before, as in ``piano_A0``), MIDI numbers (``060``, ``p060``, with a velocity ``060-100``) and NSynth's names
    (``keyboard_acoustic_000-060-100``). What the name does not say is None.
    """
    import pretty_midi

    velocity = layer = None
    if match := _NUMBER.fullmatch(stem):
        pitch, velocity = int(match[1]), int(match[2]) if match[2] else None
    elif match := _NOTE.fullmatch(stem):
        name = f"{match[1]}{match[2].lower().replace('s', '#')}{match[3]}"
        pitch, layer = pretty_midi.note_name_to_number(name), int(match[4]) if match[4] else None
    else:
        return None
    if not 0 <= pitch <= 127 or layer == 0 or (velocity is not None and not 1 <= velocity <= 127):
        return None
    return pitch, velocity, layer


def find_recorded_notes(folder: str | os.PathLike, flag: str = "--voices") -> RecordedNotes:
    """The recorded notes in `folder` and below, by their names; files without a note's name are left out.

    Layer n of at most N in the folder counts as velocity 127 n / N; a note without velocity or layer as 127.

    Raises:
        InputError: naming `flag`, if there is no folder, no note in it, or two files for one note.
    """
    paths = find_audio(folder, flag)
    parsed = [(path, note) for path in paths if (note := parse_note_name(path.stem))]
    if not parsed:
        raise InputError(
            f"{flag}: expected recorded notes such as C#4.wav, A0v8.ogg or 060-100.flac in {folder}, "
            f"found {len(paths)} recordings without a note's name"
        )
    n_layers = max((layer or 1 for _, (_, _, layer) in parsed), default=1)
    notes: RecordedNotes = {}
    for path, (pitch, velocity, layer) in parsed:
        key = (pitch, velocity or (max(1, round(127 * layer / n_layers)) if layer else 127))
        if key in notes:
            raise InputError(f"{flag}: expected one file for each note, found {notes[key]} and {path}")
        notes[key] = str(path.resolve())
    return notes
