"""The documents: what they name exists, their links lead somewhere, and their commands and Python blocks work."""

import ast
import csv
import functools
import importlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs import notebook
from srn_tf.errors import InputError
from srn_tf.models.efficientnet_lite import imagenet_file

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]) + NOTEBOOKS
USER_DOCUMENTS = [path for path in DOCUMENTS if path.parent.name == "docs" or path.name == "README.md"]
TOOLS = sorted(path.stem for path in ROOT.glob("tools/*.py") if path.stem not in ("cli", "quiet"))

# Programs of others in blocks of commands; a word that begins none of our own or of these is a mistake.
OTHERS = (
    "cd",
    "chromium",
    "curl",
    "docker",
    "find",
    "git",
    "jupyter",
    "printf",
    "ruff",
    "source",
    "tensorflow_model_server",
)


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


# How a document is read.


def markdown(path):
    """The text of a document; of a notebook, what the site makes of it."""
    if path in NOTEBOOKS:
        return notebook.to_markdown(notebook.read(path), path.stem)[0]
    return path.read_text()


def blocks(path, *languages):
    """The fenced blocks of a document in one of the languages, as text."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", markdown(path), re.DOTALL | re.MULTILINE)
    return [body for language, body in found if language in languages]


def prose(path):
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", markdown(path), flags=re.DOTALL | re.MULTILINE)


def code_words(path):
    """The inline code of a document."""
    return re.findall(r"`([^`\n]+)`", prose(path))


def commands(text):
    """The commands of a shell block: lists of words, without assignments in front; what a pipe joins is two of them."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|")
        lexer.whitespace_split, lexer.commenters = True, "#"
        for is_pipe, words in itertools.groupby(lexer, key=lambda word: set(word) == {"|"}):
            if not is_pipe:
                found.append(list(itertools.dropwhile(lambda word: re.match(r"\w+=", word), words)))
    return [words for words in found if words]


