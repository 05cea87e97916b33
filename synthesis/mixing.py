"""Notes and MIDI to audio: reading pieces, finding or rendering an instrument's notes, mixing them.

Notes are those of NSynth (Engel et al., 2017): one file a pitch and velocity, 16 kHz, 4 s of which 3 s are held, named
``<instrument>_<preset:03d>-<pitch:03d>-<velocity:03d>.wav``. A SoundFont is rendered into the same layout first, so
that everything below works on such files alone. Times are in seconds, audio is float32 with full scale 1.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

import data
from common import recordings
from data import InputError

SAMPLE_RATE = 16000  # of notes, and of the mix before it is resampled once
HELD_SECONDS, NOTE_SECONDS = 3, 4
PITCHES = range(21, 109)
VELOCITIES = (25, 50, 75, 100, 127)
KEPT_NOTES = 500  # in memory from one piece to the next: 128 MB
LARGEST_SHIFT = 12  # semitones that a missing note may be shifted from its neighbour
LONGEST_SECONDS = 24 * 3600
MIDI_EXTENSIONS = (".mid", ".midi")
PEAK = 32000 / 32768  # of every recording
RELEASE_SAMPLES = 3000  # time constant of the release at `SAMPLE_RATE`
DRUM_CHANNEL = 9
BLOCK = 2**23  # samples mixed at a time, 8.7 min
WHOLE_SECONDS = 1800  # a longer piece is kept on disk until its peak is known
SUSTAIN, VOLUME, REVERB, CHORUS, ALL_SOUND_OFF = 64, 7, 91, 93, 120  # control change numbers

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


# --- pieces -----------------------------------------------------------------------------------------------------------


class Note(NamedTuple):
    """One note of a piece: start and end in seconds, MIDI pitch and velocity."""

    start: float
    end: float
    pitch: int
    velocity: int


class Piece(NamedTuple):
    """What a MIDI file says: notes in order of their start, and the length in seconds (the end of the last note)."""

    notes: tuple[Note, ...]
    seconds: float


def find_midi(folder: str | os.PathLike, flag: str = "folder") -> list[pathlib.Path]:
    """All MIDI files in `folder`, by their extension, as `data.find_files`.

    Raises:
        InputError: naming `flag`, if the folder is missing or holds none.
    """
    found = data.find_files(data.existing_folder(folder, flag), MIDI_EXTENSIONS)
    if not found:
        raise InputError(f"{flag}: expected MIDI files ({' '.join(MIDI_EXTENSIONS)}), found none in {folder}")
    return found


def read_midi(path: str | os.PathLike, sustain_pedal: bool = False) -> Piece:
    """The notes of a MIDI file, drums left out, tempo changes honoured.

    Args:
        path: a standard MIDI file of type 0 or 1.
        sustain_pedal: a note let go while its channel's CC 64 is down (64 or more) ends when the pedal comes up, when
            the same key is struck again or when the file ends.

    A note that is never let go ends where the file does; notes of no length are left out.

    Raises:
        InputError: not a MIDI file, damaged, without notes, or ending after a day.
    """
    import mido

    try:
        midi = mido.MidiFile(path, clip=True)
    except (OSError, EOFError, ValueError, LookupError, TypeError, mido.KeySignatureError) as error:
        reason = error if str(error) else type(error).__name__
        raise InputError(f"{path}: expected a MIDI file, found a broken one ({reason})") from None
    if midi.type == 2 or midi.ticks_per_beat <= 0:
        raise InputError(f"{path}: expected MIDI of type 0 or 1 timed in beats, found type 2 or SMPTE timing")

    events = []
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, message))
    events.sort(key=lambda event: event[0])  # stable: within a tick the order of the tracks stays

    reader = _NoteReader(sustain_pedal)
    seconds, last_tick, seconds_per_tick = 0.0, 0, 0.5 / midi.ticks_per_beat
    for tick, message in events:
        seconds += (tick - last_tick) * seconds_per_tick
        last_tick = tick
        if seconds > LONGEST_SECONDS:
            raise InputError(
                f"{path}: expected a piece that ends within a day (24 h), found one of {seconds / 3600:.1f} h"
            )
        if message.type == "set_tempo":
            seconds_per_tick = message.tempo * 1e-6 / midi.ticks_per_beat
        elif not message.is_meta and getattr(message, "channel", DRUM_CHANNEL) != DRUM_CHANNEL:
            reader.take(message, seconds)
    notes = reader.finish(seconds)
    if not notes:
        raise InputError(f"{path}: expected notes (drums do not count), found none")
    return Piece(tuple(notes), max(note.end for note in notes))


class _NoteReader:
    """Turns note and pedal messages, taken in order of time, into notes."""

    def __init__(self, sustain_pedal: bool) -> None:
        self._sustain_pedal = sustain_pedal
        self._notes: list[Note] = []
        # From (channel, pitch) to (start, velocity): keys down, and keys let go that ring on under the pedal.
        self._held: dict[tuple[int, int], list[tuple[float, int]]] = {}
        self._ringing: dict[tuple[int, int], list[tuple[float, int]]] = {}
        self._pedals_down: set[int] = set()

    def take(self, message, seconds: float) -> None:
        if message.type == "note_on" and message.velocity > 0:
            key = (message.channel, message.note)
            self._end(self._ringing, key, seconds)
            self._held.setdefault(key, []).append((seconds, message.velocity))
        elif message.type in {"note_on", "note_off"}:
            key = (message.channel, message.note)
            if message.channel in self._pedals_down:
                self._ringing.setdefault(key, []).extend(self._held.pop(key, ()))
            else:
                self._end(self._held, key, seconds)
        elif message.type == "control_change" and message.control == SUSTAIN and self._sustain_pedal:
            if message.value >= 64:
                self._pedals_down.add(message.channel)
            else:
                self._pedals_down.discard(message.channel)
                for key in [key for key in self._ringing if key[0] == message.channel]:
                    self._end(self._ringing, key, seconds)

    def finish(self, seconds: float) -> list[Note]:
        for sounding in (self._held, self._ringing):
            for key in list(sounding):
                self._end(sounding, key, seconds)
        return sorted(self._notes)

    def _end(self, sounding: dict, key: tuple[int, int], seconds: float) -> None:
        for start, velocity in sounding.pop(key, ()):
            if seconds > start:
                self._notes.append(Note(start, seconds, key[1], velocity))


# --- notes of an instrument -------------------------------------------------------------------------------------------


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
    folder = data.existing_folder(folder, "--nsynth_path")
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
    return np.clip(data.resample(notes, rate, SAMPLE_RATE), -1, 1)


def has_pitch(instrument: Instrument, pitch: int) -> bool:
    """Whether all notes of a pitch in `PITCHES` lie where the instrument says."""
    return all(os.path.exists(instrument.notes[pitch, velocity]) for velocity in VELOCITIES)


def render_notes(instrument: Instrument, pitch: int) -> None:
    """Write the notes of one pitch of a SoundFont's instrument to their files, 16-bit; those that are there stay."""
    for velocity, note in zip(VELOCITIES, render_pitch(instrument.soundfont, instrument.program, pitch), strict=True):
        path = instrument.notes[pitch, velocity]
        if not os.path.exists(path):
            data.write_audio(path, note, SAMPLE_RATE)


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
            note = data.resample(note, SAMPLE_RATE * 2 ** ((pitch - found_pitch) / 12), SAMPLE_RATE)
            how = "pitch"
        elif found_velocity != velocity:
            how = "velocity"
        return _read_only(note), how if note.any() else "silent"


