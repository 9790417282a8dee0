"""What tests of several files ask of runs."""

import json

import torch
from safetensors.torch import load_file


def same_run(one, other):
    """Weights, curves and result of two runs agree to the last bit."""
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    states = [torch.load(folder / "checkpoint.pt", map_location="cpu") for folder in (one, other)]
    for name in ("model", "extras"):
        for key, value in states[0][name].items():
            assert torch.equal(value, states[1][name][key]), key
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]
    predictions = [(folder / "predictions.csv").read_text() for folder in (one, other)]
    assert predictions[0] == predictions[1]
