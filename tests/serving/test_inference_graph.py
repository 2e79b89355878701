"""The rewritten graph answers as the Keras network it was made of, with fewer or smaller operations."""

import collections

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from srn_tf.models.backbones import BACKBONES
from srn_tf.models.layers import Constant, WeightedMean
from srn_tf.serving.inference_graph import (
    batch_norms_as_products,
    count_batch_norms,
    fold_batch_norms,
    to_bfloat16,
    trace,
)
from tests.models.small import small_model

SIZE_PX = 16


def network_of(build):
    """A network whose BatchNorm values and biases are not those of new layers; `build` maps its image to outputs."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE_PX, SIZE_PX, 3), name="image")
    network = keras.Model(image, build(image))
    random = np.random.default_rng(0)
    for weight in network.weights:
        if "kernel" not in weight.name:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return network


def batch_norm(x):
    return keras.layers.BatchNormalization()(x)


def foldable(image):
    x = keras.layers.Conv2D(8, 3, use_bias=False)(image / 255.0)
    x = keras.layers.ReLU()(batch_norm(x))
    x = keras.layers.ReLU()(batch_norm(keras.layers.Conv2D(6, 1, bias_initializer="ones")(x)))
    x = keras.layers.DepthwiseConv2D(5, depth_multiplier=2, use_bias=False)(x)
    x = keras.layers.ReLU()(batch_norm(x))
    return {"y": keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))}


def preactivation(image):
    x = keras.layers.Conv2D(8, 3, padding="same")(image / 255.0)
    residual = keras.layers.Conv2D(8, 3, padding="same")(keras.layers.ReLU()(batch_norm(x)))
    return {"y": keras.layers.ReLU()(batch_norm(keras.layers.Add()([x, residual])))}


def also_an_output(image):
    x = keras.layers.Conv2D(8, 3)(image / 255.0)
    return {"x": x, "y": batch_norm(x)}


def kernel_read_twice(image):
    conv = keras.layers.Conv2D(8, 3)
    return {"y": batch_norm(conv(image / 255.0)), "z": batch_norm(conv(1.0 - image / 255.0))}


def constant_of_several(image):
    """Weights that come as outputs of one operation that the image does not decide."""
    return {"y": WeightedMean(learned=True)([image, image**2 / 99.0, 3.0 * image])}


def of_no_image(image):
    """Outputs that the image does not decide, one of them large enough to become a variable."""
    sizes = {"few": (2, 3), "many": (40, 30)}
    words = {name: Constant(np.arange(np.prod(size)).reshape(size), name=name)(image) for name, size in sizes.items()}
    return {"y": keras.layers.Flatten()(image)[:, :3] * words["few"][0], **words}


def looping(image):
    x = keras.layers.Reshape((SIZE_PX, SIZE_PX * 3))(image / 255.0)
    return {"y": keras.layers.Dense(3)(keras.layers.RNN(keras.layers.LSTMCell(20))(x))}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (3, SIZE_PX, SIZE_PX, 3)).astype(np.float32)


def operations(graph):
    return collections.Counter(node.op for node in graph.nodes)


@pytest.mark.parametrize(
    "build, before, after",
    [(foldable, 3, 0), (preactivation, 2, 2), (also_an_output, 1, 1), (kernel_read_twice, 2, 0), (looping, 0, 0)]
    + [(constant_of_several, 0, 0), (of_no_image, 0, 0)],
)
def test_equals_the_network_and_folds_what_only_batch_norm_reads(images, build, before, after):
    network = network_of(build)
    graph = trace(network, SIZE_PX)
    assert operations(graph)["FusedBatchNormV3"] == before
    folded = fold_batch_norms(graph)
    assert operations(folded)["FusedBatchNormV3"] == after
    assert not {"ReadVariableOp", "VarHandleOp", "Placeholder"} & set(operations(folded))
    expected = {name: values.numpy() for name, values in network(images, training=False).items()}
    products = batch_norms_as_products(folded)
    assert operations(products)["FusedBatchNormV3"] == 0
    assert operations(products)["DepthwiseConv2dNative"] == operations(folded)["DepthwiseConv2dNative"] + after
    for version in (graph, folded, products):
        received = version.as_function()[0](images)
        assert sorted(received) == sorted(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(received[name], values, rtol=1e-4, atol=1e-5)


# BatchNorms of the backbone, and those of them behind a convolution, counted by hand: of ResNet-50 the stem's, three in
# each of 16 blocks and four shortcuts'; of v2 three in each block, of which the first is a pre-activation, and the last
# one; of EfficientNetV2-B0 the stem's, one, 2 x 2, 2 x 2 and 16 x 3 in its blocks and the last one; of MobileNetV3 the
# stem's, 15 x 3 but one in its blocks and the last one; of "small" two in each of three blocks, of which the first is a
# pre-activation, but in the first block behind the stem's convolution, and two more pre-activations.
BATCH_NORMS = {
    "small": (8, 4),
    "resnet50": (53, 53),
    "resnet50v2": (49, 32),
    "resnet101": (104, 104),
    "resnet101v2": (100, 66),
    "resnet101_torch": (104, 104),
    "efficientnetv2_b0": (59, 59),
    "mobilenetv3_large": (46, 46),
    "convnext_tiny": (0, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_batch_norms_of_the_backbones(backbone):
    size_px = 32 if backbone == "small" else 64
    model = small_model("main_net", 2, image_size=size_px, backbone=backbone)
    graph = trace(model.network, size_px)
    folded = fold_batch_norms(graph)
    assert (count_batch_norms(graph), count_batch_norms(graph) - count_batch_norms(folded)) == BATCH_NORMS[backbone]
    image = np.random.default_rng(0).uniform(0, 255, (2, size_px, size_px, 3)).astype(np.float32)
    expected = model.network(image, training=False)
    for name, values in folded.as_function()[0](image).items():
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=2e-5 * np.abs(expected[name]).max())
    if backbone.startswith("resnet"):  # all but the last product lead to another
        products = [node.attr["T"].type for node in to_bfloat16(folded).nodes if node.op == "Conv2D"]
        assert products.count(tf.bfloat16.as_datatype_enum) == len(products) - 1


def test_whatever_the_image_does_not_decide_is_computed_once():
    class Mean(keras.layers.Layer):
        def build(self, input_shape):
            self.logit = self.add_weight(name="logit", shape=(), initializer="ones")

        def call(self, x):
            return tf.sigmoid(tf.convert_to_tensor(self.logit)) * x

    graph = trace(network_of(lambda image: {"y": Mean()(image)}), SIZE_PX)
    assert operations(graph) == {"Const": 1, "Mul": 1}


def test_weights_are_variables():
    graph = fold_batch_norms(trace(network_of(lambda x: {"y": keras.layers.Conv2D(64, 3)(x)}), SIZE_PX))
    network, variables = graph.as_function()
    assert [(v.shape, v.dtype) for v in variables] == [((3, 3, 3, 64), tf.float32)]
    assert network.get_concrete_function().graph.variables == tuple(variables)


@pytest.mark.slow
def test_variables_that_a_loop_reads_itself_are_saved(images, tmp_path):
    network = network_of(looping)
    graph = trace(network, SIZE_PX)
    assert len(graph.variables) == 3  # kernel, recurrent kernel, bias
    function, variables = graph.as_function()
    module = tf.Module()
    module.kept = variables
    tf.saved_model.save(module, str(tmp_path), signatures=function)
    received = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](image=tf.constant(images))
    np.testing.assert_allclose(received["y"], network(images)["y"], rtol=1e-4, atol=1e-6)


def rounded(values):
    return np.asarray(values).astype(ml_dtypes.bfloat16).astype(np.float32)


def test_bfloat16_rounds_what_is_multiplied_and_what_lies_between(images):
    """Against NumPy: image, kernels and activations are rounded, sums are not, products before a mean are exact."""

    def build(image):
        x = keras.layers.ReLU()(keras.layers.Conv2D(40, 1, name="first")(image))
        x = keras.layers.Conv2D(8, 1, use_bias=False, name="second")(x)
        pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(30, 1, use_bias=False, name="third")(x))
        return {"x": x, "pooled": pooled, "y": keras.layers.Dense(3, name="last")(pooled)}

    network = network_of(build)
    graph = to_bfloat16(fold_batch_norms(trace(network, SIZE_PX)))
    types = [
        (n.op, tf.as_dtype(n.attr["T"].type).name) for n in graph.nodes if n.op not in ("Const", "Cast", "Identity")
    ]
    assert types == [
        *[("Conv2D", "bfloat16"), ("BiasAdd", "bfloat16"), ("Relu", "bfloat16"), ("Conv2D", "bfloat16")],
        *[("Conv2D", "float32"), ("Mean", "float32"), ("MatMul", "float32"), ("BiasAdd", "float32")],
    ]
    received = {name: values.numpy() for name, values in graph.as_function()[0](images).items()}
    assert all(values.dtype == np.float32 for values in received.values())

    kernel, bias = (rounded(weight) for weight in network.get_layer("first").get_weights())
    x = rounded(np.maximum(rounded(images) @ kernel[0, 0] + bias, 0))
    x = rounded(x @ rounded(network.get_layer("second").get_weights()[0])[0, 0])
    third = network.get_layer("third").get_weights()[0][0, 0]
    kernel, bias = network.get_layer("last").get_weights()
    scale = np.abs(x).max()
    # On some processors sums are added in another order, and round to a neighbour: up to 2^-7 of the value away.
    np.testing.assert_allclose(received["x"], x, rtol=0, atol=2**-7 * scale)
    np.testing.assert_array_equal(received["x"], rounded(received["x"]))
    np.testing.assert_allclose(received["pooled"], received["x"].mean(axis=(1, 2)) @ third, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(received["y"], received["pooled"] @ kernel + bias, rtol=0, atol=1e-5 * scale)
    exact = network(images)["x"].numpy()
    assert np.abs(received["x"] - exact).max() > 2**-12 * scale  # it was rounded


@pytest.mark.parametrize(
    "build",
    [
        foldable,
        *(pytest.param(b, marks=pytest.mark.slow) for b in (preactivation, also_an_output, kernel_read_twice, looping)),
    ],
)
def test_bfloat16_is_near_the_network(images, build):
    network = network_of(build)
    graph = to_bfloat16(fold_batch_norms(trace(network, SIZE_PX)))
    for name, values in graph.as_function()[0](images).items():
        expected = network(images, training=False)[name].numpy()
        np.testing.assert_allclose(values, expected, rtol=0, atol=0.03 * np.abs(expected).max())
