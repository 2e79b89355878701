"""Results that papers print, for the tables of `report`. Nothing here was measured by this project.

Source: Zhu et al., Learning Spatial Regularization with Image-level Supervisions for Multi-label Image
Classification, CVPR 2017, Tables 1, 2 and 3.
"""

import math
from dataclasses import dataclass

# The columns of the tables, in the paper's order; mAP does not depend on the rule and is not in its top-3 part.
ALL = ("mAP", "F1-C", "P-C", "R-C", "F1-O", "P-O", "R-O")
TOP3 = ALL[1:]


@dataclass(frozen=True)
class PublishedRow:
    """One row of a table.

    Attributes:
        name: str, the paper's name of the method.
        all: column of ALL -> percent; a column the paper leaves empty is absent.
        top3: column of TOP3 -> percent.
    """

    name: str
    all: dict
    top3: dict

    def value(self, group, column):
        """Percent of a column of "all" or "top3"; NaN where the paper leaves it empty, and of another group."""
        return {"all": self.all, "top3": self.top3}.get(group, {}).get(column, math.nan)


@dataclass(frozen=True)
class PublishedTable:
    """One table.

    Attributes:
        source: str, short reference.
        images: int, test images its own rows are measured on.
        rows: PublishedRows.
        note: str, what a reader who compares must know.
    """

    source: str
    images: int
    rows: tuple
    note: str


_HARMONIC = (
    "F1-C of KNN, WARP and CNN-RNN is the harmonic mean of P-C and R-C, of the others the mean of F1 over labels."
)


def _row(name, all_values=(), top3_values=()):
    """A row from its values in the order of the columns."""
    return PublishedRow(name, dict(zip(ALL, all_values)), dict(zip(TOP3, top3_values)))


PUBLISHED = {
    "nus_wide": PublishedTable(
        source="Zhu et al., CVPR 2017, Table 1",
        images=80_283,
        rows=(
            _row("KNN", (), (24.3, 32.6, 19.3, 47.6, 42.9, 53.4)),
            _row("WARP", (), (33.5, 31.7, 35.6, 53.9, 48.6, 60.5)),
            _row("CNN-RNN", (), (34.7, 40.5, 30.4, 55.2, 49.9, 61.7)),
            _row("ResNet-101", (59.8, 55.7, 65.8, 51.9, 72.5, 75.9, 69.5), (47.0, 46.9, 56.8, 61.7, 55.8, 69.1)),
            _row("ResNet-107", (59.5, 55.6, 65.4, 52.2, 72.6, 75.5, 70.0), (46.9, 46.7, 56.8, 61.8, 55.9, 69.2)),
            _row(
                "ResNet-101-semantic",
                (60.1, 54.9, 69.3, 48.6, 72.6, 76.9, 68.8),
                (47.0, 46.4, 55.3, 61.8, 55.9, 69.2),
            ),
            _row("ResNet-SRN-att", (61.8, 56.9, 67.5, 52.5, 73.2, 76.5, 70.1), (47.7, 47.4, 57.7, 62.2, 56.2, 69.6)),
            _row("ResNet-SRN", (62.0, 58.5, 65.2, 55.8, 73.4, 75.5, 71.5), (48.9, 48.2, 58.9, 62.2, 56.2, 69.6)),
        ),
        note=f"{_HARMONIC} Test images are counted by the authors' release; the paper's text says 107,859.",
    ),
    "coco2014": PublishedTable(
        source="Zhu et al., CVPR 2017, Table 2",
        images=40_504,
        rows=(
            _row("WARP", (), (55.7, 59.3, 52.5, 60.7, 59.8, 61.4)),
            _row("CNN-RNN", (), (60.4, 66.0, 55.6, 67.8, 69.2, 66.4)),
            _row("ResNet-101", (75.2, 69.5, 80.8, 63.4, 74.4, 82.2, 68.0), (65.9, 84.3, 57.4, 71.7, 86.5, 61.3)),
            _row("ResNet-107", (75.4, 69.7, 80.9, 63.7, 74.5, 82.1, 68.2), (66.1, 84.4, 57.6, 71.8, 86.4, 61.4)),
            _row(
                "ResNet-101-semantic",
                (75.5, 69.9, 81.1, 63.8, 74.8, 82.1, 68.6),
                (66.2, 84.3, 57.7, 72.0, 86.3, 61.8),
            ),
            _row("ResNet-SRN-att", (76.1, 70.0, 81.2, 63.3, 75.0, 84.1, 67.7), (66.3, 85.8, 57.5, 72.1, 88.1, 61.1)),
            _row("ResNet-SRN", (77.1, 71.2, 81.6, 65.4, 75.8, 82.7, 69.9), (67.4, 85.2, 58.8, 72.9, 87.4, 62.5)),
        ),
        note=_HARMONIC.replace("KNN, ", ""),
    ),
    "wider_attribute": PublishedTable(
        source="Zhu et al., CVPR 2017, Table 3",
        images=29_177,
        rows=tuple(
            PublishedRow(name, dict(zip(("mAP", "F1-C", "F1-O"), values)), {})
            for name, *values in (
                ("R-CNN", 80.0),
                ("R*CNN", 80.5),
                ("DHC", 81.3),
                ("ResNet-101", 85.0, 74.7, 80.4),
                ("ResNet-107", 85.0, 74.8, 80.6),
                ("ResNet-101-semantic", 85.1, 74.8, 80.5),
                ("ResNet-SRN-att", 85.4, 74.9, 80.8),
                ("ResNet-SRN", 86.2, 75.9, 81.3),
            )
        ),
        note="R*CNN and DHC see the whole photograph around the person, DHC also its event.",
    ),
}
"""Data set -> its table; the other data sets have none here."""
