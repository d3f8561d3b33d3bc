"""What README and docs say is true of this code: Python in them runs, and every command and option in them exists.

A fenced block is tested by its language:

    pycon            a session; what it prints must be what the page shows
    python           runs to its end; blocks of one page share their names and a scratch folder with brain.nii.gz in it
    console, sh      every `unet-med ...` and `make ...` line names a command, options and targets that exist
    anything else    is not code of ours (yaml, text ...)

A block that cannot run here has the line `<!-- not run: WHY -->` above it; its commands are looked up all the same.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import re
import runpy
import shlex
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
RUNS = ("python", "pycon")
SHELLS = ("console", "sh", "bash")
NOT_CODE = ("text", "yaml", "csv", "json")

BRAIN = Path(sysconfig.get_path("purelib")) / "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
"""The ICBM 2009a T1 average brain, 1 mm, that the nilearn package carries."""

FENCE = re.compile(r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it starts, its language, its text, and why it is not run (else None)."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"].strip(),
            found["text"],
            found["why"],
        )
        for found in FENCE.finditer(text)
    ]


def command_lines(block: Block) -> list[list[str]]:
    """The words of each command in a shell block: prompts, comments, output and `\\` line ends taken away."""
    text = block.text.replace("\\\n", " ")
    lines = text.splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    words = [shlex.split(line, comments=True) for line in lines]
    return [part for line in words for part in _split(line) if part]


def _split(words: list[str]) -> list[list[str]]:
    """One list for each side of `&&` and `|`."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "|", ";"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def documented(program: str) -> list[tuple[Block, list[str]]]:
    """Every use of a program on the pages, with the words that follow it."""
    return [
        (block, words[1:])
        for page in PAGES
        for block in blocks(page)
        if block.language in SHELLS
        for words in command_lines(block)
        if words[0] == program
    ]


@pytest.fixture(scope="module")
def program() -> Any:
    """`unet-med` as its argument parser sees it."""
    from unet_med_pipelines.cli import app

    return typer.main.get_command(app)


def children(command: Any) -> dict[str, Any]:
    """The commands below a command, by name."""
    if not hasattr(command, "list_commands"):
        return {}
    context = command.make_context("unet-med", [], resilient_parsing=True)
    return {name: command.get_command(context, name) for name in command.list_commands(context)}


def commands(command: Any, name: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command that can be typed, by its words: ("segment",), ("models",), ("models", "show") ..."""
    found = {name: command} if name else {}
    for word, child in children(command).items():
        found |= commands(child, (*name, word))
    return found


def find(command: Any, words: list[str]) -> tuple[tuple[str, ...], Any, list[str]]:
    """The innermost command that the words name, and the words that are left for it."""
    name: tuple[str, ...] = ()
    while words and words[0] in (below := children(command)):
        name, command, words = (*name, words[0]), below[words[0]], words[1:]
    return name, command, words


def options(command: Any) -> set[str]:
    """The spellings of a command's options."""
    context = command.make_context("unet-med", [], resilient_parsing=True)
    return {
        option
        for parameter in command.get_params(context)
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("-")
    }


# -- the pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language_that_says_how_it_is_tested(page: Path) -> None:
    unknown = [(block.line, block.language) for block in blocks(page) if block.language not in RUNS + SHELLS + NOT_CODE]
    assert not unknown
    assert len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.M)) == 2 * len(blocks(page))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.language in RUNS for block in blocks(page))],
    ids=lambda page: page.name,
)
def test_python_on_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(BRAIN, tmp_path / "brain.nii.gz")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__docs__"}
    for block in blocks(page):
        if block.language not in RUNS or block.not_run:
            continue
        if block.language == "python":
            code = ast.parse(block.text)
            ast.increment_lineno(code, block.line)
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, str(page), "exec"), names)
        else:
            session = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
            report = io.StringIO()
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
            outcome = runner.run(session, out=report.write, clear_globs=False)
            assert outcome.attempted > 0, f"{page.name}:{block.line}: a pycon block without a prompt"
            assert outcome.failed == 0, report.getvalue()
            names = session.globs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("script", sorted((REPOSITORY / "docs" / "figures").glob("*.py")), ids=lambda path: path.name)
