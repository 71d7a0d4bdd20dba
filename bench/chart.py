# SPDX-License-Identifier: Apache-2.0
"""A bar chart as SVG, readable on light and dark."""
from xml.sax.saxutils import escape

STYLE = """<style>
text { font: 13px sans-serif; fill: #24292f } .bar { fill: #6e7781 } .own { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .bar { fill: #8b949e } .own { fill: #4493f8 } }
</style>"""


def bars(title, rows, unit):
    """rows: (label, value, own). One bar each."""
    width, left, step = 720, 250, 26
    top = max(value for _, value, _ in rows)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {len(rows) * step + 40}" role="img">', STYLE,
             f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>']
    for number, (label, value, own) in enumerate(rows):
        y = 34 + number * step
        length = max(1, round((width - left - 90) * value / top))
        parts.append(f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>'
                     f'<rect class="{"own" if own else "bar"}" x="{left}" y="{y}" width="{length}" height="18" rx="2"/>'
                     f'<text x="{left + length + 6}" y="{y + 14}">{value:.3g} {escape(unit)}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"
