"""What was written is refused where it differs by more than it may, and the largest difference is told."""

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.serving.checking import answer_in_memory, check_differences, probability_tolerance
from srn_tf.serving.inference_graph import trace
from tests.models.small import small_model


def test_the_largest_of_all_differences_is_told():
    differences = {"probabilities": [np.array([[0.0, -0.02]]), np.array([0.01])], "other outputs": [0.0, -0.5]}
    largest = check_differences(differences, {"probabilities": 0.02, "other outputs": 1.0}, "A written model", "")
    assert largest == {"probabilities": 0.02, "other outputs": 0.5}


@pytest.mark.parametrize("bad", [0.0201, -0.0201, np.nan, np.inf])
def test_too_large_or_not_a_number_is_refused(bad):
    differences = {"probabilities": [np.array([0.0, bad, 0.0])]}
    with pytest.raises(
        InputError,
        match=r"A thing must agree with the model in memory: probabilities within 0\.02\. .* Do this\.$",
    ):
        check_differences(differences, {"probabilities": 0.02}, "A thing", "Do this.")


def test_what_is_allowed_grows_with_the_logits():
    """Of logits up to 43 a difference of 1e-5 of their size is 4.3e-4, of which p = 1/2 moves by a quarter."""
    assert [probability_tolerance(1e-5, largest) for largest in (0.1, 1.0, 43.0)] == pytest.approx([1e-5, 1e-5, 4.3e-4])
    assert [probability_tolerance(1e-4, largest) for largest in (0.1, 1.0, 43.0)] == pytest.approx([1e-4, 1e-4, 4.3e-4])


def test_answer_in_memory():
    model = small_model("main_net", 2)
    image = np.random.default_rng(0).uniform(0, 255, (2, 56, 56, 3)).astype(np.float32)
    outputs = model.network(image, training=False)
    answer = answer_in_memory(model, trace(model.network, 56).source)(image)
    np.testing.assert_allclose(answer["probabilities"], tf.sigmoid(outputs["y_cls"]), rtol=0, atol=1e-6)
    np.testing.assert_allclose(answer["embedding"], outputs["pooled"], rtol=0, atol=1e-5)
