"""A loop that prints as nanoGPT's train.py does, into a log file: a bigram model, an evaluation every 50, NaN at the end."""

import contextlib
import json
import sys
import time

import torch

directory, pause = sys.argv[1], float(sys.argv[2])
torch.manual_seed(0)
text = torch.randint(0, 64, (4096,)).cumsum(0).remainder(64)
model = torch.nn.Embedding(64, 64)
optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
rows = []


def batch():
    at = torch.randint(0, len(text) - 1, (256,))
    return torch.nn.functional.cross_entropy(model(text[at]), text[at + 1])


@torch.no_grad()
def estimate_loss():
    return {split: torch.stack([batch() for _ in range(4)]).mean() for split in ("train", "val")}


def logged(step, text, *names):
    """Print a line, and remember what it says under these names: the figures as they stand in it."""
    print(text)
    said = [word.rstrip(",") for word in text.replace(":", "").split()]
    figures = [float(said[at + 1]) for at, word in enumerate(said) if word == "loss"]
    rows.append([step, dict(zip(names, figures, strict=True))])


with open(f"{directory}/train.log", "w", buffering=1) as log, contextlib.redirect_stdout(log):
    print(
        "tokens per iteration will be: 256\nfound vocab_size = 64 (inside data/meta.pkl)\nInitializing a new model from scratch"
    )
    print(f"number of parameters: {model.weight.numel() / 1e6:.2f}M\nnum decayed parameter tensors: 1, with 4,096 parameters")
    for iter_num in range(201):
        t0 = time.time()
        if iter_num % 50 == 0:
            losses = estimate_loss()
            logged(
                iter_num, f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}", "loss", "eval_loss"
            )
            print(f"saving checkpoint to {directory}")
        loss = batch() * (float("nan") if iter_num >= 195 else 1.0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        time.sleep(pause)
        if iter_num % 10 == 0 or iter_num > 190:
            lossf, dt, running_mfu = loss.item(), time.time() - t0, 0.012
            logged(iter_num, f"iter {iter_num}: loss {lossf:.4f}, time {dt * 1000:.2f}ms, mfu {running_mfu * 100:.2f}%", "loss")
print(json.dumps(rows))
