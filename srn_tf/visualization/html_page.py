"""What the pages of this package share: templates that are filled, inline texts that are allowed, pictures as text."""

import base64
import hashlib
import io
import re
from importlib import resources

PHOTO_PX = 240  # longest side of a photograph in a page
_QUALITY = 80  # of its JPEG


def template(name):
    """The text of a file of the folder template/."""
    return resources.files("srn_tf.visualization").joinpath("template", name).read_text(encoding="utf-8")


def fill(name, parts):
    """Fills a template.

    Args:
        name: str, file of the folder template/, with {{part}} where a part belongs.
        parts: dict part -> text of HTML.
    Returns:
        str.
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template(name))


def digest(text):
    """The source expression of a content security policy that allows this inline text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def jpeg_text(photo):
    """An RGB PIL image as the base64 text of a JPEG file."""
    jpeg = io.BytesIO()
    photo.save(jpeg, format="JPEG", quality=_QUALITY)
    return base64.b64encode(jpeg.getvalue()).decode()
