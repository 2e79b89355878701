"""How fast photographs become training batches, beside torchvision's transforms in a DataLoader.

python -m venv PEERS && PEERS/bin/pip install -r benchmarks/peers/requirements.txt
python benchmarks/input_pipeline.py --output_dir=OUT --peer_python=PEERS/bin/python [--photos=FOLDER] [--threads=1]
python benchmarks/input_pipeline.py --output_dir=OUT --augmentations [--photos=FOLDER] [--threads=1]
python benchmarks/input_pipeline.py --output_dir=OUT --fast_decode [--photos=FOLDER] [--threads=1] [--enlarged=0]

The paper's augmentation: resized to 256, a crop of random size at a corner or the centre, resized to 224, half of them
mirrored; 16 images a batch. Each side prepares the same JPEGs, at their own size and stored at 256 (as
`tools/prepare_data.py --store_size=256` stores them), which lie in memory. Every engine is a process of its own on the
same `threads` processors; in each round each has its turn, so that what else the machine does falls on all. Without
--photos, draws photographs of 640x480. Prints, and writes to OUT/input_pipeline.md and .json, the median images a
second, for one thread also per second of a processor, which other programs disturb less; the ratios within the rounds;
and the share that decoding the JPEGs alone takes. --augmentations instead adds each augmentation of srn_tf alone to the
paper's, or puts other crops in place of them, and writes OUT/augmentations.md and .json. --fast_decode compares runs
with and without that flag on the JPEGs at their own size, and writes OUT/fast_decode.md and .json. --enlarged=4000
first enlarges the photographs to a longer side of 4000 pixels, as large as those of a telephone.
"""

import glob
import os
import statistics
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import engines  # noqa: E402
from absl import flags  # noqa: E402
from PIL import Image  # noqa: E402
from preparation import draw_photos  # noqa: E402
from tabulate import tabulate  # noqa: E402

from srn_tf.commands import cli  # noqa: E402
from srn_tf.data.augments import AUGMENTS, FRAMES  # noqa: E402
from srn_tf.data.photo_records import JPEG_QUALITY  # noqa: E402
from srn_tf.errors import InputError  # noqa: E402
from srn_tf.files import write_json  # noqa: E402

FLAGS = flags.FLAGS
OURS, PILLOW, TENSORS = "srn_tf", "torchvision, images", "torchvision, tensors"
ORIGINAL, STORED = "original", "stored at 256"
STORE_PX = 256


