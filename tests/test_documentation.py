"""docs/commands.md and ``--help`` agree, command lines in the documentation exist, links lead somewhere."""

from __future__ import annotations

import argparse
import functools
import importlib
import pathlib
import re

import pytest

from common import cli

ROOT = pathlib.Path(__file__).parents[1]
COMMANDS = sorted(
    path.stem for path in ROOT.glob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]*(?!-)\b")


@functools.cache
def read_parser(command: str) -> argparse.ArgumentParser:
    """The parser that a command makes for itself."""
    parsers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "run", lambda parser, work, argv: parsers.append(parser))
        importlib.import_module(command).main([])
    return parsers[0]


def read_help(command: str) -> dict[str, tuple[str, str, list[str]]]:
    """By flag: the default as ``--help`` shows it, the rest of the help text, and the choices."""
    parser = read_parser(command)
    rows = {}
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        text = parser._get_formatter()._expand_help(action)
        shown = re.search(r" \(default: ([^()]*)\)$", text)
        default = shown[1] if shown else "required" if action.required else "off" if action.default is False else ""
        meaning = text[: shown.start()] if shown else text
        rows[action.option_strings[0]] = default, meaning, [str(choice) for choice in action.choices or []]
    return rows


def read_tables(page: str) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """By command and flag: the (default, meaning) of each row in the sections whose heading names the command."""
    tables: dict[str, dict[str, list[tuple[str, str]]]] = {}
    named: list[str] = []
    for line in page.splitlines():
        if line.startswith("#"):
            named = re.findall(r"(\w+)\.py", line)
        elif row := re.match(r"\| `(--\w+)` \| (.*?) ?\| (.*) \|$", line):
            for command in named:
                tables.setdefault(command, {}).setdefault(row[1], []).append((row[2].replace("`", ""), row[3]))
    return tables


def compare(command: str, flags: dict, rows: dict) -> list[str]:
    """What differs between a command's flags and its rows; a missing row is given as it could stand in the page."""
    faults = [f"{flag}: {command}.py has no such flag" for flag in rows if flag not in flags]
    for flag, (default, meaning, choices) in flags.items():
        found = rows.get(flag, [])
        if len(found) != 1:
            faults.append(f"expected one row, found {len(found)}: | `{flag}` | {default} | {meaning} |")
            continue
        if found[0][0] != default:
            faults.append(f"{flag}: expected the default {default!r}, found {found[0][0]!r}")
        faults += [f"{flag}: expected the choice {choice}" for choice in choices if choice not in found[0][1]]
    return faults


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_commands_agrees_with_help(command):
    faults = compare(command, read_help(command), read_tables(COMMANDS_PAGE).get(command, {}))
    assert not faults, "docs/commands.md:\n" + "\n".join(faults)


def test_differences_between_page_and_help_are_found():
    page = """
## a.py, b.py
| flag | default | meaning |
|---|---|---|
| `--same` | 1 | text |
| `--other` | `2` | one or two |
| `--gone` | | text |
## b.py
| `--same` | 1 | again |
"""
    flags = {"--same": ("1", "text", []), "--other": ("3", "text", ["one", "three"]), "--new": ("", "all new", [])}
    assert compare("a", flags, read_tables(page)["a"]) == [
        "--gone: a.py has no such flag",
        "--other: expected the default '3', found '2'",
        "--other: expected the choice three",
        "expected one row, found 0: | `--new` |  | all new |",
    ]
    assert compare("b", {"--same": ("1", "text", [])}, read_tables(page)["b"])[-1].startswith(
        "expected one row, found 2"
    )


def test_documented_command_lines_use_flags_that_exist():
    wrong = []
    for path in [*DOCUMENTS, ROOT / "Makefile"]:
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        for command, rest in re.findall(r"^\s*(?:python|\$\(PYTHON\)) (\w+)\.py(.*)$", text, re.M):
            wrong += [
                f"{path.name}: {command}.py {flag}" for flag in FLAG.findall(rest) if flag not in read_help(command)
            ]
    assert wrong == []


def test_links_between_documents_lead_somewhere():
    broken = []
    pages = [*DOCUMENTS, *(ROOT / "docs").glob("*/**/*.md"), *(ROOT / "models").glob("*.md")]
    for path in [*pages, *(ROOT / "models").glob("*/README.md")]:
        text = path.read_text(encoding="utf-8")
        links = re.findall(r"\]\(([^)#\s]*)(#([^)\s]*))?[^)]*\)", text)
        for link, _, anchor in links + re.findall(r"(?:src|href)=\"([^\"#]*)(#([^\"]*))?\"", text):
            if "://" in link:
                continue
            target = path.parent / link if link else path
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{path.name}: {link}#{anchor}")
    assert broken == []


def anchors(path: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_paths_in_backquotes_exist():
    """Files of this project that the documentation names, such as `training/loop.py`."""
    missing = []
    for path in [*DOCUMENTS, ROOT / "models" / "README.md", ROOT / "docs" / "examples" / "README.md"]:
        text = path.read_text(encoding="utf-8")
        names = re.findall(r"`([\w/]+\.(?:py|md|txt|toml))(?:::\w+)?`", text)
        missing += [f"{path.name}: {name}" for name in names if not (ROOT / name).exists() and "log.txt" not in name]
    assert missing == []
