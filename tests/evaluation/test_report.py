"""The results of an evaluation: the table, the files, and the page as a browser shows it."""

import base64
import csv
import dataclasses
import functools
import io
import json
import pathlib
import re

import numpy as np
import pytest
import soundfile
from made_browser import needs_browser
from made_sounds import RATE, tone
from PIL import Image

from common import plots
from evaluation import comparison, metrics, report
from evaluation.selection import Pair

NASTY = 'a "quoted" </script><b>&'


@pytest.fixture
def no_pictures(monkeypatch):
    """Spectrograms are single dots, which are faster to draw."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    monkeypatch.setattr(plots, "spectrogram_png", lambda *_: file.getvalue())


def made_result(name, mae, seconds=0.5, model="model one", voice=""):
    """A result with known numbers; the model's sound is a tone of its own."""
    audios = {"origin": tone(60, seconds), "target": tone(64, seconds), model: tone(67, seconds, level=0.02)}
    columns = {"copy": 0.5, model: mae}
    values = {c: {**{m.name: m.best for m in metrics.METRICS}, "mae": v} for c, v in columns.items()}
    pair = Pair(name, pathlib.Path("o.wav"), pathlib.Path("t.wav"), voice)
    notes = ["something <odd>"] if mae > 0.35 else []
    return comparison.Result(pair, seconds, values, {"attack": 10.0, "flutter": 0.5}, notes, audios)


def made_report(maes=(0.25, 0.375), page_pairs=12, model="model one", names=None, voices=None, seconds=0.5):
    made = report.Report(
        "piano to <guitar>", ["one line"], {"copy": "copy the input", model: model},
        {model: {"path": "m.h5", "summary": "a model"}}, page_pairs=page_pairs,
    )  # fmt: skip
    for i, mae in enumerate(maes):
        name, voice = names[i] if names else f"piece {i}", voices[i] if voices else ""
        made.add(made_result(name, mae, seconds, model, voice))
    return made


# --- sounds -----------------------------------------------------------------------------------------------------------


def test_sounds_have_one_loudness_do_not_clip_and_are_excerpts_of_the_loudest_part(monkeypatch):
    monkeypatch.setattr(report, "EXCERPT", 3.0)
    quiet = 0.02 * tone(60, 4, decay=0)
    result = made_result("p", 0.1)
    audios = {name: np.concatenate([quiet, audio]) for name, audio in result.audios.items()}
    sounds = report.make_sounds(dataclasses.replace(result, audios=audios), list(audios))
    assert list(sounds) == ["origin", "target", "model one"]
    levels = []
    for sound in sounds.values():
        assert sound.media_type == "audio/mpeg"
        audio, rate = soundfile.read(io.BytesIO(sound.audio))
        assert rate == RATE
        assert len(audio) / rate == pytest.approx(report.EXCERPT, abs=0.1)
        assert np.abs(audio).max() <= 1
        assert np.abs(audio[-RATE:]).max() > 5 * np.abs(audio[:RATE]).max()  # the end is loudest
        levels.append(20 * np.log10(np.sqrt(np.mean(audio**2))))
        with Image.open(io.BytesIO(sound.picture)) as picture:
            assert picture.size == (259, 420)  # 3 s have 259 frames
    assert np.ptp(levels) < 0.5
    assert max(levels) > -30


