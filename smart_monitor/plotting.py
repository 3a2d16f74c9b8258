"""Draws a replayed run: its curves, what was found on them, where it began anew. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from smart_monitor.model import RECORD, Finding, Output, Record, Severity

INSTALL = 'pip install "smart-monitor[plot]"'
PANELS = (
    ("loss", ("loss",)),
    ("eval loss", ("eval_loss",)),
    ("accuracy, %", ("accuracy", "eval_accuracy")),
    ("grad norm", ("grad_norm",)),
)
SIZE, DPI = (16.0, 9.0), 100
DECADES = 30.0
"""A positive curve that spans more than this ratio is drawn on a logarithmic scale."""
SMOOTHED_FROM = 200
ABSURD = 1e100
"""What no axis can show is drawn like what is no number: the line is broken."""
FRACTION = 1.5
"""An accuracy that never exceeds this was written as a fraction."""
INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
LINES = {"loss": "#2f6f9f", "eval_loss": "#6b4fa0", "accuracy": "#2d8a6e", "eval_accuracy": "#8a6d2d", "grad_norm": "#52606d"}
MARKS: dict[Severity, tuple[str, str, int]] = {
    "info": ("o", "#627d98", 26),
    "warning": ("^", "#d97706", 62),
    "critical": ("X", "#c81e3a", 80),
}
LANES, LANE = 2, 0.19
"""Rows of labels above a curve, and the height of one in inches."""
LETTER = 0.0056
"""Width of a letter of a label, as a share of the panel's."""


class PlotError(RuntimeError):
    """Nothing can be drawn; the text is one sentence for the user."""


@dataclass(slots=True)
class Curve:
    """One metric of one rank over the steps; NaN breaks the line."""

    x: array[float] = field(default_factory=lambda: array("d"))
    y: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Film:
    """What `draw` needs of a run, gathered while it is replayed: 16 bytes a value."""

    run: str = ""
    rank: int | None = None
    records: int = 0
    by: str = "step"
    x: float = 0.0
    curves: dict[str, Curve] = field(default_factory=dict)
    findings: list[tuple[float, Finding]] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)

    def add(self, record: Record, outputs: Iterable[Output]) -> None:
        """Take in a record and what the engine said of it. Of several ranks the first seen is drawn."""
        if record.kind == RECORD:
            self.records += 1
            self.run = record.run
            self.rank = record.rank if self.rank is None else self.rank
            if record.rank == self.rank:
                self.by = record.by
                self.x = float(record.index if record.step is None else record.step)
        found = [o for o in outputs if isinstance(o, Finding) and o.rank == self.rank]
        if any(f.kind == "restart" for f in found):
            self.restarts.append(self.x)
            for curve in self.curves.values():
                curve.x.append(self.x)
                curve.y.append(math.nan)
        self.findings += [(self.x, f) for f in found if f.kind != "restart"]
        if record.kind == RECORD and record.rank == self.rank:
            for metric in LINES:
                if metric in record.values:
                    curve = self.curves.setdefault(metric, Curve())
                    curve.x.append(self.x)
                    curve.y.append(_float(record.values[metric]))


