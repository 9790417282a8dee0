"""Spikes, potentials and pictures are those of the network and of its input."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from report_fakes import CLASSES, MakeRun
from torch import nn

from spikebridge.models.build import build_student
from spikebridge.models.settings import StudentConfig
from spikebridge.models.student import Student
from spikebridge.results.report.activity import record_activity
from spikebridge.results.report.examples import Recordings
from spikebridge.results.report.palette import EMPTY_RGB, OFF_RGB, ON_RGB
from spikebridge.results.report.pictures import event_pictures, grid, strip
from spikebridge.results.report.raster import chosen_neurons, raster, sampled
from spikebridge.results.report.read import read_run
from spikebridge.results.report.svg import drawing
from spikebridge.results.trained import load_run
from spikebridge.settings.config import Config
from spikebridge.training.settings import TrainConfig


def _image(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def _spiking_student(config: Config) -> Student:
    """Untrained, and yet firing in every layer."""
    torch.manual_seed(0)
    student = build_student(config.student, 3, (16, 16)).eval()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.5, 1)
    return student


@pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])
def test_activity_is_the_students(name: str) -> None:
    config = Config(
        student=StudentConfig(name=name, width=0.0625, threshold=0.2),  # pyright: ignore[reportArgumentType]
        train=TrainConfig(precision="float32"),
    )
    student = _spiking_student(config)
    x_TCHW = np.random.default_rng(0).random((4, 2, 16, 16), np.float32)
    with torch.no_grad():
        output = student(torch.from_numpy(x_TCHW)[:, None])
    activity = record_activity(student, config, x_TCHW)
    assert activity is not None
    assert list(activity.spikes_TN) == list(output.rates)
    for layer, rate in output.rates.items():
        assert activity.rate(layer) == pytest.approx(rate.item(), abs=1e-6), layer
    assert 0 < activity.rate(activity.last) < 1
    np.testing.assert_array_equal(activity.membrane_TN, output.membrane_TBN[:, 0].numpy())
    last_TN = activity.spikes_TN[activity.last]
    np.testing.assert_array_equal(last_TN, activity.membrane_TN >= 0.2)
    with drawing():
        axes = raster(activity, "ckd").axes[0]
    first_TN = activity.spikes_TN[list(activity.spikes_TN)[0]]
    step, neuron = np.nonzero(first_TN[:, sampled(first_TN.shape[1])])
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), np.stack([step + 1, neuron], 1))


def test_students_of_relu_have_no_spikes() -> None:
    config = Config(student=StudentConfig(width=0.0625, neuron="relu"))
    student = build_student(config.student, 3, (16, 16)).eval()
    assert record_activity(student, config, np.zeros((2, 2, 16, 16), np.float32)) is None


def test_neurons_are_chosen_by_rule() -> None:
    config = Config(student=StudentConfig(width=0.0625))
    student = _spiking_student(config)
    x_TCHW = np.random.default_rng(0).random((3, 2, 16, 16), np.float32)
    activity = record_activity(student, config, x_TCHW)
    assert activity is not None
    top_N = activity.membrane_TN.max(0)
    ranks = [int((top_N > top_N[neuron]).sum()) for neuron in chosen_neurons(activity)]
    assert ranks == [len(top_N) * k // 8 for k in range(4)]
    np.testing.assert_array_equal(sampled(10), np.arange(10))
    assert len(set(sampled(1000))) == 40
    np.testing.assert_array_equal(sampled(1000), sampled(1000))


def test_pictures_show_polarity_and_strength() -> None:
    x_TCHW = np.zeros((1, 2, 1, 4), np.float32)
    x_TCHW[0, 0, 0, 1] = 1
    x_TCHW[0, 1, 0, 2] = 1
    x_TCHW[0, 1, 0, 3] = 0.25
    (row,) = event_pictures(x_TCHW)[0]
    assert [tuple(pixel) for pixel in row[:3].tolist()] == [EMPTY_RGB, OFF_RGB, ON_RGB]
    half = (np.array(ON_RGB) + np.array(EMPTY_RGB)) / 2
    np.testing.assert_allclose(row[3], half, atol=0.51)
    assert (event_pictures(np.zeros_like(x_TCHW)) == EMPTY_RGB).all()


def test_a_film_has_a_frame_for_each_time_step(make_run: MakeRun) -> None:
    run = read_run(make_run("ckd", 0, 80.0))
    recordings = Recordings(run, load_run(run.folder))
    (wrong,) = recordings.wrong
    film = recordings.film(wrong)
    assert film.class_name == "owl"
    assert [(g.class_name, g.right) for g in film.guesses] == [("cat", False)]
    assert film.photo_note == "a training photo of the class"
    assert film.frames is not None
    sheet = np.asarray(_image(film.frames).convert("RGB")).astype(int)
    assert sheet.shape == (16, 3 * 16, 3)
    x_TCHW = recordings.input(wrong.file)
    assert x_TCHW is not None
    assert x_TCHW.max() <= 1
    frames_THWC = event_pictures(x_TCHW).astype(int)
    for step, picture_HWC in enumerate(frames_THWC):  # Alike, but for fewer colours.
        shown_HWC = sheet[:, 16 * step : 16 * (step + 1)]
        assert np.abs(shown_HWC - picture_HWC).mean() < 4
    right = recordings.right
    assert [run.classes[p.label] for p in right[:3]] == list(CLASSES)
    assert recordings.still(right[0]).photo_note == "the photo it was made of"


def test_sheets_stay_small() -> None:
    random = np.random.default_rng(0)
    x_TCHW = (random.random((10, 2, 128, 128)) < 0.3).astype(np.float32)
    pictures_THWC = event_pictures(x_TCHW)
    for uri, size in ((strip(pictures_THWC), (1120, 112)), (grid(pictures_THWC), (572, 227))):
        assert _image(uri).size == size
        assert len(uri) < 130_000  # At most 16 of them are on a page.


def test_the_page_shows_films_rasters_and_energy(html: str) -> None:
    (film,) = re.findall(r'<div class="film"[^>]*>\s*<img[^>]*>', html)
    assert "--t: 3; --ratio: 16 / 16" in film
    assert "the event frames of the 3 time steps" in film
    assert "prefers-reduced-motion: reduce" in html
    assert "Spikes of sampled neurons: layer1 " in html
    assert "Membrane potential of 4 neurons of layer8" in html
    assert "in layer8, the last spiking layer, whose potentials" in html
    energy = html[html.index('id="energy"') : html.index('id="protocol"')]
    assert "mean of 3 validation recordings" in energy
    assert "ANN of the same shape, one pass per step" in energy
    assert "teacher small-cnn, one photo" in energy
    assert "4.6 pJ per MAC, 0.9 pJ per accumulate" in energy


def test_energy_is_that_of_the_command(html: str, runs: list[Path]) -> None:
    from spikebridge.results.energy import energy_of_run

    report = energy_of_run(next(run for run in runs if run.name == "ckd-seed0"))
    (line,) = re.findall(r">student</th>(.*?)</tr>", html, re.DOTALL)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", line)
    expected = [report.nj, 1.0, report.spikes, report.sops, report.macs]
    assert cells[1] == "1.00"
    assert [c for i, c in enumerate(cells) if i != 1] == [
        f"{value:,.0f}" for i, value in enumerate(expected) if i != 1
    ]
