"""Training batches: every draw is a function of (seed, step), so that resuming needs no state."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spikebridge.base.devices import all_to_device
from spikebridge.data.feed.augment import Moves, augment_counts, changes_counts, draw_geometry
from spikebridge.data.feed.resident import FrameRows, Frames, Room, Rows, scaled_input
from spikebridge.data.feed.sets import EventSet, PhotoSet
from spikebridge.data.feed.views import Mixup, Views, draw_views
from spikebridge.data.settings import AugmentConfig, PhotoViewConfig
from spikebridge.data.simulation.converter import Takes

_ORDER, _SOURCE, _RECORDING_MOVES, _PHOTO_MOVES, _RECORDING_EVENTS, _SIMULATED_EVENTS = range(1, 7)
_VIEW, _TAKES, _PHOTO_VIEWS, _MIXUP = range(7, 11)


@dataclass(frozen=True)
class BatchPart:
    """What one of several processes takes of a batch."""

    batch: int
    """Number of samples in the whole batch."""
    rows: slice

    @property
    def positions_B(self) -> range:
        """Positions in the whole batch."""
        return range(self.batch)[self.rows]

    @property
    def weight(self) -> float:
        """Its part of the batch, in (0, 1]."""
        return len(self.positions_B) / self.batch


@dataclass(frozen=True)
class Batch:
    """One batch of both streams; position b of either has the class label_B[b]."""

    dvs_TBCHW: Tensor
    """Event frames, scaled by `network_input`."""
    label_B: Tensor
    photo_B3HW: Tensor
    """Source photos in [0, 1] at photo size, as the teacher sees them."""
    simulated_TBCHW: Tensor | None
    """Simulated recordings of the same photos, where the set has them or the step makes them."""
    recording_B: Tensor
    """Index of each recording in its set."""
    source_B: Tensor
    """Index of each photo in its set."""
    part: BatchPart | None = None
    """Which part of the batch this is, where several processes share it."""
    alone_B: Tensor | None = None
    """Samples of classes without photos, whose photo is any and must not be used; None where all
    classes have some."""
    mixup: Mixup | None = None
    """How the photos are mixed; None where each is of one photo."""
    answered_B: Tensor | None = None
    """True where a labeller answered the photo's class; None where nobody was asked."""


@dataclass(frozen=True)
class DrawnBatch:
    """What a `Batch` is made of: all that is drawn, and the samples that are not on the device."""

    label_B: Tensor
    recording_B: Tensor
    source_B: Tensor
    recordings: FrameRows
    photos: Tensor
    simulated: FrameRows | None
    takes: Takes | None
    move_recording: Moves
    view_photo: Moves | Views
    move_simulated: Moves | None
    part: BatchPart | None
    alone_B: Tensor | None
    mixup: Mixup | None
    answered_B: Tensor | None

    def unmixed(self, replaced_B: Tensor) -> "DrawnBatch":
        """The same, on the CPU, without mixing the photos that recordings replace."""
        if self.mixup is None:
            return self
        share_B = self.mixup.share_B.masked_fill(replaced_B, 1)
        return replace(self, mixup=replace(self.mixup, share_B=share_B))


