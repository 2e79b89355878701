"""Shows what a trained run can do: predicts test images with the exported model, and draws where it looked.

python tools/demo.py --data_dir=DATA --work_dir=RUN --output_dir=OUT

Writes OUT/images/*.png, OUT/predictions.csv and OUT/attention.png. Prints the table of scores, and then three lines:
what was learned, where to look, what to type next.
"""

import dataclasses
import io
import os

from absl import flags

from srn_tf.program import command

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of this command line."""
    flags.DEFINE_string("data_dir", None, "Folder of the run's data set, as in training.", required=True)
    flags.DEFINE_string("work_dir", None, "Work folder of a finished run.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the pictures and predictions.", required=True)
    flags.DEFINE_integer("num_images", 6, "Number of test images to show.", 1)


def main(_):
    """Predicts, draws and prints."""
    import numpy as np
    from PIL import Image

    from srn_tf.pictures import save_png
    from srn_tf.prediction.predict import predict_files
    from srn_tf.runs.work_dir import WorkDir
    from srn_tf.serving.predictor import Predictor
    from srn_tf.visualization.attention import draw_attention
    from srn_tf.visualization.explained import explain, most_probable
    from srn_tf.visualization.sources import split_of_run

    work = WorkDir(FLAGS.work_dir)
    source = split_of_run(work, FLAGS.data_dir, "test")
    shown = range(min(FLAGS.num_images, len(source)))
    saved_model = os.path.join(work.export, "1")
    predictor = Predictor(saved_model)
    images = explain(predictor, source, shown, lambda probabilities, *_: most_probable(probabilities, 4), photo_px=480)
    images = [dataclasses.replace(image, name=f"{image.position}.png") for image in images]

    folder = os.path.join(FLAGS.output_dir, "images")
    os.makedirs(folder, exist_ok=True)
    for position, content, _ in source.read(set(shown)):
        Image.open(io.BytesIO(content)).save(os.path.join(folder, images[position].name))
    paths = [os.path.join(folder, image.name) for image in images]
    predict_files(predictor, paths, os.path.join(FLAGS.output_dir, "predictions.csv"), restart=True)
    shown_as = (predictor.labels, predictor.thresholds, predictor.maps, source.protocol)
    figure = draw_attention(images, *shown_as, regions=predictor.regions)
    save_png(figure, os.path.join(FLAGS.output_dir, "attention.png"))

    for image in images:
        said = ", ".join(
            f"{predictor.labels[i]} {image.probabilities[i]:.2f}" for i in most_probable(image.probabilities, 4)
        )
        true_names = ", ".join(predictor.labels[i] for i in np.flatnonzero(image.labels == 1))
        print(f"{image.name}: {said}   (true: {true_names})")
    metrics = work.read_metrics()
    print()
    output, mean_ap = next((name, scored["all"]["mAP"]) for name, scored in metrics["outputs"].items())
    activate = "source .venv/bin/activate; " if command("visualize").startswith("python ") else ""
    print(
        f"Learned:   to find {len(metrics['labels'])} labels; {output} has "
        f"{'no mAP' if mean_ap is None else f'mAP {mean_ap:.2f}'} on {metrics['images']} test images, which the model "
        "never saw."
    )
    print(f"Look at:   {FLAGS.output_dir}/attention.png and {FLAGS.output_dir}/predictions.csv")
    print(
        f"Type next: {activate}{command('visualize')} --work_dir={FLAGS.work_dir} --data_dir={FLAGS.data_dir} --page "
        f"--output_dir={FLAGS.output_dir}"
    )
