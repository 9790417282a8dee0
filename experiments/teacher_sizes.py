"""How small a finished teacher's input may be: accuracy and time of a pass; a Markdown table.

    python experiments/teacher_sizes.py RUN [SIDE ...]

Accuracy is on the photos that select the epoch; time is CPU time of one thread for 40 of them, of
the size at which they are kept.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from spikebridge.models.teacher import Teacher
from spikebridge.results.trained import data_of_run, evaluate, load_run

TURNS = 7


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Run a teacher at several input sizes.")
    parser.add_argument("run", type=Path, help="folder of a finished teacher's run")
    parser.add_argument("sides", type=int, nargs="*", default=[64, 96, 128, 160, 224])
    args = parser.parse_args()
    torch.set_num_threads(1)
    trained = load_run(args.run)
    data, teacher = data_of_run(args.run, trained), trained.model
    if not isinstance(teacher, Teacher):
        parser.error(f"{args.run} holds a student")
    photos = data.photos["validation"]
    photo_B3HW = torch.from_numpy(photos.photos_N3HW[:40]) / 255
    print("| teacher.input_size | top-1, % | ms for 40 photos |\n| --- | ---: | ---: |")
    for side in args.sides:
        teacher.input_size, taken = side, []
        top1 = evaluate(trained, data, "validation").top1
        for _ in range(TURNS):
            began = time.process_time()
            with torch.inference_mode():
                teacher(photo_B3HW)
            taken.append(1000 * (time.process_time() - began) * 40 / len(photo_B3HW))
        print(f"| {side} | {top1:.1f} | {statistics.median(taken):.0f} |")


if __name__ == "__main__":
    main()
