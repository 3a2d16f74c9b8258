#!/usr/bin/env python3
"""What the faces that training code calls add to a step on a CPU, in the processor time of one run.

A transformer of 14 million parameters in 75 tensors, 512 tokens a step, one thread. The bar is the 5 % that the
documents promise of the detectors. Needs .venv-writers (scripts/test --all makes it).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn

from smart_monitor.inprocess.advanced import AdvancedAnomalyDetector
from smart_monitor.inprocess.anomaly_detector import AnomalyDetector
from smart_monitor.inprocess.gradient_health import GradientHealthMonitor
from smart_monitor.inprocess.metrics_collector import MetricsCollector

BAR = 5.0
VOCABULARY, WIDTH, HEADS, LAYERS, BATCH, LENGTH = 4000, 384, 6, 6, 4, 128
RESTED = 2
"""Steps that do not count."""
COLLECT_EVERY = 10
"""Steps between two calls of the collector, as in its document."""


def main() -> None:
    """A table, and exit 1 above the bar."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a short run: says whether it works, its figures are rough")
    steps = 8 if made.parse_args().quick else 40
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, batch_first=True, dropout=0.0)
    encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
    model = nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), encoder, nn.Linear(WIDTH, VOCABULARY))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    with tempfile.TemporaryDirectory() as directory:
        monitor, collector = GradientHealthMonitor(model, log_frequency=10**9), MetricsCollector()
        advanced, detector = AdvancedAnomalyDetector(f"{directory}/a"), AnomalyDetector(f"{directory}/b")
        faces: dict[str, tuple[Callable[[Tensor], object], int]] = {
            "GradientHealthMonitor": (lambda _: monitor.check_gradients(), 1),
            "AdvancedAnomalyDetector": (lambda loss: advanced.analyze_training_step(model, optimizer, loss, BATCH), 1),
            "AnomalyDetector": (lambda loss: detector.check(0, loss, 1.0), 1),
            "MetricsCollector": (lambda loss: collector.collect_step_metrics(model, 0, loss), COLLECT_EVERY),
        }
        bare: list[float] = []
        spent: dict[str, list[float]] = {name: [] for name in faces}
        for _ in range(steps):
            began = time.process_time()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
            loss.backward()
            taken = time.process_time() - began
            for name, (call, _) in faces.items():
                began = time.process_time()
                call(loss)
                spent[name].append(time.process_time() - began)
            began = time.process_time()
            optimizer.step()
            bare.append(taken + time.process_time() - began)
    step = statistics.median(bare[RESTED:])
    print(f"bare step                 {1e3 * step:8.1f} ms")
    worst = 0.0
    for name, (_, every) in faces.items():
        call_ms = 1e3 * statistics.median(spent[name][RESTED:])
        share = call_ms / every / (10 * step)
        worst = max(worst, share)
        print(f"{name:<25} {call_ms:8.2f} ms a call, every {every:>2} steps: {share:5.2f} % (bar {BAR:g} %)")
    sys.exit(worst > BAR)


if __name__ == "__main__":
    main()