def test_a_silent_output_stays_silent(no_pictures):
    result = made_result("p", 0.1)
    result.audios["model one"] = np.zeros(RATE // 2, np.float32)
    sounds = report.make_sounds(result, ["target", "model one"])
    assert np.abs(soundfile.read(io.BytesIO(sounds["model one"].audio))[0]).max() < 1e-3
    assert np.abs(soundfile.read(io.BytesIO(sounds["target"].audio))[0]).max() > 0.5


def test_without_mp3_sounds_are_wav(monkeypatch):
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": ""})
    media_type, encoded = report.encode(tone(60, 0.1), RATE)
    assert media_type == "audio/wav"
    np.testing.assert_allclose(soundfile.read(io.BytesIO(encoded))[0], tone(60, 0.1), atol=1e-4)


def test_the_page_keeps_the_sounds_of_the_worst_pairs_only(no_pictures):
    made = made_report((0.1, 0.5, 0.3, 0.4), page_pairs=2)
    assert list(made.sounds) == ["piece 1", "piece 3"]
    assert len(made.results) == 4
    assert all(not result.audios for result in made.results)
    assert "The 2 pairs with the greatest MAE of 4" in report.as_html(made)
    assert "with the greatest MAE of" not in report.as_html(made_report())


# --- table and files --------------------------------------------------------------------------------------------------


def test_the_table_holds_means_intervals_directions_and_the_worst(no_pictures):
    text = report.as_text(made_report((0.25, 0.375)))
    lines = text.splitlines()
    assert "[1] copy the input" in lines
    assert "[2] model one" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("MAE"))
    assert lines[at].split()[-2:] == ["0.500", "0.312"]
    assert lines[at + 1].split() == ["0.500-0.500", "0.250-0.375"]
    assert sum(", lower" in line for line in lines) == 8
    assert sum("higher" in line for line in lines) == 1
    assert "Greatest MAE of model one: piece 1, piece 0" in lines
    assert "piece 1: something <odd>" in lines
    assert max(map(len, lines)) < 100


def test_the_table_of_a_single_pair_has_no_interval(no_pictures):
    text = report.as_text(made_report((0.25,)))
    assert "0.250" in text
    assert "bootstrap" not in text


def test_json_and_csv_hold_every_value(tmp_path, no_pictures):
    made = made_report((0.25, 0.375))
    made.left_out.append(("x.wav", "no audio"))
    paths = report.write(made, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["report.json", "report.csv", "report.html"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["report.csv", "report.html", "report.json"]
    content = json.loads(paths[0].read_text())
    assert content["summary"]["model one"]["mae"]["mean"] == 0.3125
    assert content["worst"] == {"model one": ["piece 1", "piece 0"]}
    assert content["left_out"] == [{"name": "x.wav", "reason": "no audio"}]
    assert [pair["values"]["model one"]["mae"] for pair in content["pairs"]] == [0.25, 0.375]
    assert {m["name"]: m["better"] for m in content["metrics"]}["onset_f1"] == "higher"
    with open(paths[1], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["pair"], row["column"], float(row["mae"])) for row in rows] == [
        ("piece 0", "copy", 0.5), ("piece 0", "model one", 0.25),
        ("piece 1", "copy", 0.5), ("piece 1", "model one", 0.375),
    ]  # fmt: skip
    single = json.loads(json.dumps(report.as_json(made_report((0.25,))), allow_nan=False))
    assert single["summary"]["copy"]["mae"]["low"] is None


def test_a_name_that_is_no_text_is_written_escaped(tmp_path, no_pictures):
    for path in report.write(made_report([0.25], names=["caf\udce9"]), tmp_path):
        assert "caf\\udce9" in path.read_text(encoding="utf-8")


def test_several_voices_have_means_of_their_own(tmp_path, no_pictures):
    maes, names, voices = (0.2, 0.4, 0.6), ["a", "b", "a"], ["piano@grand", "piano@grand", "piano@<upright>"]
    made = made_report(maes, names=names, voices=voices)
    lines = report.as_text(made).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("MAE"))
    assert [line.split()[-2:] for line in (lines[at], *lines[at + 2 : at + 4])] == [
        ["0.500", "0.400"], ["0.500", "0.300"], ["0.500", "0.600"],
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[at + 2 : at + 4]] == ["piano@grand", "piano@<upright>"]
    assert "Greatest MAE of model one: piano@<upright>/a, piano@grand/b, piano@grand/a" in lines

    paths = report.write(made, tmp_path)
    content = json.loads(paths[0].read_text())
    assert content["summary"]["model one"]["mae"]["mean"] == pytest.approx(0.4)
    assert {voice: of_voice["pairs"] for voice, of_voice in content["voices"].items()} == {
        "piano@grand": 2, "piano@<upright>": 1,
    }  # fmt: skip
    grand = content["voices"]["piano@grand"]["summary"]["model one"]["mae"]
    assert grand == {"mean": pytest.approx(0.3), "median": pytest.approx(0.3), "low": 0.2, "high": 0.4}
    assert [pair["voice"] for pair in content["pairs"]] == voices

    with open(paths[1], newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["column"] == "model one"]
    assert [(row["voice"], row["pair"], float(row["mae"])) for row in rows] == [
        *zip(voices, names, maes, strict=True),
        ("piano@grand", "", pytest.approx(0.3)), ("piano@<upright>", "", 0.6), ("", "", pytest.approx(0.4)),
    ]  # fmt: skip

    page = paths[2].read_text()
    table = page[page.index('id="numbers"') :]
    assert re.findall(r"<tr class=voice><th scope=\"row\">(.*?)</th>", table) == [
        "piano@grand", "piano@&lt;upright&gt;",
    ] * len(metrics.METRICS)  # fmt: skip
    assert len(made.sounds) == 3


