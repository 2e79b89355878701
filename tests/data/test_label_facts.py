"""Word vectors of labels from files, and how often labels come together, by hand."""

import types

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.label_facts import count_labels, label_embeddings, label_space
from srn_tf.errors import InputError
from srn_tf.models.settings import EmbeddingSettings, Settings

WORDS = {"dog": [1, 2], "hot": [3, -2], "traffic_light": [5, 5], "traffic": [0, 0], "light": [9, 9], "TV": [7, 0.5]}
LABELS = ["Dog", "hot dog", "traffic light", "TV"]
EXPECTED = [[1, 2], [2, 0], [5, 5], [7, 0.5]]


def text_of(words, header=""):
    return header + "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in words.items())


def write(folder, kind):
    path = str(folder / f"vectors.{'npz' if kind == 'npz' else 'txt'}")
    if kind == "npz":
        np.savez(path, words=[*WORDS, "dog"], vectors=[*WORDS.values(), [8, 8]])
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text_of(WORDS, "6 2\n" if kind == "word2vec" else "") + "dog 8 8\nœuvre 1 2 \n")
    return path


@pytest.mark.parametrize("kind", ["glove", "word2vec", "npz"])
def test_a_label_has_its_vector_or_the_mean_of_its_words(kind, tmp_path):
    found = label_embeddings(write(tmp_path, kind), LABELS, 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32(EXPECTED))


@pytest.mark.parametrize("kind", ["glove", "npz"])
def test_all_labels_without_a_vector_are_named(kind, tmp_path):
    with pytest.raises(InputError, match="without vectors for 3 of 4 labels: cat, hot cat, 本. Add them to the file"):
        label_embeddings(write(tmp_path, kind), ["cat", "dog", "hot cat", "本"], 2)


@pytest.mark.parametrize("kind, where", [("glove", "line 1"), ("word2vec", "line 2"), ("npz", "'dog'")])
def test_vectors_of_another_width(kind, where, tmp_path):
    with pytest.raises(InputError, match=f"label_width = 300 finite numbers. Received: 2 in {where}"):
        label_embeddings(write(tmp_path, kind), LABELS, 300)


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("none.txt", None, "No such file"),
        ("image.txt", b"\xff\xd8\xff", "codec can't decode"),
        ("words.txt", b"dog one two\n", "could not convert"),
        ("text.npz", b"dog 1 2\n", "pickle"),
        ("cut.npz", b"PK\x03\x04", "zip"),
    ],
)
def test_files_that_are_none(name, content, reason, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"must be a file of word vectors. Received: .*{name}.*{reason}.*GloVe"):
        label_embeddings(str(tmp_path / name), LABELS, 2)


def test_no_file_is_given():
    with pytest.raises(InputError, match="Received: none. Give --label_embeddings=FILE"):
        label_embeddings("", LABELS, 2)


LABEL_ROWS = np.int8([[1, 1, 0], [1, -1, 0], [0, 1, 1], [1, 1, 0]])


class StandIn:
    labels = ("dog", "hot", "TV")

    def records(self, role):
        assert role == "train"
        return tf.data.Dataset.from_tensor_slices({"labels": LABEL_ROWS})


def test_counts_by_hand():
    records = StandIn().records("train")
    assert count_labels(records).tolist() == [3, 3, 1]
    assert count_labels(records, together=True).tolist() == [[3, 2, 0], [2, 3, 1], [0, 1, 1]]


def test_what_is_asked_for_is_filled_in_and_no_more(tmp_path):
    nothing = label_space(types.SimpleNamespace(labels=("a",)), Settings())  # no file and no record is read
    assert (nothing.names, nothing.embeddings, nothing.counts, nothing.cooccurrence) == (("a",), None, None, None)
    settings = EmbeddingSettings(label_embeddings=write(tmp_path, "glove"), label_width=2)
    found = label_space(StandIn(), settings)
    np.testing.assert_array_equal(found.embeddings, np.float32([[1, 2], [3, -2], [7, 0.5]]))
    assert found.counts is None and found.cooccurrence is None
    object.__setattr__(settings, "label_fields", ("counts", "cooccurrence"))
    found = label_space(StandIn(), settings)
    assert found.embeddings is None and found.counts.tolist() == [3, 3, 1] and found.cooccurrence[0, 1] == 2
    # Without file and data zeros stand in the shapes, until weights are read.
    empty = found.with_zeros(EmbeddingSettings(label_width=2))
    assert empty.embeddings.shape == (3, 2) and not empty.embeddings.any() and empty.counts is found.counts
