"""Parts of gpu.sh: `machine`, `wait` and `resume`; each writes OUT/PART.json and prints a line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch


def machine(out: Path, device: str) -> str:
    """Card, driver and versions."""
    found = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cpu_cores": os.cpu_count(),
    }
    if device != "cpu":
        import triton

        properties = torch.cuda.get_device_properties(0)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True)
        found |= {
            "card": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "driver": done.stdout.strip(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "triton": triton.__version__,
        }
    write(out / "machine.json", found)
    return ", ".join(f"{key} {value}" for key, value in found.items())


def wait(out: Path, device: str, shape: str, small: bool) -> str:
    """A short ckd-plus, and the share of its steps' time in which they wait for samples."""
    from spikebridge.base.files import expand_path
    from spikebridge.cli import main
    from spikebridge.training.ahead import Ahead
    from spikebridge.training.step import TrainingStep

    photos = Path(expand_path("$SPIKEBRIDGE_DATA/caltech101"))
    recipe = "caltech101" if photos.is_dir() and not small else "digits"
    words = ["train", recipe, "--method", "ckd-plus", "--train.device", device]
    words += ["--out", str(out / f"run-{shape}"), "--teacher_run", str(out / f"teacher-{shape}")]
    words += ["--teacher.name", "small-cnn", "--teacher.epochs", "1", "--train.epochs", "4"]
    words += ["--data.cache", str(out / "cache")]
    words += ["--train.batches_per_epoch", "3" if small else "50"]
    if shape == "full":
        words += ["--data.size", "[48, 48]", "--data.time_steps", "10", "--train.batch_size", "120"]
        words += ["--student.width", "0.1" if small else "1"]
    waited, taken = [], []
    made, step = Ahead.__call__, TrainingStep.__call__

    def made_timed(self, number):
        began = time.perf_counter()
        found = made(self, number)
        waited.append(time.perf_counter() - began)
        return found

    def step_timed(self, *arguments):
        taken.append(moment(device))
        return step(self, *arguments)

    Ahead.__call__, TrainingStep.__call__ = made_timed, step_timed
    began = time.perf_counter()
    code = main(words)
    whole = time.perf_counter() - began
    Ahead.__call__, TrainingStep.__call__ = made, step
    if code:
        raise SystemExit(code)
    steps = 12 if small else 200
    last = taken[-steps:]
    # The first steps compile and capture; evaluations lie between some.
    gaps = sorted(seconds(a, b) for a, b in zip(last[10:], last[11:], strict=False))
    student = seconds(last[10 if len(last) > 11 else 0], last[-1])
    lost = sum(waited[-steps:][11:]) if waited else 0.0
    found = {
        "recipe": recipe, "shape": shape, "seconds": round(whole, 1),
        "step_ms_median": round(1e3 * gaps[len(gaps) // 2], 3) if gaps else None,
        "seconds_of_the_last_steps": round(student, 3),
        "waited_for_samples": round(lost, 3),
        "share_waited": round(lost / student, 4) if student else None,
    }  # fmt: skip
    result = json.loads((out / f"run-{shape}" / "result.json").read_text())
    found |= {"val_top1": result["val_top1"], "precision": result.get("precision")}
    write(out / f"wait-{shape}.json", found)
    return (
        f"{recipe}, {shape}: a step every {found['step_ms_median']} ms, "
        f"{100 * (found['share_waited'] or 0):.1f} % of the time waited for samples"
    )


def moment(device: str):
    """Now, on the device: a step's launch takes less time than the step."""
    if device == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds(a, b) -> float:
    """From one moment to another."""
    if isinstance(a, float):
        return b - a
    b.synchronize()
    return a.elapsed_time(b) / 1e3


def resume(out: Path, device: str) -> str:
    """A run killed by SIGTERM and gone on with, against one that was not: the same bits?"""
    command = [sys.executable, "-m", "spikebridge", "train", "digits", "--method", "ckd"]
    command += ["--train.device", device, "--train.epochs", "6", "--teacher.epochs", "1"]
    command += ["--data.cache", str(out / "cache"), "--teacher_run", str(out / "teacher-resume")]
    whole, parts = out / "run-whole", out / "run-parts"
    subprocess.run([*command, "--out", str(whole)], check=True)
    process = subprocess.Popen([*command, "--out", str(parts)])
    metrics = parts / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code = process.wait()
    if not (parts / "result.json").exists():
        subprocess.run([*command, "--out", str(parts), "--resume"], check=True)
    same = {
        name: (whole / name).read_bytes() == (parts / name).read_bytes()
        for name in ("model.safetensors", "metrics.jsonl", "predictions.csv")
    }
    write(out / "resume.json", {"exit_code_of_the_killed": code, "same_bytes": same})
    if not all(same.values()):
        raise SystemExit(f"killed ({code}) and resumed: {same}")
    return f"killed ({code}) and resumed: the same bytes as in one go"


def write(path: Path, found: dict) -> None:
    """One part's figures."""
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    name, out, device, *options = sys.argv[1:]
    if name == "wait":
        print(wait(Path(out), device, options[0], "small" in options))
    else:
        print({"machine": machine, "resume": resume}[name](Path(out), device))
