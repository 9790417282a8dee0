"""Photos converted in a batch: what eventcv makes of them, and the same bits on every way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import pretend_cuda
from spikebridge.base.devices import all_to_device
from spikebridge.data.frames import frame_events
from spikebridge.data.simulation import converter
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.converter import Converter
from spikebridge.data.simulation.simulate import hot_places, simulate_photo

CAMERA = Simulator(
    width=32, height=32, amplitude=5.0, pos_threshold=0.3, neg_threshold=0.4, background_hz=0.5
)
CLEAN = replace(
    CAMERA,
    threshold_sigma=0.0,
    refractory_us=0,
    leak_rate_hz=0.0,
    shot_noise_hz=0.0,
    background_hz=0.0,
)
ODD = replace(
    CAMERA,
    width=40,
    margin=0.1,
    motion="random",
    negative=True,
    refractory_us=9000,
    offset_x=-3.0,
    shot_noise_hz=400.0,
)
REAL = replace(
    CAMERA,
    width=40,
    crop=3,
    saccade_height=1.4,
    saccade_apex=0.3,
    saccade_times=(0.02, 0.3, 0.36, 0.65, 0.75, 1.0),
    speed="smooth",
    hot_pixels=60,
    hot_hz=250.0,
)
"""With all that N-Caltech101's camera has."""
SIZE, STEPS = (16, 16), 4


def photos(count: int, side: int = 32) -> torch.Tensor:
    """Smooth blobs of all colours, in whole 8-bit steps."""
    random = torch.Generator().manual_seed(1)
    coarse_B3HW = torch.rand(count, 3, 7, 7, generator=random)
    photo_B3HW = F.interpolate(coarse_B3HW, (side, side), mode="bicubic", align_corners=True)
    return (photo_B3HW.clamp(0, 1) * 255).round() / 255


def convert(camera: Simulator, photo_B3HW: torch.Tensor, first: int = 0, **options) -> torch.Tensor:
    made = Converter(camera, SIZE, STEPS, **options)
    count = len(photo_B3HW)
    return made(photo_B3HW, made.takes([camera] * count, range(first, first + count)))


def recorded(camera: Simulator, photo_B3HW: torch.Tensor) -> torch.Tensor:
    """What eventcv makes of the same photos, with the same seeds."""
    frames = []
    for seed, photo_3HW in enumerate(photo_B3HW):
        photo_HWC = (photo_3HW * 255).round().byte().permute(1, 2, 0).numpy()
        frames.append(frame_events(simulate_photo(photo_HWC, camera, seed), STEPS, SIZE))
    return torch.from_numpy(np.stack(frames)).float()


def differences(found: torch.Tensor, wanted: torch.Tensor) -> dict[str, float]:
    """Of numbers, relative; of shares, absolute."""

    def of(x_BTCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        total = x_BTCHW.sum()
        return {
            "on": x_BTCHW[:, :, 1].sum() / total,
            "active": (x_BTCHW.sum((1, 2)) > 0).float().mean(),
            "rate": x_BTCHW.sum((0, 2, 3, 4)) / total,
        }

    shares, others = of(found), of(wanted)
    apart = {name: float((shares[name] - others[name]).abs().max()) for name in shares}
    return apart | {"events": float(found.sum() / wanted.sum() - 1)}


@pytest.mark.parametrize("motion", ["saccade", "pan", "random"])
def test_frames_are_eventcvs(motion):
    camera = replace(CLEAN, motion=motion)
    photo_B3HW = photos(6)
    found, wanted = convert(camera, photo_B3HW), recorded(camera, photo_B3HW)
    pairs = torch.stack([found.flatten(1), wanted.flatten(1)], 1)
    assert all(torch.corrcoef(pair)[0, 1] > 0.95 for pair in pairs)
    assert abs(differences(found, wanted)["events"]) < 0.06


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"cutoff_hz": 0.0},
        {"cutoff_hz": 40.0},
        {"threshold_sigma": 0.08},
        {"leak_rate_hz": 8.0},
        {"refractory_us": 15_000},
        {"shot_noise_hz": 20.0},
        {"background_hz": 5.0},
        {"offset_x": 4.0, "offset_y": -2.0},
        {"aspect": "keep", "width": 48},
        {"crop": 4},
        {"saccade_apex": 0.1, "saccade_height": 1.5},
        {"saccade_times": (0.0, 0.3, 0.36, 0.65, 0.75, 1.0), "background_hz": 3.0},
        {"hot_pixels": 50, "hot_hz": 200.0, "width": 40},
    ],
    ids=lambda change: "-".join(change) or "clean",
)
def test_each_setting_does_what_it_does_in_eventcv(change):
    camera = replace(CLEAN, **change)
    photo_B3HW = photos(12)
    apart = differences(convert(camera, photo_B3HW), recorded(camera, photo_B3HW))
    assert all(abs(value) < 0.07 for value in apart.values()), apart


