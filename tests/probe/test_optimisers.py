"""Loss scaling, accumulation, fused optimisers, optimisers inside of backward: the same numbers, or one sentence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from torch import nn  # noqa: E402

from smart_monitor.probe import Probe  # noqa: E402
from tests.probe.training import ALL, flat, fresh, records, train  # noqa: E402

pytestmark = pytest.mark.torch


def test_the_loss_scale_is_taken_out_and_a_step_that_the_scaler_skips_is_no_alarm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, seen = fresh(), []
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-20, growth_interval=1000)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    probe = Probe(model, optimizer, tmp_path, scaler=scaler, schedule=ALL)
    for step in range(6):
        x = torch.randn(16, 8)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        seen.append(float(flat(torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)).norm()))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if step % 2:
            scaler.unscale_(optimizer)
        probe.step(loss)
        scaler.step(optimizer)
        scaler.update()
    probe.close()
    found = records(tmp_path)
    skipped = [r for r in found if "amp_skipped" in r]
    assert skipped
    assert all("grad_norm" not in r and "has_inf" not in r for r in skipped)
    assert all(math.isfinite(v) for r in found for v in r.values() if isinstance(v, float))
    for record, norm in zip(found, seen, strict=True):
        if "grad_norm" in record:
            assert record["grad_norm"] == pytest.approx(norm, rel=1e-4)
    assert not (tmp_path / "anomalies").exists()


def test_a_scaler_that_skips_every_step_is_told(tmp_path: Path) -> None:
    model = fresh()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, backoff_factor=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    probe = Probe(model, optimizer, tmp_path, scaler=scaler)
    for _ in range(7):
        optimizer.zero_grad()
        scaler.scale(model(torch.full((2, 8), math.inf)).sum()).backward()
        probe.step()
        scaler.step(optimizer)
        scaler.update()
    probe.close()
    assert [r.get("has_nan") for r in records(tmp_path)] == [None] * 4 + [1] * 3


def test_accumulated_micro_batches_are_one_step_with_the_mean_loss(tmp_path: Path) -> None:
    model = fresh()
    probe = Probe(model, None, tmp_path)
    losses = []
    for _ in range(4):
        loss = model(torch.randn(4, 8)).square().mean()
        (loss / 4).backward()
        probe.add_loss(loss)
        losses.append(float(loss.detach()))
    probe.step()
    probe.close()
    (found,) = records(tmp_path)
    assert found["loss"] == pytest.approx(sum(losses) / 4)
    assert found["grad_norm"] == pytest.approx(float(flat(p.grad for p in model.parameters()).norm()), rel=1e-5)


@pytest.mark.parametrize("width", [32, 1100])  # tensors that are summed in one go, and by rows
def test_an_optimiser_inside_of_backward_is_measured_by_hooks(tmp_path: Path, width: int) -> None:
    model, twin = fresh(width=width), fresh(width=width)
    model[2].p = twin[2].p = 0.0
    probe = Probe(model, None, tmp_path, in_backward=True, schedule=ALL)
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def update(p: torch.Tensor) -> None:
        optimizers[p].step()
        p.grad = None

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(update)
    plain = torch.optim.SGD(twin.parameters(), lr=0.1)
    norms = []
    for _ in range(5):
        x = torch.randn(4, 8)
        loss = model(x).square().mean()
        loss.backward()
        probe.step(loss)
        plain.zero_grad()
        twin(x).square().mean().backward()
        norms.append(float(flat(p.grad for p in twin.parameters()).norm()))
        plain.step()
    probe.close()
    found = records(tmp_path)
    assert [r["grad_norm"] for r in found] == pytest.approx(norms, rel=1e-5)
    assert "grad_cosine" not in found[-1]
    assert probe.trouble == ""


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, when this optimiser is first imported
def test_torch_s_own_optimiser_in_backward_is_measured_once_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from torch.distributed.optim import _apply_optimizer_in_backward

    def trained(directory: Path, *, in_backward: bool) -> list[dict[str, Any]]:
        model = fresh()
        with Probe(model, None, directory, in_backward=in_backward) as probe:
            _apply_optimizer_in_backward(torch.optim.AdamW, list(model.parameters()), {"lr": 1e-2, "fused": True})
            for _ in range(3):
                loss = model(torch.randn(4, 8)).square().mean()
                loss.backward()
                assert all(p.grad is None for p in model.parameters())
                probe.step(loss)
        assert probe.trouble == ""
        return records(directory)

    assert [r["absent_layers"] for r in trained(tmp_path / "unsaid", in_backward=False)] == [6] * 3
    assert ["in_backward=True" in r.message for r in caplog.records] == [True]
    found = trained(tmp_path / "said", in_backward=True)
    assert all(r["grad_norm"] > 0 and r["absent_layers"] == 0 for r in found)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD])
def test_a_fused_optimiser_is_measured_and_ends_with_the_same_weights(tmp_path: Path, kind: type[torch.optim.Optimizer]) -> None:
    norms: list[float] = []

    def see(model: nn.Module) -> None:
        norms.append(float(flat(p.grad for p in model.parameters()).norm()))

    bare, model = fresh(), fresh()
    train(bare, None, optimizer=kind(bare.parameters(), lr=1e-2, fused=True))
    optimizer = kind(model.parameters(), lr=1e-2, fused=True)
    with Probe(model, optimizer, tmp_path, schedule=ALL) as probe:
        train(model, probe, see=see, optimizer=optimizer)
    found = records(tmp_path)
    assert [r["grad_norm"] for r in found] == pytest.approx(norms, rel=1e-5)
    assert all(r["update_ratio"] > 0 and r["still_layers"] == 0 for r in found[1:])
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), model.parameters(), strict=True))
