"""Change files at random and read them with the project's own functions, which keep what docs/security.md promises.

    python tests/fuzz/fuzz.py                          a minute, all kinds
    python tests/fuzz/fuzz.py --kinds h5 --seconds 3600

Each case is drawn from its kind and number, so that it can be made again (``--first``), and runs in a process of its
own with 2 GB of memory. A case fails if the file causes anything but a result or an error of one line, takes more than
20 seconds or the memory, kills the process, or makes it write, delete or start anything elsewhere. The files of failed
cases are kept in the folder fuzz-failures. Exit status 1: some case failed.
"""

import argparse
import functools
import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

KEEP = pathlib.Path("fuzz-failures").resolve()
MAX_BYTES = 2 * 10**9  # of memory beside what the process has before its first case
CASE_SECONDS = 20
STARTS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree", "os.chmod")


# --- the kinds of files: valid ones, and how they are read ------------------------------------------------------------


def make_midi(folder: pathlib.Path) -> None:
    for path in (ROOT / "docs" / "examples").glob("*.mid"):
        shutil.copy(path, folder)


def read_midi(path: pathlib.Path) -> None:
    from synthesis.midi import read_midi

    assert read_midi(path, sustain_pedal=True).notes


def make_audio(folder: pathlib.Path, extension: str) -> None:
    import soundfile

    deep = {"wav": "FLOAT", "flac": "PCM_24"}.get(extension)
    for rate, n_channels, subtype in ((44100, 1, None), (8000, 2, None), (22050, 1, deep)):
        sound = np.random.default_rng(0).uniform(-0.3, 0.3, (1500, n_channels))
        soundfile.write(folder / f"{rate}.{extension}", sound, rate, subtype)


def read_audio(path: pathlib.Path) -> None:
    from conversion.converter import Pix2PixConverter, Settings
    from conversion.recordings import convert_file
    from sound import files

    sound = files.read_audio(path, 22050)
    assert np.isfinite(sound).all()
    assert len(np.concatenate(list(files.read_blocks(path, 22050)))) == len(sound)
    with files.open_audio(path) as audio:
        n_values = sum(block.size for block in audio.blocks)
    if n_values <= 2**20:  # a longer one takes its time
        convert_file(path, path.with_name("out.wav"), Pix2PixConverter(lambda x: x[..., :1]), Settings())


def make_h5(folder: pathlib.Path) -> None:
    from made_weights import fill, hum2guitar_table, published_table, write_generator, write_published

    from common import weights
    from data import PUBLISHED
    from hum2guitar import harmonics

    write_published(folder / "published.h5", published_table(1, 1))
    described = {"representation": PUBLISHED.to_dict(), "targets": ["a"], "origin": "b", "epoch": 3, "seed": 0}
    write_generator(folder / "unet.h5", **described, validation_mae=0.1, validation_split=0.1)
    described = {"system": "hum2guitar", "network": weights.LOCAL_ENHANCER, "f0": "cepstrum"}
    described |= {"representation": harmonics.PUBLISHED.to_dict()}
    layers = fill(hum2guitar_table(weights.LOCAL_ENHANCER, 1), lambda _, shape: np.full(shape, 0.5))
    weights.write(folder / "hum.h5", layers, described)


def read_network(path: pathlib.Path) -> None:
    from common import weights
    from conversion import network

    description = weights.describe(path)
    assert description.summary.isprintable()
    found = network.load_network(description)
    if description.network == weights.UNET:
        assert description.representation.n_bins * description.representation.n_frames <= 2**20
        found(np.zeros((1, 256, 256, description.in_channels), np.float32))
    else:
        found(np.zeros((1, 16, 8, 1), np.float32))


def make_npy(folder: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    np.save(folder / "slice.npy", rng.random((256, 256, 1)).astype(np.float16))
    np.save(folder / "segments.npy", rng.random((2, 515, 216)).astype(np.float16))
    np.save(folder / "numbers.npy", np.arange(6).reshape(2, 3))


def read_npy(path: pathlib.Path) -> None:
    from common.files import read_array
    from training.dataset import read_level

    read_array(path).sum()
    read_level(path, (256, 256, 1))


def make_soundfont(folder: pathlib.Path) -> None:
    from synthesis.voices import default_soundfont

    (folder / "a.sf2").symlink_to(default_soundfont())


def read_soundfont(path: pathlib.Path) -> None:
    from synthesis.voices import read_soundfont, render_pitch

    program = min(read_soundfont(path)[0], default=0)
    assert np.isfinite(np.concatenate(render_pitch(path, program, 60))).all()


# A file's name, the functions that make valid files in a folder and read a changed one, and the share at the start that
# is rarely changed, such as the samples of a SoundFont.
KINDS: dict[str, tuple[str, Callable[[pathlib.Path], None], Callable[[pathlib.Path], None], float]] = {
    "midi": ("a.mid", make_midi, read_midi, 0),
    "h5": ("a.h5", make_h5, read_network, 0),
    "npy": ("a.npy", make_npy, read_npy, 0),
    "soundfont": ("a.sf2", make_soundfont, read_soundfont, 0.994),
}
for _extension in ("wav", "flac", "mp3", "ogg"):
    KINDS[_extension] = (f"a.{_extension}", functools.partial(make_audio, extension=_extension), read_audio, 0)

# --- changing ---------------------------------------------------------------------------------------------------------

PIECES = [
    bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xff" * 8, bytes(8),
    b"-1", b"0", b"1e308", b"NaN", b"null", b"true", b"[]", b"{}", b'"../x"', b'"/etc"', b"9" * 30, b'"\\u0000"',
    b"[" * 2000,
]  # fmt: skip


def change(content: bytes, others: list[bytes], rng: np.random.Generator, from_place: float) -> bytes:
    """`content` with some random changes of the kinds that find faults in readers."""
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16, 64])):
        first = int(from_place * len(content)) if rng.random() < 0.95 else 0
        in_header = rng.random() < 0.5 and not from_place  # where the faults are
        place = int(rng.exponential(200)) if in_header else int(rng.integers(first, len(content) + 1))
        length = int(rng.choice([1, 2, 4, 16, 200]))
        other = others[rng.integers(len(others))]
        start = int(rng.integers(len(other)))
        inserted = (
            rng.bytes(int(rng.integers(1, 3))),
            PIECES[rng.integers(len(PIECES))],
            other[start : start + length],
            content[place : place + 16] * length,
            b"",
        )[rng.integers(5)]
        content[place : place + (len(inserted) if rng.random() < 0.7 else length)] = inserted
    return bytes(content)


