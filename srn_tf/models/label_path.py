"""Paths of labels: the true one of an image, its probability under an LSTM, and the search for the most probable one.

The equations are those of Wang et al., "CNN-RNN", CVPR 2016, section 3. A path is labels that are all different, then
END, which stands for the labels' number C among the tokens 0 to C. It begins behind END, too. Axes: N paths of an image
that are searched side by side, H the width of the LSTM, E of the embedding.
"""

import keras
import tensorflow as tf

from srn_tf.models.lstm import forget_gate_open, lstm_step, product, relu_step

NEVER = -1e9  # log-probability of what there is not
_SUREST = 1.0 - 2.0**-24  # the float32 before 1
_LEAST = 1e-6  # logit of a label on the path: above 0 also as a probability of float32


@keras.saving.register_keras_serializable(package="srn_tf")
class TruePath(keras.layers.Layer):
    """The true labels of an image as a path: those most frequent in training first, equal ones in the labels' order.

    Args:
        most_labels: T; of an image with more, the T most frequent.

    Call: truth (B, C), 1 where a label is true, and counts (C,) -> int32 (B, T), END (C) in every place behind.
    """

    def __init__(self, most_labels, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.most_labels = most_labels

    def call(self, inputs):
        truth, counts = inputs
        num_labels = truth.shape[1]
        order = tf.argsort(-counts, stable=True)
        is_true = tf.cast(tf.gather(truth, order, axis=1) == 1, tf.int32)
        values, places = tf.math.top_k(is_true * tf.range(num_labels, 0, -1), self.most_labels)
        return tf.where(values > 0, tf.gather(order, places), num_labels)

    def get_config(self):
        return {**super().get_config(), "most_labels": self.most_labels}


@keras.saving.register_keras_serializable(package="srn_tf")
class PathDecoder(keras.layers.Layer):
    """The LSTM, the label embedding U_l and the joint space, which together give p(label | image, labels before it).

    The LSTM reads w, the embedding of the label before. With h what it gives, the paper's o, x = ReLU(U_o h + U_I I),
    and U_l^T x are the scores of all labels and END: reading and answering share U_l. A label that is on the path
    already is left out of the softmax.

    Args:
        num_labels: C.
        width, embedding: H and E.
        gates: "sigmoid", see `lstm.lstm_step`, or "relu", see `lstm.relu_step`.
        beam: N.
        most_labels: T, where a path ends by itself; at most C.
        min_labels: labels before which the search does not end a path; at most T.

    Call: code float32 (B, E), which is U_I I -> logits float32 (B, C), see `ranking_logits`. With truth (B, C), 1 true,
    0 not true, -1 not known, and its path int32 (B, T) -> float32 (B,), minus the logarithm of the path's probability
    among the paths of labels that are known.
    """

    def __init__(self, num_labels, width, embedding, gates, beam, most_labels, min_labels=0, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_labels, self.width, self.embedding, self.gates = num_labels, width, embedding, gates
        self.beam, self.most_labels, self.min_labels = beam, most_labels, min_labels

    def build(self, input_shape):
        width, embedding = self.width, self.embedding
        words = keras.initializers.RandomNormal(stddev=embedding**-0.5)
        shapes = {
            "words": ((self.num_labels + 1, embedding), words),
            "kernel": ((embedding, 4 * width), "he_normal"),
            "recurrent": ((width, 4 * width), "glorot_uniform"),
            "joint": ((width, embedding), "glorot_uniform"),
        }
        if self.gates == "sigmoid":
            shapes["bias"] = ((4 * width,), forget_gate_open)
        for name, (shape, initializer) in shapes.items():
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer=initializer))
        super().build(input_shape)

    def call(self, code, truth=None, path=None):
        return ranking_logits(*self.search(code)[1:]) if truth is None else self.path_loss(code, truth, path)

    def weight_tensors(self):
        """Its weights by name, as tensors: read once, in front of a loop."""
        names = ("words", "kernel", "recurrent", "joint", *(["bias"] if self.gates == "sigmoid" else []))
        return {name: tf.convert_to_tensor(getattr(self, name)) for name in names}

    def step(self, weights, code, tokens, h, c):
        """Reads a token each: scores (..., C + 1) and the new h and c, of code (..., E) and int32 tokens (...,)."""
        word = tf.gather(weights["words"], tokens)
        if self.gates == "relu":
            h, c = relu_step(word, c, weights["kernel"], weights["recurrent"])
        else:
            h, c = lstm_step(word, h, c, weights["kernel"], weights["recurrent"], weights["bias"])
        x = tf.nn.relu(product(h, weights["joint"]) + code)
        return product(x, tf.transpose(weights["words"])), h, c

    def path_loss(self, code, truth, path):
        """Minus the log-probability of each image's path; arguments and result as of the call."""
        num_labels, images, weights = self.num_labels, tf.shape(code)[0], self.weight_tensors()
        lengths = tf.reduce_sum(tf.cast(path < num_labels, tf.int32), axis=1)
        longest = tf.reduce_max(lengths)

        def read(t, tokens, h, c, left_out, loss):
            scores, h, c = self.step(weights, code, tokens, h, c)
            targets = tf.gather(path, t, axis=1)
            log_p = tf.nn.log_softmax(_without(scores, left_out))
            of_targets = tf.gather(log_p, targets, batch_dims=1)
            loss -= tf.where(t <= lengths, of_targets, 0.0)
            left_out |= tf.one_hot(targets, num_labels, True, False)
            return t + 1, targets, h, c, left_out, loss

        nothing = tf.zeros([images, self.width])
        start = (0, tf.fill([images], num_labels), nothing, nothing, truth < 0, tf.zeros([images]))
        # A path of T labels ends by itself.
        return tf.while_loop(lambda t, *_: t <= longest, read, start, maximum_iterations=self.most_labels)[-1]

    def search(self, code):
        """The most probable path of each image, as far as a beam finds it; an image's does not depend on others.

        In every step the N most probable of all paths that are a label longer, or end, are kept. Those that end are
        candidates, and the search is over when none of the others is more probable than the best candidate.

        Args:
            code: float32 (B, E).
        Returns:
            float32 (B,), the log-probability of the path; places, float32 (B, C), 0 for labels that are not on it, 1
            for the first, 2 for the second; log_q, float32 (B, C), of each label the highest log-probability that it
            had along the path, while it was not on it.
        """
        images, beam, num_labels, weights = tf.shape(code)[0], self.beam, self.num_labels, self.weight_tensors()
        code = code[:, tf.newaxis]
        is_end = tf.range(num_labels + 1) == num_labels

        def extend(t, tokens, h, c, places, log_q, live, ended, places_ended, log_q_ended):
            scores, h, c = self.step(weights, code, tokens, h, c)
            scores = _without(scores, places > 0)
            log_q = tf.maximum(log_q, tf.nn.log_softmax(scores)[..., :num_labels])
            allowed = tf.where((t < self.min_labels) & is_end, scores.dtype.min, scores)
            totals = live[..., tf.newaxis] + tf.nn.log_softmax(allowed)
            live, found = tf.math.top_k(tf.reshape(totals, [-1, beam * (num_labels + 1)]), beam)
            paths, tokens = found // (num_labels + 1), found % (num_labels + 1)
            live = tf.where(live > NEVER / 2, live, NEVER)
            h, c, places, log_q = (tf.gather(values, paths, batch_dims=1) for values in (h, c, places, log_q))

            has_ended = tokens == num_labels
            candidate = tf.where(has_ended, live, NEVER)
            places_ended, log_q_ended, ended = _better(
                (places_ended, log_q_ended, ended), (places, log_q, candidate), candidate
            )
            live = tf.where(has_ended, NEVER, live)
            places += tf.one_hot(tokens, num_labels) * tf.cast(t + 1, tf.float32)
            return t + 1, tokens, h, c, places, log_q, live, ended, places_ended, log_q_ended

        def is_open(t, tokens, h, c, places, log_q, live, ended, *_):
            return tf.reduce_any(tf.reduce_max(live, axis=1) > ended)

        nothing = tf.zeros([images, beam, self.width])
        of_labels = tf.zeros([images, beam, num_labels])
        live = tf.tile(tf.constant([[0.0] + [NEVER] * (beam - 1)]), [images, 1])
        start = (
            *(0, tf.fill([images, beam], num_labels), nothing, nothing, of_labels, of_labels + NEVER, live),
            *(tf.fill([images], NEVER), of_labels[:, 0], of_labels[:, 0] + NEVER),
        )
        _, _, _, _, places, log_q, live, ended, places_ended, log_q_ended = tf.while_loop(
            is_open, extend, start, maximum_iterations=self.most_labels
        )
        # What is as long as it may be ends there.
        places, log_q, log_p = _better((places_ended, log_q_ended, ended), (places, log_q, live), live)
        return log_p, places, log_q

    def get_config(self):
        names = ("num_labels", "width", "embedding", "gates", "beam", "most_labels", "min_labels")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def ranking_logits(places, log_q):
    """Logits by which labels are ranked, in an image and over images, from what `PathDecoder.search` found.

    As a probability a label's score is the mean of whether it is on the best path, 0 or 1, and of q, the highest
    probability that it had along the path. So at 0.5 exactly the labels of the best path are predicted, and beyond
    that the surest come first. The order of a path is that of frequency and says nothing of how sure a label is; what
    a label's probability is, where those before it are on the path, does.

    Args:
        places: float32 (B, C), above 0 for the labels of the path.
        log_q: float32 (B, C).
    Returns:
        float32 (B, C), finite; above 0 where a label is on the path, below where not.
    """
    q = tf.minimum(tf.exp(log_q), _SUREST)
    on_path = tf.maximum(tf.math.log(1.0 + q) - tf.math.log(1.0 - q), _LEAST)  # of (1 + q) / 2
    off_path = tf.minimum(log_q, tf.math.log(_SUREST)) - tf.math.log(2.0 - q)  # of q / 2
    return tf.where(places > 0, on_path, off_path)


def _better(kept, found, log_p):
    """The best of N paths of each image where it is more probable than what is kept.

    Args:
        kept: tuple of (B, ...), the last one log-probabilities (B,).
        found: tuple of (B, N, ...), in the same order.
        log_p: float32 (B, N), of the paths found.
    Returns:
        tuple as `kept`.
    """
    best = tf.argmax(log_p, axis=1)
    is_better = tf.reduce_max(log_p, axis=1) > kept[-1]
    return tuple(
        tf.where(tf.reshape(is_better, [-1] + [1] * (old.shape.rank - 1)), tf.gather(new, best, batch_dims=1), old)
        for old, new in zip(kept, found, strict=True)
    )


def _without(scores, is_left_out):
    """Scores (..., C + 1) of which labels, not END, are out of a softmax where the bool (..., C) says so."""
    of_labels = tf.where(is_left_out, scores.dtype.min, scores[..., :-1])
    return tf.concat([of_labels, scores[..., -1:]], axis=-1)
