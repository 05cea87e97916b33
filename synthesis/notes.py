"""Notes and MIDI to audio: reading pieces, finding or rendering an instrument's notes, mixing them.

Notes are those of NSynth (Engel et al., 2017): one file a pitch and velocity, 16 kHz, 4 s of which 3 s are held, named
``<instrument>_<preset:03d>-<pitch:03d>-<velocity:03d>.wav``. A SoundFont is rendered into the same layout first, so
that everything below works on such files alone. Times are in seconds, audio is float32 with full scale 1.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from common.audio import read_audio, resample, write_audio
from common.errors import InputError
from common.files import existing_folder

SAMPLE_RATE = 16000  # of notes, and of the mix before it is resampled once
HELD_SECONDS, NOTE_SECONDS = 3, 4
PITCHES = range(21, 109)
VELOCITIES = (25, 50, 75, 100, 127)
KEPT_NOTES = 500  # in memory from one piece to the next: 128 MB
LARGEST_SHIFT = 12  # semitones that a missing note may be shifted from its neighbour
VOLUME, REVERB, CHORUS, ALL_SOUND_OFF = 7, 91, 93, 120  # control change numbers
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


def _nearest(values, wanted: int) -> int:
    """The nearest value; of two equally near ones the higher: a note shifted down does not become shorter."""
    return min(values, key=lambda value: (abs(value - wanted), -value))


_NEAREST_VELOCITY = tuple(_nearest(VELOCITIES, velocity) for velocity in range(128))  # looked up for every note


@dataclasses.dataclass(frozen=True)
class Instrument:
    """Where the notes of one instrument lie or will lie, and what `render_notes` makes them from.

    Attributes:
        name: such as ``guitar_acoustic``.
        notes: from (pitch, velocity) to a file.
        soundfont: SoundFont file that the notes are rendered from, None for recorded notes.
        program: General MIDI program in the SoundFont.
    """

    name: str
    notes: dict[tuple[int, int], str]
    soundfont: str | None = None
    program: int | None = None


def note_name(instrument: str, preset: int, pitch: int, velocity: int) -> str:
    """NSynth's file name of a note."""
    return f"{instrument}_{preset:03d}-{pitch:03d}-{velocity:03d}.wav"


def find_notes(folder: str | os.PathLike, names: Sequence[str], preset: int = 0) -> list[Instrument]:
    """The instruments called `names` in a folder of NSynth notes or the root of NSynth's download.

    Raises:
        InputError: no folder, no notes in it, or an instrument that is not there (the text lists what is).
    """
    folder = existing_folder(folder, "--nsynth_path")
    notes: dict[tuple[str, int], dict[tuple[int, int], str]] = {}
    pattern = re.compile(r"(.+)_(\d{3})-(\d{3})-(\d{3})\.wav")
    for place in (folder, folder / "audio", *sorted(folder.glob("nsynth-*/audio"))):
        for name in os.listdir(place) if place.is_dir() else ():
            if match := pattern.fullmatch(name):
                instrument, *numbers = match.groups()
                number, pitch, velocity = map(int, numbers)
                notes.setdefault((instrument, number), {})[pitch, velocity] = str((place / name).resolve())
    if not notes:
        raise InputError(
            f"--nsynth_path: expected notes such as {note_name('guitar_acoustic', 0, 60, 100)} in {folder} or its "
            "nsynth-train/audio, found none"
        )
    for name in names:
        if (name, preset) not in notes:
            presets = sorted(number for other, number in notes if other == name)
            if presets:
                raise InputError(f"--preset: expected one of {name}'s in {folder} ({_listed(presets)}), found {preset}")
            there = sorted({instrument for instrument, _ in notes})
            raise InputError(f"--instruments: expected some of those in {folder} ({_listed(there)}), found {name}")
    return [Instrument(name, notes[name, preset]) for name in names]


def choose_programs(soundfont: str | os.PathLike, names: Sequence[str], programs: dict[str, int]) -> dict[str, int]:
    """The General MIDI program of each name: the one in `programs`, otherwise the one in `PROGRAMS`.

    Raises:
        InputError: no SoundFont, a name without a program, or a program that the SoundFont does not hold.
    """
    there, chosen = soundfont_programs(soundfont), {}
    for name in names:
        program = chosen[name] = programs.get(name, PROGRAMS.get(name))
        if program is None:
            raise InputError(
                f"--instruments: expected NSynth's names ({_listed(sorted(PROGRAMS))}) or one with its own "
                f"--program, found {name}"
            )
        if program not in there:
            raise InputError(
                f"--program: expected {name}={program} to be one of the programs in {soundfont}, "
                f"found {_listed(sorted(there)) or 'none in bank 0'}"
            )
    return chosen