# --- running ----------------------------------------------------------------------------------------------------------


def watch(folder: pathlib.Path, faults: list[str]) -> None:
    """Note from now on what Python changes outside of `folder`, the current folder, and the programs that it starts."""
    own = (str(folder), "/dev/", "/proc/")

    def note(event: str, arguments: tuple) -> None:
        if event in STARTS and "import midirenderer" not in str(arguments):
            faults.append(f"{event} {arguments}")
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writes or event in CHANGES) and not isinstance(arguments[0], int):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(own) and "__pycache__" not in path:
                faults.append(f"{event} {path}")

    sys.addaudithook(note)


def read_case(path: pathlib.Path, read: Callable[[pathlib.Path], None]) -> str:
    """Read a file in this process, which is one of its own: "read", "refused", or what went wrong."""
    from common import InputError

    os.chdir(path.parent)
    tempfile.tempdir = str(path.parent)
    with open("/proc/self/status", encoding="ascii") as file:
        present = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (present + MAX_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faults: list[str] = []
    watch(path.parent, faults)
    outcome = "read"
    try:
        read(path)
    except InputError as error:
        outcome = f"an error of several lines: {error}" if "\n" in str(error) else "refused"
    except BaseException:
        outcome = traceback.format_exc()
    return "; ".join(faults) or outcome


def run_case(name: str, read: Callable[[pathlib.Path], None], content: bytes) -> str:
    """The outcome of a case, of `read_case` or of the end of its process."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        result, path = pathlib.Path(folder, "result"), pathlib.Path(os.path.realpath(folder), "case", name)
        path.parent.mkdir()
        path.write_bytes(content)
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            signal.alarm(CASE_SECONDS)  # ends the process
            result.write_text(read_case(path, read), encoding="utf-8", errors="replace")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == -signal.SIGALRM:
            return f"takes more than {CASE_SECONDS} s"
        return result.read_text(encoding="utf-8") if not status else f"ended the process (exit status {status})"


def fuzz(kind: str, first: int, n_cases: int | None, seconds: float) -> bool:
    """Run and count the cases of one kind; whether none failed."""
    name, make, read, from_place = KINDS[kind]
    counts = {"read": 0, "refused": 0, "failed": 0}
    with tempfile.TemporaryDirectory() as valid:
        make(pathlib.Path(valid))
        contents = [path.read_bytes() for path in sorted(pathlib.Path(valid).iterdir())]
    number, end = first, time.monotonic() + seconds
    while (n_cases is None or number < first + n_cases) and time.monotonic() < end:
        rng = np.random.default_rng([sum(kind.encode()), number])
        content = change(contents[rng.integers(len(contents))], contents, rng, from_place)
        outcome = run_case(name, read, content)
        counts[outcome if outcome in counts else "failed"] += 1
        if outcome not in counts:
            print(f"{kind} case {number} (--kinds {kind} --first {number} --cases 1):\n  {outcome}", flush=True)
            KEEP.mkdir(exist_ok=True)
            (KEEP / f"{number}-{name}").write_bytes(content)
        number += 1
    print(f"{kind}: {', '.join(f'{n} {outcome}' for outcome, n in counts.items())}", flush=True)
    return not counts["failed"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="which files")
    parser.add_argument("--seconds", type=float, default=60, help="time for all kinds together")
    parser.add_argument("--cases", type=int, help="of each kind (default: as many as there is time for)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    arguments = parser.parse_args(argv)
    # What takes long to import is imported once, not in every case.
    import h5py  # noqa: F401
    import onnxruntime  # noqa: F401
    import scipy.signal  # noqa: F401

    cases = arguments.first, arguments.cases, arguments.seconds / len(arguments.kinds)
    return int(not all([fuzz(kind, *cases) for kind in arguments.kinds]))


if __name__ == "__main__":
    raise SystemExit(main())
