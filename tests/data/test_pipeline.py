"""Batches: every image exactly once in evaluation, an order that seed and epoch decide in training."""

import contextlib
import io
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from srn_tf.choices import CACHES
from srn_tf.data import mixing, pipeline
from srn_tf.data.augments import Effects
from srn_tf.data.crops import Crops, RandomResizedCrop
from srn_tf.data.pipeline import (
    cached,
    evaluation_batches,
    read_records,
    replica_stacks,
    training_batches,
)
from srn_tf.data.sampling import repeats_of_an_epoch
from srn_tf.errors import InputError
from tests.data.conftest import SMALL_SPLITS

S_PX, C = 56, 16
CACHES_OF_IMAGES = [cache for cache in CACHES if cache != "features"]
NUM_TRAIN = SMALL_SPLITS["train"]


@pytest.fixture(scope="module")
def records(small_scenes):
    return read_records(small_scenes, "train")


@pytest.fixture(scope="module")
def stored(records):
    """The records in their stored order, with their pixels: scenes are as large as the network's input."""
    found = []
    for record in tfds.as_numpy(records):
        pixels = np.asarray(Image.open(io.BytesIO(record["image"])))
        found.append({**record, "pixels": pixels.astype(np.float32)})
    return found


def as_numpy(batches):
    return list(batches.as_numpy_iterator())


def joined(batches, key):
    return np.concatenate([batch[key] for batch in as_numpy(batches)])


def order_of(images, stored):
    """Indices in `stored` of images that were not augmented."""
    pixels = np.stack([record["pixels"] for record in stored])
    distances = np.abs(images[:, None] - pixels[None]).max(axis=(2, 3, 4))
    assert distances.min(axis=1).max() < 1e-3
    return distances.argmin(axis=1).tolist()


@pytest.fixture
def decoded(monkeypatch):
    """A list that grows by the side, in pixels, that each image is squashed to when it is decoded."""
    found = []

    def count_calls(name):
        original = getattr(pipeline, name)

        def counting(image_bytes, size_px, *crop):
            counted = tf.numpy_function(lambda data: found.append(size_px) or data, [image_bytes], tf.string)
            return original(tf.ensure_shape(counted, []), size_px, *crop)

        monkeypatch.setattr(pipeline, name, counting)

    count_calls("_preprocess")
    count_calls("preprocess_crop")
    pipeline._augmented.cache_clear()  # which has been built with those
    yield found
    pipeline._augmented.cache_clear()


# Reading.


def test_records_are_encoded_and_in_their_stored_order(small_scenes, records, stored):
    assert int(records.cardinality()) == len(stored) == NUM_TRAIN
    names = [record["name"] for record in stored]
    assert len(set(names)) == NUM_TRAIN
    assert [record["name"] for record in tfds.as_numpy(read_records(small_scenes, "train"))] == names
    later = read_records(small_scenes, "train[5:]")
    assert [record["name"] for record in tfds.as_numpy(later)] == names[5:]
    assert records.element_spec["image"].dtype == tf.string


def names_of(records):
    return [record["name"] for record in tfds.as_numpy(records)]


@pytest.mark.parametrize(
    "split, sizes",
    [
        pytest.param("train", [12], marks=pytest.mark.slow),
        ("train", [3, 3, 2, 2, 2]),
        pytest.param("train", [1] * 12 + [0] * 3, marks=pytest.mark.slow),
        pytest.param("train[3:]", [5, 4], marks=pytest.mark.slow),
        pytest.param("train[3:5]", [1, 1, 0], marks=pytest.mark.slow),
        ("train[:4]+test", [5, 4]),  # 2 and 3, 2 and 2
    ],
)
def test_workers_share_a_split(small_scenes, split, sizes):
    shares = [read_records(small_scenes, split, (index, len(sizes))) for index in range(len(sizes))]
    assert [int(share.cardinality()) for share in shares] == sizes
    names = [names_of(share) for share in shares]
    assert [len(share) for share in names] == sizes
    assert sorted(sum(names, [])) == sorted(names_of(small_scenes.as_dataset(split=split)))


def test_one_worker_reads_all_in_the_stored_order(small_scenes):
    assert (
        names_of(read_records(small_scenes, "train[3:]", (0, 1))) == names_of(read_records(small_scenes, "train"))[3:]
    )


# Evaluation.


