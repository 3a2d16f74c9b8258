"""The tables of names: every spelling of a metric or fact that trainers are known to use. Data only."""

from __future__ import annotations

import re

Entry = tuple[int, str, int]
"""(slot, canonical or own name, rank): the lowest rank among the keys of one name wins."""

# Slots up to METRIC are values; the others are facts about the row, read one by one.
OTHER, TEXT, METRIC = 0, 1, 2
STEP, EPISODE, EPOCH, ITER, TOTAL, TOTAL_EPISODES, TOTAL_EPOCHS, TIME, STATE, NOTE, PID, RUN, RANK, SKIP = range(3, 17)

METRICS: dict[str, tuple[str, ...]] = {
    "loss": ("loss", "train_loss", "training_loss", "last_loss"),
    "eval_loss": ("validation_loss", "val_loss", "eval_loss"),
    "accuracy": ("accuracy_last_20", "accuracy_last_50", "accuracy_percent", "accuracy", "acc"),
    "eval_accuracy": ("eval_accuracy", "val_accuracy", "val_acc", "validation_accuracy", "eval_acc", "validation_acc"),
    "learning_rate": ("learning_rate", "lr"),
    "grad_norm": ("grad_norm", "gradient_norm", "global_norm", "global_grad_norm", "grad/global_norm", "gnorm"),
    "batch_size": ("batch_size",),
    "reward": (
        "reward", "mean_reward", "reward_mean", "episode_reward", "rewards/mean", "episode_reward_mean", "ep_rew_mean",
        "rollout/ep_rew_mean", "env_runners/episode_return_mean",
    ),
    "kl": ("kl", "mean_kl", "objective/kl"),
    "has_nan": ("has_nan", "grad/has_nan"),
    "has_inf": ("has_inf", "grad/has_inf"),
}  # fmt: skip
"""Canonical metric -> its spellings; the first that gives a usable value wins."""

FACTS: dict[int, tuple[str, ...]] = {
    STEP: (
        "current_step", "step", "global_step", "current_steps", "iteration", "current_iteration", "iterations",
        "completed_iterations", "_step", "num_updates", "train_num_updates", "valid_num_updates", "training_iteration",
        "timesteps_total", "num_timesteps", "time/total_timesteps",
    ),
    EPISODE: ("episode", "generation"),
    EPOCH: ("epoch", "epoch_current", "current_epoch", "last_completed_epoch", "last_epoch"),
    ITER: ("iter",),  # after the epoch: some trainers count it within one
    TOTAL: ("total_steps", "max_steps", "_max_steps", "total_iterations"),
    TOTAL_EPISODES: ("total_episodes", "total_generations"),
    TOTAL_EPOCHS: ("total_epochs", "epochs_total", "max_epochs", "num_epochs"),
    TIME: ("timestamp", "updated_at", "time", "generated_at", "_timestamp"),
    STATE: ("status", "state", "phase", "is_running", "is_training", "done", "complete"),
    NOTE: ("error_message", "message", "error", "error_type"),
    PID: ("pid", "training_pid"),
    RUN: ("run_id", "run_name", "current_job_id"),
    RANK: ("rank", "global_rank", "process_rank"),
}  # fmt: skip
"""Slot -> the keys that fill it, best first."""

STATES: dict[str, str] = {
    word: state
    for state, words in {
        "training": "training running train in_progress",
        "idle": "paused idle stopped waiting pending",
        "completed": "completed complete finished done success",
        "crashed": "crashed error failed failure killed oom",
    }.items()
    for word in words.split()
}
"""A trainer's word -> ours."""

TRAINING_METRICS = frozenset({"loss", "eval_loss", "accuracy", "eval_accuracy", "grad_norm", "learning_rate", "reward"})
"""Metrics of which one alone says that a document is about training."""

CONTAINERS = {
    "metrics": "", "latest_metrics": "", "logs": "", "log": "", "scalars": "", "latest_eval": "eval/",
    "train": "train/", "training": "train/", "eval": "eval/", "evaluation": "eval/", "val": "val/", "valid": "val/",
    "validation": "validation/", "test": "test/",
}  # fmt: skip
_EVAL = {"validation": ("validation_", "validation/"), "val": ("val_", "val/", "valid_", "valid/"), "eval": ("eval_", "eval/")}


def _spellings(canonical: str, alias: str) -> list[str]:
    """Every way to write one alias: with the folders that loggers put before it, and turned round."""
    if canonical.startswith("eval_"):
        mode, _, base = alias.partition("_")
        found = [alias, *(p + base for p in _EVAL[mode])]
        found += [f"{p}{alias}" for p in ("eval/", "val/", "validation/", "train/", "training/")]
        return found + [f"{base}{between}{p[:-1]}" for p in _EVAL[mode] for between in "/_"]
    found = [alias, f"train/{alias}", f"train_{alias}", f"training/{alias}"]
    return [*found, f"{alias}/train", f"{alias}_train"] if canonical in ("loss", "accuracy") else found


def _flat() -> dict[str, Entry]:
    flat: dict[str, Entry] = {}
    for canonical, aliases in METRICS.items():
        for place, alias in enumerate(aliases):
            for suffix, later in (("", 0), ("_step", 20), ("_epoch", 40)):
                for way, spelling in enumerate(_spellings(canonical, alias)):
                    flat.setdefault(spelling + suffix, (METRIC, canonical, place * 60 + later + min(way, 19)))
    for alias in METRICS["accuracy"]:  # whatever stands in an evaluation folder is of the evaluation
        for folder in ("eval/", "val/", "validation/"):
            flat.setdefault(folder + alias, (METRIC, "eval_accuracy", 800))
    for slot, keys in FACTS.items():
        for place, key in enumerate(keys):
            flat[key] = (slot, key, slot * 100 + place)
            if slot in (STEP, EPOCH):
                for folder in ("train/", "trainer/", "training/"):
                    flat.setdefault(folder + key, (slot, key, slot * 100 + place))
    return flat


FLAT: dict[str, Entry] = _flat()
"""Every spelling known at import -> its entry."""
SUMMARY_RANKS = range(FLAT["train_loss"][2], FLAT["train_loss"][2] + 60)
"""The ranks of `train_loss`, which beside `train_runtime` is a summary."""

PARTS = re.compile(r"[^a-z0-9]+")
"""What stands between the words of a name."""
_CLOCKS = frozenset({
    "eta", "elapsed", "remaining", "uptime", "progress", "time", "timestamp", "seconds", "throughput", "memory", "mem", "gpu",
    "cpu", "ram", "util", "queue", "vram", "heartbeat", "runtime", "duration",
})  # fmt: skip


def is_clock(name: str) -> bool:
    """Whether a metric of this name moves with time by itself (eta, memory, tokens_per_sec ...).

    A status file in which nothing but clocks moved is a sign of life, not a new observation.
    """
    if name in METRICS:
        return False
    return "per_sec" in name or not _CLOCKS.isdisjoint(PARTS.split(name))
