"""The data set that a finished run is asked about: its own, or another, which is then said."""

import logging
import os

from srn_tf.data.datasets import open_dataset
from srn_tf.labels import check_same_labels

logger = logging.getLogger("srn_tf")


def open_run_data(work, data_dir, prepared_dir=""):
    """Opens a data set for a run, divided as the run divided its own; says so where it is not the run's own.

    Args:
        work: WorkDir of a run.
        data_dir, prepared_dir: as in training; prepared_dir is <work_dir>/dataset by default.
    Returns:
        DataSet, and bool, whether the run was trained on it, by their fingerprints; a run without one (KNN on the
        features of NUS-WIDE, which needs no prepared data set) is taken to have been.
    Raises:
        InputError: no run, no such data set, or one with other labels than the run's.
    """
    run = work.read_run()
    prepared_dir = prepared_dir or os.path.join(work.path, "dataset")
    dataset = open_dataset(run["dataset"], data_dir, prepared_dir, run["validation_fraction"])
    check_same_labels(run["labels"], dataset.labels, f"The data set in {data_dir}")
    folder = str(dataset.builder.data_path)
    if os.path.commonpath(map(os.path.realpath, (data_dir, folder))) != os.path.realpath(data_dir):
        logger.info("Images are read from the prepared data in %s, not from %s.", folder, data_dir)
    expected = run["fingerprint"]
    if not expected:
        logger.warning(
            "%s has no fingerprint of the run's data set. The data set in %s is assumed to be the same.",
            work.run,
            data_dir,
        )
        return dataset, True
    is_own = dataset.fingerprint == expected
    if not is_own:
        logger.warning(
            "WARNING: the data set in %s is not the one that %s was trained on (fingerprint %.12s, the run's: "
            "%.12s). The results are for other images.",
            folder,
            work.path,
            dataset.fingerprint,
            expected,
        )
    return dataset, is_own