@functools.lru_cache(KEPT_NOTES)
def _read_note(path: str, mtime_ns: int) -> np.ndarray:
    """A note's file as it was at that time; kept from one piece to the next, which saves a third of the work."""
    return _read_only(data.read_audio(path, SAMPLE_RATE))


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


# --- mixing -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Playing:
    """How a piece is played.

    Attributes:
        playback_speed: divides every time of the piece.
        duration_rate: multiplies each note's length, so that notes ring on.
        transpose: semitones added to every pitch.
        sustain_pedal: whether the piece's sustain pedal counts.
    """

    playback_speed: float = 1
    duration_rate: float = 4
    transpose: int = 0
    sustain_pedal: bool = False


def pitches_needed(piece: Piece, transpose: int = 0) -> set[int]:
    """The pitches in `PITCHES` that stand for those of a piece."""
    return {min(max(note.pitch + transpose, PITCHES[0]), PITCHES[-1]) for note in piece.notes}


def release_envelope(n_samples: int) -> np.ndarray:
    """The published release, ``exp(-n / 3000)`` with n in samples at 16 kHz: float32 ``(n_samples,)``."""
    return np.exp(np.arange(n_samples) / -RELEASE_SAMPLES).astype(np.float32)


def synthesize(
    piece: Piece, bank: NoteBank, playing: Playing | None = None, sample_rate: int = data.PUBLISHED.sample_rate
) -> tuple[np.ndarray, collections.Counter]:
    """The piece played with the notes of `bank`.

    A note sounds for its length times `duration_rate`, at most as long as the recorded note is; its last tenth is
    multiplied by `release_envelope`. What rings past the end of the piece is cut there. The mix, at 16 kHz, is
    resampled once and brought to a peak of 32000 / 32768.

    Returns:
        audio: float32 ``(n_samples,)`` at `sample_rate`; its length depends on the piece and `playing` alone.
        counts: how many notes were played ("played") and how many of them came from another "velocity", another
            "pitch", or are "silent".

    Raises:
        InputError: played at this speed, the piece ends after a day.
    """
    counts = collections.Counter(played=len(piece.notes))
    blocks = list(_blocks(piece, bank, playing or Playing(), sample_rate, counts))
    audio = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    peak = max(audio.max(), -audio.min())
    if peak > 0:
        audio *= PEAK / peak
    return audio, counts


