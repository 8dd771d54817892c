#!/usr/bin/env python3
"""Trains a tiny model: workers look at the weights where they are, and hand in gradients; a server makes new weights.

usage: parameter_server.py [WORKERS [STEPS]]      WADI_ENDPOINT and WADI_TOKEN say where the store is
"""
import concurrent.futures
import sys
from typing import Any, Tuple

import numpy as np

import wadi

FEATURES, EXAMPLES, RATE = 50, 2000, 0.5


def examples(worker: int) -> Tuple[Any, Any]:
    """Its share of the data: what the model is to find out is the same for all."""
    truth = np.random.default_rng(7).normal(size=FEATURES)
    x = np.random.default_rng(100 + worker).normal(size=(EXAMPLES, FEATURES))
    return x, (x @ truth > 0).astype(float)


def predict(x: Any, weights: Any) -> Any:
    return 1 / (1 + np.exp(-(x @ weights)))


def work(worker: int, steps: int) -> None:
    x, y = examples(worker)
    with wadi.open() as store:
        for step in range(steps):
            weights = store.get_object(f"model/weights/{step:06}", wait=60)
            gradient = x.T @ (predict(x, weights) - y) / EXAMPLES
            store.put_object(f"model/gradients/{step:06}/{worker:04}", gradient)


def serve(workers: int, steps: int) -> float:
    """The share of new examples that the model gets right."""
    weights = np.zeros(FEATURES)
    with wadi.open() as store:
        for step in range(steps):
            store.put_object(f"model/weights/{step:06}", weights, ttl=60)
            store.wait_count(f"model/gradients/{step:06}", workers, timeout=60)
            gradients = [store.get_object(f"model/gradients/{step:06}/{name}")
                         for name in store.names(f"model/gradients/{step:06}")]
            weights = weights - RATE * sum(gradients) / workers
            store.remove_tree(f"model/gradients/{step:06}")
        store.put_object("model/trained", weights)
        store.remove_tree("model/weights")
    x, y = examples(-1)
    return float(((predict(x, weights) > 0.5) == y).mean())


def main(workers: int = 3, steps: int = 40) -> None:
    # Each worker waits for the server, so all of them need a process.
    with concurrent.futures.ProcessPoolExecutor(workers + 1) as functions:
        working = [functions.submit(work, worker, steps) for worker in range(workers)]
        accuracy = functions.submit(serve, workers, steps).result()
        for function in working:
            function.result()
    print(f"{workers} workers, {steps} steps: {100 * accuracy:.1f} % of new examples are right")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
