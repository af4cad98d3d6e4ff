"""Produce, collect, train: the whole way from a stream to a loss.

    python examples/train.py [--framework=tensorflow|torch|numpy] [--output=DIR]

A broker that lives in this process gets 2,000 messages, each a JSON array of ten readings; the
collector takes them into one-minute windows; a model learns ``y`` from ``x``, on devices that it is
not tested on. Without a framework NumPy will do.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import Producer

import batch_collection

if TYPE_CHECKING:
    from batch_collection import Collection

TOPIC = "readings"
MESSAGES, READINGS = 2_000, 10
CASTS = {"x": "float32", "y": "float32"}


def start_broker() -> tuple[Producer, str]:
    """Start librdkafka's mock cluster; it lives as long as the client that is returned."""
    settings = {"test.mock.num.brokers": 1, "bootstrap.servers": "embedded", "log_level": 4}
    broker = Producer(settings)
    there = broker.list_topics(TOPIC, timeout=10).brokers.values()  # asking for a topic makes it
    return broker, ",".join(f"{each.host}:{each.port}" for each in there)


def produce(servers: str) -> None:
    """Send readings of fifty devices: ``y = 3 x + 1``, and some noise."""
    rng = random.Random(0)  # noqa: S311 - sample values
    producer = Producer({"bootstrap.servers": servers})
    for _ in range(MESSAGES):
        readings = [
            {"device": f"device-{rng.randrange(50)}", "x": x, "y": 3 * x + 1 + rng.gauss(0, 0.1)}
            for x in (rng.gauss(0, 1) for _ in range(READINGS))
        ]
        producer.produce(TOPIC, json.dumps(readings).encode())
        producer.poll(0)
    producer.flush()


def collect(servers: str, output: Path) -> None:
    """Collect what has arrived, as the command line does."""
    command = [
        *(sys.executable, "-m", "pipeline", "collect"),
        f"--bootstrap_servers={servers}",
        f"--topics={TOPIC}",
        f"--output={output}",
        "--interval=1m",
        "--once",
        "--flush",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command


def train_with_tensorflow(train: Collection) -> tuple[float, float]:
    """Return the slope and the bias that Keras finds."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf  # noqa: PLC0415 - one of the two will do

    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential([tf.keras.layers.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile(tf.keras.optimizers.SGD(0.05), "mse")
    batches = train.to_tf(batch_size=64, columns=["x", "y"], casts=CASTS, shuffle=0)
    model.fit(
        batches.map(lambda batch: (batch["x"], batch["y"])), epochs=3, shuffle=False, verbose=0
    )
    slope, bias = (float(weight.numpy().ravel()[0]) for weight in model.weights)
    return slope, bias


def train_with_torch(train: Collection) -> tuple[float, float]:
    """Return the slope and the bias that PyTorch finds."""
    import torch  # noqa: PLC0415 - one of the two will do

    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    batches = train.to_torch(batch_size=64, columns=["x", "y"], casts=CASTS, shuffle=0)
    for _ in range(3):  # epochs, each in another order
        for batch in batches:
            loss = torch.nn.functional.mse_loss(model(batch["x"][:, None])[:, 0], batch["y"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.weight.item(), model.bias.item()


def train_with_numpy(train: Collection) -> tuple[float, float]:
    """Return the slope and the bias that gradients of the mean squared error lead to."""
    slope = bias = 0.0
    batches = train.to_numpy_batches(64, columns=["x", "y"], casts=CASTS, shuffle=0, label="y")
    for _ in range(3):  # epochs, each in another order
        for features, y in batches:
            x = features["x"]
            wrong = slope * x + bias - y
            slope -= 0.05 * 2 * float(np.mean(wrong * x))
            bias -= 0.05 * 2 * float(np.mean(wrong))
    return slope, bias


TRAINERS = {
    "torch": train_with_torch,
    "tensorflow": train_with_tensorflow,
    "numpy": train_with_numpy,
}
"""By framework; the first that is installed is taken."""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--framework", choices=[*TRAINERS])
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    framework = args.framework or next(filter(importlib.util.find_spec, TRAINERS))
    output = args.output or Path(tempfile.mkdtemp(prefix="batch-collection-"))

    broker, servers = start_broker()
    produce(servers)
    collect(servers, output)
    del broker

    collection = batch_collection.open(output / TOPIC)
    print(f"collected {collection.rows:,} rows: {collection}")
    parts = collection.split({"train": 0.8, "test": 0.2}, by="device")
    slope, bias = TRAINERS[framework](parts["train"])

    test = parts["test"].to_arrow(["x", "y"])
    x, y = (test[name].to_numpy() for name in ("x", "y"))
    loss = float(np.mean((slope * x + bias - y) ** 2))
    rows = {name: f"{part.rows:,} rows" for name, part in parts.items()}
    print(f"trained with {framework} on {rows['train']}: y = {slope:.2f} x + {bias:.2f}")
    print(f"loss on {rows['test']} of other devices: {loss:.4f} (a constant's: {y.var():.2f})")


if __name__ == "__main__":
    main()