def write_piece(path: str | os.PathLike, piece: Piece, bank: NoteBank, playing: Playing) -> collections.Counter:
    """Write what `synthesize` gives as 16-bit wav at 44.1 kHz; the counts. Long pieces wait on disk, not in memory.

    Raises:
        InputError: as `synthesize`, or no note of the piece can be played.
    """
    silent = f"expected notes that {bank.name} has or nearly has, found none among {len(piece.notes)}"
    if piece.seconds / playing.playback_speed <= WHOLE_SECONDS:
        audio, counts = synthesize(piece, bank, playing)
        if not audio.any():
            raise InputError(silent)
        data.write_audio(path, audio)
        return counts
    sample_rate = data.PUBLISHED.sample_rate
    counts = collections.Counter(played=len(piece.notes))
    blocks = (block[:, np.newaxis] for block in _blocks(piece, bank, playing, sample_rate, counts))
    with recordings.rendered(blocks, 1, pathlib.Path(path)) as rendering:
        if not rendering.peak:
            raise InputError(silent)
        recordings.write(path, rendering, PEAK / rendering.peak, sample_rate, "16")
    return counts


def _blocks(
    piece: Piece, bank: NoteBank, playing: Playing, sample_rate: int, counts: collections.Counter
) -> Iterator[np.ndarray]:
    """The mix at `sample_rate`, not yet brought to its level, in blocks ``(n,)``; adds to `counts` on the way."""
    seconds = piece.seconds / playing.playback_speed
    if seconds > LONGEST_SECONDS:
        raise InputError(
            f"--playback_speed: expected recordings that end within a day (24 h), found {seconds / 3600:.1f} h "
            f"at speed {playing.playback_speed:g}"
        )
    n_samples = max(1, round(seconds * SAMPLE_RATE))
    mix = _mixed(_sounds(piece, bank, playing, counts), n_samples)
    if n_samples <= BLOCK:
        yield data.resample(next(mix), SAMPLE_RATE, sample_rate)
        return
    yield from filter(len, data.resampled(mix, SAMPLE_RATE, sample_rate))


def _sounds(
    piece: Piece, bank: NoteBank, playing: Playing, counts: collections.Counter
) -> Iterator[tuple[int, np.ndarray]]:
    """(first sample, samples) of each note of a piece, cut and released, in order of their start."""
    envelope = release_envelope(0)
    for start, end, pitch, velocity in piece.notes:
        note, how = bank.note(pitch + playing.transpose, velocity)
        if how:
            counts[how] += 1
        duration = (end - start) / playing.playback_speed * playing.duration_rate
        sound = note[: round(duration * SAMPLE_RATE)].copy()
        n_release = len(sound) // 10
        if n_release > len(envelope):
            envelope = release_envelope(n_release)
        sound[len(sound) - n_release :] *= envelope[:n_release]
        yield round(start / playing.playback_speed * SAMPLE_RATE), sound


def _mixed(sounds: Iterator[tuple[int, np.ndarray]], n_samples: int) -> Iterator[np.ndarray]:
    """The sum of sounds that come in order of their first sample, cut at `n_samples`, in blocks of `BLOCK`."""
    ringing: list[tuple[int, np.ndarray]] = []  # from one block into the next
    following = next(sounds, None)
    for begin in range(0, n_samples, BLOCK):
        mix = np.zeros(min(BLOCK, n_samples - begin), np.float32)
        for first, sound in ringing:
            part = sound[begin - first :][: len(mix)]
            mix[: len(part)] += part
        ringing = [(first, sound) for first, sound in ringing if first + len(sound) > begin + BLOCK]
        while following and following[0] < begin + BLOCK:
            first, sound = following
            part = mix[first - begin :][: len(sound)]
            part += sound[: len(part)]
            if first + len(sound) > begin + BLOCK:
                ringing.append(following)
            following = next(sounds, None)
        yield mix
