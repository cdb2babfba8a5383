"""The picture of a `View` in HTML: two boxes side by side, with lines between them.

It is a table, which stays readable on a page that strips style sheets. It sets no background and
draws in the colour of the surrounding text, which suits light and dark notebooks. Lines differ in
stroke and have labels, so no information depends on colour.
"""

from __future__ import annotations

from minidocker._inspect.html import escape
from minidocker._inspect.picture import Link, Picture, PictureRow, Section

# The double class gives these rules precedence over the rules of notebooks for all tables.
_ROOT = ".minidocker-view.minidocker-view"
_RULES = (
    ("", "border-collapse: separate; border-spacing: 0; margin: .5em 0; table-layout: auto;"),
    # In a page that is too narrow it scrolls.
    ("", "display: block; max-width: 100%; overflow-x: auto;"),
    ("", "color: inherit; background: none; font-size: .95em; line-height: 1.4;"),
    ("caption", "text-align: left; caption-side: bottom; padding: .6em 0 0; color: inherit;"),
    (":is(tr, tr:hover, tr:nth-child(n))", "background: none !important;"),
    (":is(td, th)", "text-align: left; vertical-align: middle; padding: .1em .9em;"),
    (":is(td, th)", "border: 0 solid currentColor; background: none; color: inherit;"),
    # On one line each, cut with an ellipsis: a line that may break anywhere lets a narrow page
    # squeeze its column to one letter.
    (":is(td, th)", "font-weight: normal; max-width: 24em; white-space: nowrap;"),
    (".side", "border-width: 0 2px; overflow: hidden; text-overflow: ellipsis;"),
    (".side code", "color: inherit; background: none; padding: 0; opacity: .8;"),
    (".end :is(.side, .link)", "padding-bottom: .5em;"),
    (".name .side", "border-width: 2px 2px 0; border-radius: 10px 10px 0 0;"),
    (".name .side", "padding-top: .4em; padding-bottom: .4em; font-size: 1.1em;"),
    (".foot .side", "border-width: 0 2px 2px; border-radius: 0 0 10px 10px;"),
    (".foot .side", "padding: 0; height: .3em;"),
    (".kind .side", "border-top-width: 1px;"),
    (".kind :is(.side, .link)", "padding-top: .5em;"),
    (".thing .side", "padding-left: 2em;"),
    (".link", "padding-left: 0; padding-right: 0; min-width: 10em;"),
    (".line", "display: flex; align-items: center; gap: .5em; white-space: nowrap;"),
    (".line::before, ROOT .line::after", 'content: ""; flex: 1; min-width: 1.5em;'),
    (".shared", "font-weight: bold;"),
    (".shared::before, ROOT .shared::after", "border-top: 4px solid currentColor;"),
    (".same::before, ROOT .same::after", "border-top: 2px dashed currentColor;"),
    (".own", "opacity: .75;"),
    (".bare", "gap: 0;"),
    (".legend", "display: inline-flex; width: 9em; margin-right: 1em; vertical-align: middle;"),
)
_STYLE = "\n".join(
    f"{_ROOT} {selector.replace('ROOT', _ROOT)} {{ {declarations} }}"
    for selector, declarations in _RULES
)

_LEGEND = (
    (Link.SHARED, "shared", "both are in one namespace"),
    (Link.SAME, "same", "one thing, with a name on each side"),
    (Link.OWN, "own", "each side has its own"),
)


def html(picture: Picture) -> str:
    """Return the picture, self-contained: it loads nothing and runs no script."""
    host, container = (_called(name) for name in (picture.host, picture.container))
    where = f"<code>pid {picture.pid} on the host</code>"
    body = [_line("name", f"Host{host}", "", f"Container{container} {where}", cell="th")]
    for section in picture.sections:
        body += _section(section)
    body.append(_line("foot", "", "", ""))
    legend = " ".join(
        f'<span class="line legend {link.value}">{label}</span>{meaning}<br>'
        for link, label, meaning in _LEGEND
    )
    return (
        f"<style>{_STYLE}</style>"
        f'<table class="minidocker-view"><caption>{legend}</caption>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _called(name: str | None) -> str:
    return f" <b>{escape(name)}</b>" if name else ""


def _section(section: Section) -> list[str]:
    head, title = section.head, escape(section.title)
    host, container = (
        f"<b>{title}</b> <code>{escape(name)}</code>" for name in (head.host, head.container)
    )
    lines = [("kind", host, _stroke(head), container)]
    lines += [
        ("thing", escape(row.host), _stroke(row), escape(row.container)) for row in section.rows
    ]
    last = len(lines) - 1
    return [
        _line(f"{kind} end" if number == last else kind, left, stroke, right)
        for number, (kind, left, stroke, right) in enumerate(lines)
    ]


def _line(kind: str, host: str, stroke: str, container: str, *, cell: str = "td") -> str:
    side = 'th scope="col"' if cell == "th" else cell
    return (
        f'<tr class="{kind}"><{side} class="side">{host}</{cell}>'
        f'<td class="link">{stroke}</td><{side} class="side">{container}</{cell}></tr>'
    )


def _stroke(row: PictureRow) -> str:
    if row.link is Link.NONE:
        return ""
    bare = "" if row.label else " bare"
    return f'<span class="line {row.link.value}{bare}">{escape(row.label)}</span>'
