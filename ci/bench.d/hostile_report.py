"""The page of the figures of hostile containers: docs/hostile-figures.md, from the .json beside it."""

import json


def write(found, path):
    """The table, as Markdown. Figures that were not taken this time stay as they were."""
    data = path.with_suffix(".json")
    if data.exists():
        earlier = json.loads(data.read_text())
        new = {row["title"]: row for row in found["figures"]}
        if set(new) < {row["title"] for row in earlier["figures"]}:
            found["figures"] = [new.get(row["title"], row) for row in earlier["figures"]]
            found["minutes"] = round(found["minutes"] + earlier["minutes"], 1)
    found.pop("binary, bytes", None)
    data.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    machine = found["machine"]
    lines = ["# Figures of a hostile container", "",
             "What a container, a neighbour, a bad link and time can do to rnsnet, and to slirp4netns "
             f"{machine['slirp4netns']} on the same machine, the same day. Measured by", "",
             "```sh", "ci/figures", "```", "",
             "which builds the release, makes its own namespaces as an unprivileged user, takes "
             f"{found['minutes']} minutes and writes this page. Each figure has helpers of its own "
             "(`ci/bench.d/hostile.py`): rnsnet at its default MTU of 1500, slirp4netns at 65520, "
             "both with as many descriptors as the system allows. A goal that is missed is "
             "**bold**.", "",
             f"{machine['date']}, Linux {machine['kernel']}, {machine['processors']}, load average "
             f"before {machine['load average before']}.", "",
             "| | goal | rnsnet | to compare |", "|---|---:|---|---|"]
    for row in found["figures"]:
        unit = f" {row['unit']}" if row["unit"] else ""
        sense = {"<=": "≤", ">=": "≥"}[row["sense"]]
        cells = []
        for number, (name, cell) in enumerate(row["columns"].items()):
            value, note = cell["value"], cell["note"]
            text = "–" if value is None else f"{value:,.0f}" if abs(value) >= 100 or \
                value == int(value) else f"{value:.1f}"
            missed = not number and (value is None or (
                value > row["goal"] if row["sense"] == "<=" else value < row["goal"]))
            text = f"**{text}{unit}**" if missed else text + (unit if value is not None else "")
            note = f" ({note})" if note else ""
            cells.append(text + note if not number else f"{name.split(' 65520')[0]}: {text}{note}")
        lines.append(f"| {row['title']} | {sense} {row['goal']:,}{unit} | {' | '.join(cells)} |")
    lines += ["", "A death that is not noticed, or a figure that could not be taken because the "
              "helper had died or hung, is a dash. A frame of rnsnet's that is lost is as large "
              "as it was given to the kernel, up to 64 KiB.", ""]
    path.with_suffix(".md").write_text("\n".join(lines))