def anchors(path):
    """The anchors of a document's headings, as the web view of a repository makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading).lower() for heading in headings]
    return [re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain]


def expand(pattern):
    """A pattern with {a,b} as the patterns it stands for."""
    if found := re.search(r"\{([^{}]*)\}", pattern):
        return [one for part in found[1].split(",") for one in expand(pattern.replace(found[0], part, 1))]
    return [pattern]


# What they may name.


@functools.cache
def flags_of(script):
    """The flags of one of our programs, such as tools/train.py: of a tool, what its help says."""
    if script.startswith("tools/"):
        command = [sys.executable, ROOT / script, "--helpfull"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        names = re.findall(r"^  --(?:\[no\])?(\w+):", text, re.MULTILINE)
        names += [f"no{name}" for name in re.findall(r"^  --\[no\](\w+):", text, re.MULTILINE)]
        return {*names, "help", "helpfull"}
    return set(re.findall(r'(?:DEFINE_\w+|add_argument)\(\s*"(?:--)?(\w+)"', (ROOT / script).read_text()))


@functools.cache
def all_flags():
    """The flags of all our programs."""
    scripts = [f"tools/{name}.py" for name in TOOLS]
    scripts += [f"benchmarks/{path.name}" for path in ROOT.glob("benchmarks/*.py")]
    return set().union(*map(flags_of, scripts))


def check_flags(script, arguments, words):
    own = itertools.takewhile(lambda word: word != "--", arguments)
    flags = {word.lstrip("-").partition("=")[0] for word in own if word.startswith("--")}
    assert flags <= flags_of(script) | {"flagfile"}, words


def check_command(words):
    """Makes sure that one command of a document could be typed."""
    program, *rest = words
    if program == "python" and rest[0].startswith("-m"):
        assert rest[:2] in (["-m", "pytest"], ["-m", "http.server"]), words
    elif program == "python":
        script, *arguments = rest
        assert (ROOT / script).is_file(), words
        check_flags(script, arguments, words)
    elif re.fullmatch(r"python3\.\d+", program):
        assert rest[:2] == ["-m", "venv"], words
    elif program == "pip":
        assert rest[0] == "install", words
        for option, file in itertools.pairwise(rest):
            assert option != "-r" or (ROOT / file).is_file(), words
    elif program == "make":
        targets = [word for word in rest if "=" not in word]
        makefile = (ROOT / "Makefile").read_text()
        assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), words
    elif program == "srn-tf":
        from srn_tf.program import COMMANDS

        if rest[0] != "--help":
            check_flags(f"tools/{COMMANDS[rest[0]]}.py", rest[1:], words)
    else:
        assert program in OTHERS, words


# The fast checks.


@by_name(DOCUMENTS)
def test_every_block_names_what_it_is(path):
    languages = re.findall(r"^```(\w*)\n.*?^```$", markdown(path), re.DOTALL | re.MULTILINE)
    assert set(languages) <= {"bash", "python", "", "csv", "xml"}


@by_name(DOCUMENTS)
def test_every_command_could_be_typed(path):
    for block in blocks(path, "bash"):
        for words in commands(block):
            check_command(words)


@by_name(DOCUMENTS)
def test_inline_commands_and_flags_exist(path):
    for code in code_words(path):
        if re.match(r"(python|pip|make|srn-tf) ", code) and "..." not in code:
            for words in commands(code):
                check_command(words)
        elif code.startswith("--"):
            for flag in re.findall(r"(?:^| )--(\w+)", code):
                assert flag in all_flags() | {"flagfile", "help"}, code


@by_name(DOCUMENTS)
def test_every_file_that_is_named_exists(path):
    folders = "srn_tf|tools|tests|configs|benchmarks|docs|requirements"
    for code in {*code_words(path), *re.findall(r"--flagfile=(\S+)", markdown(path))}:
        for word in re.findall(rf"(?<![\w/.])(?:{folders})[-\w./*{{}},]*", code):
            if "/" in word or word.startswith("requirements"):
                for pattern in expand(word.rstrip(".,").replace("NAME", "*")):
                    assert any(ROOT.glob(pattern)), code


@by_name(DOCUMENTS)
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        destination = (path.parent / file).resolve() if file else path
        assert destination.exists(), target
        if anchor:
            assert anchors(destination).count(anchor) == 1, target
            assert "--" not in anchor, f"{target}: the site makes it one dash"


@by_name(DOCUMENTS)
def test_python_blocks_compile_and_their_names_exist(path):
    for block in blocks(path, "python", ""):  # without a language: Python that is not run here
        tree = ast.parse(block)
        names = {}  # what the block calls a module or a class of ours
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    module = importlib.import_module(alias.name)
                    names[alias.asname or alias.name] = module
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    is_there = hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}")
                    assert is_there, ast.unparse(node)
        for node in ast.walk(tree):
            is_ours = isinstance(node, ast.Attribute) and ast.unparse(node).startswith("srn_tf.")
            if is_ours and "srn_tf" in names and re.fullmatch(r"[\w.]+", ast.unparse(node)):
                value = names["srn_tf"]
                for name in ast.unparse(node).split(".")[1:]:
                    assert hasattr(value, name), ast.unparse(node)
                    value = getattr(value, name)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1200


def test_results_are_measured():
    """A number with a decimal in the README's table, or among a method's results, stands in docs/measurements.md."""
    measured = set(re.findall(r"\d+\.\d+", (ROOT / "docs/measurements.md").read_text()))
    table = re.findall(r"^\| .*", (ROOT / "README.md").read_text().partition("## Methods")[2], re.MULTILINE)
    results = re.findall(
        r"^\*\*Results\.\*\*(.*?)\n\n", (ROOT / "docs/methods.md").read_text(), re.DOTALL | re.MULTILINE
    )
    numbers = set(re.findall(r"\d+\.\d+", " ".join([*table, *results]).replace("Apache 2.0", "")))
    assert len(numbers) > 10 and numbers <= measured


def test_every_method_has_its_section():
    from srn_tf.models.registry import METHODS

    sections = (ROOT / "docs/methods.md").read_text().split("\n## ")[1:]
    assert set(METHODS) == set(re.findall(r"`--model=(\w+)`", "".join(sections)))
    for section in sections[:-1]:
        parts = re.findall(r"^\*\*([^*]+)\.\*\*", section, re.MULTILINE)
        assert parts == ["Idea", "Equations", "Recipe", "Results", "What differs from the paper"], section[:40]


def test_the_site_shows_every_page():
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    top = {"BUILD.md", "CONTRIBUTING.md", "CHANGELOG.md"}
    pages = {path.name for path in ROOT.glob("docs/*.md")} | {f"notebooks/{path.stem}.md" for path in NOTEBOOKS}
    assert set(re.findall(r": (\S+\.md)$", nav, re.MULTILINE)) == pages | top


def test_one_version_everywhere():
    import srn_tf

    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert newest == cited == srn_tf.__version__


# The README's way from one's own photographs to predictions, as it is written there.

PHOTOS = 24
COLOURS = {"sea": (200, 30, 30), "sky": (30, 160, 60), "person": (40, 60, 200)}


def write_photos(folder):
    """Pictures, each with one or two patches of colour, which are its labels, under the README's names."""
    (folder / "PHOTOS").mkdir()
    rng = np.random.default_rng(0)
    with open(folder / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "labels"])
        for index in range(PHOTOS):
            pixels = rng.integers(90, 160, (96, 128, 3), np.uint8)
            present = rng.choice(list(COLOURS), rng.integers(1, 3), replace=False)
            for place, colour in enumerate(present):
                pixels[30:70, 10 + 60 * place : 50 + 60 * place] = COLOURS[colour]
            Image.fromarray(pixels).save(folder / "PHOTOS" / f"{index:02d}.jpg")
            rows.writerow([f"{index:02d}.jpg", ";".join(present)])
    shutil.copy(folder / "PHOTOS" / "00.jpg", folder / "photo.jpg")


