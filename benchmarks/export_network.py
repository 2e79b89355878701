"""The network of an export alone, without decoding and resizing; run as a process, it is asked as `engines.serve` says.

python export_network.py EXPORT ENGINE THREADS

ENGINE: tensorflow, openvino or onnxruntime. "run", N, B, S answers N batches of B images of noise, S pixels wide.
"""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from engines import seconds_of, serve  # noqa: E402


def open_network(saved_model, engine):
    """Opens the network of an export, as the engine runs it.

    Args:
        saved_model: folder of one version.
        engine: one of `srn_tf.choices.ENGINES`.
    Returns:
        function: pixels uint8 (N, S, S, 3) -> probabilities float32 (N, C).
    """
    import tensorflow as tf

    from srn_tf.serving import onnx_file, openvino_model

    if engine == "tensorflow":
        loaded = tf.saved_model.load(saved_model)
        signature = loaded.signatures["serve_pixels"]

        def answer(pixels, keep=loaded):  # the signature alone does not keep the model alive
            return signature(pixels=tf.constant(pixels))["probabilities"].numpy()

        return answer
    file, open_file = {
        "openvino": (openvino_model.FILE_NAME, openvino_model.open_model),
        "onnxruntime": (onnx_file.FILE_NAME, onnx_file.open_onnx),
    }[engine]
    run = open_file(os.path.join(saved_model, "assets.extra", file))
    return lambda pixels: run(pixels.astype(np.float32))


def noise(count, side_px):
    """Pixels, uint8 (count, side_px, side_px, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, side_px, side_px, 3), np.uint8)


def main(saved_model, engine, threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    answer = open_network(saved_model, engine)

    def run(times, batch_size, side_px):
        pixels = noise(batch_size, side_px)
        return seconds_of(lambda: answer(pixels), times)

    serve(run=run)


if __name__ == "__main__":
    main(*sys.argv[1:])
