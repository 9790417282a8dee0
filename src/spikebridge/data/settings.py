"""Settings of what is read, split, simulated and fed."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from spikebridge.base.checks import require, require_plain_parts
from spikebridge.data.simulation.camera import Simulator


@dataclass(frozen=True)
class LeakConfig:
    """How protocol `leaked` breaks a split on purpose, to measure what a leak is worth."""

    dose: float = 0.5
    """Share of each class's test recordings whose own photo is among the student's sources; as many
    training photos of the class make way. Which recordings, the split's seed draws; runs with an
    odd seed take them from the other end of the draw, at 0.5 the other half."""
    teacher: bool = False
    """Whether the teacher is trained on these photos, too."""

    def __post_init__(self) -> None:
        require(0 < self.dose < 1, "data.split.leak.dose must lie in (0, 1)")


@dataclass(frozen=True)
class SplitConfig:
    """Which recordings and photos train, validate and test."""

    protocol: Literal["clean", "few-shot", "published", "leaked"] | None = None
    """`clean`: train, validation and test by class and seed; `few-shot`: the same with
    labelled_per_class labelled recordings; `published`: recordings in random order and photos in
    that of their numbers, 90 % of each class train, the rest tests and also selects the epoch, only
    to compare with published figures; `leaked`: `clean` (or `few-shot`, where labelled_per_class is
    set) with photos of test recordings among the sources, only to measure what that is worth
    (`leak`). Null takes `few-shot` where labelled_per_class is set, else `clean`."""
    labelled_per_class: int | None = None
    """Labelled training recordings per class (k); null takes all that are left."""
    validation_per_class: int = 5
    """Recordings per class that select the epoch."""
    test_per_class: int | None = None
    """Test recordings per class; null takes all that are left when labelled_per_class is set,
    else a fifth of the class."""
    photo_validation: float = 0.1
    """Share of the legal photos that selects the teacher's epoch instead of training."""
    photo_test: float = 0.1
    """Share of the photos that tests the teacher where photos and recordings are not paired;
    where they are, the test recordings' photos do."""
    labelled_photos_per_class: int | None = None
    """Photos per class that keep their label, for studies of `data.unlabelled`: they train the
    teacher, photo_validation of them (none of one) selects its epoch, and the class's other legal
    photos become unlabelled; null labels all."""
    seed: int | None = None
    """Seed of the draw; null takes the run's seed."""
    near_duplicates: Literal["exclude", "keep"] = "exclude"
    """`exclude` leaves out of training the photos that look like the photo of a validation or test
    recording (perceptual hash), and the recordings made of them; `keep` leaves them in, and the
    audit finds them."""
    group: str | None = None
    """Regular expression that finds the recording session in a recording's name, which is its path
    below the class's folder without the ending: its first group, or all that it matches. No session
    is in two splits, nor are its photos seen where it validates or tests. `(.+)_` names sessions
    oct06a and oct06b of oct06a_001 and oct06b_001, `(.+)/` those of sub-folders, which own folders
    are then searched for."""
    manifest: str | None = None
    """A CSV file that names the split of each recording instead of drawing one: a run's
    manifest.csv, or the columns file and split alone."""
    leak: LeakConfig = field(default_factory=LeakConfig)
    """Of protocol `leaked` alone."""

    @property
    def name(self) -> Literal["clean", "few-shot", "published", "leaked"]:
        """The protocol."""
        return self.protocol or ("few-shot" if self.labelled_per_class else "clean")

    def seed_of(self, run: int) -> int:
        """Seed of the draw, for a run's seed.

        Under protocol `leaked` an odd seed shares the even one's below it, and leaks the others.
        """
        if self.seed is not None:
            return self.seed
        return run - run % 2 if self.protocol == "leaked" else run

    def __post_init__(self) -> None:
        require_plain_parts(self, "data.split.")
        require(
            self.protocol in (None, "leaked")
            or (self.protocol == "few-shot") == bool(self.labelled_per_class),
            "data.split.labelled_per_class belongs to protocol few-shot: set both or neither",
        )
        require(
            self.protocol == "leaked" or self.leak == LeakConfig(),
            "data.split.leak belongs to protocol leaked: set data.split.protocol leaked",
        )
        require(
            self.labelled_per_class is None or self.labelled_per_class >= 1,
            "data.split.labelled_per_class must be at least 1",
        )
        require(
            self.validation_per_class >= 1, "data.split.validation_per_class must be at least 1"
        )
        require(
            self.test_per_class is None or self.test_per_class >= 1,
            "data.split.test_per_class must be at least 1",
        )
        require(
            0 <= self.photo_validation < 1 and 0 <= self.photo_test < 1,
            "data.split.photo_validation and photo_test must lie in [0, 1)",
        )
        require(
            self.labelled_photos_per_class is None or self.labelled_photos_per_class >= 1,
            "data.split.labelled_photos_per_class must be at least 1",
        )
        require(
            self.labelled_photos_per_class is None or self.protocol != "leaked",
            "data.split.labelled_photos_per_class does not go with protocol leaked; unset it",
        )
        require(self.seed is None or self.seed >= 0, "data.split.seed must not be negative")
        if self.group is not None:
            require(
                self.name in ("clean", "few-shot"),
                f"data.split.group belongs to protocols clean and few-shot, not to {self.protocol}",
            )
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(
                    f"data.split.group {self.group!r} is no regular expression ({error})"
                ) from error


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training samples; every sample draws its own.

    crop, flip and rotate, in this order, move recordings and photos; a photo moves alike for the
    teacher and in the hybrid stream, simulated or not, and not at all where `PhotoViewConfig` says
    how it is shown. The others change the events of recordings and of simulated sources. KT's flag
    `--DVS-DA` is crop 4 (of 48 pixels), flip and rotate 15.
    """

    crop: int = 0
    """Padding in pixels of the network's input for a random crop; photos move in proportion."""
    flip: bool = False
    """Flip left and right with probability one half."""
    rotate: float = 0.0
    """Largest rotation about the centre in degrees, either way."""
    event_drop: float = 0.0
    """Largest share of a recording's events that is dropped; each recording draws its share."""
    time_jitter: float = 0.0
    """Standard deviation of each event's shift in time, in time steps, at most 1."""
    polarity_flip: float = 0.0
    """Probability that a recording's ON and OFF events are exchanged."""

    def __post_init__(self) -> None:
        require(self.crop >= 0, "data.augment.crop must not be negative")
        require(0 <= self.rotate <= 180, "data.augment.rotate must lie in [0, 180]")
        require(0 <= self.event_drop < 1, "data.augment.event_drop must lie in [0, 1)")
        require(0 <= self.time_jitter <= 1, "data.augment.time_jitter must lie in [0, 1]")
        require(0 <= self.polarity_flip <= 1, "data.augment.polarity_flip must lie in [0, 1]")


