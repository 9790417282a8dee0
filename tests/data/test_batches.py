"""Batches: same class, training photos only, a function of (seed, step), and exact changes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikebridge.data.feed.batches import PairedBatches
from spikebridge.data.feed.resident import scaled_input
from spikebridge.data.feed.sets import EventSet, PhotoSet, StepSource
from spikebridge.data.frames import network_input
from spikebridge.data.settings import AugmentConfig, PhotoViewConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.converter import Converter

T, SIZE = 3, 8
NO_CHANGE = AugmentConfig()


def _sets(recordings: int = 11, photos: int = 17, classes: int = 3, scale: int = 1):
    """Sets whose every sample differs; a photo's red channel is its simulated recording."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 200, (recordings, T, 2, SIZE, SIZE), dtype=np.uint8)
    simulated = random.integers(0, 200, (photos, T, 2, SIZE, SIZE), dtype=np.uint8)
    red = np.repeat(np.repeat(simulated[:, 0, 0], scale, 1), scale, 2)
    pictures = np.stack([red, 255 - red, red // 2], 1)
    events = EventSet(frames, np.arange(recordings) % classes, ("",) * recordings, "none")
    return events, PhotoSet(pictures, np.arange(photos) % classes, ("",) * photos, simulated)


def _batches(events: EventSet, photos: PhotoSet, **changes) -> PairedBatches:
    settings = {
        "batch_size": 4,
        "batches_per_epoch": None,
        "augment": NO_CHANGE,
        "views": PhotoViewConfig(),
        "seed": 0,
        "device": torch.device("cpu"),
    }
    return PairedBatches(events, photos, **{**settings, **changes})


@given(
    recordings=st.integers(3, 20),
    batch_size=st.integers(1, 9),
    batches=st.none() | st.integers(1, 6),
    seed=st.integers(0, 99),
    step=st.integers(0, 30),
)
def test_a_source_is_a_training_photo_of_the_recordings_class(
    recordings: int, batch_size: int, batches: int | None, seed: int, step: int
) -> None:
    events, photos = _sets(recordings)
    batch = _batches(events, photos, batch_size=batch_size, batches_per_epoch=batches, seed=seed)(
        step
    )
    np.testing.assert_array_equal(batch.label_B, events.label_N[batch.recording_B.numpy()])
    np.testing.assert_array_equal(batch.label_B, photos.label_N[batch.source_B.numpy()])
    dvs_BTCHW = batch.dvs_TBCHW.transpose(0, 1).numpy()
    np.testing.assert_array_equal(dvs_BTCHW, events.frames_NTCHW[batch.recording_B.numpy()])
    photo_B3HW = (batch.photo_B3HW * 255).round().byte().numpy()
    np.testing.assert_array_equal(photo_B3HW, photos.photos_N3HW[batch.source_B.numpy()])
    assert batch.simulated_TBCHW is not None
    assert photos.simulated_NTCHW is not None
    simulated_BTCHW = batch.simulated_TBCHW.transpose(0, 1).numpy()
    np.testing.assert_array_equal(simulated_BTCHW, photos.simulated_NTCHW[batch.source_B.numpy()])


def test_every_photo_of_the_class_serves_in_turn() -> None:
    events, photos = _sets()
    batches = _batches(events, photos)
    drawn = Counter(int(i) for step in range(300) for i in batches(step).source_B)
    assert drawn.keys() == set(range(17))
    # 1,100 draws over 17 photos; the draw is uniform within a class.
    for label in range(3):
        counts = [drawn[i] for i in range(17) if i % 3 == label]
        assert max(counts) < 2 * min(counts)


def test_batches_are_determined_by_seed_and_step() -> None:
    events, photos = _sets()
    augment = AugmentConfig(crop=2, flip=True, rotate=20, event_drop=0.5, time_jitter=0.5)
    first, second = (_batches(events, photos, augment=augment) for _ in range(2))
    other = _batches(events, photos, augment=augment, seed=1)
    order = [7, 0, 3, 7, 12]
    wanted = {step: first(step) for step in range(13)}
    differences = 0
    for step in order:  # in another order, from another object
        batch = second(step)
        for name in ("dvs_TBCHW", "label_B", "photo_B3HW", "simulated_TBCHW"):
            assert torch.equal(getattr(batch, name), getattr(wanted[step], name))
        np.testing.assert_array_equal(batch.recording_B, wanted[step].recording_B)
        np.testing.assert_array_equal(batch.source_B, wanted[step].source_B)
        differences += not np.array_equal(other(step).source_B, batch.source_B)
    assert differences >= 4
    assert len({tuple(wanted[step].source_B.tolist()) for step in range(13)}) > 10


def test_recordings_of_a_class_without_photos_are_marked() -> None:
    events, photos = _sets()
    kept = photos.label_N != 1
    assert photos.simulated_NTCHW is not None
    fewer = PhotoSet(
        photos.photos_N3HW[kept], photos.label_N[kept], ("",) * 11, photos.simulated_NTCHW[kept]
    )
    batches, whole = _batches(events, fewer), _batches(events, photos)
    seen = Counter()
    for step in range(3):
        batch, other = batches(step), whole(step)
        assert other.alone_B is None
        assert batch.alone_B is not None
        assert torch.equal(batch.recording_B, other.recording_B)
        assert torch.equal(batch.alone_B, batch.label_B == 1)
        seen.update(batch.label_B.tolist())
        taught = ~batch.alone_B
        source_B = torch.from_numpy(fewer.label_N)[batch.source_B]
        assert torch.equal(source_B[taught], batch.label_B[taught])
        assert torch.equal(batch.photo_B3HW[taught], other.photo_B3HW[taught])
        share = _batches(events, fewer, rows=slice(1, 3))(step)
        assert share.alone_B is not None
        assert torch.equal(share.alone_B, batch.alone_B[1:3])
    assert seen == Counter(events.label_N.tolist())  # An epoch is still one pass over all.


@given(st.integers(3, 30), st.integers(1, 12), st.integers(0, 5))
def test_one_pass_visits_every_recording_once(recordings: int, batch_size: int, epoch: int) -> None:
    batches = _batches(*_sets(recordings), batch_size=batch_size)
    per_epoch = batches.batches_per_epoch
    assert per_epoch == -(-recordings // batch_size)
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    rows = [batches(step).recording_B for step in steps]
    assert sorted(np.concatenate(rows).tolist()) == list(range(recordings))
    sizes = [len(row) for row in rows]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_each_epoch_has_its_own_order() -> None:
    batches = _batches(*_sets(12), batch_size=12)
    assert len({tuple(batches(epoch).recording_B.tolist()) for epoch in range(6)}) == 6


@given(st.integers(3, 12), st.integers(1, 20), st.integers(1, 7), st.integers(0, 3))
def test_batches_per_epoch_repeat_recordings_evenly(
    recordings: int, batch_size: int, per_epoch: int, epoch: int
) -> None:
    batches = _batches(*_sets(recordings), batch_size=batch_size, batches_per_epoch=per_epoch)
    assert batches.batches_per_epoch == per_epoch
    steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    rows = [batches(step).recording_B for step in steps]
    assert [len(row) for row in rows] == [batch_size] * per_epoch
    count = Counter(np.concatenate(rows).tolist())
    visits = [count[i] for i in range(recordings)]
    assert max(visits) - min(visits) <= 1


# Random changes ----------------------------------------------------------------------------------


def _shifted(x_CHW: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The picture moved by (dy, dx), zero where nothing comes in."""
    height, width = x_CHW.shape[-2:]
    out = np.zeros_like(x_CHW)
    for row in range(height):
        for column in range(width):
            if 0 <= row - dy < height and 0 <= column - dx < width:
                out[..., row, column] = x_CHW[..., row - dy, column - dx]
    return out


def _placements(before: np.ndarray, after: np.ndarray, reach: int) -> list[tuple[int, int, bool]]:
    """Shifts and flips that make one sample of the other."""
    return [
        (dy, dx, flip)
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
        for flip in (False, True)
        if np.array_equal(
            _shifted(before, dy, dx)[..., ::-1] if flip else _shifted(before, dy, dx), after
        )
    ]


def _moves(before_B: np.ndarray, after_B: np.ndarray, reach: int) -> list[tuple[int, int, bool]]:
    """The one shift and flip of each sample."""
    moves = []
    for before, after in zip(before_B, after_B, strict=True):
        [move] = _placements(before, after, reach)
        moves.append(move)
    return moves


@pytest.mark.parametrize("scale", [1, 2])
def test_photo_and_simulated_view_move_alike_and_the_recording_by_itself(scale: int) -> None:
    events, photos = _sets(24, 40, scale=scale)
    assert photos.simulated_NTCHW is not None
    batches = _batches(events, photos, batch_size=12, augment=AugmentConfig(crop=2, flip=True))
    recorded, seen = [], []
    for step in range(4):
        batch = batches(step)
        assert batch.simulated_TBCHW is not None
        recorded += _moves(
            events.frames_NTCHW[batch.recording_B.numpy()],
            batch.dvs_TBCHW.transpose(0, 1).numpy(),
            2,
        )
        simulated = _moves(
            photos.simulated_NTCHW[batch.source_B.numpy()],
            batch.simulated_TBCHW.transpose(0, 1).numpy(),
            2,
        )
        photo = _moves(
            photos.photos_N3HW[batch.source_B.numpy()],
            (batch.photo_B3HW * 255).round().byte().numpy(),
            2 * scale,
        )
        for (dy, dx, flip), (photo_dy, photo_dx, photo_flip) in zip(simulated, photo, strict=True):
            assert flip == photo_flip
            # The same share of the side, each rounded to its own pixels.
            assert abs(photo_dy - scale * dy) <= scale / 2
            assert abs(photo_dx - scale * dx) <= scale / 2
        seen += simulated
    assert recorded != seen
    agreement = np.mean([a == b for a, b in zip(recorded, seen, strict=True)])
    assert agreement < 0.2  # 1 in 50 by chance
    flips = Counter((a[2], b[2]) for a, b in zip(recorded, seen, strict=True))
    assert len(flips) == 4


def test_photo_and_simulated_view_turn_by_the_same_angle() -> None:
    events, photos = _sets(24, 40)
    batch = _batches(events, photos, batch_size=12, augment=AugmentConfig(crop=1, rotate=30))(0)
    assert batch.simulated_TBCHW is not None
    torch.testing.assert_close(batch.photo_B3HW[:, 0] * 255, batch.simulated_TBCHW[0, :, 0])
    unturned = torch.from_numpy(photos.photos_N3HW[batch.source_B.numpy()]) / 255
    assert all((batch.photo_B3HW - unturned).abs().amax((1, 2, 3)) > 0.1)


def test_events_jitter_in_recordings_and_simulated_sources_alone() -> None:
    events, photos = _sets(24, 40)
    batch = _batches(events, photos, batch_size=12, augment=AugmentConfig(time_jitter=1.0))(0)
    assert photos.simulated_NTCHW is not None
    assert batch.simulated_TBCHW is not None
    for seen_TBCHW, source_BTCHW in (
        (batch.dvs_TBCHW, events.frames_NTCHW[batch.recording_B.numpy()]),
        (batch.simulated_TBCHW, photos.simulated_NTCHW[batch.source_B.numpy()]),
    ):
        np.testing.assert_array_equal(seen_TBCHW.sum(0), source_BTCHW.sum(1, dtype=int))
        moved_TBCHW = seen_TBCHW.numpy() != source_BTCHW.transpose(1, 0, 2, 3, 4)
        assert (moved_TBCHW.mean((0, 2, 3, 4)) > 0.5).all()
    photo_B3HW = (batch.photo_B3HW * 255).round().byte().numpy()
    np.testing.assert_array_equal(photo_B3HW, photos.photos_N3HW[batch.source_B.numpy()])


def test_a_recording_and_a_simulated_source_of_the_same_events_draw_apart() -> None:
    events, photos = _sets(12, 12)
    photos = PhotoSet(photos.photos_N3HW, photos.label_N, photos.files, events.frames_NTCHW)
    flips = AugmentConfig(polarity_flip=0.5)
    flipped = []
    for step in range(20):
        batch = _batches(events, photos, batch_size=12, augment=flips)(step)
        assert batch.simulated_TBCHW is not None
        for seen_TBCHW, rows in (
            (batch.dvs_TBCHW, batch.recording_B),
            (batch.simulated_TBCHW, batch.source_B),
        ):
            source_BTCHW = events.frames_NTCHW[rows]
            seen_BTCHW = seen_TBCHW.transpose(0, 1).numpy()
            flipped.append([(a != b).any() for a, b in zip(seen_BTCHW, source_BTCHW, strict=True)])
    recorded, simulated = np.array(flipped[::2]), np.array(flipped[1::2])
    assert 0.4 < recorded.mean() < 0.6
    assert 0.4 < simulated.mean() < 0.6
    assert 0.4 < (recorded == simulated).mean() < 0.6


def test_events_change_before_they_are_scaled() -> None:
    events, photos = _sets(12)
    scaled = EventSet(events.frames_NTCHW, events.label_N, events.files, "recording")
    augment = AugmentConfig(event_drop=0.8, polarity_flip=0.3)
    counted = _batches(events, photos, augment=augment)(3)
    seen = _batches(scaled, photos, augment=augment)(3)
    counts_BTCHW = counted.dvs_TBCHW.transpose(0, 1).numpy().astype(int)
    assert (counts_BTCHW.sum((1, 2, 3, 4)) < events.frames_NTCHW[seen.recording_B].sum()).all()
    np.testing.assert_array_equal(
        seen.dvs_TBCHW.transpose(0, 1), network_input(counts_BTCHW, "recording")
    )


def test_a_positions_draws_do_not_depend_on_the_size_of_the_batch() -> None:
    events, photos = _sets(3, 3, classes=1)
    same = EventSet(events.frames_NTCHW[np.zeros(6, int)], np.zeros(6, int), ("",) * 6, "none")
    augment = AugmentConfig(
        crop=2, flip=True, rotate=10, event_drop=0.5, time_jitter=0.5, polarity_flip=0.5
    )
    small, large = (_batches(same, photos, batch_size=b, augment=augment)(0) for b in (3, 6))
    assert small.simulated_TBCHW is not None
    assert large.simulated_TBCHW is not None
    assert torch.equal(small.dvs_TBCHW, large.dvs_TBCHW[:, :3])
    assert torch.equal(small.photo_B3HW, large.photo_B3HW[:3])
    assert torch.equal(small.simulated_TBCHW, large.simulated_TBCHW[:, :3])
    assert len({sample.numpy().tobytes() for sample in large.dvs_TBCHW.transpose(0, 1)}) == 6


@given(st.integers(0, 3), st.integers(2, 4), st.integers(0, 9))
def test_shares_of_a_batch_are_its_rows(rank: int, of: int, step: int) -> None:
    rows = slice(rank % of, None, of)
    events, photos = _sets(11)
    other_view_NTCHW = np.asarray(photos.simulated_NTCHW) + 1
    views_NTCHW = np.concatenate([np.asarray(photos.simulated_NTCHW), other_view_NTCHW])
    photos = replace(photos, simulated_NTCHW=views_NTCHW)
    augment = AugmentConfig(
        crop=2, flip=True, rotate=10, event_drop=0.5, time_jitter=0.5, polarity_flip=0.5
    )
    whole = _batches(events, photos, batch_size=11, augment=augment)(step)
    part = _batches(events, photos, batch_size=11, augment=augment, rows=rows)(step)
    assert whole.part is None
    assert part.part is not None
    assert part.part.weight == len(part.label_B) / 11
    assert whole.simulated_TBCHW is not None
    assert part.simulated_TBCHW is not None
    assert torch.equal(part.label_B, whole.label_B[rows])
    assert torch.equal(part.photo_B3HW, whole.photo_B3HW[rows])
    assert torch.equal(part.dvs_TBCHW, whole.dvs_TBCHW[:, rows])
    assert torch.equal(part.simulated_TBCHW, whole.simulated_TBCHW[:, rows])
    np.testing.assert_array_equal(part.source_B, whole.source_B[rows])


@given(st.integers(0, 3), st.integers(2, 4), st.integers(0, 9))
def test_shares_know_whose_class_was_answered(rank: int, of: int, step: int) -> None:
    rows = slice(rank % of, None, of)
    events, photos = _sets(11)
    answered_N = np.random.default_rng(3).random(len(photos.label_N)) < 0.5
    photos = replace(photos, simulated_NTCHW=None, answered_N=answered_N)
    views = PhotoViewConfig(mixup=True)
    whole = _batches(events, photos, batch_size=11, views=views)(step)
    part = _batches(events, photos, batch_size=11, views=views, rows=rows)(step)
    for batch in (whole, part):
        assert batch.answered_B is not None
        np.testing.assert_array_equal(batch.answered_B, answered_N[batch.source_B.numpy()])
        assert batch.mixup is not None
        assert batch.mixup.answered_B is not None
    assert whole.mixup is not None
    assert part.mixup is not None
    np.testing.assert_array_equal(part.answered_B, whole.answered_B[rows])
    np.testing.assert_array_equal(part.mixup.answered_B, whole.mixup.answered_B[rows])
    np.testing.assert_array_equal(
        whole.mixup.answered_B, whole.answered_B[whole.mixup.partner_B.numpy()]
    )


STEP_CAMERA = Simulator(
    width=24, height=24, amplitude=4.0, pos_threshold=0.2, neg_threshold=0.2, shot_noise_hz=0.0
)


def _step_batches(**changes) -> PairedBatches:
    events, photos = _sets()
    source = StepSource(STEP_CAMERA, randomise=0.3, extent="sensor")
    photos = replace(photos, simulated_NTCHW=None, step_source=source)
    return _batches(replace(events, scale="recording"), photos, **changes)


def test_a_step_converts_the_view_that_the_teacher_sees() -> None:
    batches = _step_batches(augment=AugmentConfig(crop=2, flip=True))
    batch, drawn = batches(5), batches.drawn(5)
    assert batch.simulated_TBCHW is not None
    assert drawn.takes is not None
    converter = Converter(STEP_CAMERA, (SIZE, SIZE), T)
    counts_BTCHW = converter(batch.photo_B3HW, drawn.takes)
    expected = network_input(counts_BTCHW.numpy().astype(int), "recording")
    np.testing.assert_array_equal(batch.simulated_TBCHW.transpose(0, 1), expected)
    assert len(drawn.takes.camera_B5.unique(dim=0)) == len(batch.label_B)  # randomised


def test_a_step_converts_alike_when_it_is_repeated_and_in_parts() -> None:
    whole, again = _step_batches()(3).simulated_TBCHW, _step_batches()(3).simulated_TBCHW
    part = _step_batches(rows=slice(1, 3))(3).simulated_TBCHW
    assert whole is not None
    assert again is not None
    assert part is not None
    assert torch.equal(whole, again)
    assert torch.equal(whole[:, 1:3], part)


VIEWS = PhotoViewConfig(crop=0.4, flip=True, rotate=15, contrast=0.4, gamma=0.4, mixup=True)


def test_a_step_converts_the_mixed_view_that_the_teacher_sees() -> None:
    batches = _step_batches(views=VIEWS, batch_size=11)
    batch, drawn = batches(5), batches.drawn(5)
    assert batch.simulated_TBCHW is not None
    assert drawn.takes is not None
    counts_BTCHW = Converter(STEP_CAMERA, (SIZE, SIZE), T)(batch.photo_B3HW, drawn.takes)
    expected = network_input(counts_BTCHW.numpy().astype(int), "recording")
    np.testing.assert_array_equal(batch.simulated_TBCHW.transpose(0, 1), expected)


@pytest.mark.parametrize("mixup", [False, True])
@pytest.mark.parametrize("rows", [slice(0, None, 2), slice(1, None, 3), slice(4, 5)])
def test_views_are_drawn_alike_when_a_step_is_repeated_and_in_parts(
    mixup: bool, rows: slice
) -> None:
    views = replace(VIEWS, mixup=mixup)
    settings = {"batch_size": 11, "views": views, "augment": AugmentConfig(crop=1)}
    whole, again = (_step_batches(**settings) for _ in range(2))
    part = _step_batches(**settings, rows=rows)
    looks = set()
    for step in (7, 2, 7):
        batch = whole(step)
        for other, chosen in ((again(step), slice(None)), (part(step), rows)):
            assert batch.simulated_TBCHW is not None
            assert other.simulated_TBCHW is not None
            assert torch.equal(other.photo_B3HW, batch.photo_B3HW[chosen])
            assert torch.equal(other.simulated_TBCHW, batch.simulated_TBCHW[:, chosen])
            assert torch.equal(other.dvs_TBCHW, batch.dvs_TBCHW[:, chosen])
            assert (other.mixup is None) == (not mixup)
            if batch.mixup and other.mixup:
                assert torch.equal(other.mixup.label_B, batch.mixup.label_B[chosen])
                assert torch.equal(other.mixup.share_B, batch.mixup.share_B[chosen])
        looks |= {photo.numpy().tobytes() for photo in batch.photo_B3HW}
    assert len(looks) == 22


def test_a_positions_view_does_not_depend_on_the_size_of_the_batch() -> None:
    events, photos = _sets(3, 3, classes=1)
    same = EventSet(events.frames_NTCHW[np.zeros(6, int)], np.zeros(6, int), ("",) * 6, "none")
    views = replace(VIEWS, mixup=False)
    small, large = (_batches(same, photos, batch_size=b, views=views)(0) for b in (3, 6))
    assert torch.equal(small.photo_B3HW, large.photo_B3HW[:3])


def test_views_move_photos_and_augmentation_recordings() -> None:
    events, photos = _sets(24, 40)
    plain = replace(photos, simulated_NTCHW=None)
    augment = AugmentConfig(crop=2, flip=True, rotate=20)
    still = PhotoViewConfig(gamma=1e-9)
    viewed, moved, unmoved = (
        _batches(events, plain, batch_size=12, augment=a, views=v)
        for a, v in ((augment, still), (augment, PhotoViewConfig()), (NO_CHANGE, still))
    )
    assert torch.equal(viewed(1).dvs_TBCHW, moved(1).dvs_TBCHW)
    assert not torch.equal(viewed(1).dvs_TBCHW, unmoved(1).dvs_TBCHW)
    assert torch.equal(viewed(1).photo_B3HW, unmoved(1).photo_B3HW)
    assert not torch.equal(viewed(1).photo_B3HW, moved(1).photo_B3HW)
    assert viewed.moves_photos
    assert moved.moves_photos
    assert not _batches(events, photos).moves_photos


def test_photos_are_mixed_in_pixels_and_labels() -> None:
    batches, unmixed = (
        _step_batches(batch_size=11, batches_per_epoch=1, views=replace(VIEWS, mixup=mixup))
        for mixup in (True, False)
    )
    shares = []
    for step in range(60):
        batch, alone = batches(step), unmixed(step)
        assert batch.mixup is not None
        partner_B, share_B = batch.mixup.partner_B, batch.mixup.share_B
        assert sorted(partner_B.tolist()) == list(range(11))
        assert torch.equal(batch.mixup.label_B, batch.label_B[partner_B])
        share_B111 = share_B[:, None, None, None]
        photo_B3HW = alone.photo_B3HW
        expected = share_B111 * photo_B3HW + (1 - share_B111) * photo_B3HW[partner_B]
        torch.testing.assert_close(batch.photo_B3HW, expected)
        label_BC = batch.mixup.labels(batch.label_B, 3)
        for b, share in enumerate(share_B.tolist()):
            own, other = int(batch.label_B[b]), int(batch.label_B[partner_B[b]])
            by_hand = np.zeros(3)
            by_hand[own] += share
            by_hand[other] += 1 - share
            np.testing.assert_allclose(label_BC[b], by_hand, rtol=1e-6)
        shares += share_B.tolist()
    assert 0.5 <= min(shares) < 0.51
    assert 0.99 < max(shares) <= 1
    assert np.mean(shares) == pytest.approx(0.75, abs=0.02)


def test_a_photo_that_a_recording_replaces_is_not_mixed() -> None:
    batches, unmixed = (
        _step_batches(batch_size=11, views=replace(VIEWS, mixup=mixup)) for mixup in (True, False)
    )
    replaced_B = torch.arange(11) % 3 == 0
    batch, alone = batches.assembled(batches.drawn(4).unmixed(replaced_B)), unmixed(4)
    assert batch.mixup is not None
    label_BC = batch.mixup.labels(batch.label_B, 3)
    one_hot_BC = torch.nn.functional.one_hot(batch.label_B, 3)
    assert torch.equal(batch.photo_B3HW[replaced_B], alone.photo_B3HW[replaced_B])
    assert torch.equal(label_BC[replaced_B], one_hot_BC[replaced_B].float())
    mixed_B = ~replaced_B & (batch.mixup.partner_B != torch.arange(11))
    assert all((batch.photo_B3HW != alone.photo_B3HW).flatten(1).any(1)[mixed_B])
    drawn = unmixed.drawn(4)
    assert drawn.unmixed(replaced_B) is drawn


def test_no_photo_of_a_class_without_photos_is_mixed_in() -> None:
    events, photos = _sets()
    kept = photos.label_N != 1
    fewer = PhotoSet(photos.photos_N3HW[kept], photos.label_N[kept], ("",) * kept.sum())
    batches = _batches(events, fewer, batch_size=11, views=PhotoViewConfig(mixup=True))
    met = 0
    for step in range(10):
        batch = batches(step)
        assert batch.mixup is not None
        partner_is_alone_B = batch.mixup.label_B == 1
        assert all(batch.mixup.share_B[partner_is_alone_B] == 1)
        met += int((partner_is_alone_B & (batch.label_B != 1)).sum())
    assert met > 10


def test_a_photo_is_converted_anew_each_time() -> None:
    batches = _step_batches(batch_size=11, batches_per_epoch=1)
    seeds = {int(seed) for step in range(3) for seed in batches.drawn(step).takes.seed_B}  # pyright: ignore[reportOptionalMemberAccess]
    assert len(seeds) == 33


@given(rates=st.lists(st.floats(0.01, 40), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_counts_are_scaled_on_a_device_as_by_the_host(rates: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = np.stack([random.poisson(rate, (T, 2, SIZE, SIZE)) for rate in rates])
    scaled = scaled_input(torch.from_numpy(counts).float(), "recording")
    np.testing.assert_array_equal(scaled, network_input(counts, "recording"))
