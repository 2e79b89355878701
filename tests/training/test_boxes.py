"""A stage that needs boxes finds them in its batches, and is refused where there are none."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.data.augments import Effects
from srn_tf.errors import InputError
from srn_tf.models.model import Stage, Term
from srn_tf.models.variables import variable_of
from srn_tf.training.checks import check_plan
from srn_tf.training.losses import sigmoid_loss
from srn_tf.training.mean_term import MeanTerm
from srn_tf.training.trainer import Trainer
from tests.models.region_toy import STAGES
from tests.training import small, small_runs


def boxes_of(dataset, role):
    """How many boxes each image has, by NumPy."""
    return np.array([len(record["objects"]["label"]) for record in dataset.records(role).as_numpy_iterator()])


def model_of(stages, **attributes):
    """As much of a model as a plan is checked with; each part is a linear layer."""
    parts = {name: keras.layers.Dense(1) for stage in stages.values() for name in stage.trains}
    for part in parts.values():
        part.build((None, 1))
    weights = {
        f"{name}/{index}": variable_of(w) for name, part in parts.items() for index, w in enumerate(part.weights)
    }
    return types.SimpleNamespace(stages=stages, parts=parts, weights=weights, logits=("y",), **attributes)


@pytest.mark.slow
def test_every_batch_has_places_for_the_most_boxes_of_an_image(dataset):
    most = max(boxes_of(dataset, "train").max(), boxes_of(dataset, "validation").max())
    plan = small_runs.make_plan(crops=None, shuffle_buffer=1)
    loop = Trainer.__new__(Trainer)
    loop._plan, loop._dataset, loop._strategy = plan, dataset, tf.distribute.get_strategy()
    loop._mode, loop._leaves_out, loop._factors = "ignore", False, None
    loop._records, loop._model = dataset.records("train"), types.SimpleNamespace(image_size=56)
    run = types.SimpleNamespace(index=0, epoch=0, steps=0, stage=STAGES["rpn"])
    context = types.SimpleNamespace(input_pipeline_id=0, num_input_pipelines=1)
    stacks = loop._stacks(run, context)
    assert stacks.element_spec["boxes"].shape.as_list() == [1, 16, most, 4]
    counts = np.concatenate([(stack["box_labels"] >= 0).sum(axis=2)[0] for stack in stacks.as_numpy_iterator()])
    np.testing.assert_array_equal(counts, boxes_of(dataset, "train"))
    other = types.SimpleNamespace(index=0, epoch=0, steps=0, stage=small.build_two_parts().stages["begin"])
    assert sorted(loop._stacks(other, context).element_spec) == ["image", "y"]


def test_a_watched_term_sees_the_boxes_of_validation(dataset):
    """The mean of how many boxes an image has, and of one more for each entry that it finds in the batch."""
    seen = []

    def count(outputs, batch, seed):
        seen.append({name: tuple(values.shape[1:]) for name, values in batch.items()})
        return tf.reduce_sum(tf.cast(batch["box_labels"] >= 0, tf.float32), axis=1)

    mean = MeanTerm(small.build_two_parts(), Term("count", ("y_last",), count), sigmoid_loss, False, num_boxes=20)
    records = dataset.records("validation").map(small_image)
    assert mean(records, 6) == pytest.approx(boxes_of(dataset, "validation").mean())
    assert seen == [{"image": (16, 16, 3), "y": (16,), "boxes": (20, 4), "box_labels": (20,)}]  # traced once


def small_image(record):
    return {**record, "image": tf.io.encode_png(tf.zeros([16, 16, 3], tf.uint8))}


@pytest.mark.parametrize("stage, role", [("all", "train"), ("rpn", "validation")])
def test_a_data_set_without_boxes_is_refused(stage, role, dataset):
    class WithoutBoxes(small_runs.OtherRecords):
        def records(self, of_role):
            records = self._dataset.records(of_role)
            return records.map(lambda record: {**record, "objects": {"label": []}}) if of_role == role else records

    model = model_of(STAGES)
    plan = small_runs.make_plan(stages=(stage,), epochs=(1,), learning_rates=(0.1,))
    expected = f"Stage {stage} needs boxes. Received: scenes, with no box on its .* {role} images"
    with pytest.raises(InputError, match=expected):
        check_plan(plan, model, tf.distribute.get_strategy(), WithoutBoxes(dataset, None))


def test_augmentation_that_a_stage_cannot_use_is_refused(dataset):
    """What moves an image without its boxes, and what changes labels that a network reads."""
    taught = Stage(("heads",), (), (Term("path", ("path_loss",), lambda *_: 0.0),), "path")
    model = model_of({**STAGES, "taught": taught}, taught={"path_loss": None})
    for stage, names, message in (
        ("rpn", ("randaugment", "cutout"), "Stage rpn needs boxes, .* Received: randaugment in --augment"),
        ("rpn", ("splicemix",), "Stage rpn needs boxes, .* Received: splicemix in --augment"),
        ("taught", ("cutmix",), "Stage taught reads the labels .* as they are stored. Received: cutmix in"),
        ("taught", ("splicemix",), "Stage taught reads the labels .* as they are stored. Received: splicemix in"),
    ):
        plan = small_runs.make_plan(stages=(stage,), epochs=(1,), learning_rates=(0.1,), effects=Effects(names))
        with pytest.raises(InputError, match=message):
            check_plan(plan, model, tf.distribute.get_strategy(), dataset)
