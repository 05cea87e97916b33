"""Build the page that converts recordings in the browser, and serve it on this machine.

The page, ONNX Runtime, the example and the models of --models_path, exported to ONNX, are put into one folder, which
any static host can serve. docs/web.md describes the page.
"""

from __future__ import annotations

import common.environment

import argparse
import functools
import hashlib
import http.server
import io
import os
import pathlib
import shutil
import sys
import urllib.parse
from collections.abc import Sequence

from common import InputError, cli, weights
from common.errors import ROOT
from common.files import existing_folder, remove_leftovers, temporary_folder, write_json

WEB = pathlib.Path(__file__).parent
PAGE = sorted(path.name for path in WEB.iterdir() if path.suffix in (".html", ".css", ".svg", ".js"))
RUNTIME = WEB / "node_modules" / "onnxruntime-web" / "dist"
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
PIECE = "bach_prelude_c_major.wav"
EXAMPLES = {  # entries of models.json; the files are those of docs/
    "example": {"title": "Bach: Prelude in C major", "file": f"examples/audio/keyboard_acoustic/{PIECE}"},
    "style_example": {"title": "the example of strings", "file": f"examples/audio/string_acoustic/{PIECE}"},
    "hum_example": {"title": "a synthetic hum", "file": "examples/hum/hum.ogg"},
}
TITLES = {
    "keyboard_acoustic": "piano", "guitar_acoustic": "acoustic guitar", "string_acoustic": "strings",
    "synth_lead_synthetic": "synth lead",
}  # fmt: skip
# What the page needs: its own files, WebAssembly, its own workers, and to look at a recording's length (blob:).
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    # These two isolate the page from other origins, which browsers ask for before they let WebAssembly use threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # ask whether a file has changed
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--models_path", default="models", help="folder with one folder for each model, each with a generator.h5")
    add("--port", type=cli.number(int, minimum=0, maximum=65535), default=8000, help="on 127.0.0.1; 0 for any free one")
    add("--build_only", action="store_true", help="do not serve web/dist")
    return cli.run(parser, run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Build the folder and serve it until Ctrl-C; the exit status."""
    folder = build(arguments.models_path, WEB / "dist")
    if arguments.build_only:
        print(folder)
        return 0
    with make_server(folder, arguments.port) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/ (Ctrl-C stops)", flush=True)
        server.serve_forever()
    return 0


# --- the folder -------------------------------------------------------------------------------------------------------


def build(models_path: str | os.PathLike, folder: pathlib.Path) -> pathlib.Path:
    """Put the page, ONNX Runtime, the examples and the models of `models_path` into `folder`; the folder.

    It is built beside `folder` and takes its place when it is complete.

    Raises:
        InputError: there is no model that the page can use, or ONNX Runtime is not installed.
    """
    models = find_models(models_path)
    if not all((RUNTIME / name).is_file() for name in RUNTIME_FILES):
        raise InputError(f"{RUNTIME} is missing: npm ci --prefix web --ignore-scripts installs it")
    remove_leftovers(folder.parent)
    with temporary_folder(folder.parent) as beside:
        _fill(beside / "new", models)
        if folder.exists():
            folder.rename(beside / "old")
        (beside / "new").rename(folder)
    return folder


def _fill(folder: pathlib.Path, models: dict[str, weights.Description]) -> None:
    """Put everything into the new folder `folder`."""
    files = {name: WEB / name for name in PAGE} | {f"ort/{name}": RUNTIME / name for name in RUNTIME_FILES}
    examples = {example["file"]: ROOT / "docs" / example["file"] for example in EXAMPLES.values()}
    for name, source in (files | examples).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    (folder / "models").mkdir()
    entries = [_export(name, description, folder) for name, description in models.items()]
    entries.sort(key=lambda entry: (entry["in_channels"], entry["system"] == "hum2guitar"))  # pairs first
    needed = ["./", "models.json", EXAMPLES["example"]["file"], *files]  # to start offline
    write_json(folder / "models.json", {"models": entries, **EXAMPLES, "files": needed})


def find_models(models_path: str | os.PathLike) -> dict[str, weights.Description]:
    """The model of each folder in `models_path` that the page can use, by the name of its folder, sorted.

    Raises:
        InputError: there is none, or one is damaged.
    """
    from conversion.models import describe_generator

    folders = sorted({path.parent for path in existing_folder(models_path, "--models_path").glob("*/*.h5")})
    models = {folder.name: describe_generator(folder) for folder in folders}
    runs = {name: model for name, model in models.items() if model.network in (weights.UNET, weights.LOCAL_ENHANCER)}
    for name in models.keys() - runs.keys():
        print(f"{name}: left out, because the page does not run a {models[name].network}", file=sys.stderr)
    if not runs:
        raise InputError(f"--models_path: expected <origin>_2_<target>/generator.h5, found none in {models_path}")
    return runs


def _export(name: str, description: weights.Description, folder: pathlib.Path) -> dict:
    """Write the .onnx file of a model as ``export.py --float16`` does; the model's entry in models.json."""
    from conversion.network import build_graph

    content = build_graph(description, float16=description.network == weights.UNET).SerializeToString()
    entry = {"name": name, "system": description.system, "in_channels": description.in_channels}
    entry |= _add_file(folder / "models" / f"{name}.onnx", content)
    if description.network == weights.LOCAL_ENHANCER:
        return entry | _add_hum_tools(name, description, folder)
    origin, _, target = name.partition("_2_")
    return entry | {
        "origin": make_title(description.settings.get("origin") or origin),
        "title": "any instrument" if description.in_channels == 2 else make_title(target or name),
        "input_level": description.settings.get("input_level", "keep"),
        "representation": description.representation.to_dict(),
    }


def _add_file(path: pathlib.Path, content: bytes) -> dict:
    """Write a file of the folder models/; where the page finds it, and its size for the progress of loading."""
    path.write_bytes(content)
    return {"file": urllib.parse.quote(f"models/{path.name}"), "bytes": len(content)}


def _add_hum_tools(name: str, description: weights.Description, folder: pathlib.Path) -> dict:
    """Write what hum2guitar needs beside its network: SwiftF0, and the pseudo-inverse of the mel bands; its entries."""
    import numpy as np
    import swift_f0

    from hum2guitar import converter, harmonics, melody
    from hum2guitar.harmonics import HumRepresentation, mel_filters, mel_pseudo_inverse

    settings = description.settings["representation"]
    representation = weights.read_representation(HumRepresentation, settings, description.path)
    pitch = pathlib.Path(swift_f0.__file__).with_name("model.onnx").read_bytes()
    inverse = mel_pseudo_inverse(representation).astype("<f4").tobytes()
    bands = []  # first bin and weights of each
    for row in mel_filters(representation):
        bins = np.flatnonzero(row)
        bands.append([int(bins[0]) if len(bins) else 0, *row[bins].round(7).tolist()])
    constants = vars(converter) | vars(harmonics) | vars(melody)
    return {
        "origin": "hummed, sung, whistled or played melody",
        "title": "guitar from a hum",
        "plucks": bool(description.settings.get("augment")),
        "representation": settings,
        "constants": {
            key: value for key, value in constants.items() if isinstance(value, (int, float, tuple)) and key.isupper()
        },
        "bands": bands,
        "pitch": _add_file(folder / "models" / "swift_f0.onnx", pitch),
        "inverse": _add_file(folder / "models" / f"{name}.inverse.f32", inverse),
    }


def make_title(instrument: str) -> str:
    """The name of an instrument as the page shows it: "acoustic guitar" for "guitar_acoustic"."""
    return TITLES.get(instrument) or instrument.replace("_", " ")


# --- the server -------------------------------------------------------------------------------------------------------


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder with `HEADERS`, without listing folders."""

    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012 (the base class has it as a plain dict, too)
        ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm",
    }  # fmt: skip

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def send_head(self) -> io.BytesIO | None:
        """The file that is asked for, after its headers; None if there is none or the browser holds the same."""
        path = pathlib.Path(self.translate_path(self.path))
        try:
            content = (path / "index.html" if path.is_dir() else path).read_bytes()
        except (OSError, ValueError):  # ValueError: a zero byte in the name
            self.send_error(404)
            return None
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        is_known = self.headers.get("If-None-Match") == tag
        self.send_response(304 if is_known else 200)
        self.send_header("ETag", tag)
        if not is_known:
            self.send_header("Content-Type", self.guess_type("x.html" if path.is_dir() else path))
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return None if is_known else io.BytesIO(content)

    def log_message(self, *arguments) -> None:
        """Requests are not logged."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # of a browser that no longer waits
            super().handle_error(request, client_address)


def make_server(folder: str | os.PathLike, port: int) -> http.server.ThreadingHTTPServer:
    """A server of `folder` on 127.0.0.1, listening but not yet answering; port 0 takes any free one.

    Raises:
        InputError: the port is taken or not allowed.
    """
    handler = functools.partial(_Handler, directory=os.fspath(folder))
    try:
        return _Server(("127.0.0.1", port), handler)
    except OSError as error:
        raise InputError(f"--port {port} cannot be used: {error.strerror}") from None


if __name__ == "__main__":
    raise SystemExit(main())
