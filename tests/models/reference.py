"""The heads and the equations of the paper in NumPy, float64, written from its text and not from the code."""

import keras
import numpy as np

BATCH_NORM_EPSILON = 1e-5


def softmax_over_grid(Z):
    """Eq. (4), with sums written out: (B, H, W, C) -> (B, H, W, C)."""
    Z = np.asarray(Z, np.float64)
    exponentials = np.exp(Z - Z.max(axis=(1, 2), keepdims=True))
    return exponentials / exponentials.sum(axis=(1, 2), keepdims=True)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64)))


def relu(x):
    return np.maximum(x, 0.0)


def convolve(x, kernel, bias=0.0):
    """A convolution of stride 1, zeros around: (B, H, W, D), (k, k, D, N) with k odd -> (B, H, W, N)."""
    size = kernel.shape[0]
    height, width = x.shape[1:3]
    margin = size // 2
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    result = np.zeros((*x.shape[:3], kernel.shape[3]))
    for i in range(size):
        for j in range(size):
            result += padded[:, i : i + height, j : j + width] @ kernel[i, j].astype(np.float64)
    return result + bias


def batch_norm(x, gamma, beta, mean, variance):
    """BatchNorm with stored statistics."""
    return gamma * (x - mean) / np.sqrt(np.asarray(variance, np.float64) + BATCH_NORM_EPSILON) + beta


def conv4(x, kernel, bias=0.0):
    """Section 3.3: each of the N channels meets its own group of 4 kernels as large as the grid.

    (B, H, W, N), (H, W, N, 4) -> (B, 4 N), the four results of a channel side by side.
    """
    groups = [
        [np.sum(x[..., n] * kernel[..., n, k].astype(np.float64), axis=(1, 2)) for k in range(kernel.shape[3])]
        for n in range(kernel.shape[2])
    ]
    return np.array(groups).reshape(-1, len(x)).T + bias


def weights_of(part):
    """layer name -> its weights as NumPy arrays, in the order in which Keras keeps them."""
    return {layer.name: layer.get_weights() for layer in part.layers if layer.weights}


def hidden_layer(x, weights, name, head):
    """1x1 or 3x3 convolution and ReLU; in the released nets BatchNorm stands between them."""
    x = convolve(x, *weights[f"{name}_conv"])
    return relu(batch_norm(x, *weights[f"{name}_bn"]) if head == "released" else x)


def attention_scores(f_att, X, head):
    """Eq. (3) from the weights of f_att."""
    weights = weights_of(f_att)
    x = hidden_layer(X, weights, "att_1", head)
    x = hidden_layer(x, weights, "att_2", head)
    return convolve(x, *weights["att_3_conv"])


def confidence(f_conf, X, head):
    """conv1 from the weights of f_conf. Returns (S, what its linear classifiers read)."""
    weights = weights_of(f_conf)
    read = hidden_layer(X, weights, "conf_1", head) if head == "released" else X
    return convolve(read, *weights["conf_2_conv"]), read


def neck(f_neck, X):
    """The released nets' two pre-activation bottlenecks with a last BatchNorm and ReLU."""
    weights = weights_of(f_neck)

    def norm_relu(x, name):
        return relu(batch_norm(x, *weights[f"{name}_bn"]))

    x = X
    for block in ("neck_block1", "neck_block2"):
        residual = convolve(norm_relu(x, f"{block}_pre"), *weights[f"{block}_1_conv"])
        residual = convolve(norm_relu(residual, f"{block}_1"), *weights[f"{block}_2_conv"])
        x = x + convolve(norm_relu(residual, f"{block}_2"), *weights[f"{block}_3_conv"])
    return norm_relu(x, "neck_last")


def regularizer(f_sr, U, head):
    """Eq. (9) and Figure 4 from the weights of f_sr, conv2's kernel in units of H*W."""
    weights = weights_of(f_sr)
    x = np.asarray(U, np.float64) * (U.shape[1] * U.shape[2])
    x = hidden_layer(x, weights, "sr_conv2", head)
    x = hidden_layer(x, weights, "sr_conv3", head)
    x = conv4(x, *weights["sr_conv4"])
    x = relu(batch_norm(x, *weights["sr_conv4_bn"]) if head == "released" else x)
    kernel, bias = weights["sr_logits"]
    return x @ kernel + bias


def randomise(part, seed):
    """Gives biases and BatchNorm values that are neither 0 nor 1, so that leaving one out shows."""
    rng = np.random.default_rng(seed)
    ranges = {
        "bias": (-0.3, 0.3),
        "gamma": (0.5, 1.5),
        "beta": (-0.3, 0.3),
        "moving_mean": (-0.3, 0.3),
        "moving_variance": (0.5, 2.0),
    }
    for weight in part.weights:
        kind = weight.name.split("/")[-1].split(":")[0]
        if kind in ranges:
            weight.assign(rng.uniform(*ranges[kind], weight.shape))


def assert_starts(model, with_bias=()):
    """Convolutions start from He's normal distribution, without a bias but for the named ones; BatchNorms are alike."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5), layer.name
        elif isinstance(layer, keras.layers.Conv2D):
            assert layer.use_bias == (layer.name in with_bias), layer.name
            kernel = layer.get_weights()[0]  # a depthwise one reads its grid alone
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            fan_in = np.prod(kernel.shape[:2] if is_depthwise else kernel.shape[:3])
            np.testing.assert_allclose(kernel.std(), (2.0 / fan_in) ** 0.5, rtol=0.15, err_msg=layer.name)
