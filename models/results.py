"""Make the sounds and pictures of docs/results with the models in this folder: ``python -m models.results WORK``.

WORK is the folder of models/train.sh: its audios/ were trained on, its heldout/ were not. Each excerpt is an MP3 file
of ten seconds; each picture shows input, output and target on one colour scale. The page listen.html holds all sounds.
"""

from __future__ import annotations

import base64
import math
import pathlib
import sys

import numpy as np
import soundfile
from PIL import Image

import data
from common import plots, weights
from conversion.converter import load_converter
from conversion.models import describe_generator, load_style, shorten, stored_styles
from conversion.recordings import convert_audio
from sound.files import read_audio

ROOT = pathlib.Path(__file__).resolve().parents[1]
SECONDS = 10.0
RATE = 44100
MAX_FRAMES = 8
RESULTS = ROOT / "docs" / "results"
TARGETS = ("guitar_acoustic", "string_acoustic", "synth_lead_synthetic")
HELD_OUT = ("beethoven_ode_to_joy", "bach_prelude_c_major", "satie_gymnopedie_1", "petzold_minuet_g_major")
TRAINED = ("etude_003", "etude_007")
HELD_OUT_PIANO, TRAINED_PIANO = "keyboard_acoustic@upright", "keyboard_acoustic@salamander"
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Listen to the models</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 70rem; margin: auto; padding: 1rem; }}
section {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .75rem; }}
h2 {{ grid-column: 1 / -1; margin: 2rem 0 0; }}
figure {{ margin: 0; }}
audio {{ width: 100%; }}
</style>
<h1>Listen to the models</h1>
<p>Ten seconds each, at one peak level. Generated pieces were trained on, on this piano; the other pieces and their
piano were not. "Any" is the multitarget model, with a stored style.</p>
{sections}
<script>
const players = [...document.querySelectorAll("audio")];
const pauseOthers = (event) => players.forEach((player) => player !== event.target && player.pause());
players.forEach((player) => player.addEventListener("play", pauseOthers));
</script>
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


def write_styles(pianos: pathlib.Path) -> None:
    """Two held-out pieces by the multitarget model, with each of its stored styles."""
    description = describe_generator(ROOT / "models" / "keyboard_acoustic_2_any")
    for piece in HELD_OUT[:2]:
        piano_audio = read_excerpt(pianos / f"{piece}.wav")
        for path in stored_styles(description):
            output = convert(description, piano_audio, load_style(path, description.representation))
            write_mp3(RESULTS / piece / f"any_{shorten(path.stem)}.mp3", output)


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


def write_epochs(path: pathlib.Path, runs: list[pathlib.Path], name: str) -> None:
    """The picture `name` of the samples, of one run after the other, as an animation of up to `MAX_FRAMES` epochs."""
    frames = [picture for run in runs for picture in sorted(run.glob(f"samples/*/{name}"))]
    frames = frames[::-1][:: math.ceil(len(frames) / MAX_FRAMES) or 1][::-1]  # with the last one
    if frames:
        plots.save_gif(path, (np.asarray(Image.open(picture).convert("RGB")) for picture in frames), 0.8)


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


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
    write_page()
