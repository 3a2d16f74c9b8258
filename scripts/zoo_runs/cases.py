"""What lives in the zoo: every fault on several models, and at least as many sound runs with something odd about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

WARM = 300
"""The step that most faults are planted at: the run is past its steep start, and its noise can be known."""


FARTHEST = 65
"""Steps that a fault moves at most."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong: kind, the step it starts at, how many steps it lasts (0 = to the end), and how hard it is."""

    kind: str
    at: int = WARM
    steps: int = 0
    size: float = 1.0


@dataclass(frozen=True)
class Case:
    """One run: a task, how it is trained, at most one fault, at most one harmless oddity."""

    id: str
    task: str
    seed: int = 0
    steps: int = 600
    optimiser: str = "adam"
    rate: float = 3e-3
    batch: int = 64
    clip: float = 0.0
    schedule: str = "constant"
    fault: Fault | None = None
    oddity: str = ""
    every: int = 1
    eval_every: int = 0
    noise: float = 1.0
    width: int = 0
    pretrain: int = 0
    data: int = 0
    """Size of a fixed training set; 0 draws fresh data for ever."""
    kept: bool = False
    """Part of the recorded zoo that the tests replay."""


SGD = {"optimiser": "sgd", "rate": 0.03}
HALF = {"optimiser": "sgd", "rate": 0.03}

FAULTY: tuple[tuple[str, str, dict[str, Any], Fault], ...] = (
    # kind of case, task, training, fault
    ("lr_burst", "text", {}, Fault("lr_burst", steps=10, size=30)),
    ("lr_burst", "classification", SGD, Fault("lr_burst", steps=8, size=40)),
    ("lr_burst", "policy", {}, Fault("lr_burst", steps=10, size=100)),
    ("blow_up", "regression", HALF, Fault("blow_up", size=100)),
    ("blow_up", "text", {}, Fault("blow_up", size=300)),
    ("blow_up", "classification", SGD, Fault("blow_up", size=300)),
    ("slow_divergence", "regression", {"steps": 700}, Fault("lr_ramp", steps=300, size=1.025)),
    ("slow_divergence", "text", {"steps": 700}, Fault("data_rot", steps=250, size=0.6)),
    ("slow_divergence", "preference", {"steps": 700}, Fault("ascent", steps=200, size=0.3)),
    ("bad_batch", "text", {}, Fault("bad_batches", steps=1, size=1.0)),
    ("bad_batch", "classification", {}, Fault("bad_batches", steps=1, size=1.0)),
    ("bad_batch", "preference", {}, Fault("bad_batches", steps=1, size=1.0)),
    ("bad_batches", "text", {}, Fault("bad_batches", steps=8, size=0.7)),
    ("bad_batches", "regression", {}, Fault("bad_batches", steps=8, size=1.0)),
    ("bad_batches", "classification", SGD, Fault("bad_batches", steps=8, size=1.0)),
    ("label_shift", "classification", {}, Fault("label_shift")),
    ("label_shift", "text", {}, Fault("label_shift")),
    ("label_shift", "policy", {}, Fault("label_shift")),
    ("optimiser_reset", "text", {"rate": 1e-2}, Fault("optimiser_reset", steps=1)),
    ("optimiser_reset", "regression", {"rate": 1e-2}, Fault("optimiser_reset", steps=1)),
    ("optimiser_reset", "classification", {"rate": 1e-2}, Fault("optimiser_reset", steps=1)),
    ("weight_noise", "text", {}, Fault("weight_noise", steps=1, size=0.3)),
    ("weight_noise", "regression", {}, Fault("weight_noise", steps=1, size=0.3)),
    ("weight_noise", "policy", {}, Fault("weight_noise", steps=1, size=3.0)),
    ("exploding_gradients", "text", {"clip": 1.0}, Fault("scaled_gradients", steps=6, size=200)),
    ("exploding_gradients", "classification", {"clip": 1.0}, Fault("scaled_gradients", steps=6, size=200)),
    ("exploding_gradients", "preference", {"clip": 1.0}, Fault("scaled_gradients", steps=1, size=500)),
    ("vanishing_gradients", "text", {}, Fault("scaled_gradients", size=1e-8)),
    ("vanishing_gradients", "classification", SGD, Fault("scaled_gradients", size=1e-8)),
    ("vanishing_gradients", "regression", {}, Fault("scaled_gradients", steps=60, size=1e-8)),
    ("nan", "text", {}, Fault("nan", steps=0)),
    ("nan", "classification", {}, Fault("nan", steps=1)),
    ("nan", "regression", HALF, Fault("nan", steps=0)),
    ("masked_nan", "text", {}, Fault("masked_nan", steps=0)),
    ("masked_nan", "preference", {}, Fault("masked_nan", steps=0)),
    ("masked_nan", "classification", SGD, Fault("masked_nan", steps=0)),
    (
        "overfitting",
        "classification",
        {"steps": 900, "eval_every": 20, "data": 200, "noise": 1.4, "width": 128},
        Fault("overfitting", at=0),
    ),
    ("overfitting", "text", {"steps": 900, "eval_every": 20, "data": 500, "width": 128}, Fault("overfitting", at=0)),
    ("overfitting", "preference", {"steps": 900, "eval_every": 20, "data": 150, "width": 128}, Fault("overfitting", at=0)),
    ("plateau", "text", {"steps": 650, "batch": 1024, "rate": 5e-4}, Fault("frozen_rate")),
    ("plateau", "regression", {"steps": 900, "batch": 512, "rate": 5e-4}, Fault("frozen_rate")),
    ("plateau", "classification", {"steps": 900, "batch": 512, "rate": 3e-4}, Fault("frozen_rate")),
    ("batch_size", "text", {"rate": 2e-2, "batch": 128}, Fault("batch_size", size=8)),
    ("batch_size", "regression", {"rate": 2e-2, "batch": 128}, Fault("batch_size", size=4)),
    ("batch_size", "classification", {"rate": 3e-2, "batch": 128}, Fault("batch_size", size=8)),
    ("restart_scratch", "text", {}, Fault("restart", size=0)),
    ("restart_scratch", "classification", SGD, Fault("restart", size=0)),
    ("restart_scratch", "policy", {}, Fault("restart", size=0)),
    ("restart_checkpoint", "text", {}, Fault("restart", size=120)),
    ("restart_checkpoint", "regression", {}, Fault("restart", size=150)),
    ("restart_checkpoint", "preference", {}, Fault("restart", size=100)),
)

