"""Make the sounds and pictures of docs/results with the models in this folder: ``python -m models.results WORK``.

WORK is the folder of models/train.sh: its audios/ were trained on, its heldout/ were not. Each excerpt is an MP3 file
of ten seconds; each picture shows input, output and target on one colour scale. The page listen.html holds all sounds.

For hum2guitar, a synthetic voice sings WORK/heldout_melodies/ again: WORK/hums/voice/. The guitars that were sung go to
WORK/hums/guitar/, for evaluate.py.
"""

from __future__ import annotations

import base64
import pathlib
import sys

import numpy as np
import soundfile

import data
from common import plots, weights
from conversion.converter import load_converter
from conversion.models import describe_generator, load_style, shorten, stored_styles
from conversion.recordings import convert_audio
from hum2guitar.harmonics import PUBLISHED as HUMS
from hum2guitar.melody import analyse, find_notes, to_decibels
from sound.files import read_audio, write_audio

ROOT = pathlib.Path(__file__).resolve().parents[1]
SECONDS = 10.0
HUM_SECONDS, SHOWN_HUM = 40, "etude_002"
RATE = 44100
RESULTS = ROOT / "docs" / "results"
TARGETS = ("guitar_acoustic", "string_acoustic", "synth_lead_synthetic")
HELD_OUT = ("beethoven_ode_to_joy", "bach_prelude_c_major", "satie_gymnopedie_1", "petzold_minuet_g_major")
TRAINED = ("etude_003", "etude_007")
HELD_OUT_PIANO, TRAINED_PIANO = "keyboard_acoustic@upright", "keyboard_acoustic@salamander"
FORMANTS = ((750, 90), (1150, 110), (2450, 160), (3400, 250))  # centre and half width in Hz of an open "a"
SCOOP_CENTS, SCOOP_SECONDS = 60.0, 0.05  # a note starts up to so far below its pitch, and rises in such a time
VIBRATO_CENTS, VIBRATO_HZ, VIBRATO_RISE = 25.0, 5.5, 0.3  # largest depth, rate, seconds until it is there
ATTACK_SECONDS, RELEASE_SECONDS = 0.06, 0.05
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Listen to the models</title>
<style>
body {{ max-width: 70rem; margin: auto; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; }}
section {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .75rem; }}
h2 {{ grid-column: 1 / -1; margin: 2rem 0 0; }}
figure {{ margin: 0; }}
</style>
<h1>Listen to the models</h1>
<p>Ten seconds each, at one peak level. Generated pieces were trained on, on this piano; the other pieces and their
piano were not. "Any" is the multitarget model, with a stored style.</p>
{sections}
"""


def main(work: pathlib.Path) -> None:
    sounds = [(work / "audios", TRAINED_PIANO, piece) for piece in TRAINED]
    sounds += [(work / "heldout", HELD_OUT_PIANO, piece) for piece in HELD_OUT]
    for folder, piano, piece in sounds:
        piano_audio = read_excerpt(folder / piano / f"{piece}.wav")
        write_mp3(RESULTS / piece / "keyboard.mp3", piano_audio)
        for target in TARGETS:
            (voice,) = folder.glob(f"{target}@*")
            true = read_excerpt(voice / f"{piece}.wav")
            short = target.rpartition("_")[0]
            write_mp3(RESULTS / piece / f"{short}_target.mp3", true)
            output = convert(describe_generator(ROOT / "models" / f"keyboard_acoustic_2_{target}"), piano_audio)
            write_mp3(RESULTS / piece / f"{short}.mp3", output)
            if piece == HELD_OUT[0]:
                panels = [("piano (input)", piano_audio), (f"{short} (output)", output), (f"{short} (target)", true)]
                write_picture(RESULTS / f"{short}.png", panels)
    write_styles(work / "heldout" / HELD_OUT_PIANO)
    write_hums(work)


def write_styles(pianos: pathlib.Path) -> None:
    """Two held-out pieces by the multitarget model, with each of its stored styles."""
    description = describe_generator(ROOT / "models" / "keyboard_acoustic_2_any")
    for piece in HELD_OUT[:2]:
        piano_audio = read_excerpt(pianos / f"{piece}.wav")
        for path in stored_styles(description):
            output = convert(description, piano_audio, load_style(path, description.representation))
            write_mp3(RESULTS / piece / f"any_{shorten(path.stem)}.mp3", output)


def write_hums(work: pathlib.Path) -> None:
    """The guitars that the held-out melodies become, sung with closed mouth and on an "a"; prints their pitch."""
    description = describe_generator(ROOT / "models" / "hum2guitar")
    rng, hums, titles = np.random.default_rng(0), work / "hums", ("voice (input)", "guitar (output)", "guitar (sung)")
    shares = []
    for path in sorted((work / "heldout_melodies").glob("guitar_acoustic*/*.wav")):
        guitar = read_audio(path, HUMS.sample_rate)[: HUM_SECONDS * HUMS.sample_rate]
        for kind in ("hum", "sing"):
            voice, output, target = (hums / of / f"{path.stem}_{kind}.wav" for of in ("voice", "output", "guitar"))
            write_audio(voice, sing_again(guitar, rng, closed=kind == "hum"), HUMS.sample_rate)
            write_audio(target, guitar, HUMS.sample_rate)
            write_audio(output, convert(description, read_audio(voice, RATE)), RATE)
            shares.append([pitch_share(voice, played) for played in (output, target)])
            print(f"{output}: {shares[-1][0]:.1%} of the voiced frames within 50 cents of the hum", flush=True)
            if path.stem == SHOWN_HUM:
                sounds = [read_excerpt(path) for path in (voice, output, target)]
                for name, sound in zip(("voice", "guitar", "guitar_target"), sounds, strict=True):
                    write_mp3(RESULTS / "hum2guitar" / f"{kind}_{name}.mp3", sound)
                if kind == "hum":
                    write_picture(RESULTS / "hum2guitar.png", list(zip(titles, sounds, strict=True)))
    of_output, of_target = np.mean(shares, axis=0)
    print(f"mean: {of_output:.1%}; of the guitar that was sung: {of_target:.1%}")
    example = read_audio(ROOT / "docs" / "examples" / "hum" / "hum.ogg", RATE)
    write_mp3(RESULTS / "hum2guitar" / "example.mp3", convert(description, example))


def pitch_share(voice: pathlib.Path, guitar: pathlib.Path) -> float:
    """Share of the voice's voiced frames in which the guitar has its pitch, within 50 cents, in whatever octave."""
    sung, played = (analyse(read_audio(path, HUMS.sample_rate))[0] for path in (voice, guitar))
    n = min(len(sung), len(played))
    voiced = sung[:n] > 0
    sung, played = sung[:n][voiced], played[:n][voiced]
    cents = 1200 * np.log2(np.maximum(played, 1) / sung)
    return float(np.mean((played > 0) & (np.abs((cents + 600) % 1200 - 600) <= 50)))


