"""The command `predict`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikebridge.base.errors import UserError

if TYPE_CHECKING:
    from spikebridge.results.predict import Classifier, Curve, Guess, Summary, TimedGuess
    from spikebridge.results.trained import Trained

_USAGE = """spikebridge predict RUN FILE|DIR|-… [--top K] [--confidence P] [--json]
       spikebridge predict RUN FILE|DIR|-… --window-ms W [--stride-ms S]
       spikebridge predict RUN --live camera|udp:HOST:PORT --window-ms W [--stride-ms S]
       spikebridge predict RUN [DIR] --curve"""


def _predict_arguments(parser: ArgumentParser) -> None:
    parser.usage = _USAGE
    parser.add_argument("run", help="folder of a trained student")
    parser.add_argument(
        "files",
        nargs="*",
        help="event recordings in any readable format, folders of them, or - for a list of paths "
        "on standard input",
    )
    parser.add_argument("--top", type=int, default=5, help="number of classes to name")
    parser.add_argument(
        "--json", action="store_true", help="one line of JSON per recording or window"
    )
    parser.add_argument(
        "--confidence",
        type=float,
        help="stop at the time step where the softmax of the mean logits so far reaches this",
    )
    parser.add_argument(
        "--window-ms", type=float, help="give a time line: classes of windows of so many ms"
    )
    parser.add_argument(
        "--stride-ms", type=float, help="from one window's start to the next; null: window-ms"
    )
    parser.add_argument(
        "--min-events",
        type=int,
        help="do not guess at recordings and windows with fewer events; null: one per time step",
    )
    parser.add_argument(
        "--live",
        type=str,
        help="classify a stream: camera, camera:SERIAL, udp:HOST:PORT or udp:HOST:PORT/WxH, which "
        "names the sensor's size for runs that do not",
    )
    parser.add_argument(
        "--seconds", type=float, help="end --live after so long; null goes on until Ctrl-C"
    )
    parser.add_argument(
        "--curve",
        action="store_true",
        help="accuracy by time steps and by confidence, on DIR/CLASS/FILE or else on the run's "
        "validation recordings",
    )


def _predict(given: Namespace) -> int:
    """The most likely classes of event recordings, of windows of them, or of a live stream.

    Frames are made as in the run's training; no option changes that.
    """
    _check(given)
    from spikebridge.results.predict import Classifier
    from spikebridge.results.trained import load_run

    trained = load_run(Path(given.run))
    if given.curve:
        return _curve(given, trained)
    classifier = Classifier(
        trained, top=given.top, confidence=given.confidence, min_events=given.min_events
    )
    return _live(given, classifier) if given.live else _recordings(given, classifier)


def _check(given: Namespace) -> None:
    if given.live and (given.files or given.curve):
        raise UserError("--live takes neither files nor --curve; leave them out")
    if given.live and given.window_ms is None:
        raise UserError("--live needs --window-ms; take about the training recordings' duration")
    if given.stride_ms is not None and given.window_ms is None:
        raise UserError("--stride-ms needs --window-ms")
    if given.seconds is not None and not (given.live and given.seconds > 0):
        raise UserError("--seconds must be above 0 and belongs to --live")
    if given.curve and (given.window_ms is not None or given.confidence is not None):
        raise UserError("--curve takes whole recordings and all confidences; leave the others out")
    if not (given.files or given.live or given.curve):
        raise UserError("no files given; expected recordings, folders, - or --live")


def _recordings(given: Namespace, classifier: "Classifier") -> int:
    """One file's fault ends the command; those of many are told, and the others go on."""
    from spikebridge.base.files import printable
    from spikebridge.results.predict import find_recordings

    one = len(given.files) == 1 and given.files[0] != "-" and not Path(given.files[0]).is_dir()
    bad = total = 0
    for file in find_recordings(_given_paths(given.files)):
        total += 1
        try:
            for line, text in _answers(given, classifier, file):
                _print(_json(line) if given.json else printable(text))
        except UserError as error:
            if one:
                raise
            bad += 1
            print(f"spikebridge: {error}", file=sys.stderr)
            if given.json:
                _print(_json({"file": file, "error": str(error)}))
    if not total:
        raise UserError("no path came on standard input; expected one a line")
    if bad:
        raise UserError(f"{bad} of {total} recordings could not be classified; see above")
    return 0


def _given_paths(files: Iterable[str]) -> Iterator[str]:
    for file in files:
        if file == "-":
            yield from filter(None, (line.rstrip("\r\n") for line in sys.stdin))
        else:
            yield file


