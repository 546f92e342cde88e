"""Plots of a run, PNG and SVG, each readable on its own.

Every plot says in its title what it shows, in its caption how many problems it is over and what bars and marks mean. Each
function draws one figure from the frames alone; :func:`write_plots` chooses those that every run gets.
"""

from bench.plots.critical_difference import plot_critical_difference
from bench.plots.curves import plot_curves
from bench.plots.data import few_shot_sizes, method_order
from bench.plots.few_shot import plot_few_shot
from bench.plots.files import FEW_SHOT_METRICS, SCORE_METRICS, Plots, save, write_plots
from bench.plots.forest import plot_differences
from bench.plots.heat_map import plot_edges
from bench.plots.reliability import expected_calibration_error, plot_reliability
from bench.plots.run_time import plot_run_time
from bench.plots.scores import plot_scores
from bench.plots.style import NothingToPlot, Style, caption_of, method_styles, title_of

__all__ = [
    "FEW_SHOT_METRICS",
    "SCORE_METRICS",
    "NothingToPlot",
    "Plots",
    "Style",
    "caption_of",
    "expected_calibration_error",
    "few_shot_sizes",
    "method_order",
    "method_styles",
    "plot_critical_difference",
    "plot_curves",
    "plot_differences",
    "plot_edges",
    "plot_few_shot",
    "plot_reliability",
    "plot_run_time",
    "plot_scores",
    "save",
    "title_of",
    "write_plots",
]
