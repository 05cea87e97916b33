"""Which recordings an evaluation compares: two files, two folders, or the pieces that training has held out."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence

from common import cli, weights
from common.errors import InputError
from common.files import existing_folder, piece_names
from sound.files import find_audio
from training import dataset


@dataclasses.dataclass(frozen=True)
class Pair:
    """An origin and its true target."""

    piece: str
    origin: pathlib.Path
    target: pathlib.Path
    voice: str = ""  # of the origin's instrument; empty where there is only one

    @property
    def name(self) -> str:
        """``<voice>/<piece>``, or only the piece where there is one voice."""
        return f"{self.voice}/{self.piece}" if self.voice else self.piece


def find_pairs(
    origin: str | os.PathLike,
    target: str | os.PathLike,
    flags: tuple[str, str] = ("--origin_audio", "--target_audio"),
) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs of two recordings, or of two folders by the recordings' names (below the folder, without extension).

    A folder stands for all voices of its instrument: ``audios/piano`` for ``audios/piano`` and ``audios/piano@*``.

    Args:
        origin, target: files or folders.
        flags: of both, for errors.

    Returns:
        pairs: sorted by voice and name; the pair of two files has the origin's name.
        left_out: (file, reason) of what has no counterpart.

    Raises:
        InputError: something is missing, one is a file and the other a folder, or no name is in both.
    """
    origin, target = pathlib.Path(origin), pathlib.Path(target)
    folders = [_voice_folders(origin), _voice_folders(target)]
    for flag, path, of_path in zip(flags, (origin, target), folders, strict=True):
        if not of_path and not path.exists():
            raise InputError(f"{flag}: there is no recording or folder {path}")
    if not any(folders):
        return [Pair(origin.stem, origin, target)], []
    if not all(folders):
        raise InputError(f"{', '.join(flags)}: give two recordings or two folders, not {origin}, {target}")
    origins, left_out = find_recordings(folders[0], flags[0])
    targets, left_out_targets = find_recordings(folders[1], flags[1])
    left_out += left_out_targets
    common = {(o, t): sorted(origins[o].keys() & targets[t].keys()) for o, t in itertools.product(origins, targets)}
    common = {voices: names for voices, names in common.items() if names}
    if not common:
        raise InputError(f"{flags[1]}: no recording in {target} has the name of one in {origin}")
    several_targets = len({t for _, t in common}) > 1
    pairs = []
    for (o, t), names in common.items():
        voice = "" if len(common) == 1 else f"{o} to {t}" if several_targets else o
        pairs += [Pair(name, origins[o][name], targets[t][name], voice) for name in names]
    paired = {path for pair in pairs for path in (pair.origin, pair.target)}
    for recordings, other in ((origins, target), (targets, origin)):
        paths = [path for of_voice in recordings.values() for path in of_voice.values()]
        left_out += [(str(path), f"no counterpart in {other}") for path in paths if path not in paired]
    return pairs, left_out


def _voice_folders(path: pathlib.Path) -> list[pathlib.Path]:
    """The folder `path`, if there is one, and the folders ``<path>@<voice>`` beside it, sorted."""
    folders = [path] if path.is_dir() else []
    if path.name and path.parent.is_dir():
        prefix = path.name + dataset.VOICE_MARK
        folders += sorted(f for f in path.parent.iterdir() if f.name.startswith(prefix) and f.is_dir())
    return folders


def find_recordings(
    folders: Iterable[pathlib.Path], flag: str
) -> tuple[dict[str, dict[str, pathlib.Path]], list[tuple[str, str]]]:
    """The recordings of each folder by the folder's name and their own, and (file, reason) of ambiguous names."""
    recordings, left_out = {}, []
    for folder in folders:
        recordings[folder.name], ambiguous = piece_names(find_audio(folder, flag), folder)
        left_out += ambiguous
    return recordings, left_out


# --- the validation pieces of a data set -----------------------------------------------------------------------------


