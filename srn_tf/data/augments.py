"""Which augmentations a run uses, by name, and how strong they are. Loads no TensorFlow.

`augmentation.py` draws crops and mirrors, `effects.py` changes the pixels of an image, `mixing.py` mixes the images of
a batch and softens labels.
"""

import dataclasses

from srn_tf.data.crops import MULTI_SCALE, Crops, RandomResizedCrop
from srn_tf.errors import InputError

FRAMES = ("resize", "crops", "random_resized_crop", "multi_scale_crop")
"""What of an image is seen; one of them, or resize."""

EFFECTS = ("colour_jitter", "randaugment", "cutout")
"""What changes the pixels of one image, in the order in which it is applied, after mirroring."""

MIXES = ("mixup", "cutmix", "splicemix")
"""What makes an image of several; one of them at most."""

AUGMENTS = (*FRAMES, "mirror", *EFFECTS, *MIXES, "label_smoothing")
"""All names, in the order in which they are applied."""

SPLICED = 4
"""SpliceMix: images of a batch for one more, which it makes of them."""


@dataclasses.dataclass(frozen=True)
class Effects:
    """The augmentations besides crops and mirroring.

    Attributes:
        names: those in use, of `EFFECTS`, `MIXES` and "label_smoothing".
        Others: how strong they are, see the flags of the same names in `options.define_flags`.
    """

    names: tuple = ()
    jitter_strength: float = 0.4
    randaugment_ops: int = 2
    randaugment_magnitude: float = 9.0
    cutout_side: float = 0.5
    mixup_alpha: float = 0.2
    cutmix_alpha: float = 1.0
    splicemix_blanks: float = 0.3
    smoothing: float = 0.1

    @property
    def per_image(self):
        """The names that change pixels of one image: those that a fixed version of it may have."""
        return tuple(name for name in EFFECTS if name in self.names)

    @property
    def mix(self):
        """The name of `MIXES` that is in use, or None."""
        return next((name for name in MIXES if name in self.names), None)

    @property
    def soft(self):
        """The names that make labels between 0 and 1."""
        return tuple(name for name in ("mixup", "cutmix", "label_smoothing") if name in self.names)

    @property
    def relabels(self):
        """The names that give images other labels than they are stored with."""
        return tuple(name for name in (*MIXES, "label_smoothing") if name in self.names)

    @property
    def moves_boxes(self):
        """The names that move what an image shows without moving its boxes."""
        return tuple(name for name in ("randaugment", *MIXES) if name in self.names)

    def stored(self):
        """Names and strengths of `per_image`, flat, as they tell fixed versions apart; () if there are none."""
        strengths = {
            "colour_jitter": (self.jitter_strength,),
            "randaugment": (self.randaugment_ops, self.randaugment_magnitude),
            "cutout": (self.cutout_side,),
        }
        return tuple(value for name in self.per_image for value in (name, *strengths[name]))

    def batch_size(self, images):
        """Images of a batch that training sees, of as many that are read."""
        return images + images // SPLICED if self.mix == "splicemix" else images


def check_augments(names):
    """A list of names as it is used.

    Args:
        names: list of str, in any order.
    Returns:
        tuple: the names in the order of `AUGMENTS`.
    Raises:
        InputError: a name that does not exist or comes twice, or names that exclude each other.
    """
    received = ",".join(names)
    unknown = [name for name in names if name not in AUGMENTS]
    if unknown:
        raise InputError(
            f"--augment must list some of {', '.join(AUGMENTS)}. Received: {unknown[0]!r} in {received!r}."
        )
    if len(set(names)) < len(names):
        raise InputError(f"--augment must name each augmentation once. Received: {received!r}.")
    for group, what in ((FRAMES, "choose what of an image is seen"), (MIXES, "mix the images of a batch")):
        both = [name for name in names if name in group]
        if len(both) > 1:
            raise InputError(
                f"--augment must have at most one of {', '.join(group)}, which all {what}. Received: "
                f"{' and '.join(both)}. Keep one of them."
            )
    return tuple(name for name in AUGMENTS if name in names)


def frame_of(options):
    """The crops that options ask for: crops.Crops, crops.RandomResizedCrop, or None for the whole image."""
    if "random_resized_crop" in options.augment:
        return RandomResizedCrop(options.random_crop_min_area)
    if "multi_scale_crop" in options.augment:
        return MULTI_SCALE
    max_distortion = None if options.max_distortion < 0 else options.max_distortion
    return Crops(options.crop_scales, options.crop_places, max_distortion) if options.crops else None


def effects_of(options):
    """The Effects that options ask for."""
    strengths = {field.name: getattr(options, field.name) for field in dataclasses.fields(Effects)[1:]}
    return Effects(tuple(name for name in options.augment if name not in (*FRAMES, "mirror")), **strengths)
