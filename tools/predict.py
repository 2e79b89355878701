"""Writes every label's probability in every image to a CSV file, or the labels alone that it predicts.

python tools/predict.py --saved_model=RUN/export/1 --output=P.csv [--labels_only] [--batch_size=32] IMAGE_OR_FOLDER...

Folders are searched with their subfolders. P.csv has a header `path,<label>,<label>,...` and one row an image;
with --labels_only `path,labels`, and in a row the names, separated by ";", above the thresholds of the export.
"""

import contextlib
import csv
import os

import cli
from absl import flags
from tqdm import tqdm

from srn_tf.errors import InputError

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("saved_model", "", "Folder of an exported model, e.g. RUN/export/1.")
    flags.DEFINE_string("output", "", "CSV file to write.")
    flags.DEFINE_bool("labels_only", False, "Write the names of the predicted labels in place of probabilities.")
    flags.DEFINE_integer("batch_size", 32, "Images a step.", lower_bound=1)
    FLAGS.set_gnu_getopt()  # flags may also follow the images


def main(arguments):
    for name in ("saved_model", "output"):
        if not FLAGS[name].value:
            raise InputError(f"--{name} is needed; see predict.py --help.")
    if not arguments:
        raise InputError("At least one image or folder is needed; see predict.py --help.")

    from srn_tf.data.image_files import list_images

    paths = list_images(arguments)
    with _written_whole(FLAGS.output) as file:
        from srn_tf.serving.predictor import Predictor  # late: a wrong path need not wait for TensorFlow

        _predict(Predictor(FLAGS.saved_model), paths, file)
    print(f"{len(paths)} images: {FLAGS.output}")


def _predict(predictor, paths, file):
    from srn_tf.data.image_files import read_image_file

    if FLAGS.labels_only:
        header, answer = ["labels"], _label_cells
    else:
        header, answer = predictor.labels, _probability_cells
    writer = csv.writer(file)
    writer.writerow(["path", *header])
    with tqdm(total=len(paths), desc="predict", unit="image", leave=False, disable=None) as progress:
        for start in range(0, len(paths), FLAGS.batch_size):
            batch = paths[start : start + FLAGS.batch_size]
            rows = answer(predictor, [read_image_file(path) for path in batch])
            writer.writerows([path, *cells] for path, cells in zip(batch, rows, strict=True))
            progress.update(len(batch))


def _probability_cells(predictor, images):
    return [[f"{probability:.6f}" for probability in row] for row in predictor.predict(images)]


def _label_cells(predictor, images):
    unclear = [label for label in predictor.labels if ";" in label]
    if unclear:
        raise InputError(
            f'--labels_only separates names by ";", so none may hold one. Received: {unclear[0]!r}. '
            "Write probabilities instead."
        )
    return [[";".join(names)] for names in predictor.predict_labels(images)]


@contextlib.contextmanager
def _written_whole(path):
    """Opens a text file beside `path` that takes its place in the end, and is removed if anything fails."""
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"--output must be a file. Received: {path}, which is something else.")
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        # Paths may hold bytes that are not UTF-8; surrogateescape writes them as they are.
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"--output must be a file that can be written. Received: {path} ({error.strerror}). Check its folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__, takes_arguments=True)
