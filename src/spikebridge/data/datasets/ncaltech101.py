"""N-Caltech101 (Orchard et al. 2015) with the photos of Caltech101."""

import re
from dataclasses import replace

from spikebridge.data.datasets.dataset import Dataset, Listing
from spikebridge.data.datasets.walk import descend, folder_of, list_class_folders
from spikebridge.data.photos import PHOTO_SUFFIXES
from spikebridge.data.settings import DataConfig

PUBLISHED = {
    "BACKGROUND_Google": 467, "Faces_easy": 435, "Leopards": 200, "Motorbikes": 798,
    "accordion": 55, "airplanes": 800, "anchor": 42, "ant": 42, "barrel": 47, "bass": 54,
    "beaver": 46, "binocular": 33, "bonsai": 128, "brain": 98, "brontosaurus": 43, "buddha": 85,
    "butterfly": 91, "camera": 50, "cannon": 43, "car_side": 123, "ceiling_fan": 47,
    "cellphone": 59, "chair": 62, "chandelier": 107, "cougar_body": 47, "cougar_face": 69,
    "crab": 73, "crayfish": 70, "crocodile": 50, "crocodile_head": 51, "cup": 57, "dalmatian":
    67, "dollar_bill": 52, "dolphin": 65, "dragonfly": 68, "electric_guitar": 75, "elephant":
    64, "emu": 53, "euphonium": 64, "ewer": 85, "ferry": 67, "flamingo": 67, "flamingo_head":
    45, "garfield": 34, "gerenuk": 34, "gramophone": 51, "grand_piano": 99, "hawksbill": 100,
    "headphone": 42, "hedgehog": 54, "helicopter": 88, "ibis": 80, "inline_skate": 31,
    "joshua_tree": 64, "kangaroo": 86, "ketch": 114, "lamp": 61, "laptop": 81, "llama": 78,
    "lobster": 41, "lotus": 66, "mandolin": 43, "mayfly": 40, "menorah": 87, "metronome": 32,
    "minaret": 76, "nautilus": 55, "octopus": 35, "okapi": 39, "pagoda": 47, "panda": 38,
    "pigeon": 45, "pizza": 53, "platypus": 34, "pyramid": 57, "revolver": 82, "rhino": 59,
    "rooster": 49, "saxophone": 40, "schooner": 63, "scissors": 39, "scorpion": 84, "sea_horse":
    57, "snoopy": 35, "soccer_ball": 64, "stapler": 45, "starfish": 86, "stegosaurus": 59,
    "stop_sign": 64, "strawberry": 35, "sunflower": 85, "tick": 49, "trilobite": 86, "umbrella":
    75, "watch": 239, "water_lilly": 37, "wheelchair": 59, "wild_cat": 34, "windsor_chair": 56,
    "wrench": 39, "yin_yang": 60,
}  # fmt: skip
"""Recordings by class; photos have the same numbers, and `Faces` besides."""

_NUMBERED = re.compile(r"image_([0-9]+)", re.IGNORECASE)
_FACES = {"Faces": "left out: N-Caltech101 has no such class (Faces_easy shows the same people)"}
_EVENTS_LAYOUT = ("EVENTS/CLASS/image_0001.bin   or EVENTS/Caltech101/CLASS/image_0001.bin",)
_PHOTOS_LAYOUT = (
    "PHOTOS/CLASS/image_0001.jpg   or PHOTOS/101_ObjectCategories/CLASS/image_0001.jpg",
)


def list_recordings(config: DataConfig) -> Listing:
    """Recordings, in the unpacked archive or the folder above it."""
    root = folder_of(config.events, "recording", _EVENTS_LAYOUT)
    root = descend(root, "Caltech101", "N-Caltech101-archive/Caltech101")
    listing = list_class_folders(root, "recording", (".bin",), config.exclude, PUBLISHED, _FACES)
    return _by_number(listing)


def list_photos(config: DataConfig) -> Listing:
    """Photos, in the unpacked archive or the folders above it."""
    root = folder_of(config.photos, "photo", _PHOTOS_LAYOUT)
    below = "101_ObjectCategories"
    root = descend(root, below, f"caltech-101/{below}", f"caltech101/{below}")
    listing = list_class_folders(root, "photo", PHOTO_SUFFIXES, config.exclude, PUBLISHED, _FACES)
    return _by_number(listing)


def _by_number(listing: Listing) -> Listing:
    """Pairs by number, of which leading zeros are no part; another name tells no photo."""
    classes = {
        name: [replace(one, pair=_pair(name, one.number)) for one in found]
        for name, found in listing.classes.items()
    }
    return replace(listing, classes=classes)


def _pair(class_name: str, stem: str) -> str:
    numbered = _NUMBERED.fullmatch(stem)
    return f"{class_name}/image_{int(numbered[1]):04d}" if numbered else ""


N_CALTECH101 = Dataset(
    name="ncaltech101",
    title="N-Caltech101 with Caltech101",
    published=PUBLISHED,
    classes_note=(
        "100 objects and BACKGROUND_Google, kept as published work does (data.exclude "
        "drops it); no Faces, which is left out of the photos too"
    ),
    sensor=(240, 180),
    camera="ATIS, 240x180; each recording has the size of its photo (data.extent: recording)",
    licence="CC BY 4.0 (recordings), CC BY 4.0 (photos)",
    source=(
        "recordings: https://www.garrickorchard.com/datasets/n-caltech101 (Mendeley Data, "
        "doi 10.17632/cy6cvx3ryv); photos: https://data.caltech.edu/records/mzrjq-6wc02"
    ),
    events_layout=_EVENTS_LAYOUT,
    photos_layout=_PHOTOS_LAYOUT,
    pairing="image_0007.bin shows image_0007.jpg of the same class",
    protocols="clean, few-shot, published",
    recipes=("ncaltech101",),
    page="docs/data/ncaltech101.md",
    paired=True,
    list_recordings=list_recordings,
    list_photos=list_photos,
)
