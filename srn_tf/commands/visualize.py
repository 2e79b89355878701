"""Shows what an exported model sees: drawings of its attention, or one HTML page with all its answers.

python tools/visualize.py --saved_model=RUN/export/1 --output_dir=OUT IMAGE_OR_FOLDER...
python tools/visualize.py --work_dir=RUN --data_dir=DATA --split=test --output_dir=OUT
python tools/visualize.py --saved_model=RUN/export/1 --dataset=NAME --data_dir=DATA --split=test --output_dir=OUT

Writes OUT/attention_1.png, attention_2.png and so on: each photograph, its labels with their probabilities, and the
maps and regions of --labels, or of the most probable labels. The maps of an SRN are attention A and weighted attention
U. With --page it writes OUT/page.html instead: all answers to browse and, where the true labels are known, the errors
at any threshold and the average precision of each label.
"""

import os

from absl import flags

from srn_tf.choices import DATASETS
from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.files import writing
from srn_tf.program import tool

FLAGS = flags.FLAGS
TAKES_ARGUMENTS = True
_NUM_DRAWN, _NUM_IN_PAGE = 12, 500


def define_flags():
    """Defines the flags of this command line."""
    flags.DEFINE_string("saved_model", "", "Folder of an exported model, e.g. RUN/export/1.")
    flags.DEFINE_string(
        "work_dir", "", "Work folder of a run, instead of --saved_model: its newest export and its own splits."
    )
    flags.DEFINE_string("data_dir", "", "Folder of the data set, as in training.")
    flags.DEFINE_string(
        "prepared_dir",
        "",
        "Folder of the prepared data if --data_dir is an official layout. Default: <work_dir>/dataset.",
    )
    flags.DEFINE_enum("dataset", None, DATASETS, "Data set in --data_dir, with --saved_model.")
    flags.DEFINE_enum("split", "test", ("train", "validation", "test"), "Split to show.")
    flags.DEFINE_string("output_dir", "", "Folder for drawings or page.")
    flags.DEFINE_bool("page", False, "Write the HTML page instead of drawings.")
    flags.DEFINE_list(
        "labels",
        [],
        "Labels whose maps are drawn. With --page, labels whose maps are kept for every image shown. Default: the most "
        "probable.",
    )
    flags.DEFINE_list("maps", [], "Maps and regions to show, e.g. A,U. Default: all of the model's.")
    flags.DEFINE_integer(
        "num_images",
        None,
        f"Number of images drawn (default {_NUM_DRAWN}) or shown in the page (default {_NUM_IN_PAGE}). The numbers in "
        "the page count all images.",
        lower_bound=1,
    )
    flags.DEFINE_enum(
        "order",
        None,
        ("first", "wrong"),
        "Images to show if not all. first: the first ones stored. wrong: those with the highest cross-entropy. "
        "Default: wrong for a page of a split, else first.",
    )
    flags.DEFINE_string(
        "label_issues",
        "",
        f"With --page: list of probably wrong labels, from {tool('evaluate')} --label_issues, whose images are shown.",
    )
    FLAGS.set_gnu_getopt()  # flags may also follow the images


def main(paths):
    """Draws, or writes the page of, the image files in `paths` or a split."""
    _check_flags(paths)
    cli.make_output_dir("output_dir", FLAGS.output_dir)

    from srn_tf.visualization import sources

    source = sources.ImageFiles(paths) if paths else None  # fails on a wrong path before TensorFlow is loaded
    work, model = _find_model()
    from srn_tf.serving.predictor import Predictor
    from srn_tf.visualization import views

    predictor = Predictor(model)
    chosen = views.label_indices(predictor, FLAGS.labels)
    if not FLAGS.page:
        views.check_can_draw(predictor, model)
    predictor.maps, predictor.regions = views.chosen_maps(predictor, FLAGS.maps)
    if source is None and work:
        source = sources.split_of_run(work, FLAGS.data_dir, FLAGS.split, FLAGS.prepared_dir)
    elif source is None:
        source = sources.split_as_stored(FLAGS.dataset, FLAGS.data_dir, FLAGS.split, predictor.trained_on)
    source.check_labels(predictor.labels)
    if FLAGS.page:
        _write_page(predictor, source, model, chosen)
    else:
        _write_drawings(predictor, source, chosen)


def _check_flags(paths):
    cli.need_one_flag("work_dir", "saved_model")
    cli.need_flags("This command", "output_dir")
    cli.need_paths("label_issues")
    if FLAGS.label_issues and (not FLAGS.page or FLAGS.order):
        received = "no --page" if not FLAGS.page else f"--order={FLAGS.order}"
        raise InputError(
            f"--label_issues is for a page, and orders its images. Received: {received}. Give --page and no --order."
        )
    if paths:
        for name in ("data_dir", "dataset", "prepared_dir", "label_issues"):
            if FLAGS[name].value:
                raise InputError(
                    f"--{name} cannot be used with image files. Received: --{name}={FLAGS[name].value}. Remove it, or "
                    "the image files."
                )
        if FLAGS.order == "wrong":
            raise InputError(
                "--order=wrong needs true labels, which image files do not have. Give a split with --data_dir, or "
                "use --order=first."
            )
    elif not FLAGS.data_dir or (FLAGS.saved_model and not FLAGS.dataset):
        raise InputError(
            "Images must be given as files or folders, or as a split (--data_dir, with --saved_model also "
            f"--dataset). Received: {'no --dataset' if FLAGS.data_dir else 'neither'}."
        )
    elif FLAGS.work_dir and FLAGS.dataset:
        raise InputError(
            "--dataset cannot be used with --work_dir, because the run names its data set. Received: "
            f"--dataset={FLAGS.dataset}. Remove it."
        )


def _find_model():
    """The run, if one is given, and the path of the model."""
    from srn_tf.runs.work_dir import WorkDir

    if FLAGS.saved_model:
        return None, FLAGS.saved_model
    work = WorkDir(FLAGS.work_dir)
    work.read_run()
    return work, work.newest_export()


def _write_page(predictor, source, model, chosen):
    from srn_tf.evaluation.label_issues import read_label_issues
    from srn_tf.visualization.views import answers_page

    order = FLAGS.order or ("first" if source.protocol is None else "wrong")
    issues = read_label_issues(FLAGS.label_issues) if FLAGS.label_issues else None
    text = answers_page(predictor, source, model, chosen, FLAGS.num_images or _NUM_IN_PAGE, order, issues)
    path = os.path.join(FLAGS.output_dir, "page.html")
    with writing(path), open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    print(f"Page of {len(source)} images, {os.path.getsize(path) / 1e6:.1f} MB: {path}")


def _write_drawings(predictor, source, chosen):
    from srn_tf.pictures import save_png
    from srn_tf.visualization.views import drawings

    num_images = FLAGS.num_images or _NUM_DRAWN
    for number, figure in enumerate(drawings(predictor, source, chosen, num_images, FLAGS.order or "first"), 1):
        path = os.path.join(FLAGS.output_dir, f"attention_{number}.png")
        save_png(figure, path)
        print(path)
    if num_images < len(source):
        print(f"Drawn: {num_images} of {len(source)} images; --num_images draws more.")
