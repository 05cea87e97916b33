"""Voices: where the notes of an instrument come from, as --voices says: SoundFonts and folders of recorded notes."""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence

import numpy as np

from common import InputError
from common.files import open_regular
from sound.blocks import resample
from sound.files import find_audio, open_audio, read_audio
from synthesis.notes import (
    HELD_SECONDS,
    MAX_SHIFT,
    NOTE_SECONDS,
    PITCHES,
    SAMPLE_RATE,
    VELOCITIES,
    Instrument,
    Notes,
    align_onset,
    find_notes,
    nearest,
    release_envelope,
)

VOLUME, REVERB, CHORUS, ALL_SOUND_OFF = 7, 91, 93, 120  # control change numbers
MAX_SECONDS = 300  # that one pitch may take to render
MAX_BYTES = 2**30  # of memory beside four times the size of the SoundFont
SPARE_SECONDS = 0.1  # rendered beyond a note's length, because aligning its onset removes what lies before
# Renders the MIDI file on stdin to a wav file on stdout. The renderer panics on some damaged SoundFonts, and others ask
# for any memory: only this process ends then.
RENDERER = """
import contextlib, os, sys
sys.path[:] = sys.argv[3:]
with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows, or a lower limit is set
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import midirenderer
with open(sys.argv[1], "rb") as file:
    rendered = midirenderer.render_wave_from(file.read(), sys.stdin.buffer.read())
sys.stdout.buffer.write(rendered)
sys.stdout.buffer.flush()
os._exit(0)  # without the time that giving memory back takes
"""
# NSynth's families (rows) and sources to General MIDI programs, counted from 0.
SOURCES = ("acoustic", "electronic", "synthetic")
_PROGRAM_TABLE = {
    "bass": (32, 33, 38),  # acoustic bass, fingered bass, synth bass 1
    "brass": (56, 61, 62),  # trumpet, brass section, synth brass 1
    "flute": (73, 75, 79),  # flute, pan flute, ocarina
    "guitar": (25, 27, 30),  # steel-string guitar, clean electric guitar, distortion guitar
    "keyboard": (0, 4, 5),  # grand piano, electric pianos 1 and 2
    "mallet": (12, 11, 14),  # marimba, vibraphone, tubular bells
    "organ": (19, 16, 18),  # church organ, drawbar organ, rock organ
    "reed": (71, 65, 70),  # clarinet, alto saxophone, bassoon
    "string": (48, 50, 51),  # string ensemble 1, synth strings 1 and 2
    "synth_lead": (82, 80, 81),  # calliope, square and sawtooth lead
    "vocal": (52, 53, 54),  # choir aahs, voice oohs, synth voice
}
PROGRAMS = {
    f"{family}_{source}": program
    for family, programs in _PROGRAM_TABLE.items()
    for source, program in zip(SOURCES, programs, strict=True)
}
VELOCITY_EXPONENT = 2

_NOTE = re.compile(r"(?:^|.*[^a-z0-9])([a-g])([#sb]?)(-?\d)(?:[ _-]?v(\d{1,3}))?", re.IGNORECASE)
_NUMBER = re.compile(r"(?:.+_\d{3}-|p?)(\d{2,3})(?:[ _-]v?(\d{1,3}))?", re.IGNORECASE)


def parse_voices(text: str) -> tuple[str, list[str]]:
    """An argparse type: an instrument and the sources of its voices, INSTRUMENT=SOURCE[,SOURCE...]."""
    match = re.fullmatch(r"(\w+)=(.+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected INSTRUMENT=SOURCE[,SOURCE...], found {text!r}")
    return match[1], match[2].split(",")


def find_instruments(
    names: Sequence[str], voices: Sequence[tuple[str, list[str]]], nsynth_path: str | None, folder: str
) -> list[Instrument]:
    """The instruments that `names` and `voices` ask for.

    Args:
        names: instruments without voices, played from NSynth's notes or from the default SoundFont.
        voices: instruments with the sources of their voices.
        nsynth_path: folder of NSynth's notes.
        folder: where notes are to be prepared.

    Raises:
        InputError: a source or its notes are not there, or two voices have the same name.
    """
    if nsynth_path:
        instruments = [find_notes(nsynth_path, name) for name in names]
    else:
        instruments = [soundfont_instrument(name, default_soundfont(), program(name), folder) for name in names]
    for name, source in ((name, source) for name, sources in voices for source in sources):
        voice = find_voice(name, source, nsynth_path, folder)
        if silent := [pitch for pitch in PITCHES if not voice.can_play(pitch)]:
            reason = f"more than {MAX_SHIFT} semitones from a recorded pitch"
            print(f"{voice.name}: {len(silent)} of {len(PITCHES)} pitches stay silent, {reason}", file=sys.stderr)
        if voice.name.casefold() in (other.name.casefold() for other in instruments):
            raise InputError(f"--voices: two voices are called {voice.name}")
        instruments.append(voice)
    return instruments