def choose_instruments(
    described: Sequence[tuple[str, weights.Description]], origin: str | None, target: str | None
) -> tuple[str, str]:
    """Origin and target to evaluate on a data set: as given, or else what the first model was trained on.

    Raises:
        InputError: not given, and the first model does not name exactly one.
    """
    settings = described[0][1].settings if described else {}
    targets = sorted(set(settings.get("voices", settings.get("targets", []))))
    if len(targets) > 1:
        targets = sorted(set(map(dataset.instrument_of, targets)))
    origin = origin or settings.get("origin", dataset.ANY)
    target = target or (targets[0] if len(targets) == 1 else dataset.ANY)
    for flag, instrument in (("--origin", origin), ("--target", target)):
        if instrument == dataset.ANY:
            raise InputError(f"{flag} is required with --dataset, unless the first model has exactly one")
    return origin, target


def find_validation_pairs(
    features: str | os.PathLike,
    audios: str | os.PathLike,
    origin: str,
    target: str,
    described: Sequence[tuple[str, weights.Description]] = (),
    holdout: str | os.PathLike | None = None,
) -> tuple[list[Pair], list[tuple[str, str]], list[str]]:
    """The recordings of the pieces that no model was trained on.

    Args:
        features, audios: data set and recordings, each with a folder for every instrument or voice.
        origin, target: instruments, of which all voices are taken, or single voices.
        described: names and descriptions of the models.
        holdout: text file that names the pieces, one a line, in place of those that training has held out.

    Returns:
        pairs, left_out: as `find_pairs`.
        remarks: a line about each model's split.

    Raises:
        InputError: see `dataset.find_pairs`; or a piece of `holdout` that is not there, or no piece is left.
    """
    existing_folder(features, "--dataset")
    evaluated = dataset.find_pairs(features, [origin], [target])
    pieces, remarks = set(evaluated.piece_names), []
    if holdout is not None:
        pieces = dataset.read_pieces(holdout, pieces)
        remarks.append(f"held out by {holdout}: {cli.count(len(pieces), 'piece')}")
    else:
        for name, description in described:
            held_out, remark = _held_out_pieces(features, origin, target, description)
            pieces &= held_out if held_out is not None else pieces
            remarks.append(f"{name}: {remark}")
    if not pieces:
        raise InputError("--dataset has no piece that all models have held out; name such pieces with --holdout")
    pairs, alone = find_pairs(pathlib.Path(audios, origin), pathlib.Path(audios, target), ("--audios_path",) * 2)
    pairs = [pair for pair in pairs if score_of(pair.piece) in pieces]
    if not pairs:
        raise InputError(f"--audios_path: {audios} has no recordings of the {len(pieces)} held-out pieces")
    missing = pieces - {score_of(pair.piece) for pair in pairs}
    left_out = [(file, reason) for file, reason in alone if score_of(pathlib.Path(file).stem) in pieces - missing]
    left_out += [(piece, f"{audios} has no recordings of it for {origin} and {target}") for piece in sorted(missing)]
    return pairs, left_out, remarks


def score_of(name: str) -> str:
    """The piece that a recording plays, perhaps as a variation: "waltz" of "waltz_v02"."""
    return dataset.VARIATION.sub("", name)


def _held_out_pieces(
    features: str | os.PathLike, origin: str, target: str, description: weights.Description
) -> tuple[set[str] | None, str]:
    """The pieces of a data set that a model's training has held out, or None for all; and a line that says so.

    Training splits the pieces of all its instruments. A model of voices that the data set lacks was trained on another
    one, so that it has heard none of the pieces.
    """
    settings = description.settings
    origins = settings.get("origins", [settings.get("origin", origin)])
    targets = settings.get("voices", settings.get("targets", [target]))
    folders = {entry.name for entry in os.scandir(features) if os.path.isdir(entry.path)}
    missing = sorted({*origins, *targets} - folders - set(map(dataset.instrument_of, folders)))
    if missing or description.system != "pix2pix":
        reason = f"of {missing[0]}, which is not in {features}" if missing else "of another kind of data"
        return None, f"a model {reason}, so every piece is new to it"
    pairs = dataset.find_pairs(features, origins, targets, settings.get("identity", True))
    split, seed = settings.get("validation_split", 0.1), settings.get("seed", 0)
    _, held_out, summary = dataset.split_by_piece(pairs, split, seed)
    if len(pairs.piece_names) < 2 or not len(held_out):
        return set(), summary
    if not {"validation_split", "seed"} <= settings.keys():
        summary += f"; the weights do not say how their data was split: taken for {split} with seed {seed}"
    return {pairs.piece_names[i] for i in pairs.pieces[held_out[:, 0]]}, summary