def _float(value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if abs(number) < ABSURD else math.nan


def available() -> bool:
    """Is matplotlib there?"""
    return find_spec("matplotlib") is not None


def draw(film: Film, path: Path) -> None:
    """Write the picture, 1600 x 900 pixels. PlotError if there is nothing to draw or it cannot be written."""
    if not available():
        raise PlotError(f"drawing needs matplotlib: {INSTALL}")
    panels = [(title, [m for m in metrics if _drawable(film, m)]) for title, metrics in PANELS]
    panels = [(title, metrics) for title, metrics in panels if metrics]
    if not panels:
        raise PlotError(f"nothing to draw in {film.run or 'an empty run'}: no record gives a loss, an accuracy or a grad_norm")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = {"font.family": "sans-serif", "font.size": 11, "text.color": INK, "axes.labelcolor": INK, "agg.path.chunksize": 10000}
    with rc_context(style):
        figure = Figure(figsize=SIZE, dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        heights = [2.2 if n == 0 else 1.0 for n in range(len(panels))]
        axes: Any = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        figure.subplots_adjust(left=0.065, right=0.975, top=0.885, bottom=0.07, hspace=0.11)
        places = [x for curve in film.curves.values() for x in (min(curve.x), max(curve.x))]
        margin = 0.012 * (max(places) - min(places) or 1.0)
        axes[0].set_xlim(min(places) - margin, max(places) + margin)
        shown = {m for _, metrics in panels for m in metrics}
        for n, (axis, (title, metrics)) in enumerate(zip(axes, panels, strict=True)):
            _panel(axis, film, title, metrics)
            _mark(axis, [(x, f) for x, f in film.findings if f.metric in metrics or (n == 0 and f.metric not in shown)])
            for x in film.restarts:
                axis.axvline(x, color=FAINT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1.5)
        axes[-1].set_xlabel(film.by)
        axes[-1].xaxis.set_major_formatter(_thousands)
        _heading(figure, film)
        try:
            figure.savefig(path, dpi=DPI, format="png")
        except OSError as error:
            raise PlotError(f"{path}: {error.strerror}") from error


def _drawable(film: Film, metric: str) -> bool:
    return metric in film.curves and any(map(math.isfinite, film.curves[metric].y))


def _panel(axis: Any, film: Film, title: str, metrics: list[str]) -> None:
    curves = {metric: _values(film.curves[metric], metric) for metric in metrics}
    known = [v for y in curves.values() for v in y if math.isfinite(v)]
    log = min(known) > 0 and max(known) / min(known) >= DECADES and "accuracy" not in metrics
    for metric, y in curves.items():
        x, colour, label = film.curves[metric].x, LINES[metric], metric if len(metrics) > 1 else None
        if len(y) >= SMOOTHED_FROM:
            axis.plot(x, y, color=colour, linewidth=0.7, alpha=0.35, zorder=2)
            axis.plot(x, _smooth(y, max(5, len(y) // 150), log=log), color=colour, linewidth=1.7, zorder=3, label=label)
        else:
            axis.plot(x, y, color=colour, linewidth=1.5, marker="o" if len(y) <= 60 else "", markersize=3, zorder=3, label=label)
    if log:
        axis.set_yscale("log")
        title += " (log)"
    axis.set_ylabel(title)
    axis.grid(visible=True, axis="y", color=GRID, linewidth=0.8, zorder=0)
    axis.tick_params(colors=FAINT, labelcolor=INK, length=3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GRID)
    if len(metrics) > 1:
        axis.legend(loc="lower right", frameon=False, fontsize=9.5, ncols=len(metrics))


def _values(curve: Curve, metric: str) -> list[float]:
    highest = max(v for v in curve.y if math.isfinite(v))
    scale = 100.0 if "accuracy" in metric and highest <= FRACTION else 1.0
    return [v * scale for v in curve.y]


def _smooth(values: list[float], width: int, *, log: bool) -> list[float]:
    """The mean of the values around each (the geometric one where the scale is), NaN staying NaN: it breaks the line."""
    if log:
        values = [math.log(v) if math.isfinite(v) else v for v in values]
    half, total, count, found = max(1, width // 2), 0.0, 0, []
    for n in range(-half, len(values)):
        for at, sign in ((n + half, 1), (n - half - 1, -1)):
            if 0 <= at < len(values) and math.isfinite(values[at]):
                total, count = total + sign * values[at], count + sign
        if n >= 0:
            found.append(total / count if count and math.isfinite(values[n]) else math.nan)
    return [math.exp(v) for v in found] if log else found


def _mark(axis: Any, findings: list[tuple[float, Finding]]) -> None:
    """Marks at the values that fired, and labels in lanes above the curve, the gravest first."""
    if not findings:
        return
    _headroom(axis)
    top, roof = axis.get_ylim()[1], 1 - LANE * (LANES + 0.6) / _inches(axis)
    for severity, (mark, colour, size) in MARKS.items():
        points = [(x, f) for x, f in findings if f.severity == severity]
        drawn = [(x, f.value) for x, f in points if f.value is not None and abs(f.value) < ABSURD and f.metric in LINES]
        lost = [x for x, f in points if f.value is None or not abs(f.value) < ABSURD or f.metric not in LINES]
        style = {"marker": mark, "s": size, "color": colour, "edgecolors": "white", "linewidths": 0.8, "zorder": 5}
        if drawn:
            axis.scatter([x for x, _ in drawn], [min(h, top) for _, h in drawn], clip_on=False, **style)
        if lost:  # nowhere on the curve: it stands where the line is broken
            axis.scatter(lost, [roof] * len(lost), transform=axis.get_xaxis_transform(), **style)
            for x in lost:
                axis.axvline(x, ymax=roof, color=colour, linewidth=0.9, alpha=0.5, zorder=1.6)
    _label(axis, findings)


def _headroom(axis: Any) -> None:
    low, high = axis.get_ylim()
    share = LANE * LANES / _inches(axis)
    share /= 1 - share
    if axis.get_yscale() == "log":
        axis.set_ylim(low, high * (high / low) ** share)
    else:
        axis.set_ylim(low, high + share * (high - low))


def _inches(axis: Any) -> float:
    return float(axis.get_position().height) * SIZE[1]


def _label(axis: Any, findings: list[tuple[float, Finding]]) -> None:
    left, right = axis.get_xlim()
    span = (right - left) or 1.0
    taken: list[list[tuple[float, float]]] = [[] for _ in range(LANES)]
    for x, severity, words in _grouped(findings, 0.05 * span):
        width = LETTER * len(words) + 0.012
        at = min(max((x - left) / span, width / 2), 1 - width / 2)
        lane = next((n for n, row in enumerate(taken) if all(abs(at - a) > (width + w) / 2 for a, w in row)), None)
        if lane is None:
            continue
        taken[lane].append((at, width))
        height = 1 - LANE * lane / _inches(axis)
        axis.text(
            at, height, words, transform=axis.transAxes, ha="center", va="top", fontsize=9, color=MARKS[severity][1], zorder=6,
            fontweight="bold" if severity == "critical" else "normal",
        )  # fmt: skip


def _grouped(findings: list[tuple[float, Finding]], near: float) -> list[tuple[float, Severity, str]]:
    """(place, severity, words) of each label: neighbours of one kind share one; the gravest and the first come first."""
    groups: list[list[tuple[float, Finding]]] = []
    open_: dict[tuple[str, Severity], list[tuple[float, Finding]]] = {}
    for x, finding in findings:
        group = open_.get((finding.kind, finding.severity))
        if group is not None and abs(x - group[-1][0]) <= near:
            group.append((x, finding))
        else:
            groups.append([(x, finding)])
            open_[finding.kind, finding.severity] = groups[-1]
    grave = list(MARKS)
    groups.sort(key=lambda g: (-grave.index(g[0][1].severity), -len(g) if g[0][1].severity == "info" else 0, g[0][0]))
    return [
        ((g[0][0] + g[-1][0]) / 2, g[0][1].severity, g[0][1].kind + (f" ×{len(g)}" if len(g) > 1 else ""))
        for g in groups
    ]  # fmt: skip


def _heading(figure: Any, film: Film) -> None:
    from matplotlib.lines import Line2D

    counts = {s: sum(f.severity == s for _, f in film.findings) for s in MARKS}
    words = [f"{film.records:,} records".replace(",", "\u2009")]
    plural: dict[Severity, str] = {"critical": "critical", "warning": "warning" + "s" * (counts["warning"] != 1), "info": "info"}
    words += [f"{counts[s]} {word}" for s, word in plural.items() if counts[s]] or ["nothing found"]
    words += [f"{len(film.restarts)} restart{'s' * (len(film.restarts) != 1)}"] if film.restarts else []
    words += [f"rank {film.rank}"] if film.rank else []
    figure.text(0.065, 0.945, film.run, fontsize=17, fontweight="bold", va="center")
    figure.text(0.065, 0.911, "  ·  ".join(words), fontsize=11.5, color=FAINT, va="center")
    keys = [
        Line2D([], [], ls="", marker=mark, color=colour, markeredgecolor="white", markersize=math.sqrt(size) + 1, label=severity)
        for severity, (mark, colour, size) in MARKS.items() if counts[severity]
    ]  # fmt: skip
    if film.restarts:
        keys.append(Line2D([], [], color=FAINT, linewidth=1.1, linestyle=(0, (4, 3)), label="restart"))
    if keys:
        figure.legend(handles=keys, loc="upper right", bbox_to_anchor=(0.98, 0.965), ncols=len(keys), frameon=False, fontsize=11)


def _thousands(value: float, _: object = None) -> str:
    return f"{value:,.0f}".replace(",", "\u2009") if value == int(value) else f"{value:g}"
