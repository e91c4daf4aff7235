"""The picture of the results: panels of bars, written as SVG by hand."""

import statistics
from html import escape

# Okabe and Ito's colours, which everybody can tell apart.
SERIES = [("rnsnet", "#0072B2"), ("slirp4netns", "#E69F00"), ("pasta", "#7A9E7E"),
          ("limit", "#D5D8DC")]
COLUMNS = ["rnsnet 1500", "slirp4netns 65520", "pasta 65520"]
WIDTH, PANEL, LEFT, TOP, GAP = 960, 200, 56, 84, 78
SHORT = {"guest to host": "guest → host", "host to guest": "host → guest",
         "to a published port": "published, in", "from a published port": "published, out"}


def panels(found):
    """(title, groups), a group being (label, one list of values per series)."""
    def group(label, work, limit, scale=1.0):
        names = [*COLUMNS, limit]
        return label, [[v / scale for v in found.values(work, name)] for name in names]

    tcp = [group(f"{short}", f"TCP: {way}, IPv4, 1 flow", "none") for way, short in SHORT.items()]
    yield "TCP, one flow, Gbit/s", tcp
    rates = [("request/response", "request/response of 64 bytes, guest to host"),
             ("the same, published", "request/response of 64 bytes, to a published port"),
             ("connections", "connect, request, response, close; 8 at a time, guest to host"),
             ("the same, published", "connect, request, response, close; 8 at a time, "
                                     "to a published port")]
    yield "Per second, thousands", [group(label, f"request/response: {work}", "none", 1e3)
                                    for label, work in rates]
    yield "UDP datagrams per second, thousands", [
        group(f"{size} B, {SHORT[way]}", f"UDP: {size} bytes, {way}", "none", 1e3)
        for size in (64, 1400) for way in ("guest to host", "host to guest")]
    for link in sorted({work.split(":")[0] for work in found.works if work.startswith("link of")}):
        yield f"Over a {link}: Gbit/s", [
            group(short, f"{link}: {way}", "the host itself") for way, short in SHORT.items()]


def nice(most):
    """A round number at or above `most`, and the step of its grid."""
    step = 10.0 ** len(str(int(most)))
    while most < 1 and step > most:
        step /= 10
    while most / step < 3:
        step /= 2 if f"{step:e}"[0] != "5" else 2.5
    return -(-most // step) * step, step


def figure(value):
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def panel(title, groups, top):
    """One panel's elements."""
    values = [v for _, series in groups for s in series for v in s]
    if not values:
        return []
    highest, step = nice(max(values))
    bottom, right = top + PANEL, WIDTH - 24

    def y(value):
        return bottom - PANEL * value / highest

    out = [f'<text class="title" x="{LEFT}" y="{top - 16}">{escape(title)}</text>']
    tick = 0.0
    while tick <= highest * 1.001:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(tick):.1f}" '
                   f'y2="{y(tick):.1f}"/><text class="tick" x="{LEFT - 8}" y="{y(tick) + 4:.1f}">'
                   f'{tick:g}</text>')
        tick += step
    width = (right - LEFT) / len(groups)
    bar = width / 5.2
    for index, (label, series) in enumerate(groups):
        shown = [(s, color) for s, (_, color) in zip(series, SERIES) if s]
        x = LEFT + width * (index + 0.5) - bar * len(shown) / 2
        for samples, color in shown:
            middle = statistics.median(samples)
            low, high, centre = y(min(samples)), y(max(samples)), x + bar / 2
            out.append(f'<rect x="{x + 2:.1f}" y="{y(middle):.1f}" width="{bar - 4:.1f}" '
                       f'height="{bottom - y(middle):.1f}" rx="2" fill="{color}"/>')
            out.append(f'<line class="spread" x1="{centre:.1f}" x2="{centre:.1f}" y1="{low:.1f}" '
                       f'y2="{high:.1f}"/>')
            out.append(f'<text class="value" x="{centre:.1f}" y="{min(high, y(middle)) - 4:.1f}">'
                       f'{figure(middle)}</text>')
            x += bar
        out.append(f'<text class="group" x="{LEFT + width * (index + 0.5):.1f}" '
                   f'y="{bottom + 18}">{escape(label)}</text>')
    out.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    return out


def draw(found, data):
    """The whole picture."""
    shown = [p for p in panels(found) if any(s for _, series in p[1] for s in series)]
    height = TOP + len(shown) * (PANEL + GAP) + 8
    body = []
    x = LEFT
    words = {"rnsnet": "rnsnet, MTU 1500", "slirp4netns": "slirp4netns, MTU 65520",
             "pasta": "pasta, MTU 65520", "limit": "the host itself"}
    for name, color in SERIES:
        body.append(f'<rect x="{x}" y="16" width="12" height="12" rx="2" fill="{color}"/>'
                    f'<text class="legend" x="{x + 18}" y="26.5">{words[name]}</text>')
        x += 44 + 7 * len(words[name])
    machine = data["machine"]
    note = (f'median of {data["rounds"]} interleaved rounds, lines: lowest to highest; '
            f'{machine["processors"]}, Linux {machine["kernel"].split("-")[0]}')
    body.append(f'<text class="note" x="{WIDTH - 24}" y="44">{escape(note)}</text>')
    for index, (title, groups) in enumerate(shown):
        body += panel(title, groups, TOP + 12 + index * (PANEL + GAP))
    style = ("text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:14px}"
             ".tick{text-anchor:end;fill:#777}.group,.value{text-anchor:middle}.value{font-size:11px}"
             ".note{text-anchor:end;fill:#777;font-size:11px}.grid{stroke:#eee}.axis{stroke:#777}"
             ".spread{stroke:#333;stroke-opacity:.55}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" '
            f'aria-label="Throughput of rnsnet, slirp4netns and pasta"><style>{style}</style>'
            f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n")
