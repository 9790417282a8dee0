"""A person's own recordings and photos: EVENTS/CLASS/* and PHOTOS/CLASS/*."""

from dataclasses import replace
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.base.files import settings_key
from spikebridge.data.collection import cache_folder
from spikebridge.data.datasets.dataset import Dataset, Listing
from spikebridge.data.datasets.walk import folder_of, list_class_folders
from spikebridge.data.events import EVENT_SUFFIXES
from spikebridge.data.hashes import file_hashes
from spikebridge.data.photos import PHOTO_SUFFIXES, list_photo_folder
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.twins import simulate_folder

_EVENTS_LAYOUT = (
    "EVENTS/CLASS/RECORDING.bin   or .aedat .aedat4 .raw .dat .h5 .npz .csv .txt .bag .mat",
)
_PHOTOS_LAYOUT = ("PHOTOS/CLASS/PHOTO.jpg       or .png .bmp .webp; the same class names",)
_KINDS = ("events", "recordings", "photos", "images")
_SIMULATION_SEED = 0
_UNTOLD_SENSOR = (".csv", ".txt", ".mat", ".npz", ".h5", ".hdf5")
_BIN_SENSOR = (240, 180)


def list_recordings(config: DataConfig) -> Listing:
    """Recordings below data.events."""
    root = folder_of(config.events, "recording", _EVENTS_LAYOUT)
    deep = config.split.group is not None
    return list_class_folders(root, "recording", EVENT_SUFFIXES, config.exclude, deep=deep)


def list_photos(config: DataConfig) -> Listing:
    """Photos below data.photos."""
    root = folder_of(config.photos, "photo", _PHOTOS_LAYOUT)
    deep = config.split.group is not None
    return list_class_folders(root, "photo", PHOTO_SUFFIXES, config.exclude, deep=deep)


def sensor_of(config: DataConfig, recordings: Listing) -> tuple[int, int] | None:
    """The sensor that is set, else N-Caltech101's for ``.bin``, else None: each file tells it.

    Raises:
        UserError: a file need not tell it, and the whole sensor is to be framed.
    """
    if config.sensor:
        return config.sensor
    if suffix := untold_sensor(config, recordings):
        raise UserError(
            f"data.sensor is not set, and {suffix} recordings need not tell it "
            f"({recordings.root}); set the camera's width and height: data.sensor [346, 260], say"
        )
    return _BIN_SENSOR if _suffixes(recordings) <= {".bin"} else None


def untold_sensor(config: DataConfig, recordings: Listing) -> str | None:
    """A format here that need not tell the sensor, where that is needed and not set; else None."""
    untold = _suffixes(recordings).intersection(_UNTOLD_SENSOR)
    needed = config.sensor is None and config.extent == "sensor"
    return min(untold) if needed and untold else None


def _suffixes(recordings: Listing) -> set[str]:
    files = [one.file for found in recordings.classes.values() for one in found]
    return {Path(file).suffix.lower() for file in files}


def with_simulated_events(config: DataConfig) -> DataConfig:
    """The same photos with recordings simulated of all of them, kept in the cache.

    Raises:
        UserError: data.photos is not set, or a photo cannot be read or simulated.
    """
    root = folder_of(config.photos, "photo", _PHOTOS_LAYOUT)
    photos = list_photo_folder(root, config.exclude)
    names = [(name, file) for name, files in photos.items() for file in files]
    hashes = file_hashes([str(file) for _, file in names], cache_folder(config))
    contents = sorted(
        (name, file.name, sha) for (name, file), sha in zip(names, hashes, strict=True)
    )
    key = settings_key("twins", contents, config.simulator.settings())
    out = cache_folder(config) / f"recordings-{key}"
    simulate_folder(root, out, config.simulator, seed=_SIMULATION_SEED, exclude=config.exclude)
    sensor = (config.simulator.width, config.simulator.height)
    return replace(config, events=str(out), sensor=sensor)


def name_of(config: DataConfig) -> str:
    """What tables call the data: the recordings' folder, or the one above it where that is EVENTS.

    Where recordings are simulated, the photos' folder stands for it.
    """
    folder = Path(config.events or config.photos or "").resolve()
    return (folder.name.lower() in _KINDS and folder.parent.name) or folder.name


FOLDERS = Dataset(
    name="folders",
    title="Your own recordings and photos",
    published={},
    classes_note="whatever folders there are; recordings and photos have the same class names",
    sensor=None,
    camera="any; set data.sensor where the files do not tell it",
    licence="yours",
    source="a folder of recordings and a folder of photos; without recordings they are simulated",
    events_layout=_EVENTS_LAYOUT,
    photos_layout=_PHOTOS_LAYOUT,
    pairing="by class and file name where any name matches, else by class only",
    protocols="clean, few-shot",
    recipes=("caltech101",),
    page="docs/data/folders.md",
    paired=None,
    list_recordings=list_recordings,
    list_photos=list_photos,
)
