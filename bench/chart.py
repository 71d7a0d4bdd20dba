# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG, readable on light and dark."""
from xml.sax.saxutils import escape

STYLE = """<style>
text { font: 13px sans-serif; fill: #24292f } .bar { fill: #6e7781 } .own { fill: #0969da }
.line { fill: none; stroke-width: 2 } .a { stroke: #0969da } .b { stroke: #1a7f37 } .axis { stroke: #8b949e; stroke-width: 1 }
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


def lines(title, series):
    """series: (label, [(x, y)]); x doubles from point to point."""
    width, height, left, top = 720, 300, 60, 40
    xs = sorted({x for _, points in series for x, _ in points})
    most = max(y for _, points in series for _, y in points) * 1.1
    step = (width - left - 160) / max(1, len(xs) - 1)

    def place(x, y):
        return f"{left + xs.index(x) * step:.1f},{top + (height - top - 40) * (1 - y / most):.1f}"

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">', STYLE,
             f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>',
             f'<path class="axis" d="M{left} {top} V{height - 40} H{width - 150}" fill="none"/>']
    for x in xs:
        parts.append(f'<text x="{left + xs.index(x) * step:.1f}" y="{height - 20}" text-anchor="middle">{x}</text>')
    for number, (label, points) in enumerate(series):
        parts.append(f'<polyline class="line {"ab"[number]}" points="{" ".join(place(*point) for point in points)}"/>')
        for point in points:
            x, y = place(*point).split(",")
            parts.append(f'<text x="{x}" y="{float(y) - 8}" text-anchor="middle">{point[1]:.0f}</text>')
        x, y = place(*points[-1]).split(",")
        parts.append(f'<text x="{float(x) + 14}" y="{float(y) + 4 + 16 * number}">{escape(label)}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"
