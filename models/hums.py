"""Measure the hum2guitar model on hums that it has never heard: ``python -m models.hums WORK``.

WORK is the folder of models/train.sh. A synthetic voice sings its heldout_melodies/ again, with closed mouth and on an
"a": WORK/hums/voice/. The model converts them; the guitars that were sung go to WORK/hums/guitar/, for evaluate.py.
Excerpts, and the hum of docs/examples, become the sounds and the picture of docs/results/hum2guitar.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

from conversion.models import describe_generator
from hum2guitar.harmonics import PUBLISHED, HumRepresentation
from hum2guitar.melody import analyse, find_notes
from models.results import (
    RATE,
    RESULTS,
    ROOT,
    convert,
    read_excerpt,
    write_epochs,
    write_mp3,
    write_page,
    write_picture,
)
from sound.blocks import resample
from sound.files import read_audio, write_audio

MODEL = describe_generator(ROOT / "models" / "hum2guitar")
HUM_SECONDS = 40
KINDS = {"hum": True, "sing": False}  # whether the mouth is closed
SHOWN = "etude_002"
FORMANTS = ((750, 90), (1150, 110), (2450, 160), (3400, 250))  # centre and half width in Hz of an open "a"
SCOOP_CENTS, SCOOP_SECONDS = 60.0, 0.05  # a note starts up to so far below its pitch, and rises in such a time
VIBRATO_CENTS, VIBRATO_HZ, VIBRATO_RISE = 25.0, 5.5, 0.3  # largest depth, rate, seconds until it is there
ATTACK_SECONDS, RELEASE_SECONDS = 0.06, 0.05


def main(work: pathlib.Path) -> None:
    melodies = sorted((work / "heldout_melodies").glob("guitar_acoustic*/*.wav"))
    rng = np.random.default_rng(0)
    shares = []
    for path in melodies:
        guitar = read_audio(path, PUBLISHED.sample_rate)[: HUM_SECONDS * PUBLISHED.sample_rate]
        for kind, closed in KINDS.items():
            name = f"{path.stem}_{kind}.wav"
            voice, target = work / "hums" / "voice" / name, work / "hums" / "guitar" / name
            write_audio(voice, sing_again(guitar, rng, closed), PUBLISHED.sample_rate)
            write_audio(target, guitar, PUBLISHED.sample_rate)
            output = convert(MODEL, read_audio(voice, RATE))
            write_audio(work / "hums" / "output" / name, output, RATE)
            shares.append((pitch_share(voice, output), pitch_share(voice, read_audio(target, RATE))))
            print(f"{name}: {shares[-1][0]:.1%} of the voiced frames within 50 cents of the hum", flush=True)
            if path.stem == SHOWN:
                sounds = write_sounds(kind, voice, target)
                if kind == "hum":
                    write_picture(RESULTS / "hum2guitar.png", sounds)
    of_output, of_target = np.mean(shares, axis=0)
    print(f"mean: {of_output:.1%}; of the guitar that was sung: {of_target:.1%}")
    example = read_audio(ROOT / "docs" / "examples" / "hum" / "hum.ogg", RATE)
    write_mp3(RESULTS / "hum2guitar" / "example.mp3", convert(MODEL, example))
    stages = [work / "first" / "hum2guitar" / stage for stage in ("1_global", "2_local", "3_joint")]
    stages.append(work / "models" / "hum2guitar" / "3_joint")
    write_epochs(RESULTS / "hum2guitar_epochs.gif", stages, "guitar.png")


def pitch_share(voice: pathlib.Path, guitar: np.ndarray) -> float:
    """Share of the voice's voiced frames in which the guitar has its pitch, within 50 cents, in whatever octave."""
    sung = analyse(read_audio(voice, PUBLISHED.sample_rate))[0]
    played = analyse(resample(guitar, RATE, PUBLISHED.sample_rate))[0]
    n = min(len(sung), len(played))
    voiced = sung[:n] > 0
    sung, played = sung[:n][voiced], played[:n][voiced]
    cents = 1200 * np.log2(np.maximum(played, 1) / sung)
    return float(np.mean((played > 0) & (np.abs((cents + 600) % 1200 - 600) <= 50)))


