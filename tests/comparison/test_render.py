"""The report as text, Markdown and HTML."""

import html.parser

import pytest

from srn_tf.comparison.render import as_html, as_markdown, as_text
from srn_tf.comparison.report import Cell, Heading, Paragraph, Picture, Table

TABLE = Table(
    groups=(("", ("Method", "Seeds")), ("All", ("mAP", "F1-C")), ("top-3", ("F1-C",))),
    rows=(
        (Cell("a|b"), Cell("1"), Cell("50.0"), Cell("40.0", True), Cell("-")),
        (Cell("srn <x>"), Cell("3"), Cell("61.5 ± 0.3", True), Cell("39.0"), Cell("7.0", True)),
    ),
    printed=("The paper", ((Cell("R*CNN"), Cell(""), Cell("80.5"), Cell("-"), Cell("-")),)),
)
REPORT = [
    Heading("One & all"),
    TABLE,
    Paragraph("main_net, _this_ [is]"),
    Heading("More"),
    Picture("p.png", "A <chart>"),
]


def test_a_wide_group_becomes_several_tables():
    columns = tuple(f"column {number}" for number in range(12))
    table = Table((("", ("Method",)), ("All", columns)), ((Cell("srn"), *map(Cell, "abcdefghijkl")),))
    texts = as_text([table, Paragraph("many words " * 20)]).split("\n\n")
    assert all(len(line) <= 100 for text in texts for line in text.splitlines())
    lasts = [text.splitlines()[-1].split() for text in texts[:-1]]
    assert [line[0] for line in lasts] == ["srn", "srn"] and sum((line[1:] for line in lasts), []) == list(
        "abcdefghijkl"
    )


def test_text():
    """A table per group of columns."""
    title, everything, top3, paragraph, heading, picture = as_text(REPORT).split("\n\n")
    assert (title, paragraph, heading, picture) == ("One & all", "main_net, _this_ [is]", "More", "A <chart> p.png")
    assert [line.split() for line in everything.splitlines() if "--" not in line] == [
        ["Method", "Seeds", "All", "All"],
        ["mAP", "F1-C"],
        ["a|b", "1", "50.0", "40.0*"],
        ["srn", "<x>", "3", "61.5", "±", "0.3*", "39.0"],
        ["The", "paper:"],
        ["R*CNN", "80.5", "-"],
    ]
    assert [line.split() for line in top3.splitlines()][-4:] == [
        ["a|b", "1", "-"],
        ["srn", "<x>", "3", "7.0*"],
        ["The", "paper:"],
        ["R*CNN", "-"],
    ]


def test_markdown():
    lines = as_markdown(REPORT).splitlines()
    assert lines[0] == "# One & all"
    cells = [[cell.strip() for cell in line.replace(r"\|", "¦").strip("|").split("|")] for line in lines[2:8]]
    assert cells[0] == ["Method", "Seeds", "All mAP", "All F1-C", "top-3 F1-C"]
    assert [set(cell) <= set(":-") for cell in cells[1]] == [True] * 5
    assert cells[2:] == [
        ["a¦b", "1", "50.0", "**40.0**", "-"],
        [r"srn \<x\>", "3", "**61.5 ± 0.3**", "39.0", "**7.0**"],
        ["*The paper*", "", "", "", ""],
        [r"R\*CNN", "", "80.5", "-", "-"],
    ]
    assert lines[9:] == [
        r"main_net, \_this\_ \[is\]",
        "",
        "## More",
        "",
        r"![A \<chart\>](p.png)",
        "",
        r"A \<chart\>",
    ]


class Page(html.parser.HTMLParser):
    """Rows of cells, sources of images, and whether every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.open, self.links, self.headings = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data + "*" * (self.open[-1] == "b")
        if self.open and self.open[-1] in ("h1", "h2", "figcaption", "p"):
            self.headings.append((self.open[-1], data))


def test_html():
    page = Page(as_html(REPORT, {"p.png": b"PNG"}))
    assert page.open == []
    assert page.rows == [
        ["", "All", "top-3"],
        ["Method", "Seeds", "mAP", "F1-C", "F1-C"],
        ["a|b", "1", "50.0", "40.0*", "-"],
        ["srn <x>", "3", "61.5 ± 0.3*", "39.0", "7.0*"],
        ["The paper"],
        ["R*CNN", "", "80.5", "-", "-"],
    ]
    assert page.headings == [
        ("h1", "One & all"),
        ("p", "main_net, _this_ [is]"),
        ("h2", "More"),
        ("figcaption", "A <chart>"),
    ]
    assert page.links == ["data:image/png;base64,UE5H"]


@pytest.mark.parametrize("outside", ["http:", "https:", "url(", "@import", "<script", "<link"])
def test_html_needs_nothing_from_outside(outside):
    assert outside not in as_html(REPORT, {"p.png": b"PNG"})


def test_a_table_without_group_titles_or_printed_rows():
    table = Table((("", ("flag",)), ("", ("a", "b"))), ((Cell("epochs"), Cell("1"), Cell("2")),))
    assert Page(as_html([Heading("T"), table], {})).rows == [["flag", "a", "b"], ["epochs", "1", "2"]]
    assert as_text([table]).splitlines()[0].split() == ["flag", "a", "b"]
    assert as_markdown([Heading("T"), table]).splitlines()[2].split() == "| flag | a | b |".split()