def write_page() -> None:
    """All sounds of docs/results on one page, which holds them itself: a section for each folder."""
    sections = []
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        sounds = sorted(
            folder.glob("*.mp3"), key=lambda path: (path.stem.startswith("any"), path.stem != "keyboard", path)
        )
        players = (
            f'<figure><figcaption>{path.stem.replace("_", " ")}</figcaption><audio controls preload="metadata" '
            f'src="data:audio/mpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"></audio></figure>\n'
            for path in sounds
        )
        title = folder.name.replace("_", " ").replace("etude", "generated piece").capitalize()
        sections.append(f"<section><h2>{title}</h2>\n{''.join(players)}</section>\n")
    (RESULTS / "listen.html").write_text(PAGE.format(sections="".join(sections)), encoding="utf-8")


def convert(description: weights.Description, recording: np.ndarray, style: np.ndarray | None = None) -> np.ndarray:
    """The recording as the model converts it, as loud as predict.py makes it."""
    return convert_audio(recording, load_converter(description, style=style), RATE)


def read_excerpt(path: pathlib.Path) -> np.ndarray:
    """The first seconds of a recording, with a short fade-out."""
    excerpt = read_audio(path, RATE)[: round(SECONDS * RATE)]
    n_fade = RATE // 10
    excerpt[-n_fade:] *= np.linspace(1, 0, n_fade)
    return excerpt


