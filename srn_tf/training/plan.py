"""What a training run does, as plain values."""

import dataclasses

from srn_tf.data.augments import Effects
from srn_tf.data.crops import Crops


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """How to train. `options.define_flags` states units and the paper's values.

    Attributes:
        stages: names of stages, in order.
        epochs: maximum epochs of each stage.
        learning_rates: initial learning rate of each stage.
        rate_scales: part -> factor of its learning rate; 1 for parts that are not in it.
        crops: data.crops.Crops or RandomResizedCrop, or None for the whole image.
        effects: data.augments.Effects, what --augment lists besides crops and mirroring.
        profile_steps: (first, last) steps of the run to profile, counted from 1, or None.
        All others: the options of the same names.
    """

    stages: tuple
    epochs: tuple
    learning_rates: tuple
    loss: str = "sigmoid"
    focal_gamma: float = 2.0
    asl_gamma_pos: float = 0.0
    asl_gamma_neg: float = 4.0
    asl_margin: float = 0.05
    asl_focal_gradient: bool = False
    positive_weights: str = "none"
    unspecified: str = "auto"
    selective_prior: str = ""
    selective_threshold: float = 0.5
    selective_top_k: int = 5
    selective_gamma: float = 4.0
    selective_weight: float = 1.0
    batch_size: int = 96
    accumulation_steps: int = 1
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decayed_weights: str = "all"
    clip_norm: float = 0.0
    rate_scales: dict = dataclasses.field(default_factory=dict)
    frozen_parts: tuple = ()
    frozen_norms: tuple = ()
    schedule: str = "plateau"
    cycle_momentum: bool = True
    warmup_epochs: float = 0.0
    learning_rate_min: float = 1e-5
    patience: int = 3
    ema_decay: float = 0.0
    ema_keep: str = "better"
    precision: str = "float32"
    max_skipped_steps: int = 0
    crops: Crops | None = Crops()
    mirror: bool = False
    effects: Effects = Effects()
    fixed_crops: int = 0
    fast_decode: bool = False
    repeat_threshold: float = 0.0
    shuffle_buffer: int = 20_000
    cache: str = "none"
    data_threads: int = 0
    steps_per_call: int = 1
    xla: bool = False
    seed: int = 0
    checkpoint_every_s: float = 600.0
    keep_checkpoints: int = 3
    profile_steps: tuple | None = None

    @property
    def images_per_step(self):
        """Images that a step computes over all devices and workers: those of its batch, and what SpliceMix adds."""
        return self.effects.batch_size(self.batch_size)
