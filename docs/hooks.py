"""Brings the documents of the top folder into the site.

Pages of docs/ link to them as ../FILE.md, and they to pages as docs/FILE.md, so that links work in the repository, too.
"""

from pathlib import Path

from mkdocs.structure.files import File

TOP = ("BUILD.md", "CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files, config):
    """Adds them beside the pages of docs/."""
    root = Path(config.config_file_path).parent
    for name in TOP:
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown, page, **_):
    """Turns links between the two folders into links within the site, whose first page stands for the README."""
    if page.file.src_uri in TOP:
        return markdown.replace("](README.md", "](index.md").replace("](docs/", "](")
    return markdown.replace("](../", "](")
