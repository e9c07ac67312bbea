"""The plot of scripts/bench: how many times as long as natively each row takes, as an SVG."""

import math
from xml.sax.saxutils import escape

ROW_HEIGHT = 20
LEFT, WIDTH, RIGHT = 230, 560, 110
TOP, BOTTOM = 64, 30
COLORS = {"limen": "#1b7f5c", "tcg": "#c4622d"}
LABELS = {"limen": "Limen", "tcg": "QEMU TCG"}


def ratios(row):
    """Times native by emulator, of those that were measured."""
    return {place: row[place] / row["native"] for place in COLORS
            if row[place] is not None and row["native"]}


def text(x, y, words, anchor="start", color="#222", size=12):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
            f'font-size="{size}">{escape(words)}</text>')


def plot(rows):
    """The SVG's text; rows without a native figure have only their ratio at the right."""
    values = [value for row in rows for value in ratios(row).values()]
    low = min([0.5, *values])
    high = max([10.0, *values])
    first, last = math.floor(math.log10(low) * 3) / 3, math.ceil(math.log10(high) * 3) / 3

    def place(value):
        return LEFT + WIDTH * (math.log10(value) - first) / (last - first)

    height = TOP + ROW_HEIGHT * len(rows) + BOTTOM
    width = LEFT + WIDTH + RIGHT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'font-family="sans-serif">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             text(LEFT, 20, "Time, as a multiple of native (less is better)", size=14)]
    x = LEFT
    for name, color in COLORS.items():
        parts += [f'<circle cx="{x + 5}" cy="38" r="5" fill="{color}"/>', text(x + 15, 42, LABELS[name])]
        x += 100
    parts.append(text(width - 8, 42, "TCG / Limen", "end"))
    for decade in range(math.floor(first), math.ceil(last) + 1):
        for digit in (1, 2, 5):
            value = digit * 10.0 ** decade
            if not first <= math.log10(value) <= last:
                continue
            x = place(value)
            parts += [f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - BOTTOM + 4}" '
                      f'stroke="{"#888" if value == 1 else "#ddd"}"/>',
                      text(x, height - 10, f"{value:g}", "middle", "#555", 11)]
    for number, row in enumerate(rows):
        y = TOP + ROW_HEIGHT * number + ROW_HEIGHT / 2
        parts.append(text(LEFT - 10, y + 4, row["name"], "end"))
        shown = {name: place(value) for name, value in ratios(row).items()}
        if len(shown) == 2:
            parts.append(f'<line x1="{shown["limen"]:.1f}" x2="{shown["tcg"]:.1f}" y1="{y}" y2="{y}" '
                         'stroke="#bbb" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{COLORS[name]}"/>'
                  for name, x in shown.items()]
        if row["tcg_over_limen"]:
            parts.append(text(width - 8, y + 4, f"{row['tcg_over_limen']:.2f}", "end"))
    return "\n".join([*parts, "</svg>"]) + "\n"
