"""The blocks of `report` as text for a terminal, as Markdown, and as one HTML page without outside parts."""

import base64
import html
import re
import textwrap

from tabulate import tabulate

from srn_tf.comparison.report import Heading, Paragraph, Picture, Table

_STYLE = """
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #222; max-width: 90rem; margin: 2rem auto;
  padding: 0 1.5rem; }
h1 { font-size: 1.35rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p { max-width: 60rem; margin: .4rem 0; color: #444; font-size: .88rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .8rem; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .32rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4; }
th { border-bottom: 1px solid #888; } tr.groups th { border-bottom: 0; text-align: center; }
th.name, td.name { text-align: left; white-space: normal; } .starts { border-left: 1px solid #bbb; }
.printed td { color: #6a6a6a; }
.printed th { text-align: left; font-weight: normal; font-style: italic; padding-top: 1rem; }
td b { color: #0b5a8a; }
figure { margin: 1.4rem 0; } figcaption { font-size: .95rem; margin-bottom: .4rem; }
img { max-width: 100%; height: auto; }
"""
_WIDTH = 100  # of text for a terminal


def as_text(report):
    """Text for a terminal: tables that fit it, "*" where the other formats have bold, pictures by file name.

    Args:
        report: blocks, see `report.blocks`.
    Returns:
        str.
    """
    parts = []
    for block in report:
        if isinstance(block, Table):
            parts += [text for index in range(1, len(block.groups)) for text in _text_tables(block, index)]
        elif isinstance(block, Picture):
            parts.append(f"{block.text} {block.file}")
        else:
            parts.append(textwrap.fill(block.text, _WIDTH, break_long_words=False, break_on_hyphens=False))
    return "\n\n".join(parts)


def as_markdown(report):
    """Markdown; pictures are linked by their file names.

    Args:
        report: blocks.
    Returns:
        str.
    """
    parts = []
    for number, block in enumerate(report):
        if isinstance(block, Heading):
            parts.append(f"{'##' if number else '#'} {_escaped(block.text)}")
        elif isinstance(block, Paragraph):
            parts.append(_escaped(block.text))
        elif isinstance(block, Picture):
            parts += [f"![{_escaped(block.text)}]({block.file})", _escaped(block.text)]
        else:
            parts.append(_markdown_table(block))
    return "\n\n".join(parts) + "\n"


def as_html(report, pngs):
    """One HTML page that needs no other file.

    Args:
        report: blocks.
        pngs: file name of a Picture -> bytes of its PNG file.
    Returns:
        str.
    """
    body = []
    for number, block in enumerate(report):
        if isinstance(block, Heading):
            level = "h2" if number else "h1"
            body.append(f"<{level}>{html.escape(block.text)}</{level}>")
        elif isinstance(block, Paragraph):
            body.append(f"<p>{html.escape(block.text)}</p>")
        elif isinstance(block, Picture):
            data = base64.b64encode(pngs[block.file]).decode()
            text = html.escape(block.text)
            image = f'<img src="data:image/png;base64,{data}" alt="{text}">'
            body.append(f"<figure><figcaption>{text}</figcaption>{image}</figure>")
        else:
            body.append(_html_table(block))
    title = html.escape(report[0].text)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _text_tables(table, group):
    """Tables of one group of columns, each with the columns that name the rows and as many others as fit."""
    start = sum(len(columns) for _, columns in table.groups[:group])
    left, texts = range(start, start + len(table.groups[group][1])), []
    while left:
        for count in range(len(left), 0, -1):
            text = _text_table(table, group, left[:count])
            if max(map(len, text.splitlines())) <= _WIDTH:
                break
        texts.append(text)
        left = left[count:]
    return texts


def _text_table(table, group, places):
    """The columns that name the rows, and some of one group."""
    num_names = len(table.groups[0][1])
    title = table.groups[group][0]
    names = [column for _, columns in table.groups for column in columns]
    columns = [names[place] for place in places]
    shown = [*range(num_names), *places]
    rows = [[row[place].text + "*" * row[place].is_bold for place in shown] for row in table.rows]
    if table.printed:
        source, printed = table.printed
        rows += [[f"{source}:"], *([row[place].text for place in shown] for row in printed)]
    headers = [*table.groups[0][1], *(f"{title}\n{column}" if title else column for column in columns)]
    return tabulate(rows, headers, disable_numparse=True, colalign=_alignment(num_names, headers))


def _markdown_table(table):
    headers = [
        _escaped(f"{title} {column}" if title else column) for title, columns in table.groups for column in columns
    ]
    rows = [
        [f"**{_escaped(cell.text)}**" if cell.is_bold else _escaped(cell.text) for cell in row] for row in table.rows
    ]
    if table.printed:
        source, printed = table.printed
        rows += [[f"*{_escaped(source)}*"], *([_escaped(cell.text) for cell in row] for row in printed)]
    alignment = _alignment(len(table.groups[0][1]), headers)
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=alignment)


def _alignment(num_names, headers):
    return ["left"] * num_names + ["right"] * (len(headers) - num_names)


def _html_table(table):
    columns = [column for _, columns in table.groups for column in columns]
    lines = ['<div class="wide"><table>', "<thead>"]
    if any(title for title, _ in table.groups):
        titles = "".join(f'<th colspan="{len(columns)}">{html.escape(title)}</th>' for title, columns in table.groups)
        lines.append(f'<tr class="groups">{titles}</tr>')
    lines += [_html_row(table, "th", map(html.escape, columns)), "</thead>", "<tbody>"]
    for row in table.rows:
        texts = (html.escape(cell.text) for cell in row)
        lines.append(_html_row(table, "td", (f"<b>{t}</b>" if c.is_bold else t for t, c in zip(texts, row))))
    if table.printed:
        source, printed = table.printed
        lines.append(f'</tbody><tbody class="printed"><tr><th colspan="{len(columns)}">{html.escape(source)}</th></tr>')
        lines += [_html_row(table, "td", (html.escape(cell.text) for cell in row)) for row in printed]
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def _html_row(table, tag, texts):
    """One row of cells; those that name it are on the left, and a line is before each group."""
    names = len(table.groups[0][1])
    starts = {sum(len(columns) for _, columns in table.groups[:group]) for group in range(1, len(table.groups))}
    cells = []
    for place, text in enumerate(texts):
        kind = "name" if place < names else "starts" if place in starts else ""
        cells.append(f'<{tag} class="{kind}">{text}</{tag}>' if kind else f"<{tag}>{text}</{tag}>")
    return f"<tr>{''.join(cells)}</tr>"


def _escaped(text):
    """Text in which Markdown finds no mark of its own; "_" inside a word is none."""
    return re.sub(r"[\\|*`\[\]<>]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
