"""Render samples as the tables and the plot of docs/benchmarks.md."""

from __future__ import annotations

import math
import shlex
from html import escape
from typing import TYPE_CHECKING

from actions import COMMANDS
from cases import CASES, GROUPS, Group
from measure import Samples

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"


def find(samples: Sequence[Samples], group: str, name: str, variant: str) -> Samples | None:
    """Return the samples of a case, or None; calculate those of a sum."""
    for whose in GROUPS:
        if whose.id == group and name in whose.sums:
            return _sum(samples, whose, name, variant)
    for one in samples:
        if (one.group, one.name, one.variant) == (group, name, variant) and one.values:
            return one
    return None


def _sum(samples: Sequence[Samples], group: Group, name: str, variant: str) -> Samples | None:
    medians = []
    for sign, names in zip((1, -1), group.sums[name], strict=True):
        for part in names:
            one = find(samples, group.id, part, variant)
            if one is None:
                return None
            medians.append(sign * one.median)
    return Samples(group.id, name, variant, values=[sum(medians)])


def ratio(one: Samples | None, other: Samples | None) -> float | None:
    """Return the ratio of the median of `one` to that of `other`, or None without both."""
    return None if one is None or other is None else one.median / other.median


def _time(microseconds: float) -> str:
    return f"{microseconds / 1e3:.3f} ms" if microseconds < 1e4 else f"{microseconds / 1e3:.1f} ms"


def _times(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.2f} {TIMES}" if value < 10 else f"{value:.0f} {TIMES}"


def _shows_tails(group: Group) -> bool:
    return group.tails or len(group.variants) == 1


def _row(group: Group, name: str, samples: Sequence[Samples]) -> list[str]:
    """Return the cells of one case; an unavailable case has its reason."""
    mine = [one for one in samples if one.group == group.id and one.name == name]
    reason = next((one.unavailable for one in mine if one.unavailable), None)
    if reason is not None:
        return [name, reason.replace("|", "\\|").replace("\n", " ")]
    found = [find(samples, group.id, name, variant.label) for variant in group.variants]
    unit = _time if group.measure == "latency" else "{:,.0f}".format
    cells = [name]
    tails = _shows_tails(group)
    for one in found:
        cells.append(unit(one.median) if one else NOTHING)
        if tails:
            cells.append(unit(one.percentile(95)) if one else NOTHING)
    if not tails:
        cells.append(_times(ratio(found[-1], found[0])))
    for baseline in group.baselines:
        for variant, one in zip(group.variants, found, strict=True):
            other = find(samples, group.id, baseline, variant.label)
            cells.append(_times(ratio(one, other)))
    if group.whole:
        other = find(samples, group.id, group.whole, group.variants[0].label)
        if found[0] is None or other is None or found[0] is other:
            cells.append(NOTHING)
        else:
            cells.append(f"{(other.median - found[0].median) / 1e3:.3f} ms")
    return cells


def table(group: Group, samples: Sequence[Samples]) -> str:
    """Return one group as a Markdown table under its heading."""
    names = list(dict.fromkeys(one.name for one in samples if one.group == group.id))
    names += group.sums
    labels = [variant.label for variant in group.variants]
    if _shows_tails(group):
        labels = [label for one in labels for label in (one, "95th percentile")]
    else:
        labels.append(f"{labels[-1]} / {labels[0]}")
    for baseline in group.baselines:
        if len(group.variants) == 1:
            labels.append(f"/ {baseline}")
        else:
            labels += [f"/ {baseline}, {variant.label}" for variant in group.variants]
    labels += ["saves"] if group.whole else []
    lines = [
        f"### {group.title}",
        "",
        group.note,
        "",
        "| | " + " | ".join(labels) + " |",
        "|---|" + "---:|" * len(labels),
    ]
    for name in names:
        cells = _row(group, name, samples)
        cells += [""] * (len(labels) + 1 - len(cells))
        lines.append("| " + " | ".join(cells) + " |")
    notes = []
    for case in CASES:
        if case.group == group.id and case.name in names:
            command = COMMANDS.get(case.action) if group.id == "command" else None
            line = f"`{shlex.join(command)} noop`" if command else ""
            words = ", ".join(word for word in (line, case.note) if word)
            if words:
                notes.append(f"- {case.name}: {words}")
    for name, (plus, minus) in group.sums.items():
        notes.append(f"- {name}: {' + '.join(plus)} - {' - '.join(minus)}, of the medians")
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def markdown(samples: Sequence[Samples], machine: str) -> str:
    """Return the description of the machine and all tables that have samples."""
    measured = {one.group for one in samples}
    tables = [table(group, samples) for group in GROUPS if group.id in measured]
    return "\n".join([machine, "", *tables])


_STYLE = """\
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .small { font-size: 11px; fill: #59636e }
  .grid { stroke: #d1d9e0 }
  .bar { fill: #8c959f }
  .ours { fill: #0969da }
  .far { stroke: #59636e; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .small { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .bar { fill: #6e7681 }
    .ours { fill: #4493f8 }
    .far { stroke: #9198a1 }
  }"""

LEFT, WIDTH, RIGHT, ROW, TOP = 210, 440, 90, 30, 56


def plot(group: Group, samples: Sequence[Samples], ours: str) -> str:
    """Return an SVG with a bar for each case on a logarithmic scale, and a star at `ours`."""
    label = group.variants[0].label
    rows = [one for one in samples if one.group == group.id and one.variant == label and one.values]
    low = 10 ** math.floor(math.log10(min(one.median for one in rows)))
    high = 10 ** math.ceil(math.log10(max(one.percentile(95) for one in rows)))
    decades = round(math.log10(high / low))

    def across(value: float) -> float:
        return LEFT + WIDTH * math.log10(value / low) / decades

    height = TOP + ROW * len(rows) + 30
    bottom = TOP + ROW * len(rows)
    total = LEFT + WIDTH + RIGHT
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" role="img"'
            f' aria-label="{escape(group.title)}: medians on a logarithmic scale">'
        ),
        f"<style>\n{_STYLE}\n</style>",
        f'<text x="12" y="22" font-weight="600">{escape(group.title)}</text>',
        (
            '<text class="small" x="12" y="40">median, and a line to the 95th percentile;'
            " logarithmic scale; shorter is faster</text>"
        ),
    ]
    for decade in range(decades + 1):
        x = across(low * 10**decade)
        text = f"{low * 10**decade / 1e3:g} ms"
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text class="small" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>'
        )
    for number, one in enumerate(rows):
        y = TOP + ROW * number
        end, far = across(one.median), across(one.percentile(95))
        own = one.name == ours
        name = escape(one.name) + (" ★" if own else "")
        kind = "bar ours" if own else "bar"
        middle = y + ROW / 2
        parts += [
            f'<text x="{LEFT - 8}" y="{middle + 4:g}" text-anchor="end">{name}</text>',
            (
                f'<rect class="{kind}" x="{LEFT}" y="{y + 5}" width="{end - LEFT:.1f}"'
                f' height="{ROW - 10}" rx="2"/>'
            ),
            f'<line class="far" x1="{end:.1f}" x2="{far:.1f}" y1="{middle:g}" y2="{middle:g}"/>',
            f'<text class="small" x="{far + 6:.1f}" y="{middle + 4:g}">{_time(one.median)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
