"""The training batches of srn_tf, as an engine of benchmarks/input_pipeline.py.

python input_tensorflow.py FOLDER THREADS REPEAT

Questions: "batches" and "decode" with the name of a folder of JPEGs in FOLDER, each answered with the [wall, processor]
seconds of REPEAT times its images: from making the pipeline's iterator to its end. The files lie in memory. With
"batches", flags of a run may follow the name: "original|--augment=crops,cutout|--image_size=448". Default: the paper's
augmentation, mirrored, at 224.
"""

import contextlib
import glob
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "benchmarks")]

import engines  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from absl import flags  # noqa: E402

from srn_tf.data.augments import effects_of, frame_of  # noqa: E402
from srn_tf.data.pipeline import Batches, training_batches  # noqa: E402
from srn_tf.options import define_flags, read_options  # noqa: E402

BATCH_SIZE, NUM_LABELS = 16, 80


def main(folder, threads, repeat):
    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    pipelines = {}

    def measure(kind, name):
        if (kind, name) not in pipelines:
            images, *arguments = name.split("|")
            pipelines[kind, name] = make(kind, os.path.join(folder, images), arguments)
            list(pipelines[kind, name].take(2))
        return engines.seconds_of(lambda: run(pipelines[kind, name]), 1)[0]

    def run(dataset):
        with contextlib.closing(Batches(dataset)) as batches:
            for _ in batches:
                pass

    def make(kind, folder, arguments):
        files = [open(path, "rb").read() for path in sorted(glob.glob(os.path.join(folder, "*.jpg")))]
        labels = np.zeros((len(files), NUM_LABELS), np.int8)
        records = tf.data.Dataset.from_tensor_slices({"image": files, "labels": labels}).repeat(int(repeat))
        if kind == "batches":
            options = options_of(arguments)
            how = {"crops": frame_of(options), "mirror": options.mirror, "effects": effects_of(options)}
            how |= {"fast_decode": options.fast_decode, "threads": int(threads)}
            return training_batches(records, options.image_size, BATCH_SIZE, 0, 0, **how)
        options = tf.data.Options()
        options.threading.private_threadpool_size = int(threads)
        decoded = records.map(
            lambda record: tf.io.decode_jpeg(record["image"], channels=3)[0, 0], num_parallel_calls=tf.data.AUTOTUNE
        )
        return decoded.batch(BATCH_SIZE).with_options(options)

    engines.serve(batches=lambda name: measure("batches", name), decode=lambda name: measure("decode", name))


def options_of(arguments):
    """The options of a run with these flags."""
    values = flags.FlagValues()
    define_flags(values)
    values(["train", "--data_dir=DATA", "--work_dir=RUN", *(arguments or ["--augment=crops,mirror"])])
    return read_options(values)


if __name__ == "__main__":
    main(*sys.argv[1:])
