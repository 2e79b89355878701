"""Numbers of a header, against Python's own reading of the same bytes. Whole files: tests/serving/test_predictor.py."""

import pytest
import tensorflow as tf

from srn_tf.data.image_headers import numbers_at


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("position", [0, 3, 25, 29, 400])  # the last three: partly or wholly beyond the end
def test_numbers_that_follow_one_another(order, position):
    data, sizes = bytes(range(1, 30)), (1, 4, 2, 6)
    expected, start = [], position
    for size in sizes:
        expected.append(int.from_bytes(data[start : start + size].ljust(size, b"\0"), order))
        start += size
    for is_little in (order == "little", tf.constant(order == "little")):
        numbers = numbers_at(data, tf.constant(position, tf.int64), sizes, is_little)
        assert [int(number) for number in numbers] == expected