def write_mp3(path: pathlib.Path, recording: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    recording = recording * (10 ** (-1 / 20) / max(np.abs(recording).max(), 1e-9))
    soundfile.write(path, recording, RATE, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.75)


def write_picture(path: pathlib.Path, panels: list[tuple[str, np.ndarray]]) -> None:
    """The spectrograms of recordings, each normalised to peak 1, on a mel axis."""
    r = data.PUBLISHED
    levels = [
        (title, data.amplitude_to_db(data.forward_transform(sound / np.abs(sound).max(), r)[0], r.amin))
        for title, sound in panels
    ]
    plots.save_spectrograms(path, levels, r.hop_length / r.sample_rate, r.bin_hz, size=(9, 6), dpi=plots.SCREEN_DPI)


def synthesize_voice(f0: np.ndarray, closed: bool = True, breath: float = 0.0) -> np.ndarray:
    """A voice-like tone at the rate of `HUMS`, float32 of the length of `f0` with peak 0.5.

    Harmonics fall by 6 dB an octave (a glottal source), then pass a low-pass at 400 Hz (a closed mouth: humming) or
    four formants of an open "a". Onsets and ends take 10 ms.

    Args:
        f0: in Hz for every *sample*, 0 where silent.
        closed: humming rather than singing.
        breath: standard deviation of the noise over the tone's RMS.
    """
    f0 = np.asarray(f0, np.float64)
    voiced, sample_rate = f0 > 0, HUMS.sample_rate
    if not voiced.any():
        return np.zeros(len(f0), np.float32)
    phase = 2 * np.pi * np.cumsum(f0) / sample_rate
    tone = np.zeros(len(f0))
    for i in range(1, int(8000 / f0[voiced].min()) + 1):
        frequency = i * f0
        if closed:
            gain = 1 / (1 + np.square(frequency / 400))
        else:
            gain = 0.02 + sum(1 / (1 + np.square((frequency - f) / b)) for f, b in FORMANTS)
        tone += np.where(frequency < 0.45 * sample_rate, gain / i, 0) * np.sin(i * phase)
    ramp = np.hanning(int(0.02 * sample_rate))
    gate = np.convolve(voiced, ramp / ramp.sum(), "same")
    noise = np.random.default_rng(0).standard_normal(len(f0))
    audio = gate * (tone + breath * np.sqrt(np.mean(np.square(tone[voiced]))) * noise)
    return (audio * (0.5 / np.abs(audio).max())).astype(np.float32)


def sing_again(melody: np.ndarray, rng: np.random.Generator, closed: bool) -> np.ndarray:
    """A voice that sings the notes of a plucked melody: it holds each note, slides into it and has a vibrato.

    Args:
        melody: audio ``(n_samples,)`` of one note at a time, at the rate of `HUMS`.
        rng: draws how far each note slides and trembles.
        closed: humming rather than singing an "a".

    Returns:
        float32 ``(n_samples,)`` with peak 0.5. Each note is as loud as the melody's at its onset.
    """
    rate, hop = HUMS.sample_rate, HUMS.hop_length
    tracked, energy, _ = analyse(melody)
    decibels = to_decibels(energy)
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
    voice = synthesize_voice(f0, closed, breath=0.02) * gain
    return (voice * (0.5 / max(np.abs(voice).max(), 1e-9))).astype(np.float32)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
    write_page()
