"""Measure the hum2guitar model on hums that it has never heard: ``python -m models.hums WORK``.

WORK is the folder of models/train.sh. A synthetic voice sings its heldout_melodies/ again, with closed mouth and on an
"a": WORK/hums/voice/. The model converts them; the guitars that were sung go to WORK/hums/guitar/, for evaluate.py.
Excerpts, and the hum of docs/examples, become the sounds and the picture of docs/results/hum2guitar.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

from hum2guitar.harmonics import PUBLISHED
from hum2guitar.pitch import analyse
from hum2guitar.singing import sing_again
from models.results import RATE, RESULTS, ROOT, convert, read_excerpt, write_epochs, write_mp3, write_picture
from sound.blocks import resample
from sound.files import read_audio, write_audio

MODEL = ROOT / "models" / "hum2guitar"
HUM_SECONDS = 40
KINDS = {"hum": True, "sing": False}  # whether the mouth is closed
SHOWN = "etude_002"


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


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
