"""TensorFlow's failures in plain words: each one provoked, on records, files, memory and workers."""

import os
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from srn_tf.errors import InputError
from srn_tf.failures import in_plain_words
from srn_tf.runs import checkpoint


@pytest.fixture
def dataset(tmp_path):
    """Stands for a DataSet of two files with ten records each, read one after the other."""
    paths = [str(tmp_path / f"tiny-train.tfrecord-0000{shard}-of-00002") for shard in range(2)]
    for path in paths:
        with tf.io.TFRecordWriter(path) as writer:
            for number in range(10):
                writer.write(f"record {number}".encode() * 20)
    records = tf.data.TFRecordDataset(paths).map(tf.strings.length).batch(4).prefetch(1)
    return types.SimpleNamespace(record_files={"train": paths}, records=records)


def read(dataset):
    return sum(len(batch) for batch in dataset.records)


def read_in_graph(dataset):
    @tf.function
    def run():
        total = 0
        for batch in dataset.records:
            total += tf.reduce_sum(batch)
        return total

    return int(run())


def message_of(function, *arguments, dataset=None):
    with pytest.raises(InputError) as raised, in_plain_words(dataset):
        function(*arguments)
    message = str(raised.value)
    assert "\n" not in message and "{{" not in message and "[Op" not in message and "  " not in message
    assert len(message) < 900
    return message


def raises(exception):
    def raise_it():
        raise exception

    return raise_it


def cut(path):
    os.truncate(path, os.path.getsize(path) - 100)


def flip(path):
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)


def test_whole_records_pass(dataset):
    with in_plain_words(dataset):
        assert read(dataset) == 20 and read_in_graph(dataset) == 20 * 160


@pytest.mark.parametrize("function", [read, read_in_graph])
@pytest.mark.parametrize("damage, words", [(cut, "truncated record at "), (flip, "corrupted record at ")])
def test_damaged_records(dataset, function, damage, words):
    damage(dataset.record_files["train"][1])
    message = message_of(function, dataset, dataset=dataset)
    assert message.startswith(
        f"The prepared data set is damaged. Received: {dataset.record_files['train'][1]}: {words}"
    )
    assert "prepare it again. The same command then continues." in message
    unnamed = message_of(function, dataset)
    assert unnamed.startswith(f"The prepared data set is damaged. Received: a damaged file of records: {words}")


@pytest.mark.parametrize("function", [read, read_in_graph])
def test_a_file_of_records_that_is_gone(dataset, function):
    path = dataset.record_files["train"][1]
    os.remove(path)
    message = message_of(function, dataset)
    expected = f"A file can no longer be read. Received: {path}: No such file or directory. "
    assert message.startswith(expected)


def test_a_folder_in_the_place_of_a_file(dataset):
    path = dataset.record_files["train"][0]
    os.remove(path)
    os.mkdir(path)
    assert f"Received: {path}: Is a directory. " in message_of(read, dataset)


@tf.function
def allocate_in_graph(rows):
    return tf.reduce_sum(tf.zeros([rows, 10**7]) + tf.cast(rows, tf.float32))


def assert_out_of_memory(message, words):
    assert message.startswith("Out of memory with this batch size. Received: ") and words in message
    for flag in ("--batch_size", "--accumulation_steps", "--cache=none"):
        assert flag in message


@pytest.mark.slow  # TensorFlow waits for memory for ten seconds
@pytest.mark.parametrize("allocate", [lambda rows: tf.zeros([rows, 10**7]) + 1.0, allocate_in_graph])
def test_memory_that_does_not_suffice_to_tensorflow(allocate):
    message = message_of(allocate, tf.constant(10**7))
    assert_out_of_memory(message, "OOM when allocating tensor with shape[10000000,10000000]")


