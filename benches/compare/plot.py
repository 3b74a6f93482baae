"""Bars as SVG: the time of each tool as a ratio to the job's unit."""

from __future__ import annotations

from xml.sax.saxutils import escape

ROW = 26
LEFT = 190
WIDTH = 420


def bars(job: dict) -> str:
    tools = job["tools"]
    widest = max(tool["ratio_median"] for tool in tools)
    height = 46 + ROW * len(tools)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 230}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="20" font-weight="bold">{escape(job["title"])}</text>',
    ]
    unit = LEFT + WIDTH / widest
    lines.append(f'<line x1="{unit:.1f}" x2="{unit:.1f}" y1="30" y2="{height - 6}" stroke="#888" stroke-dasharray="3 3"/>')
    for index, tool in enumerate(tools):
        y = 34 + ROW * index
        length = max(1.0, WIDTH * tool["ratio_median"] / widest)
        colour = "#2b6cb0" if tool["name"].startswith("Arkstream") else "#a0aec0"
        figures = f'{tool["ratio_median"]:.2f}×  {tool["rss_max"] / 2**20:.0f} MiB'
        if tool["output"]:
            figures += f'  {tool["output"] / 1e6:.0f} MB'
        lines.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(tool["name"])}</text>')
        lines.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="18" fill="{colour}"/>')
        lines.append(f'<text x="{LEFT + length + 6:.1f}" y="{y + 14}">{escape(figures)}</text>')
    return "\n".join([*lines, "</svg>", ""])
