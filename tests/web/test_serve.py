"""The folder of the page, and the server for it."""

import json
import os
import shutil
import socket
import struct
import threading
import urllib.error
import urllib.request

import numpy as np
import onnxruntime
import pytest
from made_conversions import load_network, read_refusal
from made_weights import write_generator

from common import weights
from web import serve


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """ONNX Runtime for the browser, as far as building is concerned."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in serve.RUNTIME_FILES:
        (folder / name).write_text(name)
    monkeypatch.setattr(serve, "RUNTIME", folder)
    return folder


@pytest.fixture
def models(tmp_path):
    for name, in_channels in (("keyboard_acoustic_2_any", 2), ("keyboard_acoustic_2_guitar_acoustic", 1)):
        (tmp_path / "models" / name).mkdir(parents=True)
        write_generator(tmp_path / "models" / name / "generator.h5", in_channels, origin="keyboard_acoustic")
    return tmp_path / "models"


def test_the_folder_holds_the_page_and_the_networks_of_the_weights(runtime, models, tmp_path):
    folder = serve.build(models, tmp_path / "page")
    manifest = json.loads((folder / "models.json").read_text())
    assert [(m["title"], m["origin"], m["in_channels"]) for m in manifest["models"]] == [
        ("acoustic guitar", "piano", 1),
        ("any instrument", "piano", 2),
    ]
    for model in manifest["models"]:
        path = folder / model["file"]
        assert model["bytes"] == path.stat().st_size
        slices = np.random.default_rng(0).uniform(-1, 1, (1, 256, 256, model["in_channels"])).astype(np.float32)
        expected = load_network(models / model["name"] / "generator.h5")(slices)
        (found,) = onnxruntime.InferenceSession(path).run(None, {"input": slices})
        np.testing.assert_allclose(found, expected, atol=5e-3)
    assert all((folder / name).exists() for name in manifest["files"])


def test_a_build_is_whole_or_not_at_all(runtime, models, tmp_path, monkeypatch):
    folder = tmp_path / "page"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(serve, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            serve.build(models, folder)
    assert not folder.exists()
    serve.build(models, folder)
    shutil.rmtree(models / "keyboard_acoustic_2_any")
    assert serve.build(models, folder) == folder
    assert [path.name for path in (folder / "models").iterdir()] == ["keyboard_acoustic_2_guitar_acoustic.onnx"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_the_page_does_not_run_is_left_out(models, write_hum2guitar, capsys):
    (models / "hum2guitar").mkdir()
    write_hum2guitar(models / "hum2guitar" / "generator.h5", weights.GLOBAL_GENERATOR)
    assert list(serve.find_models(models)) == ["keyboard_acoustic_2_any", "keyboard_acoustic_2_guitar_acoustic"]
    assert "hum2guitar" in capsys.readouterr().err


def test_a_mistake_is_one_line(runtime, models, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for flag, value in (
        ("--models_path", "nothing"),
        ("--models_path", "empty"),
        ("--port", "70000"),
    ):
        argv = ["--models_path", "models", "--build_only", flag, value]
        assert flag in read_refusal(capsys, *argv, command=serve)


@pytest.fixture
def address(tmp_path):
    (tmp_path / "page" / "ort").mkdir(parents=True)
    for name in ("index.html", "ort/x.wasm", "ort/x.mjs"):
        (tmp_path / "page" / name).write_text(name)
    (tmp_path / "secret").write_text("not in the folder")
    with serve.make_server(tmp_path / "page", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_files_have_their_types_and_the_headers_for_isolation(address):
    types = {"/": "text/html", "/ort/x.wasm": "application/wasm", "/ort/x.mjs": "text/javascript"}
    for path, expected in types.items():
        with urllib.request.urlopen(address + path) as response:
            assert {"Content-Type": expected, **serve.HEADERS}.items() <= dict(response.headers).items()


def test_a_file_is_sent_again_only_if_its_content_has_changed(address, tmp_path):
    with urllib.request.urlopen(address + "/ort/x.wasm") as response:
        tag = response.headers["ETag"]
    request = urllib.request.Request(address + "/ort/x.wasm", headers={"If-None-Match": tag})
    with pytest.raises(urllib.error.HTTPError, match="304"):
        urllib.request.urlopen(request)
    path = tmp_path / "page" / "ort" / "x.wasm"
    modified = path.stat().st_mtime_ns
    path.write_text("anew")
    os.utime(path, ns=(modified, modified))
    with urllib.request.urlopen(request) as response:
        assert response.read() == b"anew"


def test_odd_names_are_served_and_dropped_connections_leave_no_traceback(address, tmp_path, capsys):
    (tmp_path / "page" / "a #?%.onnx").write_text("odd")
    (tmp_path / "page" / "large").write_bytes(bytes(50_000_000))
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as dropped:
        dropped.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets it
        dropped.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        dropped.recv(10)
    with urllib.request.urlopen(address + "/a%20%23%3F%25.onnx") as response:
        assert response.read() == b"odd"
    assert capsys.readouterr().err == ""


def test_folders_and_what_is_outside_are_not_shown_and_a_taken_port_is_reported(address):
    for path in ("/ort/", "/../secret", "/%2e%2e/secret", "/missing", "/%00"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + path)
    with pytest.raises(serve.InputError):
        serve.make_server(".", int(address.rpartition(":")[2]))


def test_the_policy_names_no_other_origin_and_the_page_repeats_it():
    page = (serve.WEB / "index.html").read_text()
    assert f'content="{serve.POLICY}"' in page
    allowed = {"'none'", "'self'", "'wasm-unsafe-eval'", "blob:"}
    assert {word for part in serve.POLICY.split("; ") for word in part.split()[1:]} == allowed
