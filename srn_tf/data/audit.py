"""What a preparation finds out about its data: counts, files that occur twice, images it could not use."""

import collections
import csv
import logging

from srn_tf.data.label_names import in_short, look_alike
from srn_tf.data.source_files import files_digest
from srn_tf.errors import InputError

logger = logging.getLogger("srn_tf")


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
        self._splits = {
            split: {"photos": 0, "images": 0, "unlabelled": 0, "resized": 0, "rejected": 0} for split in source.splits
        }
        self._positives = {split: collections.Counter() for split in source.splits}  # of label indices
        self.stamps = {}  # path of every photograph -> what its file was, see `source_files.stamp`
        self._first_of = {}  # digest -> (split, path) of the first photograph that has it
        self._equal = []  # rows (first split, first path, split, path) of photographs with the same pixels
        self.rejected = []  # rows (split, name, reason)

    def check_counts(self):
        """Compares counts with the published ones, and labels with each other, before any image is opened.

        Raises:
            InputError: counts differ, or labels look alike, and warnings are errors.
        """
        for note in self._source.notes:
            logger.info("%s: %s", self._name, note)
        for warning in source_warnings(self._source):
            self._warn(warning)

    def add(self, split, report):
        """Takes in the report on one photograph, see `photo_records.read_photo`.

        Raises:
            InputError: more examples than allowed are damaged.
        """
        counts = self._splits[split]
        counts["photos"] += 1
        counts["images"] += report["images"]
        counts["unlabelled"] += report["unlabelled"]
        counts["resized"] += report["resized"]
        self._positives[split].update(report["positives"])
        self.stamps[report["path"]] = report["stamp"]
        counts["rejected"] += len(report["rejected"])
        self.rejected += [(split, name, reason) for name, reason in report["rejected"]]
        if len(self.rejected) / self._num_examples > self._max_rejected:
            raise AuditStop(
                f"At most {self._max_rejected:.2%} of the {self._num_examples:,} images of {self._name} may be "
                f"damaged. Received: {len(self.rejected):,} damaged so far, the first {self.rejected[0][1]} "
                f"({self.rejected[0][2]}). Replace them, or raise --max_rejected."
            )
        if report["digest"] is None:
            return
        first = self._first_of.setdefault(report["digest"], (split, report["path"]))
        if first != (split, report["path"]):
            self._equal.append((*first, split, report["path"]))

    def finish(self):
        """States what was kept, and judges equal images.

        Returns:
            dict for the data set's metadata.
        Raises:
            InputError: nothing of a split is left, images are in two splits, or a warning is to be an error.
        """
        for split, counts in self._splits.items():
            if not counts["images"]:
                raise AuditStop(
                    f"Split {split} of {self._name} must keep at least one image. Received: only damaged images. "
                    "Replace them."
                )
            logger.info(
                "%s %s: %s images kept, %s without label, %s rejected.",
                self._name,
                split,
                *(f"{counts[key]:,}" for key in ("images", "unlabelled", "rejected")),
            )
        overlap = [row for row in self._equal if row[0] != row[2]]
        duplicates = [row for row in self._equal if row[0] == row[2]]
        if overlap:
            message = f"{len(overlap):,} images are in two splits (equal pixels), the first: {_pair(overlap[0])}."
            if not self._allow_overlap:
                raise AuditStop(
                    f"{self._name}: {message} Training on test images makes results worthless. Remove one of each "
                    "pair, or keep them with --allow_overlap."
                )
            self._warn(message)
        if duplicates:
            self._warn(
                f"{len(duplicates):,} images occur again in their split (equal pixels), the first: "
                f"{_pair(duplicates[0])}."
            )
        return {
            "splits": self._splits,
            "counts": [{"what": c.what, "found": c.found, "published": c.published} for c in self._source.counts],
            "duplicates": len(duplicates),
            "overlap": len(overlap),
            "notes": [*self._source.notes, *self._source.warnings],
        }

    def label_counts(self):
        """How many of the images kept have each label: dict label name -> dict split -> int."""
        return {
            name: {split: counts[index] for split, counts in self._positives.items()}
            for index, name in enumerate(self._source.labels)
        }

    def files_digest(self):
        """Hash of all photographs' files, see `source_files.files_digest`."""
        return files_digest(self.stamps)

    def write_lists(self, folder, prefix=""):
        """Writes what was found, in full.

        Args:
            folder: epath.Path.
            prefix: str, start of the files' names.
        Returns:
            list of the paths written, none for nothing found:
            rejected.csv, the damaged images: split, path, reason. A crop's path ends in "#" and its number.
            equal_images.csv, pairs of photographs with equal pixels: split and path of either.
        """
        lists = {
            "rejected.csv": (("split", "path", "reason"), self.rejected),
            "equal_images.csv": (("first_split", "first_path", "split", "path"), self._equal),
        }
        written = []
        for name, (header, rows) in lists.items():
            if rows:
                written.append(folder / f"{prefix}{name}")
                with written[-1].open("w") as file:
                    csv.writer(file, lineterminator="\n").writerows([header, *rows])
        return written

    def _warn(self, message):
        if self._fail_on_mismatch:
            raise AuditStop(f"{self._name}: {message} (--fail_on_mismatch makes this an error.)")
        logger.warning("Warning: %s: %s", self._name, message)


def source_warnings(source):
    """What may be a mistake in a source, known before any image is opened.

    Args:
        source: source.Source.
    Returns:
        list of str: counts that differ from those published, the source's own warnings, labels that look alike.
    """
    found = [
        f"{count.what}: found {count.found:,}, published {count.published:,}."
        for count in source.counts
        if count.found != count.published
    ]
    found += source.warnings
    alike = look_alike(source.labels)
    if alike:
        groups = "; ".join(in_short(group) for group in alike[:10]) + ("; ..." if len(alike) > 10 else "")
        found.append(
            f"Labels that look alike are kept separate: {groups}. If two mean the same, give them the same name."
        )
    return found


class AuditStop(InputError):
    """The data may not be used as it is; what was found so far is worth keeping."""


def _pair(row):
    first_split, first, split, path = row
    return f"{first} ({first_split}) and {path} ({split})"