@dataclass(frozen=True)
class PhotoViewConfig:
    """Random views of a student's training photos; every use of a photo draws its own.

    Teacher, static photo and what `data.source.in_step` makes of it are of the same view. Where any
    is switched on, `AugmentConfig` changes recordings alone, and the photos that the teacher itself
    is trained on.
    """

    crop: float = 1.0
    """Smallest share of a photo's area that is shown, at the size of the whole; the crop's sides
    have a ratio of 3/4 to 4/3. Where anything in this group is set, the hybrid stream's photos are
    shown so, to the teacher too, and `data.augment` changes recordings alone (and photos while the
    teacher is trained)."""
    flip: bool = False
    """Flip left and right with probability one half."""
    rotate: float = 0.0
    """Largest rotation about the crop's centre in degrees, either way; the photo's edge goes on."""
    contrast: float = 0.0
    """Half-width, in log units, of the factor on each pixel's difference from the photo's mean."""
    gamma: float = 0.0
    """Half-width, in log units, of the exponent of the pixels in [0, 1]."""
    mixup: bool = False
    """Mix each photo with another of the batch, and their labels alike, by shares λ and 1 − λ, λ
    uniform in [0.5, 1]; one that a recording replaces is not mixed."""

    def __post_init__(self) -> None:
        require(0 < self.crop <= 1, "data.photo_views.crop must be above 0 and at most 1")
        require(0 <= self.rotate <= 180, "data.photo_views.rotate must lie in [0, 180]")
        require(0 <= self.contrast <= 2, "data.photo_views.contrast must lie in [0, 2]")
        require(0 <= self.gamma <= 2, "data.photo_views.gamma must lie in [0, 2]")

    @property
    def given(self) -> bool:
        """Whether anything is switched on."""
        return self != PhotoViewConfig()


@dataclass(frozen=True)
class SourceConfig:
    """The simulated recordings of the training photos, where `objective.source` needs them."""

    simulator: dict[str, Any] | None = None
    """Settings laid over `data.simulator`, {pos_threshold: 0.8} say: a camera that differs from the
    one behind simulated recordings, or where calibration starts."""
    calibrate: bool = False
    """Find thresholds, noise and motion from the training recordings, without their labels."""
    randomise: float = 0.0
    """Half-width, in log units, of the factors by which each simulated recording's thresholds,
    amplitude, noise rates and bandwidth differ from the camera's; the ratio of ON to OFF threshold
    draws a factor of a quarter of it."""
    views: int = 1
    """Simulated recordings per photo, each of its own draws; a batch draws one of them per use."""
    in_step: bool = False
    """Simulate inside the training step, with new draws for each use and of the photo as
    `data.augment` or `data.photo_views` show it to the teacher, instead of once and before
    training. The photo is as it is kept, a square, and its edge goes on beyond its border."""

    def __post_init__(self) -> None:
        require(0 <= self.randomise <= 2, "data.source.randomise must lie in [0, 2]")
        require(self.views >= 1, "data.source.views must be at least 1")
        require(
            not self.in_step or self.views == 1,
            "data.source.in_step makes a new recording for each use; leave data.source.views at 1",
        )


