"""Statistics of scripts/bench: medians, ratios, geometric means, the targets, and the tables."""

import math
import statistics
from dataclasses import dataclass
from typing import Optional

PLACES = ("native", "limen", "tcg")
RATIOS = ("limen_over_native", "tcg_over_limen")


def median(values):
    return statistics.median(values) if values else None


def ratio(above, below):
    return above / below if above is not None and below else None


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def summarize(row, measured):
    """One row of results.json; `measured` has each place's figures, one for each round."""
    result = {"name": row.name, "group": row.group, "unit": row.unit}
    for place in PLACES:
        result[place] = median(measured.get(place, []))
    result["limen_over_native"] = ratio(result["limen"], result["native"])
    result["tcg_over_limen"] = ratio(result["tcg"], result["limen"])
    return result


def geometric_means(rows):
    """By group, and over all rows; a row without a ratio does not count."""
    means = {}
    for group in ["cpu", "system", "smp", "all"]:
        members = [row for row in rows if group in ("all", row["group"])]
        if members:
            means[group] = {name: geometric_mean([row[name] for row in members if row[name]])
                            for name in RATIOS}
    return means


@dataclass(frozen=True)
class Target:
    """A bound on a figure: of the rows named, of the mean of a group, or of the machine."""
    title: str
    figure: str
    bound: float
    rows: tuple = ()
    group: Optional[str] = None

    @property
    def at_least(self):
        return self.figure in ("tcg_over_limen", "speedup")


def at_most_native(title, bound, *rows):
    return Target(title, "limen_over_native", bound, rows or (title,))


def at_least_tcg(title, bound, *rows):
    return Target(title, "tcg_over_limen", bound, rows or (title,))


TARGETS = (
    Target("geometric mean of the cpu rows", "tcg_over_limen", 6, group="cpu"),
    at_most_native("SSE, AVX2, memcpy 1 MiB", 1.5, "SSE loop", "AVX2 loop", "memcpy 1 MiB"),
    at_most_native("integer loop, scalar double", 1.15, "integer loop", "scalar double"),
    at_most_native("calls, indirect calls, qsort, interpreter", 2, "recursive calls",
                   "indirect calls", "qsort", "bytecode interpreter"),
    at_most_native("pointer chase 16 KiB", 3),
    at_most_native("pointer chase 1 MiB", 1.6),
    at_most_native("getppid", 1.5),
    at_least_tcg("page first touch", 2.5),
    at_least_tcg("pipe ping-pong", 5),
    at_least_tcg("fork and exit", 1.5),
    at_least_tcg("boot to multi-user.target", 3),
    Target("parallel program on two processors", "speedup", 1.8,
           ("parallel program, 1 processor", "parallel program, 2 processors")),
    Target("memory beside guest RAM and code, MiB", "limen_memory_mib", 40),
)


def target_figures(target, results):
    """The figures that a target is about; None for one that was not measured."""
    by_name = {row["name"]: row for row in results["rows"]}
    if target.group:
        return [results["geomean"].get(target.group, {}).get(target.figure)]
    if not target.rows:
        return [results["machine"].get(target.figure)]
    members = [by_name.get(name) for name in target.rows]
    if target.figure == "speedup":
        one, two = ((row or {}).get("limen") for row in members)
        return [ratio(one, two)]
    return [(row or {}).get(target.figure) for row in members]


def judge(target, results):
    """`reached`, `not reached` or `not measured`, and the figures as text."""
    figures = target_figures(target, results)
    text = ", ".join("-" if figure is None else f"{figure:.2f}" for figure in figures)
    if any(figure is None for figure in figures):
        return "not measured", text
    good = all(figure >= target.bound if target.at_least else figure <= target.bound
               for figure in figures)
    return "reached" if good else "not reached", text


def show_time(nanoseconds):
    """Three digits that count, and a unit."""
    if nanoseconds is None:
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:#.3g} {unit}".replace(". ", " ")
    return f"{nanoseconds:#.3g} ns".replace(". ", " ")


def show_ratio(value):
    return "-" if value is None else f"{value:.2f}"


def markdown(results, notes):
    """The tables for people."""
    machine = results["machine"]
    lines = [f"{machine['processor']}, {machine['processors']} processors, Linux {machine['kernel']}; "
             f"{machine['limen']}; {machine['tcg']}; {machine['rounds']} round(s), "
             f"{'quick' if machine['quick'] else 'full'} run.", ""]
    for group in ("cpu", "system", "smp"):
        members = [row for row in results["rows"] if row["group"] == group]
        if not members:
            continue
        lines += [f"| {group} | native | Limen | TCG | Limen / native | TCG / Limen |",
                  "|---|---:|---:|---:|---:|---:|"]
        for row in members:
            cells = [row["name"], *(show_time(row[place]) for place in PLACES),
                     *(show_ratio(row[name]) for name in RATIOS)]
            lines.append(f"| {' | '.join(cells)} |")
        mean = results["geomean"][group]
        lines += [f"| **geometric mean** | | | | **{show_ratio(mean['limen_over_native'])}** | "
                  f"**{show_ratio(mean['tcg_over_limen'])}** |", ""]
    mean = results["geomean"].get("all", dict.fromkeys(RATIOS))
    lines += [f"All rows: Limen / native {show_ratio(mean['limen_over_native'])}, TCG / Limen "
              f"{show_ratio(mean['tcg_over_limen'])}.", "",
              "| target | wanted | measured | |", "|---|---|---|---|"]
    meaning = {"limen_over_native": "Limen / native", "tcg_over_limen": "TCG / Limen",
               "speedup": "one / two", "limen_memory_mib": "Limen"}
    for target in TARGETS:
        verdict, text = judge(target, results)
        lines.append(f"| {target.title} | {meaning[target.figure]} {'>=' if target.at_least else '<='} "
                     f"{target.bound:g} | {text} | {verdict} |")
    if notes:
        lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"
