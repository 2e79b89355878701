"""Reads what a page has in it."""

import base64
import json
import re

import numpy as np


def data_of(text):
    """The data of a page, from its HTML."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def array(text, dtype):
    """An array of the data."""
    return np.frombuffer(base64.b64decode(text), dtype)
