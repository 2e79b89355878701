"""Trains a multi-label model, evaluates it on the test split and exports it.

python tools/train.py --flagfile=configs/scenes.flags --data_dir=DATA --work_dir=RUN [--flag=value ...]

RUN then holds flags.txt, run.json, log.jsonl, metrics.json, tensorboard/, checkpoints/ and export/1/.
The same command continues an interrupted run; --restart starts it again. Flags after --flagfile override the file.
"""

from absl import flags

from srn_tf import options
from srn_tf.commands import cli
from srn_tf.errors import InputError
from srn_tf.flag_groups import Group
from srn_tf.program import command


def define_flags():
    """Defines the flags of `options.Options`, and one of this command line."""
    options.define_flags()
    Group(options.STARTING, is_detail=True).DEFINE_bool("print_next", True, "Print what to type next at the end.")


def main(_):
    """Trains, evaluates and exports; prints the table and what to type next."""
    settings = options.read_options()
    if settings.dataset != "scenes":  # which is drawn
        cli.need_paths("data_dir")

    from srn_tf.evaluation.report import short_summary  # here, so that --help does not load TensorFlow
    from srn_tf.run import train_run
    from srn_tf.training.interruption import Stopped

    try:
        metrics = train_run(settings)
    except (Stopped, InputError) as error:
        if settings.restart and "same command" in str(error):  # which would delete what was just saved
            error.args = (f"{error} Leave out --restart then.",)
        raise
    if metrics is None:
        print("Training is done. The same command without --train_only evaluates the test split and exports.")
        return
    print(f"\n{short_summary(metrics)}\n")
    if not flags.FLAGS.print_next:
        return
    run = f"--work_dir={settings.work_dir} --data_dir={settings.data_dir}"
    print(f"Look at answers: {command('visualize')} {run} --page --output_dir=LOOK")
    print(f"Predict:         {command('predict')} --saved_model={settings.work_dir}/export/1 --output=out.csv PHOTOS")
    print(f"All numbers:     {command('evaluate')} {run}")
    print(f"TensorBoard:     tensorboard --logdir={settings.work_dir}/tensorboard")
