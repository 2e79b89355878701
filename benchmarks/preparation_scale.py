"""Time and memory of a table of very many images and labels: of reading, splitting, previewing and preparing it.

python benchmarks/preparation_scale.py --output_dir=OUT [--images=100000] [--labels=10000] [--form=labels]

Draws JPEGs of 8 x 8 pixels, no two alike, and a CSV of their labels: 4 for an image on average, the k-th label in
proportion to 1 / k. --form=label writes a row for each label of an image, instead of a row for each image. Each step is
a process of its own. Prints and writes (OUT/FORM.json) seconds by the clock and of CPU, and the largest resident memory
of the main process and of all processes together. The images stay for another run.
"""

import io
import json
import os
import resource
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402
from PIL import Image  # noqa: E402
from preparation import ROOT, watched  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.files import write_json  # noqa: E402

STEPS = ("table", "split", "preview", "prepare", "describe")
FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("output_dir", None, "Folder for the images, tables and report.", required=True)
    flags.DEFINE_integer("images", 100_000, "Number of images.", 10)
    flags.DEFINE_integer("labels", 10_000, "Number of labels.", 1)
    flags.DEFINE_enum("form", "labels", ("labels", "label"), "Column of the table: all labels of an image, or one.")
    flags.DEFINE_list("steps", ",".join(STEPS[:4]), f"Steps to measure, of {', '.join(STEPS)}.")
    flags.DEFINE_integer("processes", 1, "As of tools/prepare_data.py.", 0)
    flags.DEFINE_enum("step", None, STEPS[:2], "Runs just this step, as a process of this program.")


def image_path(index):
    return f"{index // 1000:04d}/{index:07d}.jpg"


def draw_images(folder, number):
    """Writes the images that are not there yet."""
    for start in range(0, number, 1000):
        paths = [os.path.join(folder, image_path(index)) for index in range(start, min(start + 1000, number))]
        if os.path.exists(paths[-1]):
            continue
        os.makedirs(os.path.dirname(paths[0]), exist_ok=True)
        pixels = np.random.default_rng(start).integers(0, 256, (len(paths), 8, 8, 3), np.uint8)
        for path, image in zip(paths, pixels, strict=True):
            data = io.BytesIO()
            Image.fromarray(image).save(data, format="JPEG")
            with open(path, "wb") as file:
                file.write(data.getvalue())


def write_table(path, number, num_labels, form):
    """Labels by Zipf's law: the k-th has a share in proportion to 1 / k."""
    rng = np.random.default_rng(0)
    ends = np.cumsum(1 / np.arange(1, num_labels + 1))
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"image,{form}\n")
        for index in range(number):
            drawn = np.searchsorted(ends, rng.random(1 + rng.poisson(3)) * ends[-1])
            names = [f"label {label:05d}" for label in sorted(set(drawn.tolist()))]
            lines = [";".join(names)] if form == "labels" else names
            file.writelines(f"{image_path(index)},{line}\n" for line in lines)


def run_step(step, table):
    """One step in this process."""
    from srn_tf.data.csv_table import read_table

    start_s = time.monotonic()
    rows = read_table(table).rows
    if step == "split":
        from srn_tf.data.splitting import matrix_of, stratified_split

        labels = sorted(set().union(*(row.present for row in rows)))
        index = {name: number for number, name in enumerate(labels)}
        matrix = matrix_of((sorted(index[name] for name in row.present) for row in rows), len(index))
        rows, start_s = None, time.monotonic()
        stratified_split(matrix, [0.8, 0.2], seed=0)
    print(json.dumps(time.monotonic() - start_s))


def cpu_s():
    """Seconds of CPU that the processes which have ended took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def command_of(step, images, table):
    tool = {"preview": "prepare_data", "prepare": "prepare_data", "describe": "describe_data"}.get(step)
    data = os.path.join(FLAGS.output_dir, f"data_{FLAGS.form}_{FLAGS.images}")
    look = os.path.join(FLAGS.output_dir, f"look_{FLAGS.form}")
    if tool is None:
        this = [os.path.abspath(__file__), f"--step={step}", f"--output_dir={FLAGS.output_dir}"]
        return [sys.executable, *this, f"--images={FLAGS.images}", f"--form={FLAGS.form}"]
    command = [sys.executable, os.path.join(ROOT, "tools", f"{tool}.py"), "--dataset=csv", f"--data_dir={data}"]
    if step == "describe":
        return [*command, f"--output_dir={look}"]
    command += [f"--source_dir={images}", f"--csv={table}", f"--processes={FLAGS.processes}"]
    if step == "preview":
        return [*command, f"--preview={look}"]
    shutil.rmtree(data, ignore_errors=True)
    return command


def main(_):
    images = os.path.join(FLAGS.output_dir, "images")
    table = os.path.join(FLAGS.output_dir, f"{FLAGS.form}_{FLAGS.images}.csv")
    if FLAGS.step:
        return run_step(FLAGS.step, table)
    draw_images(images, FLAGS.images)
    write_table(table, FLAGS.images, FLAGS.labels, FLAGS.form)
    rows = []
    for step in FLAGS.steps:
        before_s = cpu_s()
        seconds, main_mib, all_mib = watched(command_of(step, images, table), os.path.join(FLAGS.output_dir, "log"))
        rows.append([step, FLAGS.images, seconds, cpu_s() - before_s, main_mib, all_mib])
        headers = ["step", "images", "seconds", "CPU seconds", "peak MiB, main process", "peak MiB, all processes"]
        write_json(os.path.join(FLAGS.output_dir, f"{FLAGS.form}.json"), [dict(zip(headers, row)) for row in rows])
    print(tabulate(rows, headers, floatfmt=".0f"))


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__)