def test_figures_are_what_their_scripts_draw(script: Path, tmp_path: Path) -> None:
    runpy.run_path(str(script))["draw"](tmp_path / "drawn.png")
    drawn, shown = (
        np.asarray(Image.open(path).convert("L"), dtype=float)
        for path in (tmp_path / "drawn.png", REPOSITORY / "docs" / "images" / f"{script.stem}.png")
    )
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 1  # of 255; another FreeType smooths letters a little differently


# -- unet-med -------------------------------------------------------------------------------------------------------


def test_every_command_on_the_pages_exists_with_every_option_used(program: Any) -> None:
    uses = documented("unet-med")
    assert uses
    wrong = []
    for block, words in uses:
        name, command, rest = find(program, words)
        place = f"{block.page.name}:{block.line}: unet-med {' '.join(words)}"
        if not name and not (words and words[0].startswith("-")):
            wrong.append(f"{place}: no such command")
        used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        if unknown := used - options(command):
            wrong.append(f"{place}: no option {', '.join(sorted(unknown))}")
    assert not wrong, "\n".join(wrong)


def test_every_command_is_on_a_page(program: Any) -> None:
    shown = {find(program, words)[0] for _, words in documented("unet-med")}
    assert set(commands(program)) - shown == set()


def test_every_command_and_option_explains_itself(program: Any) -> None:
    silent = []
    for name, command in commands(program).items():
        if not command.help:
            silent.append(" ".join(name))
        silent += [
            f"{' '.join(name)} {parameter.opts[0]}"
            for parameter in command.params
            if parameter.opts[0].startswith("-") and not parameter.help
        ]
    assert not silent


# -- make -----------------------------------------------------------------------------------------------------------


def test_every_make_target_on_the_pages_exists_and_the_other_way_round() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M)) - {"help", "install"}
    shown = {word for _, words in documented("make") for word in words if "=" not in word}
    assert shown == targets


# -- the map --------------------------------------------------------------------------------------------------------


def mapped(page: Path, package: str) -> set[str]:
    """The modules that the map names under a package's heading, as paths: "scan.py", "models/folder.py" ..."""
    (section,) = re.findall(rf"^## [^\n]*`{package}`\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.M | re.S)
    (tree,) = re.findall(r"```text\n(.*?)```", section, re.S)
    names: set[str] = set()
    folder = ""
    for line in tree.splitlines():
        entry = re.split(r" {2,}", line.strip())[0]
        if entry.endswith("/"):
            folder = entry
        elif entry:
            names |= {(folder if line.startswith(" ") else "") + name for name in entry.split(", ")}
    return names


@pytest.mark.parametrize("package", ["unet_med", "pipelines/unet_med_pipelines", "plugins/napari_unet_med"])
def test_the_map_names_every_module_and_no_other(package: str) -> None:
    folder = REPOSITORY / package
    modules = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if path.name != "__init__.py"}
    on_the_map = mapped(REPOSITORY / "docs" / "architecture.md", folder.name)
    assert {name for name in on_the_map if name.endswith(".py")} - {"__init__.py"} == modules
    assert all((folder / name).exists() for name in on_the_map)


# -- the check itself -----------------------------------------------------------------------------------------------


def test_commands_are_found_in_blocks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```console\n$ unet-med a b \\\n    --c d && make e  # why\nsome output\n```\n"
        "<!-- not run: takes an hour -->\n```sh\nunet-med f\n```\n"
    )
    first, second = blocks(page)
    assert (first.line, first.language, first.not_run) == (3, "console", None)
    assert command_lines(first) == [["unet-med", "a", "b", "--c", "d"], ["make", "e"]]
    assert (second.not_run, command_lines(second)) == ("takes an hour", [["unet-med", "f"]])
