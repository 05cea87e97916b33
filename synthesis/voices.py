"""Voices: one instrument played from several sources of notes."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import sys
from collections.abc import Sequence

from common.errors import InputError
from synthesis import recorded, soundfonts
from synthesis.notes import MAX_SHIFT, PITCHES, Instrument, SoundFontProgram, find_notes, write_notes
from synthesis.soundfonts import check_program, choose_programs, default_soundfont

SYNTAX = "INSTRUMENT=SOURCE[,SOURCE...] with FILE.sf2:PROGRAM, nsynth:PRESET or a folder of recorded notes as SOURCE"


@dataclasses.dataclass(frozen=True)
class Voice:
    """One source of notes for an instrument.

    Attributes:
        instrument: NSynth's family and source, such as keyboard_acoustic.
        kind: "soundfont", "nsynth" or "folder".
        place: the SoundFont's file or the folder; for NSynth empty until `find_voices`.
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
    """Write the notes of one pitch to the instrument's files.

    Raises:
        InputError: the SoundFont cannot be rendered, or a recording cannot be read.
    """
    module = soundfonts if isinstance(instrument.source, SoundFontProgram) else recorded
    write_notes(instrument, pitch, module.prepare_pitch(instrument.source, pitch))


def find_voices(
    names: Sequence[str],
    voices: Sequence[Voice],
    nsynth_path: str | None,
    soundfont: str | None,
    programs: dict[str, int],
) -> dict[str, Voice]:
    """Where the notes of each instrument and voice come from, by the names of their folders.

    Args:
        names: instruments without voices, played from NSynth's notes or from a SoundFont.
        voices: what `--voices` asks for.
        nsynth_path: folder of NSynth's notes.
        soundfont: for `names`, without `nsynth_path`; None for the default one.
        programs: in the SoundFont, by name, in place of the usual ones.

    Raises:
        InputError: a SoundFont or its program is not there, or two voices have the same name.
    """
    found: dict[str, Voice] = {}
    if nsynth_path:
        found |= {name: Voice(name, "nsynth", nsynth_path) for name in names}
    elif names:
        font = soundfont or default_soundfont()
        chosen = choose_programs(font, names, programs)
        found |= {name: Voice(name, "soundfont", str(font), program) for name, program in chosen.items()}
    for voice in voices:
        place = voice.place
        if voice.kind == "soundfont":
            check_program(place, voice.number, f"{voice.instrument}={voice.place}:{voice.number}", "--voices")
        elif voice.kind == "nsynth":
            if not nsynth_path:
                raise InputError("--voices: nsynth:PRESET needs --nsynth_path")
            place = nsynth_path
        if voice.name.casefold() in {name.casefold() for name in found}:
            raise InputError(f"--voices: two voices are called {voice.name}")
        found[voice.name] = dataclasses.replace(voice, place=place)
    return found


def find_instruments(voices: dict[str, Voice], folder: str) -> tuple[list[Instrument], dict[str, dict]]:
    """The instruments of `voices`, notes being prepared in `folder`, and by name what synthesis.json says of them."""
    instruments, descriptions = [], {}
    for name, voice in voices.items():
        place = pathlib.Path(voice.place)
        if voice.kind == "nsynth":
            flag = "--voices" if "@" in name else "--instruments"
            found = find_notes(voice.place, voice.instrument, voice.number, flag)
            instrument = dataclasses.replace(found, name=name)
            descriptions[name] = {"nsynth_path": str(place.resolve()), "preset": voice.number}
        elif voice.kind == "soundfont":
            instrument = soundfonts.soundfont_instrument(name, voice.place, voice.number, folder)
            about = {"soundfont": place.name, "sha256": soundfonts.fingerprint(voice.place)}
            descriptions[name] = {**about, "program": voice.number}
        else:
            notes = recorded.find_recorded_notes(voice.place)
            instrument = recorded.recorded_instrument(name, notes, folder)
            descriptions[name] = {"folder": place.resolve().name, "sha256": recorded.fingerprint_notes(notes)}
        silent = [pitch for pitch in PITCHES if not instrument.can_play(pitch)]
        if silent and "@" in name:
            reason = f"more than {MAX_SHIFT} semitones from a recorded pitch"
            print(f"{name}: {len(silent)} of {len(PITCHES)} pitches stay silent, {reason}", file=sys.stderr)
        instruments.append(instrument)
    return instruments, descriptions
