"""Say how good models are: metrics beside reference rows, a table, and a page to listen and vote on (report.html).

Three uses: two recordings or folders (--origin_audio, --target_audio), the validation pieces of a data set (--dataset,
--audios_path), or no model at all: --check says whether a data set's recordings are really pairs.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

from common import cli
from common.errors import InputError
from common.files import writable_folder


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    count, share = cli.number(int, minimum=0), cli.number(float, minimum=0, maximum=0.9)
    add("--model", nargs="+", default=[], help="weights files or models' folders, a column each; none: references only")
    add("--origin_audio", help="recording, or folder of recordings, to convert")
    add("--target_audio", help="the true target; of a folder, recordings of the same names")
    add("--dataset", help="features, one folder an instrument: evaluate the pieces that training has held out")
    add("--audios_path", help="with --dataset: the recordings of its pieces, one folder an instrument")
    add("--origin", help="with --dataset: instrument (default: what the model says)")
    add("--target", help="with --dataset: instrument (default: what the model says)")
    add("--validation_split", type=share, help="with --dataset: as given to the train script (default: what the model says, or 0.1)")  # fmt: skip  # noqa: E501
    add("--seed", type=count, help="with --dataset: as given to the train script (default: what the model says, or 0); also of Griffin-Lim (default: 0)")  # fmt: skip  # noqa: E501
    add("--check", metavar="AUDIOS", help="report lag, tuning, silence and length between the instruments' recordings")
    add("--output", default="report", help="folder for report.html, report.json and report.csv")
    add("--page_pairs", type=cli.positive_int, default=12, help="most pairs on the page, those of greatest MAE")
    add("--style", help="recording that gives multitarget models their style (default: the next pair's target)")
    add("--overlap", type=cli.number(float, minimum=0, maximum=0.5), default=0.25, help="share of a slice blended with the next; 0 as published")  # fmt: skip  # noqa: E501
    add("--phase", choices=["input", "griffinlim", "hybrid"], default="input", help="as in predict.py")
    add("--griffinlim_iterations", type=count, default=16, help="as in predict.py")
    add("--reference_iterations", type=count, default=32, help="turns of Griffin-Lim from noise, of the reference row")
    cli.add_gpu(parser, default=None)
    return cli.run(parser, evaluate, argv)


def evaluate(arguments: argparse.Namespace) -> int:
    """Check which of the uses is meant, and do it; the exit status."""
    pairwise = arguments.origin_audio is not None or arguments.target_audio is not None
    if sum([pairwise, arguments.dataset is not None, arguments.check is not None]) != 1:
        raise InputError("expected one of --origin_audio with --target_audio, --dataset with --audios_path, or --check")
    if pairwise and None in (arguments.origin_audio, arguments.target_audio):
        raise InputError("expected --origin_audio and --target_audio together, found one of them")
    if arguments.dataset is not None and arguments.audios_path is None:
        raise InputError("--dataset: expected --audios_path with it, found none")
    if arguments.check is not None:
        from evaluation import alignment

        return alignment.check(arguments.check)
    writable_folder(arguments.output, "--output")
    from conversion.pix2pix import shared_frames
    from conversion.settings import Settings
    from evaluation import comparison, report

    described = comparison.describe_models(arguments.model)
    representation = comparison.common_representation([description for _, description in described])
    said = []
    if pairwise:
        pairs, left_out = comparison.find_pairs(arguments.origin_audio, arguments.target_audio)
        title = f"{pathlib.Path(arguments.origin_audio).stem} to {pathlib.Path(arguments.target_audio).stem}"
    else:
        origin, target = comparison.instruments(described, arguments.origin, arguments.target)
        splits, said = comparison.splits(described, target, arguments.validation_split, arguments.seed)
        pairs, left_out, lines = comparison.find_validation_pairs(
            arguments.dataset, arguments.audios_path, origin, target, splits
        )
        title, said = f"{origin} to {target}, validation pieces", [*lines, *said]
    settings = Settings(arguments.overlap, arguments.phase, arguments.griffinlim_iterations)
    models = comparison.load_models(
        described, pairs, representation.sample_rate, settings, arguments.gpu, arguments.style
    )
    columns = {**comparison.REFERENCES, **{model.name: model.name for model in models}}
    named = {model.name: {"path": str(model.path), "summary": model.summary} for model in models}
    said += [f"{model.name}: {model.summary} ({model.path})" for model in models]
    written = report.Report(title, said, columns, named, left_out=left_out, page_pairs=arguments.page_pairs)
    # Of a single pair the fault is the command's; of many, the others go on.
    tolerated = left_out if len(pairs) > 1 else None
    results = comparison.evaluate(
        pairs, models, representation, arguments.reference_iterations, arguments.seed or 0,
        shared_frames(arguments.overlap, representation), tolerated,
    )  # fmt: skip
    for result in results:
        written.add(result, representation)
    if not written.results:
        raise InputError(f"expected a pair that can be read, found none: {left_out[0][1]}")
    print("\n".join([title, *said, "", report.table(written), ""]))
    for path in report.write(written, arguments.output):
        print(path)
    return cli.report_left_out(left_out)


if __name__ == "__main__":
    raise SystemExit(main())
