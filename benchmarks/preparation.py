"""How fast a folder of photographs becomes a prepared data set, and how much memory that takes.

python benchmarks/preparation.py --output_dir=OUT [--counts=2000,20000] [--store_size=0]

Draws 640x480 JPEGs (smooth random colours with some noise, about 100 kB each, no two alike) with a CSV of 20 random
labels, runs tools/prepare_data.py on the first so many of them, and prints and writes (OUT/preparation.json) images a
second from start to end, and the largest resident memory of the main process and of all processes together. The
photographs stay in OUT/photos for another run.
"""

import concurrent.futures
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from absl import flags  # noqa: E402
from PIL import Image  # noqa: E402
from tabulate import tabulate  # noqa: E402
from tqdm import tqdm  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.files import write_json  # noqa: E402

NUM_LABELS = 20
FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("output_dir", None, "Folder for the photographs, prepared sets and report.", required=True)
    flags.DEFINE_list("counts", "2000,20000", "How many photographs, one preparation each.")
    flags.DEFINE_integer("store_size", 0, "As of tools/prepare_data.py.", 0)
    flags.DEFINE_integer("processes", 0, "As of tools/prepare_data.py.", 0)


def draw_photo(path, index):
    """Writes photograph number `index`, unless it is there."""
    if os.path.exists(path):
        return
    rng = np.random.default_rng(index)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    pixels = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), np.int16)
    pixels = pixels + rng.integers(-12, 13, pixels.shape, np.int16)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(f"{path}.writing", format="JPEG", quality=85)
    os.replace(f"{path}.writing", path)


def draw_photos(folder, count):
    """Fills the folder; returns the mean size of a file in bytes."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"{index:06d}.jpg") for index in range(count)]
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for _ in tqdm(pool.map(draw_photo, paths, range(count), chunksize=50), total=count, desc="draw", disable=None):
            pass
    return sum(map(os.path.getsize, paths)) / count


def write_csv(path, count):
    rng = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8") as file:
        file.write("image," + ",".join(f"label{index}" for index in range(NUM_LABELS)) + ",split\n")
        for index, row in enumerate(rng.random((count, NUM_LABELS)) < 0.15):
            split = "test" if index % 5 == 0 else "train"
            file.write(f"{index:06d}.jpg,{','.join(str(int(value)) for value in row)},{split}\n")


def prepare(photos, count, output_dir):
    """Runs the tool once; returns its time in seconds and peak memory in MiB: main process, all processes."""
    csv_path, data_dir = os.path.join(output_dir, f"{count}.csv"), os.path.join(output_dir, f"data{count}")
    write_csv(csv_path, count)
    shutil.rmtree(data_dir, ignore_errors=True)
    command = [sys.executable, os.path.join(ROOT, "tools", "prepare_data.py"), "--dataset=csv"]
    command += [f"--source_dir={photos}", f"--csv={csv_path}", f"--data_dir={data_dir}"]
    command += [f"--store_size={FLAGS.store_size}", f"--processes={FLAGS.processes}"]
    return watched(command)


def watched(command, log=os.devnull):
    """Runs a command; returns its time in seconds and peak memory in MiB: main process, all processes.

    Args:
        command: list of str.
        log: path of the file that its output goes to, with what is there.
    """
    start_s = time.monotonic()
    with open(log, "ab") as file:
        process = subprocess.Popen(command, stdout=file)
    main = psutil.Process(process.pid)
    peak_main = peak_all = 0
    while process.poll() is None:
        sizes = []
        for one in (main, *_children(main)):
            try:
                sizes.append(one.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        if sizes:
            peak_main, peak_all = max(peak_main, sizes[0]), max(peak_all, sum(sizes))
        time.sleep(0.1)
    seconds = time.monotonic() - start_s
    if process.returncode:
        sys.exit(process.returncode)
    return seconds, peak_main / 2**20, peak_all / 2**20


def _children(process):
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def main(_):
    counts = [int(count) for count in FLAGS.counts]
    photos = os.path.join(FLAGS.output_dir, "photos")
    file_bytes = draw_photos(photos, max(counts))
    rows = []
    for count in counts:
        seconds, main_mib, all_mib = prepare(photos, count, FLAGS.output_dir)
        rows.append([count, seconds, count / seconds, main_mib, all_mib])
    headers = ["images", "seconds", "images/s", "peak MiB, main process", "peak MiB, all processes"]
    print(f"{os.cpu_count()} CPUs, {file_bytes / 1000:.0f} kB a file, store_size {FLAGS.store_size}")
    print(tabulate(rows, headers, floatfmt=".0f"))
    write_json(os.path.join(FLAGS.output_dir, "preparation.json"), [dict(zip(headers, row)) for row in rows])


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__)
