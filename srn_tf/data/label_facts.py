"""What a method asks to know of its labels: their word vectors, and how often they come in the training images."""

import re

import numpy as np
from scipy import sparse

from srn_tf.errors import InputError
from srn_tf.files import DAMAGE
from srn_tf.labels import LabelSpace

_FORMATS = (
    "Give --label_embeddings=FILE: text with a word and its numbers per line (GloVe, word2vec), or an .npz with the "
    "arrays words and vectors."
)
_BLOCK = 1024  # images


def label_space(dataset, settings):
    """The labels of a data set with what a method asks for.

    Args:
        dataset: data.datasets.DataSet.
        settings: models.settings.Settings, whose `label_fields` are filled in, and no other.
    Returns:
        labels.LabelSpace.
    Raises:
        InputError: see `label_embeddings`.
    """
    wanted, found = settings.label_fields, {}
    if "embeddings" in wanted:
        found["embeddings"] = label_embeddings(settings.label_embeddings, dataset.labels, settings.label_width)
    if "cooccurrence" in wanted:
        found["cooccurrence"] = count_labels(dataset.records("train"), together=True)
    if "counts" in wanted:
        together = found.get("cooccurrence")
        found["counts"] = count_labels(dataset.records("train")) if together is None else np.diag(together).copy()
    return LabelSpace(dataset.labels, **found)


def label_blocks(records):
    """Yields the labels of all images, in order, as int8 (N, C) of 1,024 images or, at the end, fewer.

    Args:
        records: see `data.pipeline.read_records`.
    """
    return records.map(lambda record: record["labels"]).batch(_BLOCK).as_numpy_iterator()


def count_labels(records, together=False):
    """Counts positives in one pass over the labels.

    Args:
        records: see `pipeline.read_records`.
        together: whether to count pairs of labels.
    Returns:
        int64 (C,), images with each label; or (C, C), images with both, whose diagonal is that.
    """
    counts = 0
    for labels in label_blocks(records):
        y = sparse.csr_matrix(labels == 1, dtype=np.int64)  # of many labels an image has a few
        counts = counts + (y.T @ y if together else np.bincount(y.indices, minlength=y.shape[1]))
    return counts.toarray() if together else counts


def label_embeddings(path, labels, width):
    """Reads a vector for each label: that of its name, or the mean of those of the name's words.

    A name or word that is not in the file as it is written is looked for in small letters.

    Args:
        path: text as of GloVe or word2vec, or an .npz with words (N,) str and vectors (N, E).
        labels: C names.
        width: E, numbers of a vector.
    Returns:
        float32 (C, E).
    Raises:
        InputError: no file, one that cannot be read, vectors of another width or not finite, or labels without a
            vector, all of which are named.
    """
    if not path:
        raise InputError(f"label_embeddings must be a file of word vectors for this model. Received: none. {_FORMATS}")
    names = [_variants(label.replace(" ", "_")) for label in labels]
    words = [[_variants(word) for word in re.split(r"[^\w]+|_", label) if word] for label in labels]
    wanted = {name for variants in [*names, *sum(words, [])] for name in variants}
    try:
        vectors = (_read_npz if path.endswith(".npz") else _read_text)(path, wanted, width)
    except InputError:
        raise
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(
            f"label_embeddings must be a file of word vectors. Received: {path!r} ({reason}). {_FORMATS}"
        ) from None

    def find(variants):
        return next((vectors[name] for name in variants if name in vectors), None)

    found, missing = [], []
    for label, variants, parts in zip(labels, names, words, strict=True):
        whole = find(variants)
        of_parts = [whole] if whole is not None else [find(part) for part in parts]
        if not of_parts or any(vector is None for vector in of_parts):
            missing.append(label)
        else:
            found.append(np.mean(of_parts, axis=0, dtype=np.float64))
    if missing:
        raise InputError(
            f"label_embeddings must have a vector for every label, or for each word of its name. Received: {path!r}, "
            f"without vectors for {len(missing)} of {len(labels)} labels: {', '.join(missing)}. Add them to the file."
        )
    return np.array(found, np.float32)


def _variants(name):
    return dict.fromkeys((name, name.lower()))


def _read_text(path, wanted, width):
    """Word -> float64 (E,), of the wanted words alone; of a word that is there twice the first."""
    vectors = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            word, _, rest = line.rstrip().partition(" ")
            if word in wanted and word not in vectors and not (number == 1 and _is_header(line)):
                vectors[word] = _checked(rest.split(), width, f"line {number}")
    return vectors


def _is_header(line):
    """Whether a file's first line is word2vec's: how many words, and of how many numbers."""
    return re.fullmatch(r"\d+ \d+\s*", line) is not None


def _read_npz(path, wanted, width):
    with np.load(path) as arrays:
        words, all_vectors = arrays["words"].tolist(), arrays["vectors"]
    return {
        word: _checked(vector, width, repr(word))
        for word, vector in zip(reversed(words), all_vectors[::-1], strict=True)
        if word in wanted
    }


def _checked(numbers, width, where):
    vector = np.asarray(numbers, np.float64)
    if vector.shape != (width,) or not np.isfinite(vector).all():
        raise InputError(
            f"Word vectors must have label_width = {width} finite numbers. Received: {vector.size} in {where}. Set "
            "--label_width to the width of the file, or use another file."
        )
    return vector
