"""Shows what a trained run is good for: predicts test images with the exported model and draws where it looked.

python tools/demo.py --data_dir=DATA --work_dir=RUN --output_dir=OUT

Leaves OUT/images/*.png, OUT/predictions.csv and OUT/attention.png, and prints the run's table and what to type next.
"""

import csv
import io
import json
import os

import cli
from absl import flags

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("data_dir", None, "Folder of the run's data set, as in training.", required=True)
    flags.DEFINE_string("work_dir", None, "Work folder of a finished run.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder for the pictures and predictions.", required=True)
    flags.DEFINE_integer("num_images", 6, "Test images to show.", 1)


def main(_):
    import numpy as np
    from PIL import Image

    from srn_tf.data.datasets import open_dataset
    from srn_tf.evaluation.report import summary_table
    from srn_tf.pictures import draw_attention, save_png
    from srn_tf.serving.predictor import Predictor
    from srn_tf.training.work_dir import WorkDir

    work = WorkDir(FLAGS.work_dir)
    description = work.read_run()
    dataset = open_dataset(
        description["dataset"],
        FLAGS.data_dir,
        os.path.join(work.path, "dataset"),
        description["validation_fraction"],
    )
    records = list(dataset.records("test").take(FLAGS.num_images).as_numpy_iterator())
    files = [record["image"] for record in records]
    saved_model = os.path.join(work.export, "1")
    predictor = Predictor(saved_model)
    explained = predictor.explain(files)
    probabilities = predictor.predict(files)

    folder = os.path.join(FLAGS.output_dir, "images")
    os.makedirs(folder, exist_ok=True)
    names = [f"{index}.png" for index in range(len(files))]
    for name, content in zip(names, files):
        Image.open(io.BytesIO(content)).save(os.path.join(folder, name))
    with open(os.path.join(FLAGS.output_dir, "predictions.csv"), "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *predictor.labels])
        rows.writerows(
            [os.path.join(folder, name), *(f"{p:.6f}" for p in row)] for name, row in zip(names, probabilities)
        )
    side = description["model"]["image_size"]
    pixels = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB").resize((side, side))) for content in files]
    truths = np.array([record["labels"] == 1 for record in records])
    figure = draw_attention(
        np.stack(pixels), explained["A"], explained["U"], probabilities, predictor.labels, truths, names
    )
    save_png(figure, os.path.join(FLAGS.output_dir, "attention.png"))

    for name, row, truth in zip(names, probabilities, truths):
        said = ", ".join(f"{predictor.labels[i]} {row[i]:.2f}" for i in np.argsort(-row)[:4])
        true_names = ", ".join(predictor.labels[i] for i in np.flatnonzero(truth))
        print(f"{name}: {said}   (true: {true_names})")
    with open(work.metrics, encoding="utf-8") as file:
        print(f"\n{summary_table(json.load(file))}\n")
    print(f"Attention maps:  {FLAGS.output_dir}/attention.png")
    print(f"Predictions:     {FLAGS.output_dir}/predictions.csv")
    print("What to type next (in the virtual environment: source .venv/bin/activate)")
    print(f"  tensorboard --logdir={work.tensorboard}")
    print(f"  python tools/predict.py --saved_model={saved_model} --output=predictions.csv {folder}")
    print(
        f"  docker run -p 8501:8501 -v {os.path.abspath(work.export)}:/models/srn -e MODEL_NAME=srn tensorflow/serving"
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main, __doc__)