def test_the_page_asks_for_nothing_and_escapes_names(no_pictures):
    page = report.as_html(made_report(names=[NASTY, "b"], model=NASTY))
    links = [link for link in re.findall(r'\b(?:src|href)="([^"]*)"', page) if not link.startswith("#")]
    assert len(links) == 1 + 2 * 3 * 2  # the icon; two pairs of three players with a picture each
    assert all(link.startswith("data:") for link in links)
    assert "http:" not in page
    assert "https:" not in page
    assert "default-src 'none'" in page
    assert "<b>" not in page
    assert page.count("</script>") == 2  # the trials and the code
    trials = json.loads(re.search(r'id="trials">(.*?)</script>', page, re.S)[1])
    assert {trial["model"] for trial in trials} == {NASTY}
    for trial in trials:
        assert f'id="{trial["target"]}"' in page
        assert f'id="{trial["output"]}"' in page
    png = next(link for link in links if link.startswith("data:image/png"))
    with Image.open(io.BytesIO(base64.b64decode(png.split(",")[1]))) as picture:
        assert picture.format == "PNG"


def test_the_verdict_and_the_marks_measure_models_against_copying(no_pictures):
    better, worse = made_report((0.25, 0.375)), made_report((0.5, 0.75))
    sentence, is_good = report.verdict(better)
    assert is_good
    assert "0.312" in sentence
    assert "0.500" in sentence
    assert "38 %" in sentence  # 1 - 0.3125 / 0.5
    sentence, is_good = report.verdict(worse)
    assert not is_good
    assert "0.625" in sentence
    assert "class=worse" not in report.as_html(better)
    # Once in the table of means, once in that of the second pair; the first one only equals copying.
    assert report.as_html(worse).count("class=worse") == 2


@pytest.mark.parametrize(("other", "n_best"), [(0.6, 0), (0.5, 0), (0.4, 1)])
def test_the_best_of_several_models_is_marked_only_if_it_is_better_than_copying(no_pictures, other, n_best):
    made = made_report((0.75,))
    made.columns["other"], made.models["other"] = "other", {}
    made.results[0].values["other"] = {**made.results[0].values["copy"], "mae": other}
    made.sounds["piece 0"]["other"] = made.sounds["piece 0"]["origin"]
    page = report.as_html(made)
    assert page.count("<td class=best") == n_best
    assert page.count("<td class=worse") == 2 - n_best - (other == 0.5)
    assert "other" in report.verdict(made)[0]


