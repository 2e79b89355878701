"""What a preparation finds out about its data: counts, files that occur twice, images it could not use."""

import csv
import logging

from srn_tf.errors import InputError

logger = logging.getLogger("srn_tf")

_SHOWN = 20  # pairs of equal images that are kept for the metadata


class Audit:
    """Gathers the reports of all images and judges them.

    Args:
        name: name of the data set, for messages.
        source: source.Source.
        max_rejected: share of the examples, 0 to 1, that may be damaged.
        allow_overlap: whether equal images in two splits are a warning only.
        fail_on_mismatch: whether every warning is an error.
    """

    def __init__(self, name, source, max_rejected, allow_overlap, fail_on_mismatch):
        self._name, self._source = name, source
        self._max_rejected = max_rejected
        self._allow_overlap, self._fail_on_mismatch = allow_overlap, fail_on_mismatch
        self._num_examples = sum(len(photo.examples) for photos in source.splits.values() for photo in photos)
        self._splits = {split: {"photos": 0, "images": 0, "unlabelled": 0, "rejected": 0} for split in source.splits}
        self._first_of = {}  # digest -> (split, path) of the first photograph that has it
        self._duplicates = {"count": 0, "pairs": []}
        self._overlap = {"count": 0, "pairs": []}
        self.rejected = []  # rows (split, name, reason)

    def check_counts(self):
        """Compares the source's counts with the published ones, before any image is opened.

        Raises:
            InputError: they differ, and mismatches are errors.
        """
        for note in self._source.notes:
            logger.info("%s: %s", self._name, note)
        for count in self._source.counts:
            if count.found != count.published:
                self._warn(f"{count.what}: found {count.found:,}, published {count.published:,}.")

    def add(self, split, report):
        """Takes in the report on one photograph, see `photo_records.read_photo`.

        Raises:
            InputError: more examples than allowed are damaged.
        """
        counts = self._splits[split]
        counts["photos"] += 1
        counts["images"] += report["images"]
        counts["unlabelled"] += report["unlabelled"]
        counts["rejected"] += len(report["rejected"])
        self.rejected += [(split, name, reason) for name, reason in report["rejected"]]
        if len(self.rejected) / self._num_examples > self._max_rejected:
            raise TooManyRejected(
                f"At most {self._max_rejected:.2%} of the {self._num_examples:,} images of {self._name} may be damaged "
                f"(--max_rejected). Received: {len(self.rejected):,} so far, the first {self.rejected[0][1]} "
                f"({self.rejected[0][2]})"
            )
        if report["digest"] is None:
            return
        first = self._first_of.setdefault(report["digest"], (split, report["path"]))
        if first == (split, report["path"]):
            return
        found = self._duplicates if first[0] == split else self._overlap
        found["count"] += 1
        if len(found["pairs"]) < _SHOWN:
            found["pairs"].append([list(first), [split, report["path"]]])

    def finish(self):
        """States what was kept, and judges equal images.

        Returns:
            dict for the data set's metadata.
        Raises:
            InputError: nothing of a split is left, images are in two splits, or a warning is to be an error.
        """
        for split, counts in self._splits.items():
            if not counts["images"]:
                raise TooManyRejected(
                    f"Split {split} of {self._name} must keep at least one image. Received: all damaged."
                )
            logger.info(
                "%s %s: %s images kept, %s without label, %s rejected.",
                self._name,
                split,
                *(f"{counts[key]:,}" for key in ("images", "unlabelled", "rejected")),
            )
        if self._overlap["count"]:
            message = (
                f"{self._overlap['count']:,} images are in two splits (equal pixels), the first: "
                f"{_pair(self._overlap['pairs'][0])}."
            )
            if not self._allow_overlap:
                raise InputError(
                    f"{self._name}: {message} Training on test images makes results worthless: remove one of each "
                    "pair, or keep them with --allow_overlap."
                )
            self._warn(message)
        if self._duplicates["count"]:
            self._warn(
                f"{self._duplicates['count']:,} images occur again in their split (equal pixels), the first: "
                f"{_pair(self._duplicates['pairs'][0])}."
            )
        return {
            "splits": self._splits,
            "counts": [{"what": c.what, "found": c.found, "published": c.published} for c in self._source.counts],
            "duplicates": self._duplicates,
            "overlap": self._overlap,
            "notes": list(self._source.notes),
        }

    def write_rejected(self, path):
        """Writes the damaged images as CSV.

        Args:
            path: epath.Path; columns split, path, reason. A crop's path ends in "#" and its number.
        """
        with path.open("w") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("split", "path", "reason"))
            rows.writerows(self.rejected)

    def _warn(self, message):
        if self._fail_on_mismatch:
            raise InputError(f"{self._name}: {message} (--fail_on_mismatch makes this an error.)")
        logger.warning("Warning: %s: %s", self._name, message)


class TooManyRejected(InputError):
    """More images are damaged than allowed; the rows gathered so far are worth keeping."""


def _pair(pair):
    (first_split, first), (second_split, second) = pair
    return f"{first} ({first_split}) and {second} ({second_split})"
