"""How early a prediction can stop, against a loop over the time steps."""

import json

import numpy as np
import pytest
import torch
from predict_case import CLASSES, SENSOR, STEPS, logits_of

from factories import refused
from spikebridge.cli import main
from spikebridge.data.frames import network_input
from spikebridge.data.prepared import frame_file
from spikebridge.results.predict import curve_of_folder, predict, steps_until


def brute_force(logits_TC: torch.Tensor, confidence: float) -> tuple[int, int]:
    """Steps and class, step by step."""
    for steps in range(1, len(logits_TC) + 1):
        share_C = torch.softmax(logits_TC[:steps].sum(0) / steps, 0)
        if float(share_C.max()) >= confidence:
            break
    return steps, int(share_C.argmax())


def test_anytime_decision_is_that_of_a_loop_over_steps():
    logits_TBC = torch.randn(6, 50, 4, generator=torch.Generator().manual_seed(0)) * 3
    seen = set()
    for confidence in (0.3, 0.7, 0.95, 1.0):
        expected = [brute_force(logits_TBC[:, b], confidence)[0] for b in range(50)]
        assert steps_until(logits_TBC, confidence).tolist() == expected
        seen |= set(expected)
    assert seen == set(range(1, 7))


def test_anytime_answer_is_that_of_the_first_frames_alone(trained, folder):
    files, found = sorted(folder.rglob("*.bin")), []
    for file in files:
        logits_TC = logits_of(trained, file)
        shares = [float(logits_TC[:t].mean(0).softmax(0).max()) for t in range(1, STEPS + 1)]
        confidence = max(shares) - 1e-4
        [prediction] = predict(trained, [file], confidence=confidence)
        steps, label = brute_force(logits_TC, confidence)
        assert (prediction.guess.steps, prediction.classes[0]) == (steps, CLASSES[label])
        counts_TCHW = frame_file(file, trained.config.data, SENSOR)
        x_TBCHW = torch.from_numpy(network_input(counts_TCHW[None], "recording")).transpose(0, 1)
        with torch.no_grad():  # The frames behind do not matter.
            first_C = trained.model(x_TBCHW[:steps]).logits_TBC.mean((0, 1)).softmax(0)
        assert prediction.confidences[0] == pytest.approx(float(first_C.max()), abs=1e-4)
        found.append(steps)
    assert len(set(found)) > 1


def test_curve_of_a_folder_counts_what_the_loop_counts(trained, run, folder, capsys):
    labelled = [f for f in sorted(folder.rglob("*.bin")) if f.parent.name in CLASSES]
    assert len(labelled) == 6
    assert main(["predict", run, str(folder), "--curve", "--json"]) == 0
    captured = capsys.readouterr()
    assert "1 of 7 recordings" in captured.err
    curve = json.loads(captured.out)
    assert (curve["recordings"], curve["time_steps"]) == (6, STEPS)
    logits = [logits_of(trained, file) for file in labelled]
    labels = [CLASSES.index(file.parent.name) for file in labelled]
    for point in curve["by_steps"]:
        answers = [int(l_TC[: point["steps"]].mean(0).argmax()) for l_TC in logits]
        right = [a == b for a, b in zip(answers, labels, strict=True)]
        assert point["top1"] == pytest.approx(100 * np.mean(right))
    assert [point["steps"] for point in curve["by_steps"]] == [1, 2, 3, 4]
    for point in curve["by_confidence"]:
        stops = [brute_force(l_TC, point["confidence"]) for l_TC in logits]
        right = [stop[1] == label for stop, label in zip(stops, labels, strict=True)]
        assert point["top1"] == pytest.approx(100 * np.mean(right))
        assert point["mean_steps"] == pytest.approx(np.mean([steps for steps, _ in stops]))
    refused(lambda: curve_of_folder(trained, [str(folder / "other")]), "CLASS/FILE", "across")