def test_a_single_pair_has_one_table_and_its_models_come_first(no_pictures):
    page = report.as_html(made_report((0.25,)))
    (table,) = re.findall(r"<table>.*?</table>", page)
    assert re.findall(r"<th scope=\"col\"[^>]*>(.*?)</th>", table) == ["model one", "copy the input"]
    assert page.index("<audio") < page.index("<table>")
    assert report.as_html(made_report()).count("<table>") == 3


def test_the_spectrograms_of_a_pair_are_written_as_files(tmp_path):
    result = made_result("a", 0.1, voice="piano@grand")
    path = report.save_pictures(result, ["model one"], tmp_path, "svg")
    assert path == tmp_path / "spectrograms" / "piano@grand_a.svg"
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())
    assert {"input", "model one", "target"} <= set(shown)


# --- in a browser -----------------------------------------------------------------------------------------------------


# Records when sources start, and with which offset, and the gains that they go through.
RECORD_STARTS = """
window.starts = []; window.gains = [];
const source = AudioBufferSourceNode.prototype, start = source.start;
const context = AudioContext.prototype, createGain = context.createGain;
source.start = function (...when) { window.starts.push(when); return start.apply(this, when); };
context.createGain = function () { const node = createGain.call(this); window.gains.push(node); return node; };
"""


@needs_browser
def test_in_chromium_sounds_switch_at_one_instant_and_votes_are_downloaded(start_browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    *_, page = report.write(made_report(names=[NASTY, "b"], model="model, one", seconds=6), tmp_path / "a folder #1")
    browser = start_browser(1200, 900)
    find, until = functools.partial(browser.find_element, "css selector"), WebDriverWait(browser, 20).until
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    )
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": RECORD_STARTS})
    browser.get(page.as_uri())
    assert find("h1").text == "piano to <guitar>"

    # The three sounds of a pair start together; switching starts nothing anew and does not move the position.
    buttons = browser.find_elements("css selector", ".pair .choices button")[:3]
    assert [button.text for button in buttons] == ["input", "output", "target"]
    find(".pair .play").click()
    until(lambda _: browser.execute_script("return window.starts.length") == 3)
    assert len({tuple(start) for start in browser.execute_script("return window.starts")}) == 1
    position = float(find(".pair .time input").get_property("value"))
    for button in (buttons[2], buttons[1]):
        button.click()
        assert button.get_attribute("aria-checked") == "true"
        until(lambda _, before=position: float(find(".pair .time input").get_property("value")) > before)
        position = float(find(".pair .time input").get_property("value"))
    assert browser.execute_script("return window.starts.length") == 3
    assert browser.execute_script("return window.gains.map((node) => Math.round(node.gain.value))") == [0, 1, 0]
    assert find(".pair figure.chosen figcaption").text == "output"
    find(".pair .play").click()

    # A click enlarges a picture; keys switch between the pictures.
    small = browser.find_elements("css selector", ".pair .picture img")[0]
    small.click()
    large = find("#zoom img")
    until(lambda _: large.size["height"] > 2 * small.size["height"])
    assert large.get_attribute("alt") == "spectrogram: input"
    ActionChains(browser).send_keys("3").perform()
    assert find("#zoom img").get_attribute("alt") == "spectrogram: target"
    find("#zoom-close").click()

    # Vote A twice, like B, and look up what A was by its sound.
    right = 0
    for number in (1, 2):
        assert find("#blind-trial").text == f"Comparison {number} of 2"
        assert find("#blind-result").text == ""
        a, targets = browser.execute_script(
            "return [document.querySelector('#blind-a').src,"
            "['0', '1'].map((i) => document.querySelector('#sound-' + i + '-1').src)]"
        )
        right += a in targets
        assert not find("#blind-next").is_enabled()
        for id in ("vote-a", "prefer-b", "blind-next"):
            find(f"#{id}").click()
    assert find("#blind-trial").text == "All 2 comparisons done."
    chance = {0: 100, 1: 75, 2: 25}[right]
    assert find("#blind-result").text == (
        f"model, one: target found in {right} of 2 (chance of that many by guessing: {chance} %), "
        f"output liked better in {right} of 2."
    )
    assert not find("#vote-a").is_displayed()
    # Which of the two was the target is shown at the end.
    answers = browser.find_elements("css selector", "#blind-answers tr td:nth-child(2)")
    assert [cell.text for cell in answers].count("A") == right

    find("#blind-csv").click()
    until(lambda _: (tmp_path / "downloads" / "votes.csv").is_file())
    with open(tmp_path / "downloads" / "votes.csv", newline="") as file:
        votes = list(csv.DictReader(file))
    assert sorted(vote["pair"] for vote in votes) == [NASTY, "b"]
    assert {vote["model"] for vote in votes} == {"model, one"}
    assert {vote["vote"] for vote in votes} == {"A"}
    assert sum(vote["correct"] == "true" for vote in votes) == right
    assert all((vote["correct"] == "true") == (vote["a"] == "target") for vote in votes)
    assert all(vote["preferred"] == vote["b"] for vote in votes)

    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    requests = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in requests if not name.startswith("data:")] == []