def find_voice(instrument: str, source: str, nsynth_path: str | None, folder: str) -> Instrument:
    """A voice of an instrument from FILE.sf2:PROGRAM, nsynth:PRESET or a folder of recorded notes.

    Its name is that of the source, such as ``keyboard_acoustic@grand``. Errors are those of `find_instruments`.
    """

    def name(voice: str) -> str:
        return f"{instrument}@{re.sub(r'[^a-zA-Z0-9_.-]+', '_', voice).strip('_.') or 'voice'}"

    if match := re.fullmatch(r"(.+\.sf2):(\d{1,3})", source, re.IGNORECASE):
        voice = name(f"{pathlib.Path(match[1]).stem}-{int(match[2])}")
        return soundfont_instrument(voice, match[1], int(match[2]), folder)
    if match := re.fullmatch(r"nsynth:(\d{1,3})", source):
        if not nsynth_path:
            raise InputError("--voices: nsynth:PRESET needs --nsynth_path")
        return find_notes(nsynth_path, instrument, int(match[1]), name(f"nsynth-{int(match[1]):03d}"))
    if not os.path.isdir(source):
        expected = "FILE.sf2:PROGRAM, nsynth:PRESET or a folder of recorded notes"
        raise InputError(f"--voices: expected {expected}, found {source!r} for {instrument}")
    return recorded_instrument(name(pathlib.Path(source).resolve().name), source, folder)


# --- SoundFonts -------------------------------------------------------------------------------------------------------


def program(name: str) -> int:
    """The General MIDI program of one of NSynth's names.

    Raises:
        InputError: the name has none.
    """
    if name not in PROGRAMS:
        raise InputError(f"--instruments: {name} is none of {', '.join(sorted(PROGRAMS))}; others need --voices")
    return PROGRAMS[name]


def default_soundfont() -> pathlib.Path:
    """TimGM6mb.sf2, which pip installs inside pretty_midi."""
    import pretty_midi

    return pathlib.Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")


def soundfont_instrument(name: str, soundfont: str | os.PathLike, program: int, folder: str) -> Instrument:
    """An instrument whose notes are rendered from a SoundFont's program (from 0, in bank 0) into `folder`.

    Raises:
        InputError: the file is no SoundFont or has no such program.
    """
    path = pathlib.Path(soundfont)
    there, checksum = read_soundfont(path)
    if program not in there:
        have = textwrap.shorten(", ".join(map(str, sorted(there))), 100)
        raise InputError(f"{soundfont}: has no program {program} for {name}; in bank 0, it has {have or 'none'}")
    about = {"soundfont": path.name, "sha256": checksum, "program": program}
    notes = dict.fromkeys(PITCHES, dict.fromkeys(VELOCITIES, str(path.resolve())))
    return Instrument(name, notes, about, functools.partial(render_pitch, path.resolve(), program), folder)


