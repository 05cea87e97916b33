"""SoundFonts: finding the file, choosing a program, rendering its notes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import io
import os
import pathlib
import subprocess
import sys

import numpy as np

from common.errors import InputError
from common.files import open_regular
from sound.blocks import resample
from synthesis.notes import (
    HELD_SECONDS,
    NOTE_SECONDS,
    PITCHES,
    SAMPLE_RATE,
    VELOCITIES,
    Instrument,
    align_onset,
    listed,
    prepared_instrument,
)

VOLUME, REVERB, CHORUS, ALL_SOUND_OFF = 7, 91, 93, 120  # control change numbers
MAX_SECONDS = 300  # that one pitch may take to render
MAX_BYTES = 2**30  # of memory beside four times the size of the SoundFont
SPARE_SECONDS = 0.1  # rendered beyond a note's length, because aligning its onset removes what lies before
# Renders the MIDI file on stdin to a wav file on stdout. The renderer panics on some damaged SoundFonts, and others ask
# for any memory: only this process ends then.
RENDERER = """
import contextlib, os, sys
sys.path.append(sys.argv[1])
with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows, or a lower limit is set
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import midirenderer
with open(sys.argv[2], "rb") as file:
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


def program(name: str) -> int:
    """The General MIDI program of one of NSynth's names.

    Raises:
        InputError: the name has none.
    """
    if name not in PROGRAMS:
        raise InputError(f"--instruments: {name} is none of {listed(sorted(PROGRAMS))}; others need --voices")
    return PROGRAMS[name]


@dataclasses.dataclass(frozen=True)
class SoundFontProgram:
    """A program (from 0) in bank 0 of a SoundFont file, to render notes from."""

    soundfont: str
    program: int

    def prepare_pitch(self, pitch: int) -> list[np.ndarray]:
        """The notes of one pitch at each of `VELOCITIES`, onsets aligned; float32 ``(n,)`` at `SAMPLE_RATE` each."""
        return [align_onset(note, SAMPLE_RATE) for note in render_pitch(self.soundfont, self.program, pitch)]


def soundfont_instrument(
    name: str, soundfont: str | os.PathLike, program: int, folder: str | os.PathLike, flag: str = "soundfont"
) -> Instrument:
    """An instrument whose notes are rendered from a SoundFont into `folder`.

    Raises:
        InputError: naming `flag`, if the file is no SoundFont or has no such program.
    """
    there = soundfont_programs(soundfont, flag)
    if program not in there:
        have = listed(sorted(there)) or "none in bank 0"
        raise InputError(f"{flag}: {soundfont} has no program {program} for {name}; it has {have}")
    originals = [(pitch, velocity) for pitch in PITCHES for velocity in VELOCITIES]
    return prepared_instrument(
        name, SoundFontProgram(str(pathlib.Path(soundfont).resolve()), program), originals, folder
    )


def default_soundfont() -> pathlib.Path:
    """TimGM6mb.sf2, which pip installs inside pretty_midi."""
    return _package_folder("pretty_midi") / "TimGM6mb.sf2"


def _package_folder(name: str) -> pathlib.Path:
    """Where a package is installed; importing it would take longer."""
    package = importlib.util.find_spec(name)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return pathlib.Path(package.origin).parent


def soundfont_programs(path: str | os.PathLike, flag: str = "soundfont") -> set[int]:
    """The programs in bank 0 of a SoundFont 2 file (its ``phdr`` chunk; SoundFont 2.04 specification, section 7.2).

    Raises:
        InputError: there is no such file; or naming `flag`, if it is not a SoundFont.
    """
    with open_regular(path, "an .sf2 file") as file:
        header = file.read(12)
        end = os.path.getsize(path)
        while header[:4] == b"RIFF" and header[8:] == b"sfbk" and file.tell() < end:
            kind, size = file.read(4), int.from_bytes(file.read(4), "little")
            if kind == b"LIST" and file.read(4) == b"pdta":
                continue  # its chunks follow
            if kind == b"phdr":
                if size % 38 or file.tell() + size > end:  # bytes of a record
                    break
                records = np.frombuffer(file.read(size), np.dtype([("name", "S20"), ("at", "<u2", 2), ("rest", "S14")]))
                return {int(program) for program, bank in records["at"][:-1] if bank == 0}  # the last one is a mark
            file.seek(size + size % 2 - 4 * (kind == b"LIST"), os.SEEK_CUR)
    raise InputError(f"{flag}: expected a SoundFont 2 file, found something else or a damaged one at {path}")


@functools.lru_cache(16)
def fingerprint(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open_regular(path, "an .sf2 file") as file:
        return hashlib.sha256(file.read()).hexdigest()


def render_pitch(soundfont: str | os.PathLike, program: int, pitch: int) -> np.ndarray:
    """One pitch of a SoundFont's program at each of `VELOCITIES`: float32 ``(5, 180810)``, 4.1 s at 44.1 kHz.

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
    try:
        audio, rate = soundfile.read(
            io.BytesIO(_render(soundfont, content.getvalue())), dtype="float32", always_2d=True
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{soundfont}: expected a SoundFont that midirenderer reads ({error})") from None
    audio = audio.mean(axis=1)
    starts = [round(index * spacing * rate) for index in range(len(VELOCITIES))]
    if len(audio) < round(end * rate) or not np.isfinite(audio).all():
        raise InputError(f"{soundfont}: expected a SoundFont that sounds, found damaged audio in program {program}")
    notes = np.stack([audio[start : start + round((NOTE_SECONDS + SPARE_SECONDS) * rate)] for start in starts])
    return np.clip(resample(notes, rate, SAMPLE_RATE), -1, 1)


def _render(soundfont: str | os.PathLike, midi: bytes) -> bytes:
    """The wav file that midirenderer makes of a MIDI file, in a process of its own.

    Raises:
        InputError: that process fails, dies, or takes too long.
    """
    packages = _package_folder("midirenderer").parent
    with open_regular(soundfont, "an .sf2 file") as file:
        max_bytes = MAX_BYTES + 4 * os.fstat(file.fileno()).st_size
    # -I and -S leave out what takes time and is not needed; the folder of the package is passed on instead.
    command = [sys.executable, "-I", "-S", "-c", RENDERER, str(packages), os.fspath(soundfont), str(max_bytes)]
    try:
        done = subprocess.run(command, input=midi, capture_output=True, timeout=MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        reason = f"it takes more than {MAX_SECONDS} s for one pitch"
    else:
        if not done.returncode:
            return done.stdout
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        reason = lines[-1].strip()[:200] if lines else f"exit status {done.returncode}"
    raise InputError(f"{soundfont}: expected a SoundFont that midirenderer reads, found a damaged one ({reason})")
