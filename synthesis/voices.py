"""Voices: one instrument played from several sources of notes."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Sequence

from synthesis import recorded, soundfonts
from synthesis.notes import MAX_SHIFT, PITCHES, Instrument, SoundFontProgram, has_pitch, write_notes

SYNTAX = "INSTRUMENT=SOURCE[,SOURCE...] with FILE.sf2:PROGRAM, nsynth:PRESET or a folder of recorded notes as SOURCE"


@dataclasses.dataclass(frozen=True)
class Voice:
    """One source of notes for an instrument.

    Attributes:
        instrument: NSynth's family and source, such as keyboard_acoustic.
        kind: "soundfont", "nsynth" or "folder".
        place: the SoundFont's file or the folder; empty for NSynth.
        number: the program in the SoundFont, or NSynth's preset.
    """

    instrument: str
    kind: str
    place: str = ""
    number: int = 0

    @property
    def name(self) -> str:
        """The voice's folder of recordings: ``<instrument>@<voice>``, of word characters, points and hyphens."""
        if self.kind == "nsynth":
            voice = f"nsynth-{self.number:03d}"
        elif self.kind == "soundfont":
            voice = f"{pathlib.Path(self.place).stem}-{self.number}"
        else:
            voice = pathlib.Path(self.place).resolve().name
        return f"{self.instrument}@{re.sub(r'[^a-zA-Z0-9_.-]+', '_', voice).strip('_.') or 'voice'}"


def parse_voices(text: str) -> list[Voice]:
    """An argparse type: the voices of one instrument, as `SYNTAX` says."""
    match = re.fullmatch(r"(\w+)=(.+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"expected {SYNTAX}, found {text!r}")
    return [_parse_source(match[1], source, text) for source in match[2].split(",")]


def _parse_source(instrument: str, source: str, text: str) -> Voice:
    soundfont = re.fullmatch(r"(.+\.sf2):(\d{1,3})", source, re.IGNORECASE)
    nsynth = re.fullmatch(r"nsynth:(\d{1,3})", source)
    if soundfont and int(soundfont[2]) <= 127:
        return Voice(instrument, "soundfont", soundfont[1], int(soundfont[2]))
    if nsynth:
        return Voice(instrument, "nsynth", number=int(nsynth[1]))
    if not source or soundfont or source.startswith("nsynth:") or re.search(r"\.sf[23](:.*)?$", source, re.IGNORECASE):
        raise argparse.ArgumentTypeError(
            f"expected FILE.sf2:0..127, nsynth:0..999 or a folder of recorded notes, found {source!r} in {text!r}"
        )
    return Voice(instrument, "folder", source)


def prepare_notes(instrument: Instrument, pitch: int) -> None:
    """Write the notes of one pitch to the instrument's files, unless they are there.

    Raises:
        InputError: the SoundFont cannot be rendered, or a recording cannot be read.
    """
    if has_pitch(instrument, pitch):
        return
    module = soundfonts if isinstance(instrument.source, SoundFontProgram) else recorded
    write_notes(instrument, pitch, module.prepare_pitch(instrument.source, pitch))


def describe_gaps(instrument: Instrument) -> str:
    """One line about the pitches that an instrument cannot play; empty if it can play all from 21 to 108."""
    silent = [pitch for pitch in PITCHES if not instrument.can_play(pitch)]
    if not silent:
        return ""
    n_recorded = len(set(instrument.recorded_pitches) & set(PITCHES))
    return (
        f"{instrument.name}: expected pitches {PITCHES[0]} to {PITCHES[-1]}, found {n_recorded} of {len(PITCHES)}; "
        f"{_ranges(silent)} stay silent, more than {MAX_SHIFT} semitones from a recorded pitch"
    )


def _ranges(pitches: Sequence[int]) -> str:
    """Pitches in order as ranges without a gap: ``21-40, 60``."""
    ranges: list[list[int]] = []
    for pitch in pitches:
        if ranges and pitch == ranges[-1][1] + 1:
            ranges[-1][1] = pitch
        else:
            ranges.append([pitch, pitch])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
