"""How far pixels move if JPEGs are decoded at a part of their size (--fast_decode).

python benchmarks/decoding.py --output_dir=OUT --photos=FOLDER [--images=48]

For each photograph, part and number n of decoded pixels for one of the square that the image is resized to, along the
shorter side, takes the size of square that leaves n; `preprocessing.LEAST_PIXELS` is the least n that training uses.
Prints, and writes to OUT/decoding.md and .json, the mean difference of the network's input from the exact one in grey
levels, over the photographs and of the worst: of the whole image, the paper's crops, and crops of random area.
"exact from accurate" is the mean difference of the exact input, whole image, from that of libjpeg's accurate transform;
"fast from accurate" is the same of the image decoded fast.
"""

import glob
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from absl import flags  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.data import preprocessing  # noqa: E402
from srn_tf.data.augmentation import random_crop, resized_px  # noqa: E402
from srn_tf.data.crops import Crops, RandomResizedCrop  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.files import write_json  # noqa: E402

FLAGS = flags.FLAGS
FRAMES = {"whole image": None, "paper's crops": Crops(), "random area": RandomResizedCrop()}
PIXELS = (1.0, 1.4, 2.0, 2.8, 4.0)
SMALLEST_PX = 20  # of a square


def main(_):
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    paths = sorted(glob.glob(os.path.join(FLAGS.photos, "*.jpg")))[: FLAGS.images]
    if not paths:
        raise InputError(f"--photos must be a folder of files ending in .jpg. Received: {FLAGS.photos}.")
    files = [tf.io.read_file(path) for path in paths]
    rows = [row_of(files, num_halvings, pixels) for num_halvings in (1, 2, 3) for pixels in PIXELS]
    rows = [row for row in rows if row]
    table = tabulate(
        [row.values() for row in rows], list(rows[0]), tablefmt="github", floatfmt=("", "", "", *[".2f"] * 8)
    )
    write_json(os.path.join(FLAGS.output_dir, "decoding.json"), {"photos": FLAGS.photos, "rows": rows})
    with open(os.path.join(FLAGS.output_dir, "decoding.md"), "w", encoding="utf-8") as file:
        file.write(f"{table}\n")
    print(table)


def row_of(files, num_halvings, pixels):
    """A row of the table, or None if the squares would be too small for most photographs."""
    found = [of_photo(data, number, num_halvings, pixels) for number, data in enumerate(files)]
    found = [differences for differences in found if differences]
    if 2 * len(found) < len(files):
        return None
    row = {"part": f"1/{2**num_halvings}", "pixels": pixels, "photographs": len(found)}
    for name in FRAMES:
        values = [differences[name] for differences in found]
        row |= {name: float(np.mean(values)), f"{name}, worst": max(values)}
    for name in ("exact from accurate", "fast from accurate"):
        row[name] = float(np.mean([differences[name] for differences in found]))
    return row


def of_photo(data, number, num_halvings, pixels):
    """Name of a difference -> its mean over the pixels of one photograph; None if the square would be too small."""
    shorter_px = min(tf.io.extract_jpeg_shape(data).numpy()[:2])
    side_px = int(shorter_px / pixels / 2**num_halvings)
    if side_px < SMALLEST_PX:
        return None
    found = {}
    for name, crops in FRAMES.items():
        if crops is None:
            size_px, square_px, crop = side_px, side_px, [0, 0, side_px, side_px]
        else:
            size_px = int(side_px * side_px / resized_px(side_px))
            square_px = resized_px(size_px)
            crop = random_crop(size_px, (number, 0), crops)
        exact, fast = inputs(data, tf.constant(square_px), tf.constant(size_px), tf.constant(crop), num_halvings)
        found[name] = float(np.abs(exact - fast).mean())
        if crops is None:
            whole = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
            accurate = preprocessing.squash(whole, size_px).numpy()
            found["exact from accurate"] = float(np.abs(exact - accurate).mean())
            found["fast from accurate"] = float(np.abs(fast - accurate).mean())
    return found


@tf.function
def inputs(data, square_px, size_px, crop, num_halvings):
    """(exact, fast): the network's input, float32 (size_px, size_px, 3)."""
    parts = (preprocessing.crop_of_jpeg(data, square_px, crop, number) for number in (0, num_halvings))
    return [preprocessing.squash(part, size_px) for part in parts]


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder for the table.", required=True)
    flags.DEFINE_string("photos", None, "Folder of JPEGs.", required=True)
    flags.DEFINE_integer("images", 48, "Photographs, at most.", 1)
    cli.run(main, __doc__)
