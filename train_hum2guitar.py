"""Train the system that turns a hum into a guitar, from recordings of guitars alone.

Cuts the recordings into segments of 5 s, trains a global generator and then a local enhancer around it, and writes
``trained/hum2guitar/generator.h5``, with which predict.py converts. The same command again resumes an interrupted run.
"""

from __future__ import annotations

import common.environment

import argparse
import re
from collections.abc import Sequence

from common import cli
from hum2guitar import stages
from hum2guitar.melody import F0_METHODS
from training import run


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add, count, epochs = parser.add_argument, cli.positive_int, cli.number(int, minimum=0)
    text = "GuitarSet's audio_mono-mic (its *solo* recordings are used) or any folder of guitar recordings"
    add("--guitar_dir", required=True, help=text)
    add("--humming_dir", help="hummed recordings for samples during training; they are never trained on")
    add("--out_dir", default="./output/", help="folder for the log and the samples of --plot_interval")
    add("--name", type=_name, default="", help="added after hum2guitar in the name of the model's folder")
    add("--n_global_epochs", type=epochs, default=200, help="epochs of the global generator alone")
    text = "epochs of the local enhancer with the global generator frozen"
    add("--n_fixed_global_epochs", type=epochs, default=10, help=text)
    add("--n_joint_epochs", type=epochs, default=200, help="epochs of both together")
    text = "steps between two samples; one is also made at the end of each epoch"
    add("--plot_interval", type=count, default=600, help=text)
    add("--log", default="log.txt", help="file in --out_dir for the losses of each epoch")
    add("--seed", type=cli.seed, default=999, help="of weights, data order, split and noise")
    add("--pretrained_global", help="weights of a global generator, in place of the first stage")
    add("--pretrained_local", help="weights of a local enhancer, in place of the first two stages")
    text = "learning rate of all networks; in the first and third stage it falls to zero from the middle on"
    add("--lr", type=cli.positive_float, default=2e-4, help=text)
    text = "weight of L1 beside the published losses, which do not teach the level of the guitar; 0 as published"
    add("--l1", type=cli.number(float, minimum=0), default=100.0, help=text)
    text = "train on notes that slide and tremble as a voice does, and pluck those of the hum in conversion"
    add("--augment", action="store_true", help=text)
    add("--batch_size", type=count, default=1, help="segments in a step")
    share, text = cli.number(float, minimum=0, maximum=0.9), "share of the segments held out, by recording"
    add("--validation_split", type=share, default=0.1, help=text)
    add("--f0", choices=F0_METHODS, default=F0_METHODS[0], help="how the pitch is found; cepstrum as published")
    text = "folder where pitch and spectrograms of the recordings are kept"
    add("--features_path", default="features/hum2guitar", help=text)
    run.add_common_arguments(parser)
    return cli.run(parser, stages.train, argv)


def _name(text: str) -> str:
    """An argparse type: part of a folder's name."""
    if not re.fullmatch(r"[\w.-]*", text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, '_', '-' and '.', found {text!r}")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
