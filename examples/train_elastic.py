"""Train in any number of processes, stop, and go on in another number of them.

    torchrun --nproc_per_node=2 examples/train_elastic.py collected/readings run.pt --steps=20
    torchrun --nproc_per_node=3 examples/train_elastic.py collected/readings run.pt

A model learns the column ``y`` from ``x``. All processes step together; after ``--steps`` steps, or
at the end, the first one saves the model with the place in the rows. Whoever takes it up uses the
rows that are left, each once, however many processes they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

import batch_collection

CASTS = {"x": "float32", "y": "float32"}


def main() -> None:
    """Train from where the last run stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection", help="its directory")
    parser.add_argument("saved", type=Path, help="the file that model and place are kept in")
    parser.add_argument("--steps", type=int, help="how many steps to take; default: all")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=32)
    args = parser.parse_args()
    distributed.init_process_group("gloo")
    try:
        train(args)
    finally:
        distributed.destroy_process_group()


def train(args: argparse.Namespace) -> None:
    """Step through the rows that are left."""
    saved = torch.load(args.saved) if args.saved.exists() else None
    collection = batch_collection.open(args.collection)
    cycle = [saved["loader"]["cycle"] if saved is not None else collection.newest.cycle]
    distributed.broadcast_object_list(cycle)  # all read the same rows, whatever is collected
    view = collection.at(cycle=cycle[0])
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    if saved is not None:
        model.module.load_state_dict(saved["model"])
    loader = view.loader(args.batch_size, columns=["x"], label="y", casts=CASTS, shuffle=1)
    if saved is not None:
        loader.load_state_dict(saved["loader"])
    steps, used = 0, torch.tensor(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(loader.epoch, args.epochs):
        for features, label in loader:
            loss = torch.nn.functional.mse_loss(model(features["x"][:, None])[:, 0], label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps, used = steps + 1, used + len(label)
            if steps == args.steps:
                break
        if steps == args.steps:
            break
    distributed.all_reduce(used)
    if distributed.get_rank() == 0:
        torch.save({"model": model.module.state_dict(), "loader": loader.state_dict()}, args.saved)
        print(told(used, steps, model.module, loader.state_dict()))


def told(used: torch.Tensor, steps: int, model: torch.nn.Linear, place: dict[str, Any]) -> str:
    """Say what was done."""
    return (
        f"world size {distributed.get_world_size()}: {used:,} rows in {steps} steps, up to "
        f"epoch {place['epoch']}, row {place['row']}: y = {model.weight.item():.2f} x + "
        f"{model.bias.item():.2f}"
    )


if __name__ == "__main__":
    main()