@pytest.mark.parametrize("batch_size", [5, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 12, 20))])
def test_evaluation_sees_every_image_exactly_once_in_order(records, stored, batch_size):
    batches = evaluation_batches(records, S_PX, batch_size)
    shapes = {name: array.shape for name, array in next(batches.as_numpy_iterator()).items()}
    num_boxes = shapes["boxes"][1]
    assert shapes == {
        "image": (batch_size, S_PX, S_PX, 3),
        "labels": (batch_size, C),
        "is_real": (batch_size,),
        "boxes": (batch_size, num_boxes, 4),
        "box_labels": (batch_size, num_boxes),
    }
    num_batches = -(-NUM_TRAIN // batch_size)
    is_real = joined(batches, "is_real")
    assert is_real.tolist() == [True] * NUM_TRAIN + [False] * (num_batches * batch_size - NUM_TRAIN)
    images, labels = joined(batches, "image")[is_real], joined(batches, "labels")[is_real]
    assert order_of(images, stored) == list(range(NUM_TRAIN))
    assert labels.dtype == np.int8
    np.testing.assert_array_equal(labels, [record["labels"] for record in stored])


def test_the_tail_is_blank(records):
    last = as_numpy(evaluation_batches(records, S_PX, 8))[-1]
    assert last["is_real"].tolist() == [True] * 4 + [False] * 4
    assert not last["image"][4:].any() and not last["labels"][4:].any()
    assert (last["box_labels"][4:] == -1).all()


def test_boxes_are_padded_with_minus_1(records, stored):
    for batch_index, batch in enumerate(as_numpy(evaluation_batches(records, S_PX, 4))):
        own = stored[4 * batch_index : 4 * batch_index + 4]
        counts = [len(record["objects"]["label"]) for record in own]
        assert batch["boxes"].shape[1] == max(counts)
        for row, (record, count) in enumerate(zip(own, counts, strict=True)):
            assert batch["box_labels"][row].tolist() == record["objects"]["label"].tolist() + [-1] * (
                max(counts) - count
            )
            np.testing.assert_array_equal(batch["boxes"][row, :count], record["objects"]["bbox"])


def test_evaluation_resizes(records):
    batch = next(evaluation_batches(records, 112, 3).as_numpy_iterator())
    assert batch["image"].shape == (3, 112, 112, 3)


@pytest.mark.slow
def test_evaluation_keeps_other_values_of_labels(records):
    changed = records.map(lambda record: {**record, "labels": record["labels"] * 2 - 1})  # 1 and -1
    labels = joined(evaluation_batches(changed, S_PX, 4), "labels")
    np.testing.assert_array_equal(labels, joined(evaluation_batches(records, S_PX, 4), "labels") * 2 - 1)


# Training.


def training_order(records, stored, seed, epoch, batch_size=4):
    return order_of(joined(training_batches(records, S_PX, batch_size, seed, epoch), "image"), stored)


def test_training_batches_are_full(records):
    batches = training_batches(records, S_PX, 5, seed=0, epoch=0)
    assert batches.element_spec["image"].shape == (5, S_PX, S_PX, 3)
    assert batches.element_spec["image"].dtype == batches.element_spec["y"].dtype == tf.float32
    assert [batch["y"].shape for batch in as_numpy(batches)] == [(5, C)] * 2  # 12 images: the last 2 are left out


def test_seed_and_epoch_decide_the_order(records, stored):
    """Of images as they are stored, each of them once, with its labels."""
    orders = {}
    for place in ((0, 0), (0, 1), (1, 0)):
        batches = as_numpy(training_batches(records, S_PX, 4, *place))
        orders[place] = order_of(np.concatenate([batch["image"] for batch in batches]), stored)
        assert sorted(orders[place]) == list(range(NUM_TRAIN))
        y = np.concatenate([batch["y"] for batch in batches])
        np.testing.assert_array_equal(y, [stored[i]["labels"] for i in orders[place]])
    assert len({tuple(order) for order in orders.values()}) == 3
    assert list(range(NUM_TRAIN)) not in orders.values()
    assert training_order(records, stored, 0, 1) == orders[0, 1]


@pytest.mark.slow
def test_iterating_again_gives_the_same_epoch(records):
    batches = training_batches(records, S_PX, 4, seed=3, epoch=1, crops=Crops(), mirror=True)
    np.testing.assert_array_equal(joined(batches, "image"), joined(batches, "image"))


AUGMENTED = {"crops": Crops(max_distortion=1), "mirror": True}


@pytest.mark.slow
def test_augmentation_does_not_depend_on_parallelism(records):
    batches = training_batches(records, S_PX, 4, seed=5, epoch=1, **AUGMENTED)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    options.autotune.enabled = False
    np.testing.assert_array_equal(joined(batches.with_options(options), "image"), joined(batches, "image"))


@pytest.mark.slow
def test_augmentation_does_not_depend_on_the_batch_size(records):
    by_4, by_6 = (training_batches(records, S_PX, size, seed=5, epoch=1, **AUGMENTED) for size in (4, 6))
    np.testing.assert_array_equal(joined(by_4, "image"), joined(by_6, "image"))


@pytest.mark.slow
def test_augmentation_differs_between_epochs_and_seeds(records):
    one = records.take(1).repeat(6)  # the same image over and over
    drawn = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        images = joined(training_batches(one, S_PX, 6, seed, epoch, **AUGMENTED), "image")
        assert len({image.tobytes() for image in images}) >= 4  # positions differ as well
        drawn[seed, epoch] = images.tobytes()
    assert len(set(drawn.values())) == 3


@pytest.mark.slow
def test_mirror_alone_turns_some_images(records, stored):
    images = joined(training_batches(records, S_PX, 1, seed=0, epoch=0, mirror=True), "image")
    plain = joined(training_batches(records, S_PX, 1, seed=0, epoch=0), "image")
    is_plain = [bool(np.abs(a - b).max() < 1e-3) for a, b in zip(images, plain, strict=True)]
    is_turned = [bool(np.abs(a - b[:, ::-1]).max() < 1e-3) for a, b in zip(images, plain, strict=True)]
    assert all(a != b for a, b in zip(is_plain, is_turned, strict=True))
    assert 0 < sum(is_turned) < NUM_TRAIN


@pytest.mark.slow
def test_the_shuffle_buffer_bounds_how_far_a_record_moves_forward(records, stored):
    def order(size):
        return order_of(
            joined(training_batches(records, S_PX, 1, seed=0, epoch=0, shuffle_buffer=size), "image"), stored
        )

    assert order(1) == list(range(NUM_TRAIN))
    among_3 = order(3)
    assert all(index <= position + 2 for position, index in enumerate(among_3))  # among the next 3
    assert any(index > position + 2 for position, index in enumerate(order(NUM_TRAIN)))
    assert sorted(among_3) == list(range(NUM_TRAIN))


def test_unspecified_entries_are_negative_and_counted_unless_ignored(records):
    changed = records.map(
        lambda record: {**record, "labels": tf.concat([[-1, 0, 1, 2], record["labels"][4:] * 2 - 1], 0)}
    )
    assert "counted" not in training_batches(changed, S_PX, 4, seed=0, epoch=0).element_spec
    batches = training_batches(changed, S_PX, 4, seed=0, epoch=0, ignore_unspecified=True)
    assert batches.element_spec["counted"] == tf.TensorSpec((4, C), tf.float32)
    for batch in as_numpy(batches):
        assert (batch["y"][:, :4] == [0, 0, 1, 0]).all()  # 1 where the label is 1, and nowhere else
        assert set(np.unique(batch["y"]).tolist()) == {0.0, 1.0}
        assert (batch["counted"] == [1, 0, *[1] * (C - 2)]).all()


@pytest.mark.slow
def test_other_versions_in_every_epoch_are_seeded_by_epoch_and_position(records):
    """Written out, so that runs of the same seed stay what they were."""
    seed, epoch = 5, 3
    order = records.shuffle(20_000, seed=seed * 1_000_003 + epoch, reshuffle_each_iteration=False)
    augmented = pipeline._augmented(S_PX, Crops(max_distortion=1), True)
    expected = [
        augmented(record["image"], tf.constant([epoch * 1_000_003 + seed, position], tf.int64))
        for position, record in enumerate(order)
    ]
    batches = training_batches(records, S_PX, 4, seed, epoch, **AUGMENTED)
    np.testing.assert_array_equal(joined(batches, "image"), expected)


def test_training_decodes_fast_what_it_would_have_decoded_whole(records):
    """The same images, crops and mirrors as without, near as pixels go, at whatever step an epoch begins."""
    files = []
    for record in as_numpy(records):
        image = Image.open(io.BytesIO(record["image"])).resize((480, 400), Image.Resampling.BICUBIC)
        image.save(file := io.BytesIO(), "JPEG", quality=92)
        files.append(file.getvalue())
    large = tf.data.Dataset.from_tensor_slices({"image": files, "labels": np.ones((NUM_TRAIN, C), np.int8)})
    seeds = [tf.constant([1_000_008, position], tf.int64) for position in range(8, NUM_TRAIN)]  # of epoch 1, seed 5
    (batch,) = as_numpy(training_batches(large, S_PX, 4, 5, 1, **AUGMENTED, first_step=2, fast_decode=True))
    order = large.shuffle(20_000, seed=5_000_016, reshuffle_each_iteration=False).skip(8)
    images = [record["image"] for record in order]
    exact, fast = (
        np.stack([augmented.python_function(*each) for each in zip(images, seeds, strict=True)])  # not traced
        for augmented in (
            pipeline._augmented(S_PX, *AUGMENTED.values(), Effects(), is_fast) for is_fast in (False, True)
        )
    )
    np.testing.assert_allclose(batch["image"], fast, atol=5e-3)
    distances = np.abs(fast - exact).mean(axis=(1, 2, 3))
    assert distances.min() > 0.0 and distances.max() < 1.5


@pytest.mark.slow
def test_fixed_versions_are_drawn_from_in_every_epoch(records, stored):
    """Each image is one of its K versions, in every epoch one drawn anew; of more versions these are the first."""
    K, epochs, arguments = 3, 4, {"crops": Crops(max_distortion=1), "mirror": True}
    versions = np.stack(as_numpy(pipeline.fixed_versions(records, S_PX, K, **arguments)))
    assert versions.shape == (NUM_TRAIN * K, S_PX, S_PX, 3) and len(np.unique(versions, axis=0)) > 2 * NUM_TRAIN
    of_more = np.stack(as_numpy(pipeline.fixed_versions(records, S_PX, K + 1, **arguments)))
    np.testing.assert_array_equal(of_more.reshape(NUM_TRAIN, K + 1, -1)[:, :K], versions.reshape(NUM_TRAIN, K, -1))
    drawn = np.full([epochs, NUM_TRAIN], -1)
    for epoch in range(epochs):
        batches = training_batches(records, S_PX, 4, 5, epoch, **arguments, fixed_crops=K)
        order = training_order(records, stored, 5, epoch)
        for place, image in zip(order, joined(batches, "image"), strict=True):
            own = versions[place * K : place * K + K]
            drawn[epoch, place] = np.flatnonzero((own == image).all(axis=(1, 2, 3)))[0]
    assert (drawn >= 0).all() and set(drawn.ravel()) == set(range(K)) and len(np.unique(drawn, axis=0)) == epochs


class _Rows:
    """Stands for features: a batch keeps the numbers of its rows."""

    def put_in(self, batch):
        return batch


def test_images_come_as_often_as_they_are_repeated(records, stored):
    """In every epoch anew, on from any step, and with fixed versions each copy as another one."""
    factors = np.ones(NUM_TRAIN)
    factors[[2, 7, 9]] = 2.5, 3.0, 1.5  # 16 images
    for epoch in (0, 1):
        images = joined(training_batches(records, S_PX, 4, 5, epoch, repeat_factors=factors), "image")
        counts = np.bincount(order_of(images, stored), minlength=NUM_TRAIN)
        np.testing.assert_array_equal(counts, repeats_of_an_epoch(factors, 5, epoch))
    rest = joined(training_batches(records, S_PX, 4, 5, 1, repeat_factors=factors, first_step=3), "image")
    np.testing.assert_array_equal(rest, images[12:])
    how = {"mirror": True, "fixed_crops": 3, "repeat_factors": factors, "features": _Rows()}
    rows = joined(training_batches(records, S_PX, 4, 5, 1, **how), "row")
    assert len(set(rows.tolist())) == 16 and {21, 22, 23} <= set(rows.tolist())
    np.testing.assert_array_equal(np.bincount(rows // 3, minlength=NUM_TRAIN), counts)


@pytest.mark.slow
def test_without_crops_and_mirror_there_is_one_version(records):
    assert pipeline.num_versions(4, crops=None, mirror=False) == pipeline.num_versions(0, None, False) == 1
    assert [pipeline.num_versions(k, crops=None, mirror=True) for k in (0, 4)] == [0, 4]
    plain, fixed = (joined(training_batches(records, S_PX, 4, 5, 1, fixed_crops=k), "image") for k in (0, 4))
    np.testing.assert_array_equal(fixed, plain)


# Effects on pixels, and mixed batches.

EFFECTS = Effects(("colour_jitter", "cutout", "cutmix", "label_smoothing"))


@pytest.mark.slow
def test_mixed_batches_come_again_at_whatever_step_an_epoch_is_continued(records):
    arguments = records, S_PX, 4, 5, 1
    batches = training_batches(*arguments, **AUGMENTED, effects=EFFECTS)
    assert batches.element_spec["image"].shape == (4, S_PX, S_PX, 3) and batches.element_spec["y"].shape == (4, C)
    whole = as_numpy(batches)
    y = np.concatenate([batch["y"] for batch in whole])
    assert len(np.unique(y)) > 4 and y.min() == np.float32(0.05) and y.max() <= np.float32(0.95)
    rest = training_batches(*arguments, **AUGMENTED, effects=EFFECTS, first_step=1, threads=1)
    assert_equal(as_numpy(rest), whole[1:])
    other = as_numpy(training_batches(records, S_PX, 4, 5, 2, **AUGMENTED, effects=EFFECTS))
    assert all((a["image"] != b["image"]).any() for a, b in zip(other, whole, strict=True))


@pytest.mark.slow
def test_equal_shares_of_a_spliced_batch_have_equally_many_of_both(records):
    """Four images, then one that is made of the batch's, for each replica."""
    plain, spliced = (
        training_batches(records, S_PX, 8, 5, 1, effects=Effects(names)) for names in ((), ("splicemix",))
    )
    stacks = as_numpy(replica_stacks(spliced, 2, 1))
    (batch,) = as_numpy(plain)
    assert [stack["image"].shape for stack in stacks] == [(1, 5, S_PX, S_PX, 3)] * 2
    for replica, stack in enumerate(stacks):
        np.testing.assert_array_equal(stack["image"][0, :4], batch["image"][4 * replica : 4 * replica + 4])
        np.testing.assert_array_equal(stack["y"][0, :4], batch["y"][4 * replica : 4 * replica + 4])


@pytest.mark.slow
def test_effects_change_pixels_alone_and_only_where_they_are_listed(records):
    """The order, crops and mirroring stay; mixing is of the batch that would have come without."""
    plain = as_numpy(training_batches(records, S_PX, 4, 5, 1, **AUGMENTED))
    assert_equal(as_numpy(training_batches(records, S_PX, 4, 5, 1, **AUGMENTED, effects=Effects())), plain)
    cut = as_numpy(training_batches(records, S_PX, 4, 5, 1, **AUGMENTED, effects=Effects(("cutout",))))
    for before, after in zip(plain, cut, strict=True):
        same = (before["image"] == after["image"]).all(axis=-1).mean(axis=(1, 2))
        assert ((same > 0.7) & (same < 1.0)).all()
        np.testing.assert_array_equal(before["y"], after["y"])
    mixup = as_numpy(training_batches(records, S_PX, 4, 5, 1, **AUGMENTED, effects=Effects(("mixup",))))
    for step, (before, after) in enumerate(zip(plain, mixup, strict=True)):
        seed = tf.constant([1 * 1_000_003 + 5, step], tf.int64)
        for number in (1_000, 0):
            seed = tf.random.experimental.stateless_fold_in(seed, number)
        expected = mixing.mixup({name: tf.constant(value) for name, value in before.items()}, seed, 0.2)
        np.testing.assert_allclose(after["image"], expected["image"], atol=1e-3)


@pytest.mark.slow
def test_workers_mix_their_own_images(records):
    shares = [
        as_numpy(training_batches(records, S_PX, 8, 5, 1, share=(index, 2), effects=Effects(("splicemix",))))
        for index in range(2)
    ]
    assert [batch["image"].shape[0] for (batch,) in shares] == [5, 5]
    with pytest.raises(InputError, match="batch_size must be a multiple of 4 x workers for splicemix. Received: 2 im"):
        training_batches(records, S_PX, 4, 5, 1, share=(0, 2), effects=Effects(("splicemix",)))


# A share, and a place in the epoch.


def assert_equal(received, expected):
    assert len(received) == len(expected)
    for a, b in zip(received, expected, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def put_together(shares):
    """Batches of several workers -> those of one."""
    return [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*shares, strict=True)
    ]


@pytest.mark.parametrize(
    "batch_size, num_workers, first_step, fixed_crops",
    [
        (4, 2, 1, 3),
        pytest.param(4, 1, 2, 0, marks=pytest.mark.slow),
        pytest.param(4, 2, 0, 0, marks=pytest.mark.slow),
        pytest.param(5, 5, 1, 0, marks=pytest.mark.slow),
        pytest.param(3, 3, 3, 2, marks=pytest.mark.slow),
    ],
)
def test_the_shares_of_all_workers_are_the_batches_of_one(records, batch_size, num_workers, first_step, fixed_crops):
    arguments = records, S_PX, batch_size, 7, 2
    how = {**AUGMENTED, "fixed_crops": fixed_crops}
    whole = as_numpy(training_batches(*arguments, **how))[first_step:]
    shares = []
    for index in range(num_workers):
        batches = training_batches(*arguments, **how, first_step=first_step, share=(index, num_workers))
        assert batches.element_spec["image"].shape == (batch_size // num_workers, S_PX, S_PX, 3)
        shares.append(as_numpy(batches))
    assert len(whole) == NUM_TRAIN // batch_size - first_step
    assert_equal(put_together(shares), whole)


@pytest.mark.slow
def test_what_is_not_a_worker_s_or_before_its_first_step_is_not_decoded(records, decoded):
    batches = training_batches(records, S_PX, 4, 0, 0, crops=Crops(), first_step=1, share=(1, 2))
    assert len(as_numpy(batches)) == 2
    assert len(decoded) == 4
    decoded.clear()
    as_numpy(evaluation_batches(records, S_PX, 8, share=(0, 2)))
    assert len(decoded) == 8  # rows 0 to 3 of 12 images in batches of 8


def test_the_place_behind_the_last_step_is_empty(records):
    assert as_numpy(training_batches(records, S_PX, 5, 0, 0, first_step=2)) == []


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(records, threads):
    arguments = records, S_PX, 4, 5, 1
    batches = training_batches(*arguments, **AUGMENTED, threads=threads)
    assert batches.options().threading.private_threadpool_size == threads
    assert_equal(as_numpy(batches), as_numpy(training_batches(*arguments, **AUGMENTED)))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size, num_workers", [(4, 2), (10, 5), (16, 4)])
def test_evaluation_shares_of_all_workers_are_the_batches_of_one(records, batch_size, num_workers):
    whole = as_numpy(evaluation_batches(records, S_PX, batch_size))
    shares = [
        as_numpy(evaluation_batches(records, S_PX, batch_size, share=(index, num_workers)))
        for index in range(num_workers)
    ]
    num_boxes = max(batch["box_labels"].shape[1] for batch in whole)
    for batch in sum(shares, whole):  # to one number of boxes
        room = num_boxes - batch["box_labels"].shape[1]
        batch["boxes"] = np.pad(batch["boxes"], [(0, 0), (0, room), (0, 0)])
        batch["box_labels"] = np.pad(batch["box_labels"], [(0, 0), (0, room)], constant_values=-1)
    assert_equal(put_together(shares), whole)


@pytest.mark.parametrize("batches_of", [lambda *a, **k: training_batches(*a, 0, 0, **k), evaluation_batches])
def test_workers_must_share_a_batch_evenly(records, batches_of):
    with pytest.raises(InputError, match="batch_size must be a multiple of the number of workers, 3. Received: 4"):
        batches_of(records, S_PX, 4, share=(0, 3))


# Stacks for replicas.


@pytest.mark.parametrize("num_replicas, steps_per_call", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 5), (2, 7)])
def test_stacks_are_dealt_out_replica_after_replica(num_replicas, steps_per_call):
    """Against counting: image j of batch i is 6 i + j, and 5 batches are grouped."""
    batches = tf.data.Dataset.range(30).map(lambda j: {"image": tf.fill([2, 1], j), "y": j}).batch(6)
    stacks = as_numpy(replica_stacks(batches, num_replicas, steps_per_call))
    b = 6 // num_replicas
    expected = []
    for first in range(0, 5, steps_per_call):
        group = range(first, min(first + steps_per_call, 5))
        for replica in range(num_replicas):
            expected.append([[6 * i + replica * b + j for j in range(b)] for i in group])
    assert [stack["y"].tolist() for stack in stacks] == expected
    for stack in stacks:
        assert stack["image"].shape == (*stack["y"].shape, 2, 1)
        assert (stack["image"][..., 0, 0] == stack["y"]).all() and (stack["image"][..., 1, 0] == stack["y"]).all()


def test_stacks_of_training_batches_have_fixed_shapes_but_for_the_steps(records):
    batches = training_batches(records, S_PX, 4, 0, 0, ignore_unspecified=True)
    for num_replicas, steps, n in ((1, 1, 1), (2, 1, 1), (1, 2, None), (2, 2, None)):
        spec = replica_stacks(batches, num_replicas, steps).element_spec
        b = 4 // num_replicas
        assert spec["image"].shape.as_list() == [n, b, S_PX, S_PX, 3]
        assert spec["y"].shape.as_list() == spec["counted"].shape.as_list() == [n, b, C]


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_call", [1, 2])
def test_a_strategy_gives_each_replica_its_share(records, steps_per_call):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    batches = training_batches(records, S_PX, 4, 3, 0)
    distributed = strategy.distribute_datasets_from_function(lambda _: replica_stacks(batches, 1, steps_per_call))
    received = [stack["image"].numpy() for stack in distributed]
    assert [len(stack) for stack in received] == ([1, 1, 1] if steps_per_call == 1 else [2, 1])
    np.testing.assert_array_equal(np.concatenate(received).reshape(-1, S_PX, S_PX, 3), joined(batches, "image"))


# Memory.


BOXES = np.float32([[0.1, 0.3, 0.45, 0.6], [0.5, 0.05, 0.7, 0.5], [0.6, 0.55, 0.95, 0.9]])


@pytest.mark.parametrize(
    "crops, mirror",
    [
        (RandomResizedCrop(0.2), True),
        *(
            pytest.param(*how, marks=pytest.mark.slow)
            for how in ((Crops(), True), (Crops(), False), (None, True), (None, False))
        ),
    ],
)
def test_boxes_are_augmented_as_their_image_is(crops, mirror):
    """Each box is painted in a channel of its own: what is bright there is the box."""
    pixels = np.zeros((200, 300, 3), np.uint8)
    for channel, (top, left, bottom, right) in enumerate(BOXES * [200, 300, 200, 300]):
        pixels[round(top) : round(bottom), round(left) : round(right), channel] = 255
    objects = {"bbox": BOXES, "label": np.int64([4, 5, 6])}
    record = {"image": tf.io.encode_png(pixels), "labels": np.ones(7, np.int8), "objects": objects}
    records = tf.data.Dataset.from_tensors(record).repeat(16)
    how = {"crops": crops, "mirror": mirror}
    (batch,) = as_numpy(training_batches(records, 56, 16, 3, 0, **how, num_boxes=5))
    (without,) = as_numpy(training_batches(records, 56, 16, 3, 0, **how))
    assert sorted(without) == ["image", "y"]  # and they are the same bit for bit
    assert all((batch[name] == without[name]).all() for name in without)
    assert batch["boxes"].shape == (16, 5, 4) and batch["box_labels"].dtype == np.int64
    seen = set()
    for image, boxes, labels in zip(batch["image"], batch["boxes"], batch["box_labels"], strict=True):
        known = [label for label in labels.tolist() if label >= 0]
        assert labels.tolist() == known + [-1] * (5 - len(known)) and (boxes[len(known) :] == 0).all()
        seen.add(tuple(known))
        assert crops or known == [4, 5, 6]
        for channel, label in enumerate((4, 5, 6)):
            rows, columns = (np.flatnonzero((image[..., channel] > 127).any(axis=axis)) for axis in (1, 0))
            box = boxes[known.index(label)] * 56 if label in known else np.zeros(4)
            if min(box[2:] - box[:2]) < 2:
                assert len(rows) <= 2 or len(columns) <= 2  # a sliver, or nothing
            else:
                np.testing.assert_allclose(box, [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], atol=1.0)
    assert len(seen) > 1 or not crops


class Rows:
    """Stands for data.features.Features: a batch has the rows of the features instead of them."""

    def put_in(self, batch):
        return batch


@pytest.mark.slow
def test_boxes_that_come_with_features_are_those_of_the_fixed_crop():
    """Against the crops themselves: in each the box is what is bright, and its label where nothing is."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[4:30, 34:60, 0], pixels[40:60, 8:28, 1] = 255, 255  # which crops of corners cut off or leave out
    objects = {"bbox": np.float32([[4, 34, 30, 60], [40, 8, 60, 28]]) / 64, "label": np.int64([4, 5])}
    record = {"image": tf.io.encode_png(pixels), "labels": np.ones(7, np.int8), "objects": objects}
    records = tf.data.Dataset.from_tensors(record).repeat(4)
    images = list(pipeline.fixed_versions(records, 56, 4, Crops(), True).as_numpy_iterator())
    how = {"crops": Crops(), "mirror": True, "num_boxes": 3, "fixed_crops": 4}
    rows = []
    for epoch in range(3):
        (batch,) = as_numpy(training_batches(records, 56, 4, 0, epoch, **how, features=Rows()))
        assert sorted(batch) == ["box_labels", "boxes", "row", "y"]
        for row, boxes, labels in zip(batch["row"], batch["boxes"], batch["box_labels"], strict=True):
            rows.append(row)
            for channel, label in enumerate((4, 5)):
                bright = images[row][..., channel] > 127
                if label not in labels:
                    assert bright.sum() <= 2 * 56  # nothing, or a sliver
                    continue
                lines, columns = (np.flatnonzero(bright.any(axis=axis)) for axis in (1, 0))
                box = boxes[labels.tolist().index(label)] * 56
                if min(box[2:] - box[:2]) >= 2:
                    edges = [lines[0], columns[0], lines[-1] + 1, columns[-1] + 1]
                    np.testing.assert_allclose(box, edges, atol=1.0)
    assert len(set(rows)) > 4  # other crops in other epochs


def test_boxes_have_their_shape_before_the_first_batch(records):
    spec = training_batches(records, 56, 4, 0, 0, num_boxes=9).element_spec
    assert (spec["boxes"].shape, spec["box_labels"].shape) == ((4, 9, 4), (4, 9))
    spec = evaluation_batches(records, 56, 4, num_boxes=9).element_spec
    assert (spec["boxes"].shape, spec["box_labels"].shape) == ((4, 9, 4), (4, 9))


@pytest.mark.slow
@pytest.mark.parametrize("crops, fixed_crops", [(Crops(max_distortion=1), 2), (None, 0)])
def test_batches_do_not_depend_on_the_cache(records, crops, fixed_crops):
    """Of JPEGs only up to rounding: `test_preprocessing.test_a_crop_is_cut_out_of_the_whole`."""
    kept = {cache: cached(records, cache, S_PX, crops) for cache in CACHES_OF_IMAGES}
    how = {"crops": crops, "mirror": True, "fixed_crops": fixed_crops}
    for epoch in (0, 1):
        batches = {
            cache: as_numpy(training_batches(kept[cache], S_PX, 5, 1, epoch, **how)) for cache in CACHES_OF_IMAGES
        }
        assert len(batches["none"]) == 2
        for cache in ("encoded", "decoded"):
            for received, expected in zip(batches[cache], batches["none"], strict=True):
                np.testing.assert_array_equal(received["image"], expected["image"])
                np.testing.assert_array_equal(received["y"], expected["y"])


@pytest.mark.parametrize(
    "cache", [*(pytest.param(cache, marks=pytest.mark.slow) for cache in ("none", "encoded")), "decoded"]
)
def test_what_is_kept_is_not_read_again(small_scenes, tmp_path, cache):
    folder = shutil.copytree(small_scenes.data_dir, tmp_path / "copy")
    kept = cached(read_records(tfds.builder_from_directory(folder), "train"), cache, S_PX, crops=Crops())
    num_read = [len(as_numpy(training_batches(kept, S_PX, 4, seed=0, epoch=0, crops=Crops())))]
    for file in folder.glob("*tfrecord*"):
        file.unlink()
    if cache == "none":
        with pytest.raises(tf.errors.NotFoundError):
            as_numpy(training_batches(kept, S_PX, 4, seed=0, epoch=1, crops=Crops()))
    else:
        num_read.append(len(as_numpy(training_batches(kept, S_PX, 4, seed=0, epoch=1, crops=Crops()))))
        assert num_read == [3, 3]


@pytest.mark.slow
@pytest.mark.parametrize("cache, expected", [("none", [10, 20]), ("encoded", [10, 20]), ("decoded", [12, 12])])
def test_what_is_kept_decoded_is_not_decoded_again(records, decoded, cache, expected):
    """Nor is the rest of an epoch that fills no batch, unless it is kept."""
    kept = cached(records, cache, S_PX, crops=Crops())
    counts = []
    for epoch in range(2):
        as_numpy(training_batches(kept, S_PX, 5, seed=0, epoch=epoch, crops=Crops()))
        counts.append(len(decoded))
    assert counts == expected
    assert set(decoded) == {64}  # 56 * 256 / 224


def test_the_memory_of_decoded_images_is_announced(records, caplog):
    with caplog.at_level("INFO", "srn_tf"):
        cached(records.take(4).repeat(250), "decoded", 224, crops=Crops())
        cached(records.take(4).repeat(250), "decoded", 224, crops=None)
        cached(records, "encoded", 224, crops=Crops())
    # 1,000 images of 786,432 and of 602,112 bytes.
    assert [record.getMessage()[-17:] for record in caplog.records] == ["0.8 GB of memory.", "0.6 GB of memory."]


def test_batches_are_those_of_the_dataset_and_are_let_go_of_elsewhere(records):
    released_by = []

    class Watched:
        """A dataset, and an iterator of it, which notes the thread that drops it."""

        def __init__(self, iterator):
            self._iterator = iterator

        def __iter__(self):
            return Watched(iter(self._iterator))

        def __next__(self):
            return next(self._iterator)

        def __del__(self):
            released_by.append(threading.current_thread())

    dataset = Watched(training_batches(records, S_PX, 4, 0, 0))
    with contextlib.closing(pipeline.Batches(dataset)) as batches:
        assert len(list(batches)) == NUM_TRAIN // 4
        assert next(batches, None) is None and released_by == []
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(10)
    assert len(released_by) == 1 and released_by[0] is not threading.current_thread()