def _answers(
    given: Namespace, classifier: "Classifier", file: str
) -> Iterator[tuple[dict[str, Any], str]]:
    from spikebridge.results.predict.recordings import classify_file, time_line

    if given.window_ms is None:
        prediction = classify_file(classifier, file)
        words = _in_words(classifier, prediction.guess)
        yield prediction.as_json(), "\t".join([file, *words])
        return
    for timed in time_line(classifier, file, given.window_ms, given.stride_ms):
        yield {"file": file, **timed.as_json()}, "\t".join([file, *_timed(classifier, timed)])


def _live(given: Namespace, classifier: "Classifier") -> int:
    from dataclasses import asdict

    from spikebridge.base.console import console
    from spikebridge.results.predict import Session, open_live

    source = open_live(given.live, classifier.trained.sensor)
    session = Session(classifier, source, given.window_ms, given.stride_ms)
    guesses = session.guesses(given.seconds)
    try:
        console.print(f"{source.name}: reading; Ctrl-C ends", soft_wrap=True)
        for guess in guesses:
            words = [*_timed(classifier, guess), f"{guess.delay_ms:.0f} ms later"]
            words += [f"{guess.dropped} dropped"] if guess.dropped else []
            _print(_json(guess.as_json()) if given.json else "\t".join(words))
    except KeyboardInterrupt:
        pass
    finally:
        guesses.close()
        summary = session.summary
        if given.json:
            _print(_json({"summary": asdict(summary)}))
        else:
            console.print(_summary(summary), soft_wrap=True)
    return 0


def _summary(found: "Summary") -> str:
    parts = [
        f"{found.seconds:.1f} s, {found.events:,} events; windows: {found.classified} classified, "
        f"{found.dropped} dropped, {found.too_few} with too few events, {found.empty} empty"
    ]
    if found.delay_ms is not None:
        median, late = found.delay_ms
        parts.append(f"delay {median:.1f} ms (median), {late:.1f} ms (95 %)")
    for count, words in (
        (found.lost, "losses before this program (datagrams, or the camera's buffer)"),
        (found.late_events, "events came after their window"),
        (found.outside_events, "events outside the sensor"),
        (found.thrown_away_events, "events too many for one window"),
        (found.clock_set_back, "times the stream's clock was set back"),
    ):
        if count:
            parts.append(f"{count:,} {words}")
    return "; ".join(parts)


def _curve(given: Namespace, trained: "Trained") -> int:
    from spikebridge.results.predict import curve_of_folder, curve_of_run

    curve = (
        curve_of_folder(trained, list(_given_paths(given.files)))
        if given.files
        else curve_of_run(Path(given.run), trained)
    )
    _print(_json(curve.as_json(), indent=2) if given.json else _curve_table(curve))
    return 0


def _curve_table(curve: "Curve") -> str:
    count, steps = len(curve.label_N), len(curve.logits_TNC)
    lines = [
        f"{curve.of}, {count} recordings of {steps} time steps\n",
        f"{'stop':<18}{'mean steps':>10}{'top-1':>9}",
    ]
    for point in curve.by_steps:
        stop = f"after {point.steps:.0f} of {steps}"
        lines.append(f"{stop:<18}{point.steps:>10.2f}{point.top1:>7.1f} %")
    for point in curve.by_confidence:
        stop = f"confidence {point.confidence:g}"
        lines.append(f"{stop:<18}{point.steps:>10.2f}{point.top1:>7.1f} %")
    return "\n".join(lines)


def _timed(classifier: "Classifier", timed: "TimedGuess") -> list[str]:
    span = f"{timed.start_ms:.1f}–{timed.end_ms:.1f} ms"
    if timed.guess is None:
        return [span, f"too few events ({timed.events})"]
    return [span, *_in_words(classifier, timed.guess)]


def _in_words(classifier: "Classifier", guess: "Guess") -> list[str]:
    best = zip(guess.classes, guess.confidences, strict=True)
    words = [f"{name} {100 * share:.1f} %" for name, share in best]
    if classifier.confidence is not None:
        words.append(f"step {guess.steps} of {classifier.trained.config.data.time_steps}")
    return words


def _json(value: Any, indent: int | None = None) -> str:
    from spikebridge.base.files import json_text

    return json_text(value, indent=indent).rstrip()


def _print(text: str) -> None:
    """A reader at the other end of a pipe gets each line at once."""
    print(text, flush=True)


COMMANDS = {"predict": (_predict_arguments, _predict)}
