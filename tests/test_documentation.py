"""Command lines in the documentation use flags that exist, links lead somewhere."""

import functools
import importlib
import pathlib
import re

import pytest
from conftest import ROOT

from common import cli

DOCUMENTS = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_]*(?!-)\b")


@functools.cache
def read_flags(command: str) -> set[str]:
    """The flags of the parser that a command makes for itself."""
    parsers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "run", lambda parser, work, argv: parsers.append(parser))
        importlib.import_module(command).main([])
    return {flag for action in parsers[0]._actions for flag in action.option_strings}


def test_documented_command_lines_use_flags_that_exist():
    for path in [*DOCUMENTS, ROOT / "Makefile"]:
        text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
        for command, rest in re.findall(r"^\s*(?:python|\$\(PYTHON\)) (\w+)\.py(.*)$", text, re.M):
            assert set(FLAG.findall(rest)) <= read_flags(command), (path.name, command)


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
    others = "coming_from_the_original.md"  # names other programs' files
    ours = [path for path in DOCUMENTS if path.name != others]
    for path in [*ours, ROOT / "models" / "README.md", ROOT / "docs" / "examples" / "README.md"]:
        text = path.read_text(encoding="utf-8")
        names = re.findall(r"`([\w/]+\.(?:py|md|txt|toml))(?:::\w+)?`", text)
        missing += [f"{path.name}: {name}" for name in names if not (ROOT / name).exists() and "log.txt" not in name]
    assert missing == []
