"""Change files at random and read them with the project's own functions, which keep what docs/security.md promises.

    python tests/fuzz/fuzz.py                          a minute, all kinds
    python tests/fuzz/fuzz.py --kinds h5 --seconds 3600

Each case is drawn from the seed, its kind and its number, so that it can be made again (``--first``), and runs in a
process of its own with 2 GB of memory. A case fails if the file causes anything but a result or an error of one line,
takes more than 20 seconds or the memory, kills the process, or makes it write, delete or start anything elsewhere. The
files of failed cases are kept in the folder ``--keep``. Exit status 1: some case failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

MAX_BYTES = 2 * 10**9  # of memory beside what the process has before its first case
CASE_SECONDS = 20
STARTS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
# Places that libraries write to by themselves.
OWN_PLACES = ("/dev/", "/proc/")


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: of the file in the folder of a case.
        make: writes the valid files that the cases are made from into a folder.
        read: calls the project's functions on a file in its folder.
        from_place: bytes at the start that are changed rarely; a share of the length.
    """

    name: str
    make: Callable[[pathlib.Path], None]
    read: Callable[[pathlib.Path], None]
    from_place: float = 0.0


# --- valid files ------------------------------------------------------------------------------------------------------


def make_midi(folder: pathlib.Path) -> None:
    import mido

    for number, kind in enumerate((0, 1)):
        tracks = []
        for channel in (0, 9, 3):
            track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=400_000), mido.MetaMessage("text", text="a b")])
            for pitch in range(50, 70, 3):
                track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=64, time=30))
                track.append(mido.Message("control_change", channel=channel, control=64, value=pitch, time=5))
                track.append(mido.Message("note_off", channel=channel, note=pitch, time=200))
            track.append(mido.Message("sysex", data=(1, 2, 3)))
            tracks.append(track)
        mido.MidiFile(type=kind, tracks=tracks[: 1 + 2 * kind]).save(folder / f"{number}.mid")


def make_audio(extension: str) -> Callable[[pathlib.Path], None]:
    def make(folder: pathlib.Path) -> None:
        import soundfile

        rng = np.random.default_rng(0)
        for number, (rate, n_channels, subtype) in enumerate(
            [(44100, 1, None), (8000, 2, None), (22050, 1, {"wav": "FLOAT", "flac": "PCM_24"}.get(extension))]
        ):
            sound = rng.uniform(-0.3, 0.3, (1500, n_channels))
            soundfile.write(folder / f"{number}.{extension}", sound, rate, subtype)

    return make


def make_h5(folder: pathlib.Path) -> None:
    from made_weights import fill, hum2guitar_table, published_table, write_model, write_published

    from common import weights
    from data import PUBLISHED
    from hum2guitar import harmonics

    write_published(folder / "published.h5", published_table(1, 1))
    described = {"representation": PUBLISHED.to_dict(), "targets": ["a"], "origin": "b", "epoch": 3, "seed": 0}
    write_model(folder / "unet.h5", **described, validation_mae=0.1, validation_split=0.1)
    described = {"system": "hum2guitar", "network": weights.LOCAL_ENHANCER, "f0": "cepstrum"}
    described |= {"representation": harmonics.PUBLISHED.to_dict()}
    layers = fill(hum2guitar_table(weights.LOCAL_ENHANCER, 1), lambda _, shape: np.full(shape, 0.5))
    weights.write(folder / "hum.h5", layers, described)


