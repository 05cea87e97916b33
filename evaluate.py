"""Measure how good models are: metrics beside reference rows, and a page to listen and vote on (report.html).

Three uses: two recordings or folders (--origin_audio, --target_audio), the validation pieces of a data set (--dataset,
--audios_path), or no model at all: --check tells whether a data set's recordings really match.
"""

from __future__ import annotations

import common.environment

import argparse
import pathlib
from collections.abc import Sequence

from common import cli, plots
from common.errors import InputError
from common.files import writable_folder
from conversion.phase import PHASES


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    count, share = cli.number(int, minimum=0), cli.number(float, minimum=0, maximum=0.9)
    add(
        "--model",
        nargs="+",
        default=[],
        help="weights files or models' folders, one column each; without, only the reference rows",
    )
    add("--origin_audio", help="recording, or folder of recordings, to convert; with its voices <folder>@<voice>")
    add("--target_audio", help="the true target; for a folder, a folder with recordings of the same names")
    add(
        "--dataset",
        "--dataset_path",
        dest="dataset",
        help="features, a folder for each instrument: evaluate the pieces that training has held out",
    )
    add("--audios_path", help="with --dataset: the recordings of its pieces, a folder for each instrument")
    add("--origin", help="with --dataset: instrument, of which all voices are evaluated (default: the model's)")
    add("--target", help="with --dataset: instrument (default: the model's)")
    add(
        "--validation_split",
        type=share,
        help="with --dataset: as given to the train script (default: as recorded with the model, or 0.1)",
    )
    add(
        "--seed",
        type=count,
        help="with --dataset: as given to the train script (default: as recorded with the model, or 0)",
    )
    add("--check", metavar="AUDIOS", help="report lag, tuning, silence and length between the instruments' recordings")
    add(
        "--align",
        metavar="FOLDER",
        help="with --check: write copies of the recordings that are in time with each other; the rest is listed",
    )
    add("--output", default="report", help="folder for report.html, report.json and report.csv")
    add("--latex", action="store_true", help="also write the table as report.tex, for a paper")
    add(
        "--page_pairs",
        type=cli.positive_int,
        default=12,
        help="maximum number of pairs on the page; those with the greatest MAE are shown",
    )
    add("--style", help="recording that gives multitarget models their style (default: the next pair's target)")
    add(
        "--overlap",
        type=cli.number(float, minimum=0, maximum=0.5),
        default=0.25,
        help="share of a slice blended with the next; 0 as published",
    )
    add("--phase", choices=("auto", *PHASES), default="auto", help="as in predict.py")
    add("--griffinlim_iterations", type=count, default=16, help="as in predict.py")
    add(
        "--keep_level",
        action="store_true",
        help="measure outputs at their own level; by default they are brought to the target's loudness first",
    )
    add(
        "--plot_format",
        choices=plots.FORMATS,
        help="also write the spectrograms of each pair as files; pdf and svg for papers, with text as text",
    )
    plots.add_arguments(parser)
    cli.add_gpu(parser, default=None)
    return cli.run(parser, evaluate, argv)


def evaluate(arguments: argparse.Namespace) -> int:
    """Do what the arguments ask for; the exit status."""
    pairwise = arguments.origin_audio is not None or arguments.target_audio is not None
    if sum([pairwise, arguments.dataset is not None, arguments.check is not None]) != 1:
        raise InputError("expected one of --origin_audio with --target_audio, --dataset with --audios_path, or --check")
    if pairwise and None in (arguments.origin_audio, arguments.target_audio):
        raise InputError("expected --origin_audio and --target_audio together, found one of them")
    if arguments.dataset is not None and arguments.audios_path is None:
        raise InputError("--dataset: expected --audios_path with it, found none")
    if arguments.align is not None and arguments.check is None:
        raise InputError("--align: expected --check AUDIOS with it, found none")
    if arguments.align is not None:
        from evaluation import aligned_copies

        return aligned_copies.align_folder(arguments.check, arguments.align)
    if arguments.check is not None:
        from evaluation import alignment

        return alignment.check_folder(arguments.check)
    writable_folder(arguments.output, "--output")
    from conversion.converter import Settings
    from evaluation import comparison, report, selection

    described = comparison.describe_models(arguments.model)
    representation = comparison.common_representation([description for _, description in described])
    remarks: list[str] = []
    if pairwise:
        pairs, left_out = selection.find_pairs(arguments.origin_audio, arguments.target_audio)
        title = _name_pair(pathlib.Path(arguments.origin_audio), pathlib.Path(arguments.target_audio))
    else:
        origin, target = selection.choose_instruments(described, arguments.origin, arguments.target)
        splits, unrecorded = selection.read_splits(
            described, origin, target, arguments.validation_split, arguments.seed
        )
        pairs, left_out, remarks = selection.find_validation_pairs(
            arguments.dataset, arguments.audios_path, origin, target, splits
        )
        remarks += unrecorded
        title = f"{origin} to {target}, validation pieces"
    models = comparison.load_models(
        described,
        pairs,
        representation.sample_rate,
        Settings(arguments.overlap, arguments.phase, arguments.griffinlim_iterations),
        arguments.gpu,
        arguments.style,
    )
    written = report.Report(
        title,
        [*remarks, *(f"{model.name}: {model.summary} ({model.path})" for model in models)],
        columns={**comparison.REFERENCES, **{model.name: model.name for model in models}},
        models={model.name: {"path": str(model.path), "summary": model.summary} for model in models},
        left_out=left_out,
        page_pairs=arguments.page_pairs,
        plot_scale=arguments.plot_scale,
    )
    results = comparison.evaluate(
        pairs,
        models,
        representation,
        arguments.keep_level,
        left_out=left_out if len(pairs) > 1 else None,  # a single pair that cannot be read is an error of the command
    )
    names = [model.name for model in models]
    for result in results:
        written.add(result, representation)
        if arguments.plot_format:
            report.save_pictures(
                result, names, arguments.output, arguments.plot_format, representation, arguments.plot_scale
            )
    if not written.results:
        raise InputError(f"expected a pair that can be read, found none: {left_out[0][1]}")
    print("\n".join([title, *written.remarks, "", report.as_text(written), ""]))
    for path in report.write(written, arguments.output, arguments.latex):
        print(path)
    return cli.report_left_out(left_out)


def _name_pair(origin: pathlib.Path, target: pathlib.Path) -> str:
    """From what to what: the names of files or folders; for files of one name, those of their folders and the name."""
    if origin.stem != target.stem:
        return f"{origin.stem} to {target.stem}"
    origin, target = origin.resolve(), target.resolve()
    return f"{origin.parent.name} to {target.parent.name}, {origin.stem}"


if __name__ == "__main__":
    raise SystemExit(main())
