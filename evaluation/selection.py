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
    """An origin and its true target.

    Attributes:
        piece: name of the recordings.
        origin, target: the files.
        voice: which of several voices of an instrument plays the origin; empty where there is only one.
    """

    piece: str
    origin: pathlib.Path
    target: pathlib.Path
    voice: str = ""

    @property
    def name(self) -> str:
        """``<voice>/<piece>``, or only the piece where there is one voice."""
        return f"{self.voice}/{self.piece}" if self.voice else self.piece


@dataclasses.dataclass(frozen=True)
class Split:
    """What decides which pieces a training run holds out.

    Attributes:
        origins, targets: instruments or voices that it was trained on, all of them.
        validation_split, seed: flags of the train scripts.
        identity: whether it was also trained on pairs of an instrument with itself.
    """

    origins: tuple[str, ...]
    targets: tuple[str, ...]
    validation_split: float
    seed: int
    identity: bool = True


def find_pairs(origin: str | os.PathLike, target: str | os.PathLike) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs of two recordings, or of two folders by the recordings' names (below the folder, without extension).

    A folder stands for all voices of its instrument: ``audios/piano`` for ``audios/piano`` and ``audios/piano@*``.

    Returns:
        pairs: sorted by voice and name; the pair of two files has the origin's name.
        left_out: (file, reason) of what has no counterpart.

    Raises:
        InputError: something is missing, one is a file and the other a folder, or no name is in both.
    """
    origin, target = pathlib.Path(origin), pathlib.Path(target)
    origin_folders, target_folders = _voice_folders(origin), _voice_folders(target)
    for flag, path, folders in (
        ("--origin_audio", origin, origin_folders),
        ("--target_audio", target, target_folders),
    ):
        if not folders and not path.exists():
            raise InputError(f"{flag}: expected a recording or a folder of recordings, found nothing at {path}")
    if bool(origin_folders) != bool(target_folders):
        folder, file = (origin, target) if origin_folders else (target, origin)
        raise InputError(
            f"--origin_audio, --target_audio: expected two recordings or two folders, found the folder {folder} and "
            f"the file {file}"
        )
    if not origin_folders:
        return [Pair(origin.stem, origin, target)], []
    origins, left_out = _find_recordings(origin_folders, "--origin_audio")
    targets, left_out_targets = _find_recordings(target_folders, "--target_audio")
    left_out += left_out_targets
    common = {(o, t): sorted(origins[o].keys() & targets[t].keys()) for o, t in itertools.product(origins, targets)}
    pairs = _make_pairs({voices: names for voices, names in common.items() if names}, origins, targets)
    if not pairs:
        raise InputError(
            f"--target_audio: expected recordings with the same names as in {origin}, found none in {target}"
        )
    paired = {path for pair in pairs for path in (pair.origin, pair.target)}
    for recordings, other in ((origins, target), (targets, origin)):
        paths = itertools.chain.from_iterable(of_voice.values() for of_voice in recordings.values())
        left_out += [(str(path), f"no counterpart in {other}") for path in paths if path not in paired]
    return pairs, left_out


def _voice_folders(path: pathlib.Path) -> list[pathlib.Path]:
    """The folder `path`, if there is one, and the folders ``<path>@<voice>`` beside it, sorted."""
    folders = [path] if path.is_dir() else []
    if path.name and path.parent.is_dir():
        prefix = path.name + dataset.VOICE_MARK
        folders += sorted(f for f in path.parent.iterdir() if f.name.startswith(prefix) and f.is_dir())
    return folders


# --- the validation pieces of a data set -----------------------------------------------------------------------------


def choose_instruments(
    described: Sequence[tuple[str, weights.Description]], origin: str | None, target: str | None
) -> tuple[str, str]:
    """Origin and target to evaluate on a data set: as given, or else what the first model was trained on.

    Raises:
        InputError: not given, and the first model does not name exactly one.
    """
    settings = described[0][1].settings if described else {}
    trained_on = {
        "--origin": [settings.get("origin", dataset.ANY)],
        "--target": sorted(set(settings.get("voices", settings.get("targets", [])))),
    }
    chosen = []
    for flag, instrument in (("--origin", origin), ("--target", target)):
        names = trained_on[flag]
        if len(names) > 1:
            names = sorted(set(map(dataset.instrument_of, names)))
        if instrument is None and (len(names) != 1 or names[0] == dataset.ANY):
            raise InputError(f"{flag}: expected with --dataset unless the first model has exactly one, found none")
        chosen.append(instrument or names[0])
    return chosen[0], chosen[1]


def read_splits(
    described: Sequence[tuple[str, weights.Description]],
    origin: str,
    target: str,
    validation_split: float | None = None,
    seed: int | None = None,
) -> tuple[list[Split], list[str]]:
    """How each model's data was split: as given, or else as its weights file says, or else the default.

    Args:
        described: names and descriptions of the models.
        origin, target: of a training run that has not recorded them.
        validation_split, seed: as given by the user.

    Returns:
        splits: every different one once; without models that of a training run from `origin` to `target`.
        remarks: a line for each model whose weights file does not say.
    """
    given = {"validation_split": validation_split, "seed": seed}
    given = {flag: value for flag, value in given.items() if value is not None}
    default = {"validation_split": 0.1, "seed": 0}
    splits, remarks = [], []
    for name, description in described:
        if description.system != "pix2pix":  # hum2guitar is trained on other data
            continue
        settings = description.settings
        recorded = {flag: settings[flag] for flag in default if flag in settings}
        assumed = [f"--{flag} {value}" for flag, value in default.items() if flag not in {**recorded, **given}]
        if assumed:
            remarks.append(
                f"{name}: the weights do not say how their data was split; taking {' '.join(assumed)}, which may "
                "include pieces that they were trained on"
            )
        origins = settings.get("origins", [settings.get("origin", origin)])
        targets = settings.get("voices", settings.get("targets", [target]))
        flags = default | recorded | given
        splits.append(
            Split(
                tuple(origins),
                tuple(targets),
                flags["validation_split"],
                flags["seed"],
                settings.get("identity", True),
            )
        )
    return list(dict.fromkeys(splits)) or [Split((origin,), (target,), **(default | given))], remarks


def find_validation_pairs(
    features: str | os.PathLike, audios: str | os.PathLike, origin: str, target: str, splits: Sequence[Split]
) -> tuple[list[Pair], list[tuple[str, str]], list[str]]:
    """The recordings of the pieces that training has held out, with each of several splits.

    Args:
        features, audios: data set and recordings, each with a folder for every instrument or voice.
        origin, target: instruments, of which all voices are taken, or single voices.
        splits: of the models, at least one.

    Returns:
        pairs, left_out: as `find_pairs`.
        remarks: a line about each split, and one about what they have in common.

    Raises:
        InputError: see `dataset.find_pairs`; or a single piece, of which training holds out the end only; or no piece
            that is held out with all splits.
    """
    existing_folder(features, "--dataset")
    evaluated = dataset.find_pairs(features, [origin], [target])
    if len(evaluated.piece_names) < 2:
        raise InputError(f"--dataset: expected several pieces in {features}, found only {evaluated.piece_names[0]}")
    pieces, remarks = set(evaluated.piece_names), []
    for split in splits:
        held_out, of_split = _held_out_pieces(features, origin, target, split)
        pieces &= held_out
        remarks += of_split
    if not pieces:
        raise InputError(f"--dataset: expected a piece of {target} that all models have held out, found none")
    if len(splits) > 1:
        remarks.append(f"held out with all of these splits: {cli.count(len(pieces), 'piece')}")
    recordings = [
        _find_recordings([pathlib.Path(audios, voice) for voice in voices], "--audios_path")[0]
        for voices in (evaluated.origins, evaluated.targets)
    ]
    names: dict[tuple[str, str], list[str]] = {}
    left_out = []
    for voices, expected in _recording_names(evaluated, pieces).items():
        names[voices] = []
        for name in expected:
            missing = [v for v, found in zip(voices, recordings, strict=True) if name not in found[v]]
            if missing:
                left_out.append((name, f"expected a recording in {audios} for {' and '.join(missing)}, found none"))
            else:
                names[voices].append(name)
    pairs = _make_pairs(names, *recordings)
    if not pairs:
        raise InputError(
            f"--audios_path: expected recordings of the {len(pieces)} held-out pieces in {audios}, found none"
        )
    return pairs, left_out, remarks


def _held_out_pieces(features: str | os.PathLike, origin: str, target: str, split: Split) -> tuple[set[str], list[str]]:
    """The pieces of a data set that training holds out, and lines that say how they were found.

    Training splits the pieces of all its instruments, so these have to be in the data set. If they are not, the split
    is that of a training run from `origin` to `target`.
    """
    folders = {entry.name for entry in os.scandir(features) if os.path.isdir(entry.path)}
    missing = {*split.origins, *split.targets} - folders - set(map(dataset.instrument_of, folders))
    remarks = []
    if missing:
        remarks.append(
            f"{features} has no {', '.join(sorted(missing))}, which a model was trained on; its pieces are split as "
            f"for training from {origin} to {target}, which may include pieces that it was trained on"
        )
        split = dataclasses.replace(split, origins=(origin,), targets=(target,))
    pairs = dataset.find_pairs(features, split.origins, split.targets, split.identity)
    _, held_out, summary = dataset.split_by_piece(pairs, split.validation_split, split.seed)
    if not len(held_out):
        raise InputError(f"--validation_split: expected a share that holds a piece out, found {split.validation_split}")
    return {pairs.piece_names[i] for i in pairs.pieces[held_out[:, 0]]}, [*remarks, summary]


def _recording_names(pairs: dataset.Pairs, pieces: set[str]) -> dict[tuple[str, str], list[str]]:
    """The recordings of some pieces, with their variations, for each (origin, target) that has any; sorted."""
    names: dict[tuple[str, str], set[str]] = {}
    for slice_number, t, o in pairs.samples:
        if pairs.piece_names[pairs.pieces[slice_number]] in pieces:
            recording = dataset.SLICE_NAME.match(pairs.names[slice_number])[1]
            names.setdefault((pairs.origins[o], pairs.targets[t]), set()).add(recording)
    return {voices: sorted(names[voices]) for voices in sorted(names)}


def _find_recordings(
    folders: Iterable[pathlib.Path], flag: str
) -> tuple[dict[str, dict[str, pathlib.Path]], list[tuple[str, str]]]:
    """The recordings of each folder by the folder's name and their own, and (file, reason) of ambiguous names."""
    recordings, left_out = {}, []
    for folder in folders:
        recordings[folder.name], ambiguous = piece_names(find_audio(folder, flag), folder)
        left_out += ambiguous
    return recordings, left_out


def _make_pairs(
    names: dict[tuple[str, str], list[str]],
    origins: dict[str, dict[str, pathlib.Path]],
    targets: dict[str, dict[str, pathlib.Path]],
) -> list[Pair]:
    """Pairs of the recordings in `names`, by (origin, target); they get a voice where there are several of these."""
    several_targets = len({target for _, target in names}) > 1
    pairs = []
    for (origin, target), recordings in names.items():
        voice = "" if len(names) == 1 else f"{origin} to {target}" if several_targets else origin
        pairs += [Pair(name, origins[origin][name], targets[target][name], voice) for name in recordings]
    return pairs
