"""Known data sets: a module for each, with its description and its lister."""

from spikebridge.data.datasets.cepdvs import CEP_DVS
from spikebridge.data.datasets.cifar10dvs import CIFAR10_DVS
from spikebridge.data.datasets.dataset import Dataset, Finding, Found, Listing
from spikebridge.data.datasets.digits import DIGITS
from spikebridge.data.datasets.folders import FOLDERS
from spikebridge.data.datasets.ncaltech101 import N_CALTECH101
from spikebridge.data.datasets.nmnist import N_MNIST

__all__ = ["DATASETS", "Dataset", "Finding", "Found", "Listing"]

DATASETS = {d.name: d for d in (N_CALTECH101, CEP_DVS, CIFAR10_DVS, N_MNIST, FOLDERS, DIGITS)}
"""By value of data.name."""
