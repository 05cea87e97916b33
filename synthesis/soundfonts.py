"""SoundFonts: finding the file, choosing a program, rendering its notes."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
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


def program(name: str) -> int:
    """The General MIDI program of one of NSynth's names.

    Raises:
        InputError: the name has none.
    """
    if name not in PROGRAMS:
        raise InputError(f"--instruments: {name} is none of {listed(sorted(PROGRAMS))}; others need --voices")
    return PROGRAMS[name]


def default_soundfont() -> pathlib.Path:
    """TimGM6mb.sf2, which pip installs inside pretty_midi."""
    import pretty_midi

    return pathlib.Path(pretty_midi.__file__).with_name("TimGM6mb.sf2")


def soundfont_instrument(
    name: str, soundfont: str | os.PathLike, program: int, folder: str | os.PathLike
) -> Instrument:
    """An instrument whose notes are rendered from a SoundFont's program (from 0, in bank 0) into `folder`.

    Raises:
        InputError: the file is no SoundFont or has no such program.
    """
    there, checksum = read_soundfont(soundfont)
    if program not in there:
        have = listed(sorted(there)) or "none in bank 0"
        raise InputError(f"{soundfont}: has no program {program} for {name}; it has {have}")
    path = pathlib.Path(soundfont)
    about = {"soundfont": path.name, "sha256": checksum, "program": program}
    originals = list(itertools.product(PITCHES, VELOCITIES))
    prepare = functools.partial(render_pitch, str(path.resolve()), program)
    return prepared_instrument(name, prepare, originals, folder, about)


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
        done = subprocess.run(command, input=midi, capture_output=True, timeout=MAX_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        reason = f"it takes more than {MAX_SECONDS} s for one pitch"
    except subprocess.CalledProcessError as error:
        last_line = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        reason = last_line[:200] or f"exit status {error.returncode}"
    else:
        return done.stdout
    raise InputError(f"{soundfont}: expected a SoundFont that midirenderer reads, found a damaged one ({reason})")
