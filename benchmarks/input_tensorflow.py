"""The training batches of srn_tf, as an engine of benchmarks/input_pipeline.py.

python input_tensorflow.py FOLDER THREADS REPEAT

Questions: "batches" and "decode" with the name of a folder of JPEGs in FOLDER, each answered with the [wall, processor]
seconds of REPEAT times its images: from making the pipeline's iterator to its end. The files lie in memory. With
"batches", augmentation other than the paper's may follow the name, as `--augment` lists it: "original|crops,cutout".
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

IMAGE_SIZE, BATCH_SIZE, NUM_LABELS = 224, 16, 80


def main(folder, threads, repeat):
    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    pipelines = {}

    def measure(kind, name):
        if (kind, name) not in pipelines:
            images, _, augment = name.partition("|")
            pipelines[kind, name] = make(kind, os.path.join(folder, images), augment or "crops,mirror")
            list(pipelines[kind, name].take(2))
        return engines.seconds_of(lambda: run(pipelines[kind, name]), 1)[0]

    def run(dataset):
        with contextlib.closing(Batches(dataset)) as batches:
            for _ in batches:
                pass

    def make(kind, folder, augment):
        files = [open(path, "rb").read() for path in sorted(glob.glob(os.path.join(folder, "*.jpg")))]
        labels = np.zeros((len(files), NUM_LABELS), np.int8)
        records = tf.data.Dataset.from_tensor_slices({"image": files, "labels": labels}).repeat(int(repeat))
        if kind == "batches":
            options = options_of(augment)
            how = {"crops": frame_of(options), "mirror": options.mirror, "effects": effects_of(options)}
            return training_batches(records, IMAGE_SIZE, BATCH_SIZE, 0, 0, **how, threads=int(threads))
        options = tf.data.Options()
        options.threading.private_threadpool_size = int(threads)
        decoded = records.map(
            lambda record: tf.io.decode_jpeg(record["image"], channels=3)[0, 0], num_parallel_calls=tf.data.AUTOTUNE
        )
        return decoded.batch(BATCH_SIZE).with_options(options)

    engines.serve(batches=lambda name: measure("batches", name), decode=lambda name: measure("decode", name))


def options_of(augment):
    """The options of a run with this list."""
    values = flags.FlagValues()
    define_flags(values)
    values(["train", "--data_dir=DATA", "--work_dir=RUN", f"--augment={augment}"])
    return read_options(values)


if __name__ == "__main__":
    main(*sys.argv[1:])
