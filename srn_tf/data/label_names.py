"""Names of labels: the one place where they are cleaned, and where names that may be a mistake are found."""

import collections
import functools
import re
import unicodedata

# Characters that nobody sees: controls, soft hyphen, zero-width space, byte-order mark, marks of writing direction.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
)
# Zero-width (non-)joiners and the tags of flags: invisible too, but inside a name they change what is seen.
_JOINERS = "\u200c\u200d" + "".join(map(chr, range(0xE0020, 0xE0080)))
_ACCENTS_AND_GAPS = re.compile(rf"[\u0300-\u036f\ufe00-\ufe0f{_JOINERS}\s_\u2010-\u2015-]")
# Small Cyrillic and Greek letters that look like Latin ones, they or their capitals.
_LATIN = str.maketrans("авекмнорстухіјѕһαβεικνορτυχ", "abekmhopctyxijshabeikvoptux")


@functools.lru_cache(maxsize=1 << 16)  # A table says the same names over and over; each is then one text in memory.
def clean_name(text):
    """Cleans a name as it was written: two names that a person cannot tell apart by their spelling become one.

    Args:
        text: str.
    Returns:
        str in Unicode's composed form (NFC), without invisible characters, without blanks around it, and with single
        ones inside.
    """
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(text.split()).strip(_JOINERS + " ")


def look_alike(names):
    """Finds names that differ only in case, accents, blanks, hyphens, width, or in letters of another alphabet.

    Args:
        names: cleaned names.
    Returns:
        list of lists of names, two or more each, in the given order.
    """
    groups = {}
    for name in names:
        groups.setdefault(_appearance(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def made_of_others(names):
    """Finds names that are probably several: their cells were separated by something else.

    Args:
        names: cleaned names, all that there are.
    Returns:
        list of those that are other names in a row ("cat dog" beside "cat" and "dog"), in the given order. Where such
        are not alone, as all cells list several ("cat dog", "dog cow", "cow cat"): those whose words all occur in other
        names, if they are half of the names. Words joined by "_" or "-" are then one.
    """
    words_of = {name: tuple(re.findall(r"[^\W_]+", name.casefold())) for name in names}
    known = set(words_of.values())
    found = [name for name, words in words_of.items() if _is_row_of(words, known)]
    if found:
        return found
    words_of = {name: tuple(re.findall(r"[\w-]+", name.casefold())) for name in names}
    names_with = {}
    for name, words in words_of.items():
        for word in words:
            names_with.setdefault(word, set()).add(name)
    several = [
        name for name, words in words_of.items() if len(words) > 1 and all(len(names_with[word]) > 1 for word in words)
    ]
    return several if len(several) > 1 and 2 * len(several) >= len(words_of) else []


def repeated(names):
    """Names that are there more than once: list, in the order of their first appearance."""
    return [name for name, count in collections.Counter(names).items() if count > 1]


def in_short(names, limit=10):
    """Names for a message: "'a', 'b' and 30 others"."""
    shown = ", ".join(map(repr, names[:limit]))
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} others"


def _appearance(name):
    """What two names have in common that look alike."""
    text = unicodedata.normalize("NFKD", name).casefold()
    return _ACCENTS_AND_GAPS.sub("", text).translate(_LATIN) or name


def _is_row_of(words, known):
    """Whether the words are two or more of the known tuples of words one after another."""
    reached = [True] + [False] * len(words)  # whether the first i words are
    for end in range(1, len(words) + 1):
        parts = ((start, words[start:end]) for start in range(end) if end - start < len(words))
        reached[end] = any(reached[start] and part in known for start, part in parts)
    return bool(words) and reached[-1]