SOUND: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("plain", "text", {"eval_every": 25}),
    ("plain", "classification", {"eval_every": 25, **SGD}),
    ("plain", "regression", {}),
    ("signed", "policy", {}),
    ("signed", "policy", {"rate": 1e-2, "batch": 16}),
    ("plain", "preference", {"eval_every": 25}),
    ("warm_restarts", "classification", {"schedule": "warm_restarts", **SGD}),
    ("warm_restarts", "text", {"schedule": "warm_restarts"}),
    ("warm_restarts", "regression", {"schedule": "warm_restarts", "rate": 1e-2}),
    ("step_decay", "classification", {"schedule": "step_decay", "optimiser": "sgd", "rate": 0.06}),
    ("step_decay", "text", {"schedule": "step_decay", "rate": 1e-2}),
    ("warmup_hump", "regression", {"schedule": "warmup", "pretrain": 800, "rate": 8e-3}),
    ("warmup_hump", "text", {"schedule": "warmup", "pretrain": 800, "rate": 8e-3}),
    ("epoch_saw", "regression", {"oddity": "epoch_saw", "batch": 256}),
    ("epoch_saw", "classification", {"oddity": "epoch_saw", **SGD}),
    ("hard_batches", "text", {"oddity": "hard_batches", "batch": 128, "steps": 900}),
    ("hard_batches", "classification", {"oddity": "hard_batches", "batch": 256, "steps": 900, "noise": 1.8}),
    ("decades", "regression", {"noise": 0.0, "optimiser": "sgd", "rate": 0.01, "steps": 800, "batch": 256}),
    ("decades", "regression", {"noise": 0.0, "optimiser": "sgd", "rate": 0.02, "steps": 600, "batch": 16}),
    ("noise_1_percent", "text", {"batch": 2048, "steps": 400}),
    ("noise_1_percent", "regression", {"batch": 4096, "steps": 500}),
    ("noise_28_percent", "regression", {"batch": 8, "rate": 1e-3, "steps": 1200}),
    ("noise_28_percent", "classification", {"batch": 16, "rate": 1e-3, "steps": 1200, "noise": 1.8}),
    ("coarse_accuracy", "classification", {"batch": 8, "rate": 1e-3, "steps": 800}),
    ("repeated_rows", "text", {"oddity": "repeated_rows"}),
    ("repeated_rows", "preference", {"oddity": "repeated_rows"}),
    ("eval_zero", "classification", {"oddity": "eval_zero", "eval_every": 25}),
    ("eval_zero", "text", {"oddity": "eval_zero", "eval_every": 25}),
    ("every_10", "text", {"every": 10, "steps": 1500, "schedule": "cosine"}),
    ("every_10", "regression", {"every": 10, "steps": 1500, "schedule": "cosine"}),
    ("summary", "text", {"oddity": "summary", "every": 5, "steps": 1500, "eval_every": 100}),
    ("summary", "classification", {"oddity": "summary", "steps": 500, "eval_every": 50, **SGD}),
)


def plan(seeds: int, first: int = 0) -> list[Case]:
    """Every case under so many seeds, in a fixed order.

    Faults move with the seed, so that none is met by luck of its step, and never so far that the run ends before they do.
    """
    cases: list[Case] = []
    for seed in range(first, first + seeds):
        seen: set[str] = set()
        for kind, task, training, fault in FAULTY:
            moved = replace(fault, at=fault.at and fault.at + 17 * seed % FARTHEST)
            name = f"{kind}-{task}-{seed}"
            cases.append(Case(name, task, seed, fault=moved, kept=_kept(kind, task, seed, seen), **training))
        # Twice each, so that there are more sound runs than faulty ones.
        for twin in (2 * seed, 2 * seed + 1):
            for number, (kind, task, training) in enumerate(SOUND):
                name = f"clean-{kind}-{task}-{number:02d}-{twin}"
                cases.append(Case(name, task, twin + 50, kept=_kept("clean-" + kind, task, twin, seen), **training))
    return cases


ALSO_KEPT = (
    ("clean-plain", "classification"), ("clean-plain", "preference"), ("clean-noise_28_percent", "classification"),
    ("label_shift", "policy"),
)  # fmt: skip
"""Beside the first of every kind: where metrics other than the loss are the story."""


def _kept(kind: str, task: str, seed: int, seen: set[str]) -> bool:
    first = seed == 0 and (kind not in seen or (kind, task) in ALSO_KEPT)
    seen.add(kind)
    return first
