"""Evaluates k nearest neighbours: on pooled features of a trained run, or on NUS-WIDE's low-level features.

python tools/knn.py --work_dir=RUN --data_dir=DATA --output_dir=OUT [--k=1,5,10,20,50,100,200] [--sigma=0]
python tools/knn.py --features_dir=NUS_LOW_LEVEL --source_dir=NUS --output_dir=OUT [--data_dir=DATA]

A label's score is the share of the k nearest training images that have it. k is chosen on validation images by mAP.
OUT then holds flags.txt, run.json, metrics.json and predictions/, like a run; tools/compare.py accepts it.
In the second form, NUS holds ConceptsList/, ImageList/ and Groundtruth/. DATA is the prepared nus_wide of the networks;
give it to get their order of images, which tools/compare.py needs to compare them.
"""

from absl import flags

from srn_tf.commands import cli
from srn_tf.errors import InputError

FLAGS = flags.FLAGS


def define_flags():
    """Defines the flags of this command line."""
    flags.DEFINE_string("work_dir", "", "Work folder of a trained run.")
    flags.DEFINE_string("data_dir", "", "Folder of the run's data set, as in training.")
    flags.DEFINE_string(
        "prepared_dir",
        "",
        "Folder of the prepared data if --data_dir is an official layout. Default: <work_dir>/dataset.",
    )
    flags.DEFINE_string("features_dir", "", "Folder of NUS-WIDE's Low_Level_Features, to use these instead of a run.")
    flags.DEFINE_string("source_dir", "", "Folder of NUS-WIDE's official lists, with --features_dir.")
    flags.DEFINE_string("output_dir", None, "Folder for metrics and predictions.", required=True)
    flags.DEFINE_list("k", "1,5,10,20,50,100,200", "Candidates for the number of neighbours.")
    flags.DEFINE_float(
        "sigma",
        0.0,
        "Width of the weights exp(-d / sigma) of neighbours at distance d; 0 weighs all neighbours equally.",
        lower_bound=0.0,
    )


def main(_):
    """Evaluates the neighbours, writes the results to --output_dir and prints the table."""
    cli.need_one_flag("work_dir", "features_dir")
    candidates = _candidates()
    if FLAGS.work_dir:
        cli.need_flags("--work_dir", "data_dir")
        from srn_tf.baselines.pooled_features import PooledFeatures

        source = PooledFeatures(FLAGS.work_dir, FLAGS.data_dir, FLAGS.prepared_dir)
    else:
        cli.need_flags("--features_dir", "source_dir")
        from srn_tf.baselines.low_level_features import LowLevelFeatures

        source = LowLevelFeatures(FLAGS.features_dir, FLAGS.source_dir, FLAGS.data_dir)
    from srn_tf.baselines.knn_run import evaluate_knn
    from srn_tf.evaluation.report import summary_table

    metrics = evaluate_knn(source, candidates, FLAGS.sigma, FLAGS.output_dir)
    print(summary_table(metrics))


def _candidates():
    try:
        return [int(text) for text in FLAGS.k]
    except ValueError:
        raise InputError(
            f"k must be different whole numbers above 0, separated by commas. Received: {','.join(FLAGS.k)!r}."
        ) from None
