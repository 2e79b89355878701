"""Finds the image files that a list names, however it names them."""

import os
import posixpath
import unicodedata

from srn_tf.data.arrow_images import container_of
from srn_tf.data.image_files import EXTENSIONS
from srn_tf.errors import InputError


class PhotoFinder:
    """Finds image files of a source folder.

    A path counts, in this order:
      - from the source folder;
      - from the folder of the list, if that lies in the source folder;
      - as the end of the path of just one image in the source folder. The file's ending may be left out, and neither
        capitals matter nor how accents are composed (macOS writes a letter and its accent as two characters).
    Of several names that a file may have, each is tried in all ways before the next.

    Args:
        source_dir: str or path.

    Attributes:
        moved: dict path as written -> path of the file, where the third rule found just that.
    """

    def __init__(self, source_dir):
        self._source_dir = os.fspath(source_dir)
        self._images = None  # paths; the folder is walked when it is needed
        self._ending = {}  # number of parts -> so many last ones of a path, as of `_plain` -> paths
        self.moved = {}

    def find(self, where, names, beside=""):
        """Finds one file.

        Args:
            where: str, place in the list, for the message.
            names: paths that the file may have, the one as written first; "/" between parts.
            beside: str, folder of the list relative to the source folder.
        Returns:
            str, its path relative to the source folder, "/" between parts; the first name if there is no such file.
        Raises:
            InputError: several files may be meant.
        """
        for name in names:
            for path in dict.fromkeys((name, posixpath.join(beside, name))):
                if self.has(path):
                    return path
            found = self._ending_with(name)
            if len(found) > 1:
                raise InputError(
                    f"{where}: a path must mean one image in the source folder. Received: {names[0]!r}, which may be "
                    f"{' or '.join(found[:3])}. Write the whole path."
                )
            if found:
                if name == names[0]:
                    self.moved[name] = found[0]
                return found[0]
        return names[0]

    def has(self, path):
        """Whether a path relative to the source folder is a file."""
        return os.path.isfile(container_of(os.path.join(self._source_dir, path)))

    def folder_of(self, path):
        """The folder of a file relative to the source folder, "/" between parts; "" if it lies elsewhere."""
        folder = os.path.relpath(os.path.dirname(os.path.abspath(path)), os.path.abspath(self._source_dir))
        return "" if folder == "." or folder.split(os.sep)[0] == ".." else folder.replace(os.sep, "/")

    def _ending_with(self, name):
        """The images whose path ends with a name; of those that differ in capitals or accents, the one written so."""
        if self._images is None:
            self._images = image_paths(self._source_dir)
        parts = name.count("/") + 1
        if parts not in self._ending:
            self._ending[parts] = {}
            for path in self._images:
                self._ending[parts].setdefault(_plain("/".join(path.split("/")[-parts:])), []).append(path)
        has_ending = name.lower().endswith(EXTENSIONS)
        candidates = self._ending[parts].get(_plain(name), ())
        found = {path: path if has_ending else _stem(path) for path in candidates}
        exact = [path for path, text in found.items() if f"/{text}".endswith(f"/{name}")]
        return exact or [path for path, text in found.items() if _folded(f"/{text}").endswith(_folded(f"/{name}"))]


def files_in(source_dir):
    """Yields the folders of a folder, itself first, with the names of their files; hidden ones are none.

    Linked folders are entered, too, after all others, and each folder once, so that links in a circle end.

    Args:
        source_dir: str or path.
    Yields:
        pairs: path of a folder from the source folder, "." or with "/" between parts; its files by the alphabet.
    """
    seen, tops = set(), [os.fspath(source_dir)]
    while tops:
        links = []
        for top in tops:
            for folder, folders, names in os.walk(top):
                real = os.path.realpath(folder)
                if real in seen:
                    folders.clear()
                    continue
                seen.add(real)
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                links += [path for path in (os.path.join(folder, name) for name in folders) if os.path.islink(path)]
                yield (
                    os.path.relpath(folder, source_dir).replace(os.sep, "/"),
                    sorted(name for name in names if not name.startswith(".")),
                )
        tops = links


def image_paths(source_dir):
    """The paths of all images of a folder and its folders, by the alphabet, "/" between parts; hidden ones are none.

    Args:
        source_dir: str or path.
    Raises:
        InputError: the name of an image is not UTF-8.
    """
    found = []
    for folder, names in files_in(source_dir):
        for name in names:
            if not name.lower().endswith(EXTENSIONS):
                continue
            try:
                name.encode()
            except UnicodeEncodeError:
                raise InputError(
                    f"Names of images must be UTF-8. Received: {os.fsencode(name)!r} in "
                    f"{os.path.normpath(os.path.join(source_dir, folder))}. Rename the file."
                ) from None
            found.append(posixpath.normpath(posixpath.join(folder, name)))
    return found


def _stem(name):
    """A name without the ending of an image file."""
    stem, ending = posixpath.splitext(name)
    return stem if ending.lower() in EXTENSIONS else name


def _folded(text):
    """A path in which neither capitals nor the ways to compose accents differ."""
    return unicodedata.normalize("NFC", text).lower()


def _plain(path):
    return _folded(_stem(path))
