"""How much of its time predicting files leaves to the model: from JPEG files to a CSV, beside the model alone.

python benchmarks/prediction.py --saved_model=RUN/export/1 --photos=PHOTOS --output_dir=OUT [--engine=openvino]
    [--rounds=5]

In turns, in one process: the model alone answers as many batches of pixels as the photographs fill, one after the
other, and `predict_files`, as tools/predict.py calls it, reads, decodes and predicts the photographs and writes
OUT/P.csv. Prints, and writes to OUT/prediction.md and OUT/prediction.json, the median images a second of both and the
median of their ratios within the rounds.
"""

import glob
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from absl import flags  # noqa: E402
from engines import machine, seconds_of  # noqa: E402
from export_network import noise, open_network  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.choices import ENGINES  # noqa: E402
from srn_tf.commands import cli  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.files import write_json  # noqa: E402
from srn_tf.prediction.answers import open_predictor  # noqa: E402
from srn_tf.prediction.predict import predict_files  # noqa: E402
from srn_tf.runs.work_dir import code_version  # noqa: E402

FLAGS = flags.FLAGS
ALONE, WHOLE = "the model alone", "JPEG files to CSV"


def main(_):
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    files = sorted(glob.glob(os.path.join(FLAGS.photos, "**", "*.jpg"), recursive=True))[: FLAGS.images]
    if len(files) < FLAGS.batch_size:
        raise InputError(f"--photos must hold a batch of JPEGs at least. Received: {len(files)} in {FLAGS.photos}.")
    files = files[: len(files) // FLAGS.batch_size * FLAGS.batch_size]
    predictor = open_predictor(FLAGS.saved_model, engine=FLAGS.engine)
    paths = {ALONE: model_alone(predictor, len(files)), WHOLE: whole_path(predictor, files)}
    seconds = {name: [] for name in paths}
    for run in paths.values():
        run()  # what is done once
    for _ in range(FLAGS.rounds):
        for name, run in paths.items():
            seconds[name].append(seconds_of(run, 1)[0][0])
    ratio = statistics.median(alone / whole for alone, whole in zip(seconds[ALONE], seconds[WHOLE], strict=True))
    rows = [[name, f"{len(files) / statistics.median(times):.1f}"] for name, times in seconds.items()]
    text = (
        f"{machine()}; {FLAGS.engine}; batch {FLAGS.batch_size}; {len(files)} photographs; commit {code_version()}.\n\n"
    )
    text += tabulate(rows, ["", "images/s"], tablefmt="github", disable_numparse=True)
    text += f"\n\nThe whole path is {ratio:.2f} times as fast as the model alone."
    result = {"machine": machine(), "commit": code_version(), "images": len(files), "batch_size": FLAGS.batch_size}
    write_json(os.path.join(FLAGS.output_dir, "prediction.json"), {**result, "seconds": seconds, "ratio": ratio})
    with open(os.path.join(FLAGS.output_dir, "prediction.md"), "w", encoding="utf-8") as file:
        file.write(text + "\n")
    print(text)


def model_alone(predictor, num_images):
    """A function: the answers to so many images that are there as pixels already, batch by batch."""
    answer = open_network(FLAGS.saved_model, FLAGS.engine)
    pixels = noise(FLAGS.batch_size, predictor.image_size)

    def run():
        for _ in range(num_images // FLAGS.batch_size):
            answer(pixels)

    return run


def whole_path(predictor, files):
    """A function: one run over the files."""
    output = os.path.join(FLAGS.output_dir, "P.csv")
    return lambda: predict_files(predictor, files, output, batch_size=FLAGS.batch_size, restart=True)


if __name__ == "__main__":
    flags.DEFINE_string("saved_model", None, "Folder of an exported model, e.g. RUN/export/1.", required=True)
    flags.DEFINE_enum("engine", ENGINES[0], ENGINES, "What computes the answers.")
    flags.DEFINE_string("photos", None, "Folder of JPEGs, searched through.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the tables.", required=True)
    flags.DEFINE_integer("images", 128, "The first so many of the photographs, whole batches of them.", 1)
    flags.DEFINE_integer("batch_size", 8, "Images a step.", 1)
    flags.DEFINE_integer("rounds", 5, "How often each has its turn.", 1)
    cli.run(main, __doc__)
