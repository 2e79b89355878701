"""Opens a page in headless Chromium, as it is, in several states at once, and asks what it shows."""

import html
import json
import os
import re
import shutil
import subprocess

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_HARNESS = """<!DOCTYPE html>
<meta charset="utf-8">
<body>
%(frames)s
<script>
onload = () => {
  const frames = [...document.querySelectorAll("iframe")].map((frame) => frame.contentWindow);
  const answer = JSON.stringify(frames.map((window) => (%(question)s)(window, window.document)));
  const element = document.createElement("pre");
  element.id = "answer";
  element.textContent = answer;
  document.body.replaceChildren(element);
};
</script>
"""


def find_chromium():
    """The path of a Chromium: $CHROMIUM, or one on the PATH; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def ask(page, addresses, question, width_px=1200):
    """Opens a page at several addresses and evaluates a question in each.

    Args:
        page: path of an HTML file; a file is written beside it.
        addresses: what follows "#" in each.
        question: JavaScript function (window, document) -> what JSON can say.
        width_px: of the window.
    Returns:
        list of answers.
    """
    frames = "\n".join(
        f'<iframe src="{html.escape(f"{page.name}#{address}")}" width="{width_px}" height="900"></iframe>'
        for address in addresses
    )
    harness = page.parent / "harness.html"
    harness.write_text(_HARNESS % {"frames": frames, "question": question}, encoding="utf-8")
    command = [
        find_chromium(),
        *("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"),
        *(f"--user-data-dir={page.parent / 'profile'}", "--dump-dom", harness.as_uri()),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="answer">(.*?)</pre>', result.stdout, re.DOTALL)
    assert found, f"Chromium gave no answer: {result.stdout[-500:]} {result.stderr[-2000:]}"
    return json.loads(html.unescape(found[1]))
