"""Brings the documents of the top folder, and the notebooks as pages, into the site.

Pages of docs/ link to them as ../FILE.md and notebooks/NAME.ipynb, and they to pages as docs/FILE.md, so that links
work in the repository, too.
"""

import re
from pathlib import Path

import notebook  # beside this file, where mkdocs looks first
from mkdocs.structure.files import File

TOP = ("BUILD.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files, config):
    """Adds them beside the pages of docs/."""
    root = Path(config.config_file_path).parent
    for name in TOP:
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    for path in sorted(Path(config.docs_dir, "notebooks").glob("*.ipynb")):
        text, pictures = notebook.page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown, page, **_):
    """Turns links between the folders into links within the site, whose first page stands for the README."""
    markdown = re.sub(r"(\]\([\w./]+)\.ipynb\)", r"\1.md)", markdown)
    if page.file.src_uri in TOP:
        return markdown.replace("](README.md", "](index.md").replace("](docs/", "](")
    return markdown if page.file.src_uri.startswith("notebooks/") else markdown.replace("](../", "](")