def soundfont_instruments(
    soundfont: str | os.PathLike, programs: dict[str, int], folder: str | os.PathLike, preset: int = 0
) -> list[Instrument]:
    """Instruments whose notes `render_notes` renders from a SoundFont into `folder`.

    Args:
        soundfont: an .sf2 file.
        programs: from an instrument's name to its General MIDI program, as `choose_programs` gives them.
        folder: where the notes lie or will lie.
        preset: only names the files.
    """
    folder, soundfont = pathlib.Path(folder).resolve(), str(pathlib.Path(soundfont).resolve())
    return [
        Instrument(
            name,
            {(p, v): str(folder / note_name(name, preset, p, v)) for p in PITCHES for v in VELOCITIES},
            soundfont,
            program,
        )
        for name, program in programs.items()
    ]


def _listed(items: Sequence) -> str:
    shown = [str(item) for item in items[:40]]
    return ", ".join(shown + ["..."] * (len(items) > len(shown)))


def default_soundfont() -> pathlib.Path:
    """TimGM6mb.sf2, read where pip installed it inside pretty_midi.

    Raises:
        InputError: pretty_midi is not installed, or came without it.
    """
    import importlib.util

    package = importlib.util.find_spec("pretty_midi")
    path = pathlib.Path(package.origin).with_name("TimGM6mb.sf2") if package else None
    if not path or not path.is_file():
        raise InputError("--soundfont: expected a file, found no TimGM6mb.sf2 installed with pretty_midi to default to")
    return path


def soundfont_programs(path: str | os.PathLike) -> set[int]:
    """The programs in bank 0 of a SoundFont 2 file (its ``phdr`` chunk; SoundFont 2.04 specification, section 7.2).

    Raises:
        InputError: no such file or not a SoundFont.
    """
    if not os.path.isfile(path):
        raise InputError(f"--soundfont: expected an .sf2 file, found none at {path}")
    with open(path, "rb") as file:
        header = file.read(12)
        end = os.path.getsize(path)
        while header[:4] == b"RIFF" and header[8:] == b"sfbk" and file.tell() < end:
            kind, size = file.read(4), int.from_bytes(file.read(4), "little")
            if kind == b"LIST" and file.read(4) == b"pdta":
                continue  # its chunks follow
            if kind == b"phdr":
                records = np.frombuffer(file.read(size), np.dtype([("name", "S20"), ("at", "<u2", 2), ("rest", "S14")]))
                return {int(program) for program, bank in records["at"][:-1] if bank == 0}  # the last one is a mark
            file.seek(size + size % 2 - 4 * (kind == b"LIST"), os.SEEK_CUR)
    raise InputError(f"--soundfont: expected a SoundFont 2 file, found something else or a damaged one at {path}")


