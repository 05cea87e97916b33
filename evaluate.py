"""Measure how good models are: metrics beside reference rows, and a page to listen and vote on (report.html).

Three uses: two recordings or folders (--origin_audio, --target_audio), the validation pieces of a data set (--dataset,
--audios_path), or no model at all: --check tells whether a data set's recordings really match.
"""

from __future__ import annotations

import common.environment

import argparse
import pathlib
from collections.abc import Sequence

from common import InputError, cli, jobs
from common.files import writable_folder
from conversion.converter import PHASES
from data import PUBLISHED


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    text = "weights files or models' folders, one column each; without, only the reference rows"
    add("--model", nargs="+", default=[], help=text)
    add("--origin_audio", help="recording, or folder of recordings, to convert; with its voices <folder>@<voice>")
    add("--target_audio", help="the true target; for a folder, a folder with recordings of the same names")
    text = "features, a folder for each instrument: evaluate the pieces that no model was trained on"
    add("--dataset", "--dataset_path", dest="dataset", help=text)
    add("--audios_path", help="with --dataset: the recordings of its pieces, a folder for each instrument")
    add("--origin", help="with --dataset: instrument, of which all voices are evaluated (default: the model's)")
    add("--target", help="with --dataset: instrument (default: the model's)")
    text = "with --dataset: the pieces to evaluate, one a line, in place of those that training has held out"
    add("--holdout", metavar="FILE", help=text)
    add("--check", metavar="AUDIOS", help="report lag, tuning, silence and length between the instruments' recordings")
    add("--align", metavar="FOLDER", help="with --check: write copies of the recordings without their lag")
    add("--output", default="report", help="folder for report.html, report.json and report.csv")
    add("--style", help="recording that gives multitarget models their style (default: the next pair's target)")
    add("--phase", choices=PHASES, default="input", help="as in predict.py")
    return cli.run(parser, evaluate, argv)


def evaluate(arguments: argparse.Namespace) -> int:
    """Do what the arguments ask for; the exit status."""
    pairwise = arguments.origin_audio is not None or arguments.target_audio is not None
    if sum([pairwise, arguments.dataset is not None, arguments.check is not None]) != 1:
        raise InputError("give either --origin_audio and --target_audio, or --dataset and --audios_path, or --check")
    if pairwise and None in (arguments.origin_audio, arguments.target_audio):
        raise InputError("--origin_audio and --target_audio need each other")
    for flag, needed in (("dataset", "audios_path"), ("align", "check"), ("holdout", "dataset")):
        if getattr(arguments, flag) is not None and getattr(arguments, needed) is None:
            raise InputError(f"--{flag} needs --{needed}")
    from evaluation import pairing

    if arguments.check is not None:
        return pairing.check_folder(arguments.check, arguments.align)
    writable_folder(arguments.output, "--output")
    from conversion.converter import Settings
    from evaluation import comparison, report

    models = comparison.describe_models(arguments.model)
    # All outputs are measured in one representation, usually that of all models.
    representation = next((model.representation for model in models.values() if model.system == "pix2pix"), PUBLISHED)
    remarks: list[str] = []
    if pairwise:
        pairs, left_out = pairing.find_pairs(arguments.origin_audio, arguments.target_audio)
        paths = [pathlib.Path(path).resolve() for path in (arguments.origin_audio, arguments.target_audio)]
        is_one_name = paths[0].stem == paths[1].stem
        origin, target = (path.parent.name if is_one_name else path.stem for path in paths)
        title = f"{origin} to {target}" + (f", {paths[0].stem}" if is_one_name else "")
    else:
        origin, target = pairing.choose_instruments(
            arguments.dataset, list(models.values()), arguments.origin, arguments.target
        )
        pairs, left_out, remarks = pairing.find_validation_pairs(
            arguments.dataset, arguments.audios_path, origin, target, models, arguments.holdout
        )
        title = f"{origin} to {target}, validation pieces"
    settings = Settings(phase=arguments.phase)
    converters = {
        name: comparison.load_model(description, pairs, representation.sample_rate, settings, arguments.style)
        for name, description in models.items()
    }
    written = report.Report(
        title,
        models,
        remarks=[*remarks, *(f"{name}: {model.summary} ({model.path})" for name, model in models.items())],
        seeds=comparison.find_seeds(models),
        instruments=(origin, target),
        representation=representation,
        left_out=left_out,
    )
    work = [(pair, converters, representation) for pair in pairs]
    for index, found, reason in jobs.run(comparison.evaluate_pair, work, label="evaluating"):
        if reason is None:
            written.add(*found)
        else:
            left_out.append((str(pairs[index]), reason))
    if not written.results:
        raise InputError(f"no pair can be read: {left_out[-1][1]}")
    content = report.as_json(written)
    print(report.as_text(content), end="\n\n")
    for path in report.write(written, content, arguments.output):
        print(path)
    return cli.report_left_out(left_out)


if __name__ == "__main__":
    raise SystemExit(main())
