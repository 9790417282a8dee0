"""Classify recordings, windows of recordings and live streams by a trained student."""

from spikebridge.results.predict.classify import Classifier, Guess, steps_until
from spikebridge.results.predict.curve import Curve, curve_of_folder, curve_of_run
from spikebridge.results.predict.live import LiveGuess, Session, Summary
from spikebridge.results.predict.recordings import (
    Prediction,
    TimedGuess,
    find_recordings,
    predict,
    time_line,
)
from spikebridge.results.predict.sources import LiveSource, open_live
from spikebridge.results.predict.windows import Window, WindowCutter

__all__ = [
    "Classifier",
    "Curve",
    "Guess",
    "LiveGuess",
    "LiveSource",
    "Prediction",
    "Session",
    "Summary",
    "TimedGuess",
    "Window",
    "WindowCutter",
    "curve_of_folder",
    "curve_of_run",
    "find_recordings",
    "open_live",
    "predict",
    "steps_until",
    "time_line",
]
