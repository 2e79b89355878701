"""Notebooks: runs one, strips one of what running it left, and turns one into a page of the site.

python docs/notebook.py run docs/notebooks/NAME.ipynb OUT/NAME.ipynb
python docs/notebook.py strip docs/notebooks/NAME.ipynb ...

`run` needs requirements-notebooks.txt; the rest reads notebooks as what they are, JSON.
"""

import base64
import html
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN_FOLDER = ROOT / "build" / "notebooks"  # where `make docs` leaves notebooks that were run
_LONGEST_S = 1800  # of one cell

# What a notebook is kept with, whatever program edited it.
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(path):
    """Reads a notebook: dict of its JSON."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def stripped(notebook):
    """A notebook without outputs, numbers of execution and what editors note: the text of its file."""
    cells = []
    for cell in notebook["cells"]:
        kept = {"cell_type": cell["cell_type"], "id": cell["id"], "metadata": {}, "source": _lines(cell)}
        cells.append(kept | ({"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {}))
    content = {"cells": cells, "metadata": _METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def run(source, target):
    """Runs all cells in a folder of their own, which is removed, and writes the notebook with its outputs.

    Args:
        source, target: paths of notebooks.
    Raises:
        SystemExit: packages are missing, or a cell failed; nothing is written.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
        from traitlets.config import Config
    except ImportError as error:
        sys.exit(
            f"error: To run a notebook, nbclient and ipykernel are needed. Received: {error}. Install them: "
            "pip install -r requirements-notebooks.txt"
        )
    notebook = nbformat.read(source, as_version=4)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as sockets:
        client = NotebookClient(
            notebook,
            coalesce_streams=True,
            timeout=_LONGEST_S,
            startup_timeout=_LONGEST_S,
            resources={"metadata": {"path": folder}},
            # The kernel listens on no port.
            config=Config(KernelManager={"transport": "ipc", "ip": os.path.join(sockets, "kernel")}),
        )
        try:
            client.execute(env=env)
        except CellExecutionError as error:
            sys.exit(f"error: Every cell of {source} must run. Received: {error.ename}: {error.evalue}\n{error}")
        except (CellTimeoutError, DeadKernelError) as error:
            sys.exit(f"error: Every cell of {source} must run. Received: {error}")
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(nbformat.writes(notebook).replace(f"{folder}{os.sep}", ""), encoding="utf-8")


def to_markdown(notebook, name):
    """A notebook as Markdown: code in fences, what was printed in HTML, pictures as links to files beside it.

    What went to stderr, such as progress bars, is left out.

    Args:
        notebook: dict, see `read`.
        name: str, how the files of its pictures begin.
    Returns:
        (str, dict: name of a picture's file -> bytes of a PNG)
    """
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(_lines(cell)).strip("\n")
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{name}_{len(pictures) + 1}.png"
                pictures[file] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![What the code above draws]({file})")
            elif output.get("name") != "stderr":
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f'<pre class="output">{html.escape(text.strip())}</pre>')
    return "\n\n".join(parts) + "\n", pictures


def page(path):
    """The page of a notebook, with outputs if it was run as it is now.

    Args:
        path: of the notebook, without outputs.
    Returns:
        as `to_markdown`.
    """
    path = Path(path)
    notebook, with_outputs = read(path), RUN_FOLDER / path.name
    note = f'<a href="{path.name}" download>Download the notebook</a>'
    if with_outputs.exists() and stripped(read(with_outputs)) == stripped(notebook):
        notebook = read(with_outputs)
    else:
        note += ". It was not run for this page: `make docs` shows what it prints and draws."
    text, pictures = to_markdown(notebook, path.stem)
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{note}\n{rest}", pictures


def _lines(cell):
    """The source of a cell as a list of lines; JSON has it as such, or as one string."""
    return "".join(cell["source"]).splitlines(keepends=True)


def main(words):
    """Does what the words of the command line say."""
    if len(words) == 3 and words[0] == "run":
        run(*words[1:])
    elif len(words) > 1 and words[0] == "strip":
        for path in words[1:]:
            text = stripped(read(path))  # before the file is opened for writing
            Path(path).write_text(text, encoding="utf-8")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
