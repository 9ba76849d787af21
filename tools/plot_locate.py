#!/usr/bin/env python3
"""Draws docs/locate.svg from what `refault-bench locate --json` prints: how the three locators grow.

Both axes are logarithmic. Left: rmap and inodes over the number of inodes, pages over the number of mapped pages. Right:
pages over the number of processes, and of mappings. Where the kernel has PAGEMAP_SCAN, its times are drawn.

Usage: refault-bench locate --json | tools/plot_locate.py > docs/locate.svg
"""

import json
import math
import sys
from html import escape

PANEL_WIDTH, PANEL_HEIGHT = 380, 330
LEFT, TOP, GAP, RIGHT, BOTTOM = 70, 64, 70, 24, 62
WIDTH = LEFT + 2 * PANEL_WIDTH + GAP + RIGHT
HEIGHT = TOP + PANEL_HEIGHT + BOTTOM
TIME_EXPONENTS = (-2, 5)  # of microseconds
TIME_NAMES = {-2: "10 ns", -1: "100 ns", 0: "1 µs", 1: "10 µs", 2: "100 µs", 3: "1 ms", 4: "10 ms", 5: "100 ms"}
RMAP, INODES, PAGES, PAGES_LIGHT, MAPPINGS = "#0b7a75", "#b3541e", "#3b4cc0", "#7d8be0", "#8a3c8f"
ABOVE, BELOW, RIGHT_OF = (5, -10), (5, 20), (9, 4)


def picked(rows, x, **wanted):
    """The points (x, microseconds) of the rows that have these values, ascending."""
    found = [r for r in rows if all(r.get(name) == value for name, value in wanted.items())]
    return sorted((r[x], r["us_per_query"]) for r in found)


def all_pages(rows, x, **wanted):
    """As picked, of the queries for every page that a process has touched."""
    return picked([r for r in rows if r.get("query_pages") == r.get("pages_each")], x, **wanted)


def power(exponent):
    small = ("1", "10", "100", "1000")
    return small[exponent] if exponent < len(small) else f'10<tspan dy="-5" font-size="9">{exponent}</tspan>'


class Panel:
    def __init__(self, left, exponents, title, x_name):
        self.left = left
        self.exponents = exponents
        self.parts = []
        self.text(left, TOP - 14, title, weight="600")
        self.text(left + PANEL_WIDTH / 2, HEIGHT - 16, x_name, anchor="middle")
        for exponent in range(exponents[0], exponents[1] + 1):
            x = self.x(10**exponent)
            self.line([(x, TOP), (x, TOP + PANEL_HEIGHT)], "#e4e4e4", 1)
            self.text(x, TOP + PANEL_HEIGHT + 18, power(exponent), anchor="middle", is_markup=True)
        for exponent in range(TIME_EXPONENTS[0], TIME_EXPONENTS[1] + 1):
            y = self.y(10.0**exponent)
            self.line([(left, y), (left + PANEL_WIDTH, y)], "#e4e4e4", 1)
            self.text(left - 8, y + 4, TIME_NAMES[exponent], anchor="end")

    def x(self, value):
        low, high = self.exponents
        return self.left + (math.log10(value) - low) / (high - low) * PANEL_WIDTH

    def y(self, us):
        low, high = TIME_EXPONENTS
        return TOP + PANEL_HEIGHT - (math.log10(us) - low) / (high - low) * PANEL_HEIGHT

    def line(self, points, color, width, dash=""):
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{text}" fill="none" stroke="{color}" stroke-width="{width}"{dash}/>')

    def text(self, x, y, text, anchor="start", color="#333", weight="400", is_markup=False):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
                          f'font-weight="{weight}">{text if is_markup else escape(text)}</text>')

    def series(self, points, color, name, at, place=ABOVE, dash=""):
        """Draws it and writes its name beside the point number `at`."""
        if not points:
            return
        placed = [(self.x(x), self.y(us)) for x, us in points]
        self.line(placed, color, 2.2, dash)
        for x, y in placed:
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>')
        x, y = placed[min(at, len(placed) - 1)]
        self.text(x + place[0], y + place[1], name, color=color, weight="600")


def draw(figures):
    rows = [r for r in figures["rows"] if "locator" in r]
    pages = [r for r in rows if r["locator"] == "pages"]
    methods = {r["method"] for r in pages}
    method = "scan" if "scan" in methods else "entries"
    left = Panel(LEFT, (3, 6), "One device range: time to find who has it", "inodes (rmap, inodes), mapped pages (pages)")
    left.series(picked(rows, "inodes", locator="rmap"), RMAP, "rmap, one page", 2, BELOW)
    left.series(picked(rows, "inodes", locator="inodes"), INODES, "inodes, one page", 1, BELOW)
    plain = {"method": method, "page_stride": 1}
    left.series(all_pages(pages, "pages_each", processes=1, mappings_each=1, **plain), PAGES, "pages, all of them", 0)
    left.series(picked(pages, "pages_each", query_pages=1, processes=1, mappings_each=1, **plain), PAGES_LIGHT,
                "pages, one page", 2, BELOW, dash="5 4")
    right = Panel(LEFT + PANEL_WIDTH + GAP, (0, 4), "pages: 10 000 touched pages in each process",
                  "processes, or mappings of one process")
    common = {"pages_each": 10000, **plain}
    right.series(all_pages(pages, "processes", mappings_each=1, **common), PAGES, "processes, all pages", 2, RIGHT_OF)
    right.series(picked(pages, "processes", query_pages=1, mappings_each=1, **common), PAGES_LIGHT,
                 "processes, one page", 0, BELOW, dash="5 4")
    right.series(all_pages(pages, "mappings_each", processes=1, **common), MAPPINGS, "mappings, all pages", 1, BELOW)
    others = min((r["processes_read"] - r["processes"] for r in pages), default=0)
    note = f"Medians of {figures['runs']} runs; {others} other processes on the machine; page tables read by {method}."
    body = "\n".join(left.parts + right.parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"
 font-family="system-ui, sans-serif" font-size="12">
<title>How the three locators grow</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="24" fill="#333">{escape(note)}</text>
{body}
</svg>"""


def main():
    if len(sys.argv) > 1 or sys.stdin.isatty():
        print(__doc__.strip(), file=sys.stderr)
        return 2
    print(draw(json.load(sys.stdin)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