def own_photos_commands(document):
    """Those between requirements-photos.txt and the predictions."""
    (block,) = [block for block in blocks(ROOT / document, "bash") if "--output=predictions.csv" in block]
    return commands(block)[1:]


def run_as_written(folder, command, *more):
    # From a folder of the user's own, so the program's paths are made absolute.
    words = [re.sub(r"(^|=)(tools|configs)/", rf"\1{ROOT}/\2/", word) for word in command[1:]]
    done = subprocess.run([sys.executable, *words, *more], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_predictions(path):
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", *sorted(COLOURS), "error"]
    assert [Path(row[0]).name for row in rows[1:]] == [f"{index:02d}.jpg" for index in range(PHOTOS)]
    probabilities = np.array([row[1:-1] for row in rows[1:]], float)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A folder in which the README's commands for one's own photographs have run."""
    folder = tmp_path_factory.mktemp("own_photos")
    write_photos(folder)
    try:
        imagenet_file("efficientnet_lite0")
        weights = []
    except InputError:  # the package is not there
        weights = ["--backbone_weights=none"]
    for command in own_photos_commands("README.md"):
        run_as_written(folder, command, *(weights if command[1] == "tools/train.py" else []))
    return folder


@pytest.mark.slow
def test_own_photographs(own_run):
    names = [Path(command[1]).stem for command in own_photos_commands("README.md")]
    assert names == ["prepare_data", "train", "predict"]
    check_predictions(own_run / "predictions.csv")


@pytest.mark.slow
def test_own_photographs_without_the_package(tmp_path):
    """As docs/data.md has it, with the flagfile that needs no package."""
    write_photos(tmp_path)
    for command in own_photos_commands("docs/data.md"):
        run_as_written(
            tmp_path, [word.replace("own_photos.flags", "own_photos_from_scratch.flags") for word in command]
        )
    assert (tmp_path / "LOOK" / "cooccurrence.png").stat().st_size > 0
    check_predictions(tmp_path / "predictions.csv")


@pytest.mark.slow
def test_what_the_readme_types_next(own_run):
    (page,) = [block for block in blocks(ROOT / "README.md", "bash") if "--page" in block]
    run_as_written(own_run, *commands(page))
    assert (own_run / "LOOK" / "page.html").stat().st_size > 0


@pytest.mark.slow
@by_name([path for path in USER_DOCUMENTS if blocks(path, "python") and "import grpc" not in path.read_text()])
def test_python_blocks_run(path, own_run):
    """A document's blocks, one after the other in one program, beside what the README's commands have left."""
    program = "\n".join(blocks(path, "python"))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=own_run, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