def fingerprint(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def render_pitch(soundfont: str | os.PathLike, program: int, pitch: int) -> np.ndarray:
    """One pitch of a SoundFont's program at each of `VELOCITIES`: float32 ``(5, 64000)`` at 16 kHz.

    Held for 3 s and let go for 1 s, as NSynth's notes are; without reverb and chorus, because those would run from one
    note into the next. A pitch is always rendered by itself, from the same MIDI, so that its samples are the same
    whenever and wherever it is rendered.

    Raises:
        InputError: midirenderer cannot render this SoundFont.
    """
    import midirenderer
    import mido
    import soundfile

    # The renderer works in blocks of 64 samples at 48 kHz: notes that are a multiple of 64 samples apart start alike.
    spacing, ticks_per_second = 4.2, 960  # mido's 480 ticks a beat at the default of 120 beats a minute
    timed = []
    for index, velocity in enumerate(VELOCITIES):
        start = index * spacing
        timed += [
            (start, mido.Message("note_on", note=pitch, velocity=velocity)),
            (start + HELD_SECONDS, mido.Message("note_off", note=pitch)),
            (start + NOTE_SECONDS + 0.1, mido.Message("control_change", control=ALL_SOUND_OFF, value=0)),
        ]
    # Rendering stops at the last event; a note after the last release keeps it whole.
    end = len(VELOCITIES) * spacing
    timed += [
        (end, mido.Message("note_on", note=0, velocity=1)),
        (end + 0.05, mido.Message("note_off", note=0)),
    ]
    track = mido.MidiTrack([mido.Message("program_change", program=program)])
    track += [mido.Message("control_change", control=c, value=v) for c, v in ((REVERB, 0), (CHORUS, 0), (VOLUME, 127))]
    tick = 0
    for seconds, message in timed:
        now = round(seconds * ticks_per_second)
        track.append(message.copy(time=now - tick))
        tick = now
    midi = io.BytesIO()
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(file=midi)
    try:
        rendered = midirenderer.render_wave_from(pathlib.Path(soundfont).read_bytes(), midi.getvalue())
        audio, rate = soundfile.read(io.BytesIO(rendered), dtype="float32", always_2d=True)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{soundfont}: expected a SoundFont that midirenderer reads ({error})") from None
    audio = audio.mean(axis=1)
    starts = [round(index * spacing * rate) for index in range(len(VELOCITIES))]
    notes = np.stack([audio[start : start + NOTE_SECONDS * rate] for start in starts])  # (5, 192000)
    return np.clip(resample(notes, rate, SAMPLE_RATE), -1, 1)


def has_pitch(instrument: Instrument, pitch: int) -> bool:
    """Whether all notes of a pitch in `PITCHES` lie where the instrument says."""
    return all(os.path.exists(instrument.notes[pitch, velocity]) for velocity in VELOCITIES)


def render_notes(instrument: Instrument, pitch: int) -> None:
    """Write the notes of one pitch of a SoundFont's instrument to their files, 16-bit; those that are there stay."""
    for velocity, note in zip(VELOCITIES, render_pitch(instrument.soundfont, instrument.program, pitch), strict=True):
        path = instrument.notes[pitch, velocity]
        if not os.path.exists(path):
            write_audio(path, note, SAMPLE_RATE)


class NoteBank:
    """The notes of one instrument as they are asked for, each read once and the same ever after."""

    def __init__(self, instrument: Instrument) -> None:
        self.name = instrument.name
        self._instrument = instrument
        self._velocities: dict[int, list[int]] = {}  # of each pitch that is there
        for pitch, velocity in instrument.notes:
            self._velocities.setdefault(pitch, []).append(velocity)
        self._notes: dict[tuple[int, int], tuple[np.ndarray, str]] = {}

    def note(self, pitch: int, velocity: int) -> tuple[np.ndarray, str]:
        """The note nearest to MIDI `pitch` and `velocity`: read-only float32 ``(n,)`` at 16 kHz, and how it was found.

        The velocity is first rounded to the nearest of `VELOCITIES`. The second value is ``""`` if that very note is
        there, ``"velocity"`` if another velocity stands in, ``"pitch"`` if another pitch stands in, resampled by at
        most `LARGEST_SHIFT` semitones, and ``"silent"`` if nothing is near enough or the note's file is silent.
        """
        key = (pitch, _NEAREST_VELOCITY[velocity])
        if key not in self._notes:
            self._notes[key] = self._find(*key)
        return self._notes[key]

    def _find(self, pitch: int, velocity: int) -> tuple[np.ndarray, str]:
        found_pitch = _nearest(self._velocities, pitch)
        if abs(found_pitch - pitch) > LARGEST_SHIFT:
            return _read_only(np.zeros(0, np.float32)), "silent"
        found_velocity = _nearest(self._velocities[found_pitch], velocity)
        path = self._instrument.notes[found_pitch, found_velocity]
        note, how = _read_note(path, os.stat(path).st_mtime_ns if os.path.exists(path) else 0), ""
        if found_pitch != pitch:
            note = resample(note, SAMPLE_RATE * 2 ** ((pitch - found_pitch) / 12), SAMPLE_RATE)
            how = "pitch"
        elif found_velocity != velocity:
            how = "velocity"
        return _read_only(note), how if note.any() else "silent"


@functools.lru_cache(KEPT_NOTES)
def _read_note(path: str, mtime_ns: int) -> np.ndarray:
    """A note's file as it was at that time; kept from one piece to the next, which saves a third of the work."""
    return _read_only(read_audio(path, SAMPLE_RATE))


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