class PairedBatches:
    """Labelled recordings, each with another random training photo of its class.

    A recording is augmented by itself. A photo moves as its simulated recording does, which has
    draws of its own for its events; one that the step makes is of the photo as it was moved, or as
    ``views`` has it. A position's draws depend on the seed, the step and the position alone, but
    for the photo that it is mixed with: that is one of the whole batch, also where ``rows`` is a
    part of it.

    Args:
        events: Labelled training recordings.
        photos: Training photos; a class of ``events`` that does not occur trains on events alone.
        batch_size: Samples per batch; in one pass at most the set, else recordings repeat.
        batches_per_epoch: None makes an epoch one pass, in batches of nearly equal size.
        augment: Random changes.
        views: How photos are shown; where given, it and not ``augment`` changes them. Simulated
            recordings that ``photos`` holds do not follow it.
        seed: Seed of all draws.
        device: Where the batches go.
        rows: Which rows of every batch to make; they are as they are in the whole one.
    """

    def __init__(
        self,
        events: EventSet,
        photos: PhotoSet,
        *,
        batch_size: int,
        batches_per_epoch: int | None,
        augment: AugmentConfig,
        views: PhotoViewConfig,
        seed: int,
        device: torch.device,
        rows: slice = slice(None),
    ) -> None:
        self.events, self.photos, self.rows = events, photos, rows
        self.batch_size = batch_size
        passes = -(-len(events.label_N) // batch_size)
        self.one_pass = batches_per_epoch is None
        self.batches_per_epoch = passes if batches_per_epoch is None else batches_per_epoch
        self.augment, self.views, self.seed, self.device = augment, views, seed, device
        room = Room(device)
        self._recordings = Frames(events.frames_NTCHW, events.scale, room)
        self._photos = Rows(photos.photos_N3HW, room)
        simulated_NTCHW = photos.simulated_NTCHW
        self._simulated = (
            None if simulated_NTCHW is None else Frames(simulated_NTCHW, events.scale, room)
        )
        self._converter = None
        if photos.step_source is not None:
            time_steps, _, height, width = events.frames_NTCHW.shape[1:]
            self._converter = photos.step_source.converter((height, width), time_steps, device)
        self._photos_of = {
            int(label): np.flatnonzero(photos.label_N == label) for label in set(events.label_N)
        }
        self._alone = [label for label, photos in self._photos_of.items() if not len(photos)]

    @property
    def smallest(self) -> int:
        """Samples in the smallest batch."""
        if self.one_pass:
            return len(self.events.label_N) // self.batches_per_epoch
        return self.batch_size

    @property
    def moves_photos(self) -> bool:
        """Whether a photo may look otherwise each time."""
        augment = self.augment
        return self.views.given or bool(augment.crop or augment.flip or augment.rotate)

    def __call__(self, step: int) -> Batch:
        """The batch of a global step."""
        return self.assembled(all_to_device(self.drawn(step), self.device))

    def drawn(self, step: int) -> DrawnBatch:
        """Draw the batch of a global step, on the CPU."""
        epoch, position = divmod(step, self.batches_per_epoch)
        recording_B = self._epoch_order(epoch)[position]
        part = BatchPart(len(recording_B), self.rows)
        whole_label_B = self.events.label_N[recording_B]
        source_B = self._draw_sources(whole_label_B, step)
        shown_B, mixup = np.array(part.positions_B), None
        if self.views.mixup:
            shown_B, mixup = self._draw_mixup(whole_label_B, source_B, step, part)
        photos = self._photos.drawn(source_B[shown_B])
        recording_B, source_B = recording_B[self.rows], source_B[self.rows]
        height, width = self.events.frames_NTCHW.shape[-2:]
        move_recording, move_photo = (
            draw_geometry(self.augment, (height, width), part.batch, self._random(draws, step)).of(
                self.rows
            )
            for draws in (_RECORDING_MOVES, _PHOTO_MOVES)
        )
        label_B = self.events.label_N[recording_B]
        simulated, move_simulated = None, None
        if self._simulated is not None:
            rows_B = self._draw_views(source_B, step, part)
            simulated = self._counts(self._simulated, rows_B, _SIMULATED_EVENTS, step, part)
            move_simulated = move_photo.moves(height, width)
        takes = self._draw_takes(step, part)
        if self.views.given:
            random = self._random(_PHOTO_VIEWS, step)
            view_photo = draw_views(self.views, (height, width), part.batch, shown_B, random)
        else:
            # A border of zeros would be seen by the camera as an edge.
            size, repeat = self.photos.photos_N3HW.shape[-2:], takes is not None
            view_photo = move_photo.moves(*size, repeat=repeat)
        return DrawnBatch(
            torch.from_numpy(label_B),
            torch.from_numpy(recording_B),
            torch.from_numpy(source_B),
            self._counts(self._recordings, recording_B, _RECORDING_EVENTS, step, part),
            photos,
            simulated,
            takes,
            move_recording.moves(height, width),
            view_photo,
            move_simulated,
            None if self.rows == slice(None) else part,
            torch.from_numpy(np.isin(label_B, self._alone)) if self._alone else None,
            mixup,
            self._answered(source_B),
        )

    def assembled(self, drawn: DrawnBatch) -> Batch:
        """Make a batch of what was drawn, where that is; a GPU needs nothing of the host."""
        simulated_TBCHW = None
        if drawn.simulated is not None:
            assert self._simulated is not None
            assert drawn.move_simulated is not None
            simulated_BTCHW = drawn.move_simulated(self._simulated.input(drawn.simulated))
            simulated_TBCHW = simulated_BTCHW.transpose(0, 1)
        photo_B3HW = self._shown(drawn)
        if drawn.takes is not None:
            assert self._converter is not None
            counts_BTCHW = self._converter(photo_B3HW, drawn.takes)
            simulated_TBCHW = scaled_input(counts_BTCHW, self.events.scale).transpose(0, 1)
        dvs_BTCHW = drawn.move_recording(self._recordings.input(drawn.recordings))
        return Batch(
            dvs_TBCHW=dvs_BTCHW.transpose(0, 1),
            label_B=drawn.label_B,
            photo_B3HW=photo_B3HW,
            simulated_TBCHW=simulated_TBCHW,
            recording_B=drawn.recording_B,
            source_B=drawn.source_B,
            part=drawn.part,
            alone_B=drawn.alone_B,
            mixup=drawn.mixup,
            answered_B=drawn.answered_B,
        )

    def _answered(self, source_B: np.ndarray) -> Tensor | None:
        """Whether a labeller answered the class of some photos."""
        answered_N = self.photos.answered_N
        return None if answered_N is None else torch.from_numpy(answered_N[source_B])

    def _shown(self, drawn: DrawnBatch) -> Tensor:
        """The photos as all see them."""
        photo_B3HW = self._photos.rows(drawn.photos)
        if isinstance(drawn.view_photo, Moves):
            return drawn.view_photo(photo_B3HW.float().div_(255))
        photo_B3HW = drawn.view_photo(photo_B3HW)
        return photo_B3HW if drawn.mixup is None else drawn.mixup(photo_B3HW)

    def _draw_sources(self, label_B: np.ndarray, step: int) -> np.ndarray:
        draw_B = self._random(_SOURCE, step).random(len(label_B))
        sources = [self._photos_of[int(label)] for label in label_B]
        return np.array(
            [of[int(u * len(of))] if len(of) else 0 for of, u in zip(sources, draw_B, strict=True)]
        )

    def _draw_views(self, source_B: np.ndarray, step: int, part: BatchPart) -> np.ndarray:
        """Row of each photo's simulated recording, of which it may have several."""
        view_B = self._random(_VIEW, step).integers(self.photos.views, size=part.batch)
        return view_B[self.rows] * len(self.photos.files) + source_B

    def _draw_mixup(
        self, label_B: np.ndarray, source_B: np.ndarray, step: int, part: BatchPart
    ) -> tuple[np.ndarray, Mixup]:
        """Which positions' photos are shown, of the whole batch's, and how they are mixed.

        A part shows its own photos, then their partners.
        """
        random, own_B = self._random(_MIXUP, step), np.array(part.positions_B)
        share_B, partner_B = random.random(part.batch)[own_B], random.permutation(part.batch)[own_B]
        share_B = np.maximum(share_B, 1 - share_B)
        # There is no photo of the partner's class.
        share_B[np.isin(label_B[partner_B], self._alone)] = 1
        shown_B, place_B = own_B, partner_B
        if len(own_B) < part.batch:
            shown_B, place_B = (
                np.concatenate([own_B, partner_B]),
                len(own_B) + np.arange(len(own_B)),
            )
        return shown_B, Mixup(
            torch.from_numpy(place_B),
            torch.from_numpy(label_B[partner_B]),
            torch.from_numpy(share_B).float(),
            self._answered(source_B[partner_B]),
        )

    def _draw_takes(self, step: int, part: BatchPart) -> Takes | None:
        """How the step's photos are recorded in it; None where they are not."""
        source = self.photos.step_source
        if source is None or self._converter is None:
            return None
        seed_B = self._random(_TAKES, step).integers(2**62, size=part.batch)[self.rows].tolist()
        return source.takes(self._converter, seed_B)

    def _counts(
        self, frames: Frames, rows_B: np.ndarray, draws: int, step: int, part: BatchPart
    ) -> FrameRows:
        """Some recordings, with their events changed as the augmentation asks."""
        if not changes_counts(self.augment):
            return frames.drawn(rows_B)
        random = self._random(draws, step)
        return frames.given(
            augment_counts(frames.counts_NTCHW[rows_B], self.augment, random, part.positions_B)
        )

    def _random(self, draws: int, step: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, draws, step])

    def _epoch_order(self, epoch: int) -> list[np.ndarray]:
        count = len(self.events.label_N)
        random = np.random.default_rng([self.seed, _ORDER, epoch])
        if self.one_pass:
            return np.array_split(random.permutation(count), self.batches_per_epoch)
        needed = self.batches_per_epoch * self.batch_size
        passes = [random.permutation(count) for _ in range(-(-needed // count))]
        return np.split(np.concatenate(passes)[:needed], self.batches_per_epoch)