@pytest.mark.parametrize(
    "text",
    [
        "{{function_node __wrapped__Fill_device_/job:localhost/replica:0/task:0/device:CPU:0}} OOM when allocating "
        "tensor with shape[8,9] and type float by allocator mklcpu [Op:Fill] name: ",
        'Graph execution error:\n\nDetected at node zeros defined at (most recent call last):\n  File "/x.py", line 3\n'
        "\nOOM when allocating tensor with shape[8,9] and type float by allocator mklcpu\n\t [[{{node zeros}}]]\n"
        "Hint: If you want to see a list of allocated tensors when OOM happens, add something.\n [Op:__inference_g_8]",
    ],
    ids=["eager", "graph"],
)
def test_of_tensorflows_words_on_memory_the_useful_ones_stay(text):
    message = message_of(raises(tf.errors.ResourceExhaustedError(None, None, text)))
    assert_out_of_memory(
        message, "Received: OOM when allocating tensor with shape[8,9] and type float by allocator mklcpu."
    )


def test_memory_that_does_not_suffice_to_numpy():
    message = message_of(lambda: np.ones((10**7, 10**7)))
    assert_out_of_memory(message, "Unable to allocate 728. TiB for an array with shape (10000000, 10000000)")


FULL_DISK = "/dev/full"  # every write to it fails as on a full disk


def write_in_python():
    with open(FULL_DISK, "w") as file:
        file.write("x")


def write_in_tensorflow():
    tf.io.write_file(FULL_DISK, "x" * 100_000)


@pytest.mark.skipif(not os.path.exists(FULL_DISK), reason="this system has no /dev/full")
@pytest.mark.parametrize("write", [write_in_python, write_in_tensorflow])
def test_a_full_disk(write):
    message = message_of(write)
    assert " could not be written. Received: " in message
    assert "No space left on device" in message and "Free some space" in message


@pytest.mark.parametrize("number", [28, 122, 30, 5, 116])
def test_a_disk_that_fails(number):
    message = message_of(raises(OSError(number, os.strerror(number), "/runs/log.jsonl")))
    assert message.startswith(f"The file /runs/log.jsonl could not be written. Received: {os.strerror(number)}. ")


LOST = [
    tf.errors.UnavailableError(None, None, "Collective ops is aborted by: Socket closed\nRestart your program."),
    tf.errors.AbortedError(None, None, "Collective ops is aborted"),
    tf.errors.DeadlineExceededError(None, None, "Collective has timed out waiting for other workers."),
    tf.errors.ResourceExhaustedError(
        None, None, "{{function_node x}} Collective ops is aborted by: OOM when allocating"
    ),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_lost_worker(error, monkeypatch):
    def lose():
        raise error

    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
    message = message_of(lose)
    assert message.startswith("All workers must run to the end. Received: another worker stopped (")
    assert "Start all workers again with the same command" in message
    monkeypatch.delenv("TF_CONFIG")  # one process alone has no other to lose
    with pytest.raises((type(error), InputError)) as raised, in_plain_words():
        lose()
    assert "All workers" not in str(raised.value)


@pytest.mark.parametrize(
    "exception",
    [
        InputError("bad flag"),
        ValueError("a defect"),
        KeyboardInterrupt(),
        SystemExit(3),
        PermissionError(13, "Permission denied", "x"),
        tf.errors.InvalidArgumentError(None, None, "shapes differ"),
        tf.errors.NotFoundError(None, None, "no such op"),
    ],
    ids=lambda exception: type(exception).__name__,
)
def test_what_else_passes_as_it_is(exception):
    with pytest.raises(type(exception)) as raised, in_plain_words():
        raises(exception)()
    assert raised.value is exception


def test_a_checkpoint_on_a_full_disk_keeps_its_own_words(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_write_archive", lambda *_: raises(OSError(28, "No space left on device"))())
    message = message_of(checkpoint.save_arrays, str(tmp_path / "w.npz"), {}, {"labels": []})
    assert message.startswith(
        f"The checkpoint {tmp_path}/w.npz could not be written. Received: No space left on device"
    )