@functools.lru_cache(16)
def read_soundfont(path: str | os.PathLike) -> tuple[set[int], str]:
    """The programs in bank 0 of a SoundFont 2 file, and the file's SHA-256 in hexadecimal.

    Raises:
        InputError: there is no such file, or it is not a SoundFont.
    """
    with open_regular(path, "an .sf2 file") as file:
        content = file.read()
    # Presets are the first chunk of the last list (SoundFont 2.04 specification, section 7.2): records of 38 bytes, of
    # which the last one is a mark.
    start = content.rfind(b"pdtaphdr") + 12
    size = int.from_bytes(content[start - 4 : start], "little")
    if content[:4] + content[8:12] != b"RIFFsfbk" or start < 12 or size % 38 or start + size > len(content):
        raise InputError(f"{path}: expected a SoundFont 2 file, found something else or a damaged one")
    presets = np.frombuffer(content, np.dtype("S20, 2<u2, S14"), size // 38, start)[:-1]
    return {int(program) for _, (program, bank), _ in presets if bank == 0}, hashlib.sha256(content).hexdigest()


def render_pitch(soundfont: str | os.PathLike, program: int, pitch: int) -> list[np.ndarray]:
    """One pitch of a SoundFont's program at each of `VELOCITIES`, onsets aligned: about 4.1 s at `SAMPLE_RATE` each.

    Held for 3 s and let go for 1 s, as NSynth's notes are; without reverb and chorus, because those would run from one
    note into the next. A pitch is always rendered by itself, from the same MIDI, so that its samples are the same
    whenever and wherever it is rendered.

    Raises:
        InputError: midirenderer cannot render this SoundFont.
    """
    import pretty_midi
    import soundfile

    # The renderer works in blocks of 64 samples at 48 kHz: notes that are a multiple of 64 samples apart start alike.
    spacing = 4.2
    end = len(VELOCITIES) * spacing
    played, midi = pretty_midi.Instrument(program), pretty_midi.PrettyMIDI(resolution=480)
    played.control_changes = [pretty_midi.ControlChange(c, v, 0) for c, v in ((REVERB, 0), (CHORUS, 0), (VOLUME, 127))]
    for index, velocity in enumerate(VELOCITIES):
        start = index * spacing
        played.notes.append(pretty_midi.Note(velocity, pitch, start, start + HELD_SECONDS))
        played.control_changes.append(pretty_midi.ControlChange(ALL_SOUND_OFF, 0, start + NOTE_SECONDS + SPARE_SECONDS))
    # Rendering stops at the last event; a note after the last release keeps it whole.
    played.notes.append(pretty_midi.Note(1, 0, end, end + 0.05))
    midi.instruments.append(played)
    content = io.BytesIO()
    midi.write(content)
    rendered = io.BytesIO(_render(soundfont, content.getvalue()))
    channels, rate = soundfile.read(rendered, dtype="float32", always_2d=True)
    audio = channels.mean(axis=1)
    starts = [round(index * spacing * rate) for index in range(len(VELOCITIES))]
    if len(audio) < round(end * rate) or not np.isfinite(audio).all():
        raise InputError(f"{soundfont}: expected a SoundFont that sounds, found damaged audio in program {program}")
    notes = np.stack([audio[start : start + round((NOTE_SECONDS + SPARE_SECONDS) * rate)] for start in starts])
    return [align_onset(note, SAMPLE_RATE) for note in np.clip(resample(notes, rate, SAMPLE_RATE), -1, 1)]


def _render(soundfont: str | os.PathLike, midi: bytes) -> bytes:
    """The wav file that midirenderer makes of a MIDI file, in a process of its own.

    Raises:
        InputError: that process fails, dies, or takes too long.
    """
    max_bytes = MAX_BYTES + 4 * os.path.getsize(soundfont)
    # -I and -S: nothing in the user's folder is imported instead of the renderer.
    command = [sys.executable, "-I", "-S", "-c", RENDERER, os.fspath(soundfont), str(max_bytes), *sys.path]
    try:
        return subprocess.run(command, input=midi, capture_output=True, timeout=MAX_SECONDS, check=True).stdout
    except subprocess.TimeoutExpired:
        reason = f"it takes more than {MAX_SECONDS} s for one pitch"
    except subprocess.CalledProcessError as error:
        last_line = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        reason = last_line[:200] or f"exit status {error.returncode}"
    raise InputError(f"{soundfont}: expected a SoundFont that midirenderer reads, found a damaged one ({reason})")


# --- recorded notes ---------------------------------------------------------------------------------------------------


def recorded_instrument(name: str, place: str | os.PathLike, folder: str) -> Instrument:
    """An instrument whose notes are prepared into `folder` from the recorded notes in the folder `place`.

    Raises:
        InputError: as `find_recorded_notes`.
    """
    notes, digest = find_recorded_notes(place), hashlib.sha256()
    for pitch, velocities in sorted(notes.items()):
        for velocity, path in sorted(velocities.items()):
            digest.update(repr((pitch, velocity)).encode())
            digest.update(pathlib.Path(path).read_bytes())
    about = {"folder": pathlib.Path(place).resolve().name, "sha256": digest.hexdigest()}
    return Instrument(name, notes, about, functools.partial(prepare_pitch, notes), folder)


def prepare_pitch(notes: Notes, pitch: int) -> list[np.ndarray]:
    """The notes of one pitch at each of `VELOCITIES`; float32 ``(n,)`` at `SAMPLE_RATE` each.

    Each is the recording of the nearest pitch, and of its layers the nearest velocity: mixed down, shifted by
    resampling, its onset aligned, and let go after 3 s with the time constant of the published release. A note recorded
    at velocity r and wanted at v is multiplied by (v / r)^2, so that recordings of several layers keep their levels,
    and a single layer gets dynamics. The square is the default of SoundFonts (SoundFont 2.04 specification, section
    8.4.1); FluidR3's piano follows it exactly.

    Raises:
        InputError: a recording cannot be read.
    """
    recorded = nearest(notes, pitch)
    chosen = {velocity: nearest(notes[recorded], velocity) for velocity in VELOCITIES}
    shifted = {layer: _prepare_recording(notes[recorded][layer], pitch - recorded) for layer in set(chosen.values())}
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


def find_recorded_notes(folder: str | os.PathLike) -> Notes:
    """The recorded notes in `folder` and below, by their names; files without a note's name are left out.

    Layer n of at most N in the folder counts as velocity 127 n / N; a note without velocity or layer as 127.

    Raises:
        InputError: there is no folder, no note in it, or two files for one note.
    """
    paths = find_audio(folder, "--voices")
    parsed = [(path, note) for path in paths if (note := parse_note_name(path.stem))]
    if not parsed:
        raise InputError(f"--voices: {folder} has no recordings named C#4.wav, A0v8.ogg, 060-100.flac or the like")
    n_layers = max((layer or 1 for _, (_, _, layer) in parsed), default=1)
    notes: Notes = {}
    for path, (pitch, velocity, layer) in parsed:
        velocities = notes.setdefault(pitch, {})
        other = velocities.setdefault(velocity or max(1, round(127 * (layer or n_layers) / n_layers)), str(path))
        if other != str(path):
            raise InputError(f"--voices: {other} and {path} are the same note")
    return notes