def make_npy(folder: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    np.save(folder / "slice.npy", rng.random((256, 256, 1)).astype(np.float16))
    np.save(folder / "segments.npy", rng.random((2, 515, 216)).astype(np.float16))
    np.save(folder / "numbers.npy", np.arange(6).reshape(2, 3))


def make_state(folder: pathlib.Path) -> None:
    from training import checkpoints

    progress = checkpoints.Progress(epoch=1, step=2, sums={"mae": 0.5}, rows=[{"epoch": 1, "mae": 0.5}], best=0.1)
    arrays = {"generator/000": np.ones((3, 4), np.float32), "optimizer/000": np.array(3), "seed": np.array([1, 2])}
    checkpoints.save(folder, 7, arrays.items(), {"batch_size": 2}, progress).rename(folder / "a.bin")
    (folder / checkpoints.FOLDER).rmdir()


def make_soundfont(folder: pathlib.Path) -> None:
    from synthesis.soundfonts import default_soundfont

    (folder / "a.sf2").symlink_to(default_soundfont())


# --- reading ----------------------------------------------------------------------------------------------------------


def read_midi(path: pathlib.Path) -> None:
    from synthesis.midi import read_midi

    assert read_midi(path, sustain_pedal=True).notes


def read_audio(path: pathlib.Path) -> None:
    from conversion.converter import Pix2PixConverter
    from conversion.files import convert_file
    from sound import files

    sound = files.read_audio(path, 22050)
    assert np.isfinite(sound).all()
    assert len(np.concatenate(list(files.read_blocks(path, 22050)))) == len(sound)
    recording = files.open_recording(path)
    if recording.n_samples * recording.n_channels > 2**20:
        return  # a long recording takes its time
    convert_file(path, path.with_name("out.wav"), lambda: Pix2PixConverter(lambda slices: slices[..., :1]))


def read_network(path: pathlib.Path) -> None:
    from common import weights
    from conversion import network

    description = weights.describe(path)
    assert description.summary.isprintable()
    found = network.load_network(path)
    if description.network == weights.UNET:
        r, shape = description.representation, (1, 256, 256, description.in_channels)
        assert r.n_bins * r.n_frames <= 2**20
    else:
        shape = (1, 16, 8, 1)
    found(np.zeros(shape, np.float32))


def read_npy(path: pathlib.Path) -> None:
    from common.files import read_array
    from training.dataset import read_level

    read_array(path, mapped=True).sum()
    read_level(path, (256, 256, 1))


def read_state(path: pathlib.Path) -> None:
    from training import checkpoints

    (path.parent / checkpoints.FOLDER).mkdir()
    path.rename(path.parent / checkpoints.FOLDER / "state-000000007.bin")
    state = checkpoints.load(path.parent)
    assert {name: shape for name, (_, shape) in state.layout.items()} == {n: a.shape for n, a in state.arrays()}


def read_soundfont(path: pathlib.Path) -> None:
    from synthesis.soundfonts import render_pitch, soundfont_programs

    program = min(soundfont_programs(path), default=0)
    assert np.isfinite(render_pitch(path, program, 60)).all()


KINDS = {
    "midi": Kind("a.mid", make_midi, read_midi),
    "wav": Kind("a.wav", make_audio("wav"), read_audio),
    "flac": Kind("a.flac", make_audio("flac"), read_audio),
    "mp3": Kind("a.mp3", make_audio("mp3"), read_audio),
    "ogg": Kind("a.ogg", make_audio("ogg"), read_audio),
    "h5": Kind("a.h5", make_h5, read_network),
    "npy": Kind("a.npy", make_npy, read_npy),
    "state": Kind("a.npz", make_state, read_state),
    "soundfont": Kind("a.sf2", make_soundfont, read_soundfont, from_place=0.994),
}

# --- changing ---------------------------------------------------------------------------------------------------------

_EXTREMES = [
    bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xff" * 8, bytes(8),
]  # fmt: skip
_TEXTS = [
    b"-1", b"0", b"1e308", b"NaN", b"null", b"true", b"[]", b"{}", b'"../x"', b'"/etc"', b"9" * 30, b'"\\u0000"',
    b"[" * 2000,
]  # fmt: skip


def change(content: bytes, others: list[bytes], rng: np.random.Generator, from_place: float) -> bytes:
    """`content` with some random changes of the kinds that find faults in readers."""
    content = bytearray(content)
    n_changes = int(rng.choice([1, 2, 4, 16, 64]))
    for _ in range(n_changes):
        if not content:
            break
        first = int(from_place * len(content)) if rng.random() < 0.95 else 0
        if rng.random() < 0.5 and not from_place:  # headers are where the faults are
            place = int(min(len(content) - 1, rng.exponential(200)))
        else:
            place = int(rng.integers(min(first, len(content) - 1), len(content)))
        length = int(rng.integers(1, 17))
        what = rng.integers(9)
        if what <= 2:
            content[place] = int(rng.integers(256))
        elif what == 3:
            content[place] ^= 1 << int(rng.integers(8))
        elif what == 4:
            extreme = _EXTREMES[rng.integers(len(_EXTREMES))]
            content[place : place + len(extreme)] = extreme
        elif what == 5 and rng.random() < 0.2:
            del content[place:]
        elif what == 6:
            del content[place : place + length]
        elif what == 7:
            content[place:place] = content[place : place + length * int(rng.choice([1, 8, 200]))]
        elif what == 8:
            piece = _TEXTS[rng.integers(len(_TEXTS))] if rng.random() < 0.5 else others[rng.integers(len(others))]
            start = int(rng.integers(len(piece))) if len(piece) > 100 else 0
            content[place : place + length] = piece[start : start + int(rng.choice([length, 200, 2000]))]
    return bytes(content)


# --- running ----------------------------------------------------------------------------------------------------------


def watch(folder: pathlib.Path, faults: list[str]) -> None:
    """Note from now on what Python does to files outside of `folder`, and the programs that it starts."""

    def note(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                check(event, path)
        elif event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree", "os.chmod"):
            in_folder = arguments[-1] if event in ("os.remove", "os.rmdir") else -1
            check(event, arguments[0], in_folder if isinstance(in_folder, int) else -1)
        elif event in STARTS and "import midirenderer" not in str(arguments):
            faults.append(f"{event} {arguments}")

    def check(event: str, path, in_folder: int = -1) -> None:
        beside = f"/proc/self/fd/{in_folder}" if in_folder >= 0 else ""
        name = os.path.realpath(os.path.join(beside, os.fsdecode(path)))
        if not name.startswith((str(folder), *OWN_PLACES)) and "__pycache__" not in name:
            faults.append(f"{event} {name}")

    sys.addaudithook(note)


def read_case(kind: Kind, folder: pathlib.Path, content: bytes) -> str:
    """Read a file in this process, which is one of its own: "read", "refused", or what went wrong."""
    import resource

    from common.errors import InputError

    (folder / kind.name).write_bytes(content)
    tempfile.tempdir = str(folder)
    with open("/proc/self/status", encoding="ascii") as file:
        present = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (present + MAX_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faults: list[str] = []
    watch(folder, faults)
    outcome = "read"
    try:
        kind.read(folder / kind.name)
    except InputError as error:
        outcome = f"an error of several lines: {error}" if "\n" in str(error) else "refused"
    except BaseException:
        outcome = traceback.format_exc()
    return "; ".join(faults) or outcome


def run_case(kind: Kind, content: bytes) -> str:
    """The outcome of a case, of `read_case` or of the end of its process."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        result = pathlib.Path(folder, "result")
        child = os.fork()
        if not child:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            signal.alarm(CASE_SECONDS)  # ends the process
            place = pathlib.Path(os.path.realpath(folder), "case")
            place.mkdir()
            result.write_text(read_case(kind, place, content), encoding="utf-8", errors="replace")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == -signal.SIGALRM:
            return f"takes more than {CASE_SECONDS} s"
        return result.read_text(encoding="utf-8") if not status else f"ended the process (exit status {status})"


def fuzz(name: str, seed: int, first: int, n_cases: int | None, seconds: float, keep: pathlib.Path | None) -> dict:
    """Run the cases of one kind; how many were read and refused, and the faults."""
    kind, counts, faults = KINDS[name], {"read": 0, "refused": 0}, []
    with tempfile.TemporaryDirectory() as valid:
        kind.make(pathlib.Path(valid))
        contents = [path.read_bytes() for path in sorted(pathlib.Path(valid).iterdir())]
    number, end = first, time.monotonic() + seconds
    while (n_cases is None or number < first + n_cases) and time.monotonic() < end:
        rng = np.random.default_rng([seed, sum(name.encode()), number])
        content = change(contents[rng.integers(len(contents))], contents, rng, kind.from_place)
        outcome = run_case(kind, content)
        if outcome in counts:
            counts[outcome] += 1
        else:
            faults.append(outcome)
            print(f"{name} case {number} (--kinds {name} --seed {seed} --first {number} --cases 1):\n  {outcome}")
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{seed}-{number}-{kind.name}").write_bytes(content)
        number += 1
    print(f"{name}: {counts['read']} read, {counts['refused']} refused, {len(faults)} failed", flush=True)
    return {**counts, "faults": faults}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which files")
    parser.add_argument("--seconds", type=float, default=60, help="time for all kinds together")
    parser.add_argument("--cases", type=int, help="of each kind (default: as many as there is time for)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the files that failed")
    arguments = parser.parse_args(argv)
    cases = (arguments.seed, arguments.first, arguments.cases)
    # What takes long to import is imported once, not in every case.
    import h5py  # noqa: F401
    import scipy.signal  # noqa: F401

    from conversion import network

    network.find_providers()
    share = arguments.seconds / len(arguments.kinds)
    found = [fuzz(kind, *cases, share, arguments.keep) for kind in arguments.kinds]
    return int(any(result["faults"] for result in found))


if __name__ == "__main__":
    raise SystemExit(main())