def test_the_kernel_gives_what_pytorch_does():
    assert converter._library() is not None
    for camera in (CAMERA, CLEAN, ODD, REAL):
        photo_B3HW = photos(3, 45)
        kernel, reference = (convert(camera, photo_B3HW, native=native) for native in (True, False))
        assert kernel.sum() > 500
        assert torch.equal(kernel, reference)


def test_a_photo_has_its_counts_in_any_company():
    photo_B3HW = photos(5)
    together = convert(CAMERA, photo_B3HW)
    assert torch.equal(together, convert(CAMERA, photo_B3HW))
    assert torch.equal(together[3:4], convert(CAMERA, photo_B3HW[3:4], first=3))
    assert not torch.equal(together[3:4], convert(CAMERA, photo_B3HW[3:4], first=4))


def test_cameras_differ_within_a_batch():
    made = Converter(CLEAN, SIZE, STEPS)
    photo_B3HW = photos(1).expand(3, -1, -1, -1)
    dull = replace(CLEAN, pos_threshold=0.6, neg_threshold=0.8)
    still = replace(CLEAN, amplitude=0.0)
    counts_B = made(photo_B3HW, made.takes([CLEAN, dull, still], [0, 0, 0])).sum((1, 2, 3, 4))
    assert counts_B[0] > 1.5 * counts_B[1] > 0 == counts_B[2]


def test_grey_shows_an_ideal_camera_nothing():
    grey_B3HW = torch.full((2, 3, 20, 20), 0.5)
    assert convert(CLEAN, grey_B3HW).sum() == 0
    assert convert(replace(CLEAN, background_hz=5.0), grey_B3HW)[:, :, 1].sum() > 0


def test_the_picture_fills_the_frames_where_it_is_asked_to():
    camera = replace(CLEAN, width=64)
    sensor, recording = (convert(camera, photos(2), extent=e) for e in ("sensor", "recording"))
    assert sensor[..., 8:].sum() == 0
    assert recording[..., 8:].sum() > 0
    assert sensor.sum() == recording.sum()


def test_hot_pixels_count_in_the_cells_of_their_places():
    camera = replace(CLEAN, aspect="stretch", crop=2, hot_pixels=9, hot_hz=5000.0)
    grey_B3HW = torch.full((2, 3, 20, 20), 0.5)
    counts_BTCHW = convert(camera, grey_B3HW)
    cells = {(int(y) // 2, int(x) // 2) for y, x in hot_places(camera) if max(y, x) < 28}
    assert {*map(tuple, counts_BTCHW.sum((0, 1, 2)).nonzero().tolist())} == cells
    assert len(cells) > 2
    each = 5000 * 0.295 / STEPS / 2
    hot = counts_BTCHW[counts_BTCHW > 0]
    assert hot.numpy() == pytest.approx(each, abs=6 * each**0.5)


@pytest.mark.parametrize(
    "camera", [replace(CAMERA, motion="pan", refractory_us=9000), REAL], ids=["pan", "real"]
)
def test_a_gpu_computes_it_without_the_host(camera):
    photo_B3HW = photos(2, 45)
    wanted = convert(camera, photo_B3HW, sub_frames=4)
    with pretend_cuda.pretend():
        made = Converter(camera, SIZE, STEPS, sub_frames=4, device=pretend_cuda.CUDA)
        takes = made.takes([camera] * 2, range(2))
        inputs = all_to_device((photo_B3HW, takes), pretend_cuda.CUDA)
        before = len(pretend_cuda.waits)
        found = made(*inputs)
        assert pretend_cuda.waits[before:] == []
        assert found.is_cuda
        assert torch.equal(pretend_cuda.inner(found), wanted)


def test_wrong_shapes_are_refused():
    made = Converter(CAMERA, SIZE, STEPS)
    takes = made.takes([CAMERA] * 2, range(2))
    with pytest.raises(ValueError, match="B×3×H×W"):
        made(torch.zeros(2, 1, 32, 32), takes)
    with pytest.raises(ValueError, match="3 photos, but takes of 2"):
        made(torch.zeros(3, 3, 32, 32), takes)
