"""Make the sounds and pictures of docs/results with the models in this folder: ``python -m models.results WORK``.

WORK is the folder of models/train.sh: its audios/ were trained on, its heldout/ were not. Each excerpt is an MP3 file
of ten seconds; each picture shows input, output and target on one colour scale. The excerpts that were not trained on
also go to WORK/excerpts, for the page to listen.
"""

from __future__ import annotations

import math
import pathlib
import sys

import numpy as np
import soundfile
from PIL import Image

import data
from common import plots
from conversion.converter import load_converter
from conversion.files import convert_audio
from conversion.models import describe_generator, read_style
from sound.files import read_audio, write_audio

ROOT = pathlib.Path(__file__).resolve().parents[1]
SECONDS = 10.0
RATE = 44100
MAX_FRAMES = 8
RESULTS = ROOT / "docs" / "results"
TARGETS = ("guitar_acoustic", "string_acoustic", "synth_lead_synthetic")
HELD_OUT = ("beethoven_ode_to_joy", "bach_prelude_c_major", "satie_gymnopedie_1", "petzold_minuet_g_major")
TRAINED = ("etude_003", "etude_007")
HELD_OUT_PIANO, TRAINED_PIANO = "keyboard_acoustic@upright", "keyboard_acoustic@salamander"


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
            if piece in HELD_OUT:
                write_audio(work / "excerpts" / piano / f"{piece}.wav", piano_audio)
                write_audio(work / "excerpts" / target / f"{piece}.wav", true)
            panels = [("piano (input)", piano_audio)]
            for name in (f"keyboard_acoustic_2_{target}", "keyboard_acoustic_2_any"):
                model = ROOT / "models" / name
                if not (model / "generator.h5").exists():
                    continue
                output = convert(model, piano_audio, voice / f"{other(piece)}.wav")
                is_any = name.endswith("_any")
                write_mp3(RESULTS / piece / f"{short}{'_any' if is_any else ''}.mp3", output)
                if not is_any:
                    panels.append((f"{short} (output)", output))
            if piece == HELD_OUT[0]:
                write_picture(RESULTS / f"{short}.png", [*panels, (f"{short} (target)", true)])


def write_epochs(path: pathlib.Path, runs: list[pathlib.Path], name: str) -> None:
    """The picture `name` of the samples, of one run after the other, as an animation of up to `MAX_FRAMES` epochs."""
    frames = [picture for run in runs for picture in sorted(run.glob(f"samples/*/{name}"))]
    frames = frames[::-1][:: math.ceil(len(frames) / MAX_FRAMES) or 1][::-1]  # with the last one
    if frames:
        plots.save_gif(path, (np.asarray(Image.open(picture).convert("RGB")) for picture in frames), 0.8)


def other(piece: str) -> str:
    """Another piece of the same set, which gives the multitarget model its style."""
    pieces = TRAINED if piece in TRAINED else HELD_OUT
    return pieces[(pieces.index(piece) + 1) % len(pieces)]


def convert(model: pathlib.Path, recording: np.ndarray, style: pathlib.Path | None = None) -> np.ndarray:
    """The recording as the model converts it, as loud as predict.py makes it."""
    description = describe_generator(model)
    slices = read_style(style, description.representation) if description.in_channels == 2 else None
    return convert_audio(recording, load_converter(description, style=slices), RATE)


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
