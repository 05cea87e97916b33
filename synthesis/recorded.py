"""Folders of recorded notes as instruments: reading pitch and velocity from file names, and preparing the notes."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re

import numpy as np

from common.errors import InputError
from sound.blocks import resample
from sound.files import find_audio, open_audio, read_audio
from synthesis.notes import (
    HELD_SECONDS,
    NOTE_SECONDS,
    PITCHES,
    SAMPLE_RATE,
    VELOCITIES,
    Instrument,
    RecordedNotes,
    align_onset,
    nearest,
    note_name,
)

VELOCITY_EXPONENT = 2
RELEASE_SECONDS = 3000 / 16000  # time constant, as of the published mix

_NOTE = re.compile(r"(?:^|.*[^a-z0-9])([a-g])([#♯sb♭]?)(-?\d)(?:[ _-]?v(\d{1,3}))?", re.IGNORECASE)
_NUMBER = re.compile(r"p?(\d{2,3})(?:[ _-]v?(\d{1,3}))?", re.IGNORECASE)
_NSYNTH = re.compile(r".+_\d{3}-(\d{3})-(\d{3})")
_SEMITONES = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
_ALTERATIONS = {"": 0, "#": 1, "♯": 1, "s": 1, "b": -1, "♭": -1}


def parse_note_name(stem: str) -> tuple[int, int | None, int | None] | None:
    """MIDI pitch, velocity and velocity layer that the name of a recorded note says; None if it says no pitch.

    Understood are notes (``A0``, ``C#4``, ``Cs4``, ``Db4``, with a layer ``A0v8``; C4 is 60; other words may stand
    before, as in ``piano_A0``), MIDI numbers (``060``, ``p060``, with a velocity ``060-100``) and NSynth's names
    (``keyboard_acoustic_000-060-100``). What the name does not say is None.
    """
    pitch = velocity = layer = None
    if match := _NSYNTH.fullmatch(stem) or _NUMBER.fullmatch(stem):
        pitch, velocity = int(match[1]), int(match[2]) if match[2] else None
    elif match := _NOTE.fullmatch(stem):
        pitch = 12 * (int(match[3]) + 1) + _SEMITONES[match[1].lower()] + _ALTERATIONS[match[2].lower()]
        layer = int(match[4]) if match[4] else None
    if pitch is None or not 0 <= pitch <= 127 or layer == 0 or (velocity is not None and not 1 <= velocity <= 127):
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
    files: dict[tuple[int, int], str] = {}
    for path, (pitch, velocity, layer) in parsed:
        key = (pitch, velocity or (max(1, round(127 * layer / n_layers)) if layer else 127))
        if key in files:
            raise InputError(f"{flag}: expected one file for each note, found {files[key]} and {path}")
        files[key] = str(path.resolve())
    return RecordedNotes(files)


def recorded_instrument(name: str, source: RecordedNotes, folder: str | os.PathLike) -> Instrument:
    """An instrument whose notes are prepared from recorded ones into `folder`: those within the limit of shifting."""
    folder = pathlib.Path(folder).resolve()
    everywhere = Instrument(name, {}, source=source)
    playable = [pitch for pitch in PITCHES if everywhere.can_play(pitch)]
    notes = {(p, v): str(folder / note_name(name, 0, p, v)) for p in playable for v in VELOCITIES}
    return Instrument(name, notes, source=source)


def fingerprint_notes(source: RecordedNotes) -> str:
    """SHA-256 over all files in order of pitch and velocity, in hexadecimal."""
    digest = hashlib.sha256()
    for key, path in sorted(source.files.items()):
        digest.update(repr(key).encode())
        digest.update(pathlib.Path(path).read_bytes())
    return digest.hexdigest()


def prepare_pitch(source: RecordedNotes, pitch: int) -> list[np.ndarray]:
    """The notes of one pitch at each of `VELOCITIES`; float32 ``(n,)`` at `SAMPLE_RATE` each.

    Each is the recording of the nearest pitch, and of its layers the nearest velocity: mixed down, shifted by
    resampling, its onset aligned, and let go after 3 s with the time constant of the published release. A note
    recorded at velocity r and wanted at v is multiplied by (v / r)^2, so that recordings of several layers keep their
    levels, and a single layer gets dynamics. The square is the default of SoundFonts (SoundFont 2.04 specification,
    section 8.4.1); FluidR3's piano follows it exactly.

    Raises:
        InputError: a recording cannot be read.
    """
    recorded = nearest(sorted({p for p, _ in source.files}), pitch)
    layers = [velocity for p, velocity in source.files if p == recorded]
    shifted: dict[int, np.ndarray] = {}
    notes = []
    for velocity in VELOCITIES:
        layer = nearest(layers, velocity)
        if layer not in shifted:
            shifted[layer] = _prepare_recording(source.files[recorded, layer], pitch - recorded)
        notes.append(shifted[layer] * np.float32((velocity / layer) ** VELOCITY_EXPONENT))
    return notes


def _prepare_recording(path: str, semitones: int) -> np.ndarray:
    """A recorded note, shifted, aligned and let go."""
    with open_audio(path) as recording:
        rate = recording.sample_rate
    audio = read_audio(path, None)
    needed = round((NOTE_SECONDS + 1) * rate * 2 ** (semitones / 12))  # a second for what lies before the onset
    note = align_onset(resample(audio[:needed], rate * 2 ** (semitones / 12), SAMPLE_RATE), SAMPLE_RATE)
    note = note[: NOTE_SECONDS * SAMPLE_RATE]
    released = note[HELD_SECONDS * SAMPLE_RATE :]
    released *= np.exp(np.arange(len(released)) / (-RELEASE_SECONDS * SAMPLE_RATE)).astype(np.float32)
    return note