def main(_):
    cli.make_output_dir("output_dir", FLAGS.output_dir)
    processors = sorted(os.sched_getaffinity(0))
    if FLAGS.threads > len(processors):
        raise InputError(f"--threads must be at most the {len(processors)} processors. Received: {FLAGS.threads}.")
    if sum((FLAGS.augmentations, FLAGS.fast_decode, bool(FLAGS.peer_python))) != 1:
        raise InputError(
            "Give one of --peer_python, --augmentations and --fast_decode. Received: several or none of them."
        )
    num_images, mean_bytes = make_files()
    repeat = -(-FLAGS.images // num_images)
    os.sched_setaffinity(0, processors[-FLAGS.threads :])  # which the engines inherit
    arguments = [os.path.abspath(FLAGS.output_dir), str(FLAGS.threads), str(repeat)]
    if FLAGS.augmentations:
        return compare_augmentations(arguments, repeat * num_images)
    if FLAGS.fast_decode:
        return compare_decoding(arguments, repeat * num_images)
    peer = [FLAGS.peer_python, os.path.join(ROOT, "benchmarks", "peers", "input_torchvision.py"), *arguments]
    commands = {
        OURS: [sys.executable, os.path.join(ROOT, "benchmarks", "input_tensorflow.py"), *arguments],
        PILLOW: [*peer, "pillow"],
        TENSORS: [*peer, "tensors"],
    }
    seconds = {}  # (engine, question, folder) -> [wall, processor] seconds an image, round by round
    started = {name: engines.Engine(name, command, FLAGS.threads) for name, command in commands.items()}
    try:
        for _ in range(FLAGS.rounds):
            for folder in (ORIGINAL, STORED):
                for question in ("batches", "decode"):
                    for name, engine in started.items():
                        measured = [value / (repeat * num_images) for value in engine.ask(question, folder)]
                        seconds.setdefault((name, question, folder), []).append(measured)
    finally:
        for engine in started.values():
            engine.__exit__()
    report(seconds, num_images * repeat, mean_bytes)


def compare_augmentations(arguments, num_images):
    """Asks for batches of the JPEGs stored at 256 with one augmentation after the other, in every round."""
    default = "crops,mirror"
    others = [name for name in AUGMENTS if name not in ("crops", "mirror")]
    lists = {name: f"{name},mirror" if name in FRAMES else f"{default},{name}" for name in others}
    lists = {"crops (the paper's), mirror": default, **lists}
    questions = {name: f"{STORED}|--augment={augment}" for name, augment in lists.items()}
    seconds = ask_in_turn(arguments, questions, num_images)
    basis = 1 if FLAGS.threads == 1 else 0  # seconds of a processor
    first = next(iter(seconds.values()))
    rows = [
        {
            "augmentation": name,
            "images/s": 1 / statistics.median(times[0] for times in of_name),
            "images/s of a processor": 1 / statistics.median(times[1] for times in of_name),
            "x the paper's": statistics.median(a[basis] / b[basis] for a, b in zip(first, of_name, strict=True)),
        }
        for name, of_name in seconds.items()
    ]
    write("augmentations", rows, num_images, seconds)


def compare_decoding(arguments, num_images):
    """Asks for batches of the JPEGs at their own size with and without --fast_decode, in every round."""
    cases = [(size, frame) for size in (224, 448) for frame in ("resize", "crops", "random_resized_crop")]
    questions = {}
    for size, frame in cases:
        exact = f"{ORIGINAL}|--augment={frame},mirror|--image_size={size}"
        questions |= {f"{size}, {frame}": exact, f"{size}, {frame}, fast": f"{exact}|--fast_decode"}
    seconds = ask_in_turn(arguments, questions, num_images)
    rows = []
    for size, frame in cases:
        exact, fast = ([times[1] for times in seconds[f"{size}, {frame}{end}"]] for end in ("", ", fast"))
        rows.append(
            {
                "input": str(size),
                "augmentation": frame,
                "images/s of a processor": 1 / statistics.median(exact),
                "with --fast_decode": 1 / statistics.median(fast),
                "x": statistics.median(a / b for a, b in zip(exact, fast, strict=True)),
            }
        )
    write("fast_decode", rows, num_images, seconds)


def ask_in_turn(arguments, questions, num_images):
    """Asks srn_tf for the batches of every question in every round: name -> [wall, processor] seconds an image."""
    seconds = {name: [] for name in questions}
    command = [sys.executable, os.path.join(ROOT, "benchmarks", "input_tensorflow.py"), *arguments]
    with engines.Engine(OURS, command, FLAGS.threads) as engine:
        for _ in range(FLAGS.rounds):
            for name, question in questions.items():
                seconds[name].append([value / num_images for value in engine.ask("batches", question)])
    return seconds


def make_files():
    """Fills OUT/original and OUT/stored at 256 with JPEGs; returns how many there are, and folder -> mean bytes."""
    paths = sorted(glob.glob(os.path.join(FLAGS.photos, "*.jpg"))) if FLAGS.photos else []
    if FLAGS.photos and not paths:
        raise InputError(f"--photos must be a folder of files ending in .jpg. Received: {FLAGS.photos}.")
    original, stored = (os.path.join(FLAGS.output_dir, name) for name in (ORIGINAL, STORED))
    os.makedirs(stored, exist_ok=True)
    if paths:
        os.makedirs(original, exist_ok=True)
        for path in paths:
            copy = os.path.join(original, os.path.basename(path))
            if not os.path.exists(copy):
                enlarge(path, copy) if FLAGS.enlarged else os.symlink(os.path.abspath(path), copy)
    else:
        draw_photos(original, FLAGS.images)
    paths = sorted(glob.glob(os.path.join(original, "*.jpg")))
    for path in paths:
        image = Image.open(path).convert("RGB").resize((STORE_PX, STORE_PX), Image.Resampling.BILINEAR)
        image.save(os.path.join(stored, os.path.basename(path)), "JPEG", quality=JPEG_QUALITY, subsampling=0)
    mean_bytes = {}
    for folder in (ORIGINAL, STORED):
        sizes = [os.path.getsize(path) for path in glob.glob(os.path.join(FLAGS.output_dir, folder, "*.jpg"))]
        mean_bytes[folder] = sum(sizes) / len(sizes)
    return len(paths), mean_bytes


def enlarge(path, copy):
    """Writes a photograph with a longer side of --enlarged pixels, compressed as cameras do."""
    image = Image.open(path).convert("RGB")
    scale = FLAGS.enlarged / max(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    image.save(copy, "JPEG", quality=92)


def report(seconds, num_images, mean_bytes):
    basis = 1 if FLAGS.threads == 1 else 0  # seconds of a processor; those of worker processes are not known here

    def median(*key):
        return statistics.median(times[basis] for times in seconds[key])

    def ratio(key, other):
        """How many times as fast as the other, within the rounds."""
        return statistics.median(b[basis] / a[basis] for a, b in zip(seconds[key], seconds[other], strict=True))

    rows = []
    for folder in (ORIGINAL, STORED):
        for name in (OURS, PILLOW, TENSORS):
            key = name, "batches", folder
            decode = median(name, "decode", folder)
            rows.append(
                {
                    "JPEGs": f"{folder}, {mean_bytes[folder] / 1000:.0f} kB",
                    "engine": name,
                    "images/s": 1 / statistics.median(times[0] for times in seconds[key]),
                    "images/s of a processor": 1 / median(*key) if basis else None,
                    "x images, same JPEGs": ratio(key, (PILLOW, "batches", folder)),
                    "x images, original": ratio(key, (PILLOW, "batches", ORIGINAL)),
                    "x tensors, same JPEGs": ratio(key, (TENSORS, "batches", folder)),
                    "decoding alone, ms": 1000 * decode,
                    "all, ms": 1000 * median(*key),
                    "share of decoding": decode / median(*key),
                }
            )
    write("input_pipeline", rows, num_images, {", ".join(key): times for key, times in seconds.items()})


def write(name, rows, num_images, seconds):
    """Prints the rows as a table, and writes them to OUT/<name>.md and .json."""
    cells = [
        [value if isinstance(value, str) else "" if value is None else f"{value:.4g}" for value in row.values()]
        for row in rows
    ]
    header = f"{engines.machine()}; {FLAGS.threads} of them; {num_images} images a turn, {FLAGS.rounds} rounds."
    table = tabulate(cells, list(rows[0]), tablefmt="github", disable_numparse=True)
    settings = {name: FLAGS[name].value for name in ("threads", "rounds", "photos")}
    path = os.path.join(FLAGS.output_dir, name)
    write_json(f"{path}.json", {**settings, "machine": engines.machine(), "rows": rows, "seconds": seconds})
    with open(f"{path}.md", "w", encoding="utf-8") as file:
        file.write(f"{header}\n\n{table}\n")
    print(f"{header}\n{table}")


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder for the JPEGs and the table.", required=True)
    flags.DEFINE_string("peer_python", None, "Python in which torchvision is installed.")
    flags.DEFINE_bool("augmentations", False, "Compare the augmentations of srn_tf instead.")
    flags.DEFINE_bool("fast_decode", False, "Compare exact and fast decoding of srn_tf instead.")
    flags.DEFINE_integer(
        "enlarged", 0, "With --photos: longer side to which they are enlarged first; 0: as they are.", 0
    )
    flags.DEFINE_string("photos", None, "Folder of JPEGs; default: drawn ones.")
    flags.DEFINE_integer("images", 2048, "Images a turn, at least; few show the pipeline's start.", 1)
    flags.DEFINE_integer("threads", 1, "Threads, or processes, of every engine.", 1)
    flags.DEFINE_integer("rounds", 5, "How often each engine has its turn.", 1)
    cli.run(main, __doc__)
