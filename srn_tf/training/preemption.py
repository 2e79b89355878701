"""Notices of a platform that takes its machine away soon, as TensorFlow's own handler hears them."""

import os
import urllib.request

import tensorflow as tf

from srn_tf import distribution

_METADATA_TIMEOUT_S = 5.0


class PreemptionNotice:
    """Saves when the platform gives notice, and says when its time of grace is over.

    tf.distribute.experimental.PreemptionCheckpointHandler has such notices of Google Cloud's machines with GPUs alone,
    an hour before these are stopped, and lets all workers of a cluster agree on a step; elsewhere nothing is done. It
    is given the run's own way of saving in place of a tf.train.Checkpoint, which holds no data position or schedule.

    Args:
        strategy: tf.distribute strategy; every worker makes one of these and asks it equally often.
        folder: where `save` saves; for TensorFlow's messages.
        save: function that saves everything, called with the arguments of `save_if_due`.
    """

    def __init__(self, strategy, folder, save):
        self._is_over = False
        self._handler = None
        if distribution.any_worker(strategy, not _gives_notice()):
            return
        self._handler = tf.distribute.experimental.PreemptionCheckpointHandler(
            strategy.cluster_resolver,
            tf.train.CheckpointManager(tf.train.Checkpoint(), folder, max_to_keep=1),  # must be there; holds nothing
            termination_config=tf.distribute.experimental.TerminationConfig(
                termination_watcher_fn=_is_announced, exit_fn=self._end, save_fn=save
            ),
        )

    def save_if_due(self, *arguments):
        """To be called between two steps.

        Args:
            *arguments: for `save`, which is called at the notice and once more before the end.
        Returns:
            bool: the machine is about to be stopped, and all is saved.
        """
        if self._handler is not None:
            self._handler.save_checkpoint_if_preempted(*arguments)
        return self._is_over

    def _end(self):
        self._is_over = True


def _gives_notice():
    """Whether this is a machine with GPUs in Google Cloud."""
    return bool(tf.config.list_logical_devices("GPU")) and _metadata("hostname") is not None


def _is_announced():
    """Whether the end of this machine is; TensorFlow's own function gives up where the answer fails once."""
    return _metadata("maintenance-event") == "TERMINATE_ON_HOST_MAINTENANCE"


def _metadata(name):
    """What Google Cloud's metadata server says of this machine: str, or None where it says nothing."""
    host = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")  # as TensorFlow's handler asks
    request = urllib.request.Request(
        f"http://{host}/computeMetadata/v1/instance/{name}", headers={"Metadata-Flavor": "Google"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_METADATA_TIMEOUT_S) as answer:
            return answer.read().decode()
    except OSError:
        return None
