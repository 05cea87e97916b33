"""Draw the phrase that docs/method.md shows on four instruments.

Takes the folder that synthesize_audios.py wrote and draws the start of each instrument's recording of a piece:

    python -m docs.method.spectrograms audios docs/method
"""

from __future__ import annotations

import pathlib
import sys

import data
from common import plots
from sound.files import read_audio

PIECE = "beethoven_ode_to_joy"
INSTRUMENTS = ("keyboard_acoustic", "guitar_acoustic", "string_acoustic", "synth_lead_synthetic")
SECONDS = 6


def draw_phrase(audios: pathlib.Path, folder: pathlib.Path, seconds: float = SECONDS) -> list[pathlib.Path]:
    """Write the spectrogram of the first `seconds` of each recording, on a mel axis; the pictures' paths.

    Args:
        audios: recordings ``<instrument>@<voice>/<piece>.wav`` at 44.1 kHz.
        folder: where ``<instrument>.png`` is written.
    """
    pictures = []
    for instrument in INSTRUMENTS:
        (path,) = audios.glob(f"{instrument}*/{PIECE}.wav")
        audio = read_audio(path, data.PUBLISHED.sample_rate)
        magnitude, _ = data.forward_transform(audio[: round(seconds * data.PUBLISHED.sample_rate)])
        level = data.amplitude_to_db(magnitude)
        seconds_per_frame = data.PUBLISHED.hop_length / data.PUBLISHED.sample_rate
        picture = folder / f"{instrument}.png"
        plots.save_spectrograms(
            picture, [("", level)], seconds_per_frame, data.PUBLISHED.bin_hz, size=(6.4, 2.7), dpi=plots.SCREEN_DPI
        )
        pictures.append(picture)
    return pictures


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    for picture in draw_phrase(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])):
        print(picture)
