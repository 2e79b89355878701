"""What is known of labels, as people write it and as models read it."""

import numpy as np
import pytest

from srn_tf.errors import InputError
from srn_tf.labels import known_states, parse_known

LABELS = ["dog", "cat, small", "12:30", "sky"]


def test_known_labels_may_have_commas_and_colons_in_their_names():
    known = parse_known("cat, small:0,12:30:1,dog:1")
    assert known == {"cat, small": 0, "12:30": 1, "dog": 1}
    states = known_states(known, LABELS)
    assert states.dtype == np.int32 and states.tolist() == [1, 0, 1, -1]
    assert known_states({}, LABELS).tolist() == [-1] * 4 and known_states({"sky": True}, LABELS)[3] == 1


@pytest.mark.parametrize("text", ["dog", "dog:2", "dog:1,", "dog:1,cat", ":1", "dog:1,,sky:0", ",dog:1", "dog:10", " "])
def test_what_is_not_of_that_form(text):
    try:
        known = parse_known(text)
    except InputError as error:
        assert str(error).endswith(f"such as dog:1,cat:0. Received: {text!r}.")
    else:  # a strange name, which no model has
        with pytest.raises(InputError, match="known must be among the model's 4 labels"):
            known_states(known, LABELS)


def test_a_label_twice_or_unknown_or_with_another_value():
    for text in ("dog:1,dog:0", "dog:1,sky:0,dog:1"):
        with pytest.raises(InputError, match="known must name each label once. Received: 'dog' twice, in 'dog:1,"):
            parse_known(text)
    with pytest.raises(InputError, match="known must be among the model's 4 labels. Received: 'dgo'. .*: dog"):
        known_states({"dgo": 1}, LABELS)
    for value in (2, -1, 0.5, "1", None):
        with pytest.raises(InputError, match="known must be 1 .* or 0 .* for each label. Received: dog: "):
            known_states({"dog": value}, LABELS)
    with pytest.raises(InputError, match="known must be a dict such as .* Received: 'dog:1'"):
        known_states("dog:1", LABELS)
