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

import mir_eval
import numpy as np
import soundfile

import data
from common import plots
from common.errors import ROOT
from conversion.converter import load_converter
from conversion.models import MODELS, Model, describe_generator, find_by_name, named_models
from conversion.recordings import convert_audio
from hum2guitar.harmonics import PUBLISHED as HUMS
from hum2guitar.melody import analyse, find_notes, to_decibels
from sound.files import read_audio, write_audio

RATE, SECONDS = 44100, 10  # of the excerpts
RESULTS = ROOT / "docs" / "results"
PIECES = (  # on the piano, in WORK; the first two also become every style of the multitarget model
    "heldout/keyboard_acoustic@upright/beethoven_ode_to_joy.wav",
    "heldout/keyboard_acoustic@upright/bach_prelude_c_major.wav",
    "heldout/keyboard_acoustic@upright/satie_gymnopedie_1.wav",
    "heldout/keyboard_acoustic@upright/petzold_minuet_g_major.wav",
    "audios/keyboard_acoustic@salamander/etude_003.wav",
    "audios/keyboard_acoustic@salamander/etude_007.wav",
)
SHOWN_HUM, HUM_SECONDS = "etude_002", 40
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
body { max-width: 70rem; margin: auto; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; }
section { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .75rem; }
h2 { grid-column: 1 / -1; margin: 2rem 0 0; }
figure { margin: 0; }
</style>
<h1>Listen to the models</h1>
<p>Ten seconds each, at one peak level. Generated pieces were trained on, on this piano; the other pieces and their
piano were not. "Any" is the multitarget model, with a stored style.</p>
"""


def main(work: pathlib.Path) -> None:
    for index, path in enumerate(PIECES):
        piano = work / path
        heard = read_excerpt(piano)
        sounds = {"keyboard": heard}
        for name in ("guitar", "string", "synth_lead"):
            model = find_by_name(name)
            (voice,) = piano.parents[1].glob(f"{model.description.settings['targets'][0]}@*")
            output, target = convert(model, heard), read_excerpt(voice / piano.name)
            sounds |= {name: output, f"{name}_target": target}
            if index == 0:
                panels = {"piano (input)": heard, f"{name} (output)": output, f"{name} (target)": target}
                write_picture(RESULTS / f"{name}.png", panels)
        if index < 2:
            models = named_models(describe_generator(MODELS / "keyboard_acoustic_2_any"))
            sounds |= {f"any_{model.instrument}": convert(model, heard) for model in models}
        write_sounds(RESULTS / piano.stem, sounds)
    write_hums(work)
    write_page()


def write_hums(work: pathlib.Path) -> None:
    """The guitars that the held-out melodies become, sung with closed mouth and on an "a"; prints their pitch."""
    model, rng, shares = find_by_name("hum2guitar"), np.random.default_rng(0), []
    for path in sorted((work / "heldout_melodies").glob("guitar_acoustic*/*.wav")):
        guitar = read_audio(path, HUMS.sample_rate)[: HUM_SECONDS * HUMS.sample_rate]
        for kind in ("hum", "sing"):
            voice, output, target = (
                work / "hums" / name / f"{path.stem}_{kind}.wav" for name in ("voice", "output", "guitar")
            )
            write_audio(voice, sing_again(guitar, rng, closed=kind == "hum"), HUMS.sample_rate)
            write_audio(target, guitar, HUMS.sample_rate)
            write_audio(output, convert(model, read_audio(voice, RATE)), RATE)
            shares.append([pitch_share(voice, played) for played in (output, target)])
            print(f"{output}: {shares[-1][0]:.1%} of the voiced frames within 50 cents of the hum", flush=True)
            if path.stem == SHOWN_HUM:
                sung, made, true = map(read_excerpt, (voice, output, target))
                sounds = {f"{kind}_voice": sung, f"{kind}_guitar": made, f"{kind}_guitar_target": true}
                write_sounds(RESULTS / "hum2guitar", sounds)
                if kind == "hum":
                    panels = {"voice (input)": sung, "guitar (output)": made, "guitar (sung)": true}
                    write_picture(RESULTS / "hum2guitar.png", panels)
    of_output, of_target = np.mean(shares, axis=0)
    print(f"mean: {of_output:.1%}; of the guitar that was sung: {of_target:.1%}")
    hum = read_audio(ROOT / "docs" / "examples" / "hum" / "hum.ogg", RATE)
    write_sounds(RESULTS / "hum2guitar", {"example": convert(model, hum)})


def pitch_share(voice: pathlib.Path, guitar: pathlib.Path) -> float:
    """Share of the voice's voiced frames in which the guitar has its pitch, within 50 cents, in whatever octave."""
    sung, played = (analyse(read_audio(path, HUMS.sample_rate))[0] for path in (voice, guitar))
    times = [np.arange(len(f0)) * HUMS.hop_length / HUMS.sample_rate for f0 in (sung, played)]
    return mir_eval.melody.evaluate(times[0], sung, times[1], played)["Raw Chroma Accuracy"]


def write_page() -> None:
    """All sounds of docs/results on one page, which holds them itself: a section for each folder."""
    page = PAGE
    for folder in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        title = folder.name.replace("_", " ").replace("etude", "generated piece").capitalize()
        page += f"<section><h2>{title}</h2>\n"
        paths = folder.glob("*.mp3")
        for path in sorted(paths, key=lambda path: (path.stem.startswith("any"), path.stem != "keyboard", path)):
            sound, name = base64.b64encode(path.read_bytes()).decode(), path.stem.replace("_", " ")
            page += f'<figure><figcaption>{name}</figcaption><audio controls preload="metadata" '
            page += f'src="data:audio/mpeg;base64,{sound}"></audio></figure>\n'
        page += "</section>\n"
    (RESULTS / "listen.html").write_text(page + "\n", encoding="utf-8")


def convert(model: Model, recording: np.ndarray) -> np.ndarray:
    return convert_audio(recording, load_converter(model.description, style=model.load_style()), RATE)


def read_excerpt(path: pathlib.Path) -> np.ndarray:
    """The first seconds of a recording, with a short fade-out."""
    excerpt = read_audio(path, RATE)[: SECONDS * RATE]
    n_fade = RATE // 10
    excerpt[-n_fade:] *= np.linspace(1, 0, n_fade)
    return excerpt


def write_sounds(folder: pathlib.Path, sounds: dict[str, np.ndarray]) -> None:
    """Write each sound as <folder>/<name>.mp3 with a peak of -1 dB."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in sounds.items():
        gain = 10 ** (-1 / 20) / max(np.abs(sound).max(), 1e-9)
        options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": 0.75}
        soundfile.write(folder / f"{name}.mp3", gain * sound, RATE, **options)


def write_picture(path: pathlib.Path, sounds: dict[str, np.ndarray]) -> None:
    """The spectrograms of sounds by their titles, each normalised to peak 1, on a mel axis."""
    r = data.PUBLISHED
    magnitudes = {title: data.forward_transform(sound / np.abs(sound).max())[0] for title, sound in sounds.items()}
    levels = [(title, data.amplitude_to_db(magnitude)) for title, magnitude in magnitudes.items()]
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