@dataclass(frozen=True)
class DataConfig:
    """Where recordings and photos are, and how they become network input."""

    name: Literal["digits", "nmnist", "ncaltech101", "cep-dvs", "cifar10-dvs", "folders"] = "digits"
    """The data set: `digits` are scikit-learn's, embedded; `folders` are EVENTS/CLASS/* and
    PHOTOS/CLASS/*; `spikebridge data list` describes the others."""
    events: str | None = None
    """Folder of recordings; null simulates a recording of every photo (`simulator`)."""
    photos: str | None = None
    """Folder of photos; not used by `digits`."""
    unlabelled: str | None = None
    """Folder of photos without labels, in sub-folders of any depth, of any size, of the classes or
    not. The hybrid stream takes those that `objective.unlabelled` accepts; they train no teacher.
    What shows a validation or test recording, or cannot be read, is left out."""
    sensor: tuple[int, int] | None = None
    """Sensor width and height in pixels for formats that do not tell it; null takes the
    simulator's where recordings are simulated, and N-Caltech101's 240×180 for .bin files."""
    extent: Literal["sensor", "recording"] = "sensor"
    """What is stretched to the network's input: the whole `sensor`, or the part of it from the
    upper left corner to the farthest event of each recording, for data sets whose recordings have
    the size of their photos (N-Caltech101)."""
    exclude: list[str] = field(default_factory=list)
    """Classes to leave out; a name that is not there is no error."""
    events_alone: list[str] = field(default_factory=list)
    """Classes that train on recordings without any photo; photos of them, if any, are not used. In
    the hybrid stream their samples count as replaced from the first step; the teacher never sees
    them, and distillation leaves them out."""
    size: tuple[int, int] = (32, 32)
    """Height and width of the network's input in pixels."""
    photo_size: int | None = None
    """Height and width at which photos are kept for the teacher; null takes `size`."""
    photo_margin: float = 0.0
    """Black margin around a photo, as a share of its side, so that its content has the scale that
    it has in the recordings."""
    time_steps: int = 4
    """Number of time bins per recording (T)."""
    bins: Literal["time", "count"] = "time"
    """Bins of equal duration or of equal numbers of events."""
    scale: Literal["recording", "none"] = "recording"
    """`recording` brings each recording's event counts into [0, 1], the range of photos, by the
    95th percentile of its active cells; `none` gives the network the counts."""
    simulator: Simulator = field(default_factory=Simulator)
    """Simulated recordings: the events themselves where `events` is null, and the hybrid stream's
    source where `objective.source` is `simulated` or `staged`."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """How the simulated sources differ from what `simulator` makes."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """The split."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training samples."""
    photo_views: PhotoViewConfig = field(default_factory=PhotoViewConfig)
    """Views of a student's training photos."""
    cache: str | None = None
    """Folder of prepared data; null takes ~/.cache/spikebridge."""

    @property
    def source_simulator(self) -> Simulator:
        """The camera of simulated sources, before calibration."""
        return self.simulator.changed(self.source.simulator or {})

    def __post_init__(self) -> None:
        require_plain_parts(self, "data.")
        try:
            _ = self.source_simulator
        except ValueError as error:
            raise ValueError(f"data.source.{error}") from error
        augment = self.augment
        require(
            not self.source.in_step
            or not (augment.event_drop or augment.time_jitter or augment.polarity_flip),
            "data.source.in_step cannot change the events of its recordings; set data.augment's "
            "event_drop, time_jitter and polarity_flip to 0, or in_step to false",
        )
        require(
            not self.source.in_step or self.bins == "time",
            "data.source.in_step makes bins of equal duration; set data.bins to time",
        )
        require(self.time_steps >= 1, "data.time_steps must be at least 1")
        require(min(self.size) >= 4, "data.size must be at least 4 4")
        require(
            self.photo_size is None or self.photo_size >= 4, "data.photo_size must be at least 4"
        )
        require(0 <= self.photo_margin < 0.5, "data.photo_margin must lie in [0, 0.5)")
        require(self.sensor is None or min(self.sensor) >= 1, "data.sensor must be positive")
