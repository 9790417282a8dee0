"""The command `simulate`."""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikebridge.errors import UserError


def _simulate_arguments(parser: ArgumentParser) -> None:
    from spikebridge.data.simulate import Simulator
    from spikebridge.settings import add_settings

    parser.usage = "spikebridge simulate --photos DIR --out DIR [--seed N] [--simulator.… VALUE]"
    parser.add_argument("--photos", type=str, required=True, help="folder with CLASS/PHOTO.jpg")
    parser.add_argument(
        "--out", type=str, required=True, help="folder of the recordings, CLASS/PHOTO.bin"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of thresholds and noise")
    add_settings(parser, Simulator, "simulator")


def _simulate(given: Namespace) -> None:
    """Turn a folder of photos into simulated event recordings (N-Caltech101's layout).

    Recordings that are there already are kept; repeat the command to go on where it was
    interrupted.
    """
    from spikebridge.data.simulate import Simulator, simulate_folder

    try:
        simulator = Simulator(**given.simulator.as_dict())
    except ValueError as error:
        raise UserError(str(error)) from error
    out, seed = Path(given.out), given.seed
    made = simulate_folder(given.photos, out, simulator, seed=seed)
    print(f"{out}: {made} recordings made")


COMMANDS = {
    "simulate": (_simulate_arguments, _simulate),
}
