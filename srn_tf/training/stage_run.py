"""What changes while a stage runs, and how it is saved and restored."""

import dataclasses

from srn_tf.models.assigning import assign_arrays


@dataclasses.dataclass
class StageRun:
    """One stage in training.

    Attributes:
        index: index of the stage in the plan.
        name: name of the stage.
        stage: models.model.Stage.
        schedule: see `schedule.make_schedule`.
        step: stage_step.StageStep.
        epoch: finished epochs of the stage.
        steps: finished steps of the current epoch.
        total_steps: finished steps of the stage.
        sums: term's name -> sum of its values over the steps of this epoch.
        skipped: steps of the stage that changed nothing because their gradient was not finite; overflows of float16 do
            not count.
        skipped_in_epoch, skipped_in_row: steps that changed nothing, in this epoch, and since the last step that did.
        best_score: best value of what the stage watches, higher being better: the highest validation mAP of an epoch,
            percent, or the lowest mean of a term times -1; None before the end of the first epoch.
        best_epoch: that epoch, counted from 1, or None.
        timed_steps, data_wait_s, compute_s: of the part of this epoch that this process ran.
    """

    index: int
    name: str
    stage: object
    schedule: object
    step: object
    epoch: int = 0
    steps: int = 0
    total_steps: int = 0
    sums: dict = dataclasses.field(default_factory=dict)
    skipped: int = 0
    skipped_in_epoch: int = 0
    skipped_in_row: int = 0
    best_score: float | None = None
    best_epoch: int | None = None
    timed_steps: int = 0
    data_wait_s: float = 0.0
    compute_s: float = 0.0

    _COUNTED = (
        "epoch",
        "steps",
        "total_steps",
        "sums",
        "skipped",
        "skipped_in_epoch",
        "skipped_in_row",
        "best_score",
        "best_epoch",
    )

    def begin_epoch(self):
        """Resets what is counted within an epoch."""
        self.steps = self.skipped_in_epoch = self.timed_steps = 0
        self.sums = dict.fromkeys((term.name for term in self.stage.terms), 0.0)
        self.data_wait_s = self.compute_s = 0.0

    def mean_losses(self):
        """Term's name -> its mean over the steps of this epoch that were not skipped."""
        counted = max(self.steps - self.skipped_in_epoch, 1)
        return {name: value / counted for name, value in self.sums.items()}

    def collect(self, model):
        """Gathers the whole state; with several workers, each of them must call it.

        Args:
            model: MultiLabelModel.
        Returns:
            (arrays, meta): name -> array; dict ready for JSON.
        """
        arrays = {name: variable.numpy() for name, variable in self._variables(model).items()}
        meta = {name: getattr(self, name) for name in self._COUNTED}
        return arrays, {**meta, "stage_index": self.index, "schedule": dataclasses.asdict(self.schedule)}

    def restore(self, arrays, meta, model, source):
        """Restores what `collect` gathered.

        Raises:
            InputError: the state belongs to another model or other settings.
        """
        assign_arrays(self._variables(model), arrays, source)
        for name in self._COUNTED:
            setattr(self, name, meta[name])
        for name, value in meta["schedule"].items():
            setattr(self.schedule, name, value)

    def _variables(self, model):
        weights = {f"model/{name}": weight for name, weight in model.weights.items()}
        return weights | {f"step/{name}": variable for name, variable in self.step.variables.items()}