# The width in pixels of the widest word of an element, where words end at spaces, _, / and -.
WIDEST_WORD = """
const head = arguments[0], style = getComputedStyle(head), pen = document.createElement("canvas").getContext("2d");
pen.font = style.font;
return Math.max(...head.textContent.split(/(?<=[ _/-])/).map((word) => pen.measureText(word.trim()).width));
"""


@needs_browser
def test_on_a_phone_nothing_is_wider_than_the_screen(start_browser, tmp_path):
    made = made_report(names=["a_piece_with_a_very_long_name_" * 4, "b"], model="a_model_with_a_long_name_" * 4)
    made.remarks.append("/a/very/long/path/without/any/space" * 4)
    *_, page = report.write(made, tmp_path)
    browser = start_browser(500, 800)
    metrics_of_phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics_of_phone)
    browser.get(page.as_uri())
    width, inner = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert inner == 360
    assert width <= 360
    shown = [e for e in browser.find_elements("css selector", "input, img, button") if e.is_displayed()]
    assert len(shown) > 20
    assert all(element.rect["x"] + element.rect["width"] <= 360 for element in shown)
    assert all(element.rect["height"] >= 44 for element in shown if element.tag_name == "button")
    # The model's numbers are seen without scrolling, beside the names of the metrics.
    table = browser.find_element("css selector", "#numbers ~ .wide table")
    model = table.find_elements("css selector", "tbody tr:nth-child(2) td")[0]
    assert model.text == "0.312"
    assert model.rect["x"] + model.rect["width"] <= 360
    # No word of a header is broken: each takes one line.
    heads = table.find_elements("css selector", "thead th")
    assert all(head.rect["width"] >= browser.execute_script(WIDEST_WORD, head) for head in heads)


@needs_browser
def test_without_models_there_is_nothing_to_vote_on(start_browser, tmp_path, no_pictures):
    made = report.Report("t", [], {"copy": "copy the input"}, {})
    result = made_result("p", 0.1)
    made.add(dataclasses.replace(result, values={"copy": result.values["copy"]}))
    *_, page = report.write(made, tmp_path)
    browser = start_browser(800, 800)
    browser.get(page.as_uri())
    assert "No model, so nothing to compare." in browser.find_element("css selector", "body").text
    assert not browser.find_element("css selector", "#vote-a").is_displayed()
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize(
    ("name", "cell"), [("=1+1", "'=1+1"), ("@x", "'@x"), ("-a", "'-a"), ("+a", "'+a"), ("a=b", "a=b")]
)
def test_no_cell_of_a_table_is_a_formula(name, cell):
    assert report._plain_cell(name) == cell