def write_sounds(kind: str, voice: pathlib.Path, target: pathlib.Path) -> list[tuple[str, np.ndarray]]:
    """The first seconds of a voice, of what becomes of it, and of the guitar that it sings, with titles."""
    sung, played = read_excerpt(voice), read_excerpt(target)
    excerpts = {
        "voice": ("voice (input)", sung),
        "guitar": ("guitar (output)", convert(MODEL, sung)),
        "guitar_target": ("guitar that was sung", played),
    }
    for name, (_, sound) in excerpts.items():
        write_mp3(RESULTS / "hum2guitar" / f"{kind}_{name}.mp3", sound)
    return list(excerpts.values())


def synthesize_voice(
    f0: np.ndarray,
    sample_rate: int = PUBLISHED.sample_rate,
    closed: bool = True,
    breath: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """A voice-like tone, float32 of the length of `f0` with peak 0.5: for tests and examples, not beauty.

    Harmonics fall by 6 dB an octave (a glottal source), then pass a low-pass at 400 Hz (a closed mouth: humming) or
    four formants of an open "a". Onsets and ends take 10 ms.

    Args:
        f0: in Hz for every *sample*, 0 where silent.
        closed: humming rather than singing.
        breath: standard deviation of the noise over the tone's RMS.
        seed: of the noise.
    """
    f0 = np.asarray(f0, np.float64)
    voiced = f0 > 0
    if not voiced.any():
        return np.zeros(len(f0), np.float32)
    phase = 2 * np.pi * np.cumsum(f0) / sample_rate
    tone = np.zeros(len(f0))
    for i in range(1, int(min(8000, sample_rate / 2) / f0[voiced].min()) + 1):
        frequency = i * f0
        if closed:
            gain = 1 / (1 + np.square(frequency / 400))
        else:
            gain = 0.02 + sum(1 / (1 + np.square((frequency - f) / b)) for f, b in FORMANTS)
        tone += np.where(frequency < 0.45 * sample_rate, gain / i, 0) * np.sin(i * phase)
    ramp = np.hanning(int(0.02 * sample_rate))
    gate = np.convolve(voiced, ramp / ramp.sum(), "same")
    noise = np.random.default_rng(seed).standard_normal(len(f0))
    audio = gate * (tone + breath * np.sqrt(np.mean(np.square(tone[voiced]))) * noise)
    return (audio * (0.5 / np.abs(audio).max())).astype(np.float32)


def sing_again(
    melody: np.ndarray,
    rng: np.random.Generator,
    closed: bool = True,
    representation: HumRepresentation = PUBLISHED,
) -> np.ndarray:
    """A voice that sings the notes of a plucked melody: it holds each note, slides into it and has a vibrato.

    Args:
        melody: audio ``(n_samples,)`` of one note at a time, at the representation's sample rate.
        rng: draws how far each note slides and trembles.
        closed: humming rather than singing an "a".
        representation: finds the notes.

    Returns:
        float32 ``(n_samples,)`` with peak 0.5. Each note is as loud as the melody's at its onset.
    """
    rate, hop = representation.sample_rate, representation.hop_length
    tracked, energy, _ = analyse(melody, representation)
    decibels = 10 * np.log10(np.maximum(energy, 1e-10))
    f0, gain = np.zeros(len(melody)), np.zeros(len(melody))
    for start, stop in find_notes(tracked, decibels):
        place = slice(start * hop, min(stop * hop, len(melody)))
        seconds = np.arange(place.stop - place.start) / rate
        cents = -rng.uniform(0, SCOOP_CENTS) * np.exp(-seconds / SCOOP_SECONDS)
        vibrato = np.sin(2 * np.pi * VIBRATO_HZ * seconds) * np.minimum(1, seconds / VIBRATO_RISE)
        cents += rng.uniform(0, VIBRATO_CENTS) * vibrato
        f0[place] = np.median(tracked[start:stop]) * 2 ** (cents / 1200)
        rising = np.minimum(1, seconds / ATTACK_SECONDS)
        falling = np.minimum(1, (seconds[-1] - seconds) / RELEASE_SECONDS)
        gain[place] = 10 ** (decibels[start:stop].max() / 20) * rising * falling
    voice = synthesize_voice(f0, rate, closed, breath=0.02) * gain
    return (voice * (0.5 / max(np.abs(voice).max(), 1e-9))).astype(np.float32)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
    write_page()
