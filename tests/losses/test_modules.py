"""Activations as functions and layers; gradient checkpointing that changes memory and nothing else."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from torch import nn  # noqa: E402

from smart_monitor.losses import ImprovedActivations, add_gradient_checkpointing  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("name", ["gelu", "swish", "mish", "leaky_relu"])
def test_an_activation_is_a_function_and_a_layer_with_a_live_slope(name: str) -> None:
    activation = getattr(ImprovedActivations, name)
    x = torch.linspace(-5, 5, 12, dtype=torch.float64, requires_grad=True)
    assert torch.equal(activation()(x), activation(x))
    assert torch.autograd.gradcheck(activation, (x,))
    slope = torch.autograd.grad(activation(x).sum(), x)[0]
    assert (slope != 0).all()
    for value in (-3e38, 3e38, 0.0):
        assert torch.isfinite(activation(torch.tensor(value)))


FORMULAS = {
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "swish": lambda x: x / (1 + torch.exp(-x)),
    "mish": lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float16, 1e-2), (torch.bfloat16, 5e-2), (torch.float32, 1e-5)])
def test_an_activation_is_its_formula_in_double_precision(name: str, dtype: torch.dtype, within: float) -> None:
    x = torch.linspace(-8, 8, 65).to(dtype)

    torch.testing.assert_close(
        getattr(ImprovedActivations, name)(x).double(), FORMULAS[name](x.double()), rtol=within, atol=within
    )


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.drop = nn.Linear(16, 64), nn.Linear(64, 16), nn.Dropout(0.2)

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
        return x + self.drop(self.down(torch.tanh(self.up(x)))) * scale


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.ModuleList(Block() for _ in range(4))
        self.head = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.transformer:
            x = block(x, scale=0.5)
        return self.head(x)


def outcome(model: nn.Module) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Output, gradients, and the bytes that the forward pass saved for the backward pass."""
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        found = model(torch.randn(32, 16))
    kept = sum(saved.values())
    model.zero_grad()
    found.square().mean().backward()
    return found, [p.grad for p in model.parameters()], kept


@pytest.mark.parametrize("names", [["transformer", "Block"], ["Block"], ["transformer.1", "transformer.3"]])
def test_checkpointing_changes_memory_and_nothing_else(names: list[str]) -> None:
    torch.manual_seed(1)
    plain = Model()
    checkpointed = copy.deepcopy(plain)
    paths = add_gradient_checkpointing(checkpointed, names)
    assert paths == [f"transformer.{i}" for i in ((1, 3) if "transformer.1" in names else range(4))]
    assert plain.state_dict().keys() == checkpointed.state_dict().keys()
    (out, gradients, kept), (out2, gradients2, kept2) = outcome(plain), outcome(checkpointed)
    assert torch.equal(out, out2)
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients2, strict=True))
    assert kept2 < 0.7 * kept if len(paths) == 2 else kept2 < 0.4 * kept
    assert paths == add_gradient_checkpointing(checkpointed, names)
    torch.testing.assert_close(outcome(checkpointed)[0], out, rtol=0, atol=0)


def test_a_deep_copy_of_a_checkpointed_model_is_a_model_of_its_own() -> None:
    model = Model()
    add_gradient_checkpointing(model, ["Block"])
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert 0 == other(torch.ones(2, 16)).abs().sum()
    assert 0 != model(torch.ones(2, 16)).abs().sum()


def test_a_checkpointed_model_can_be_pickled_whole() -> None:
    model = Model().eval()
    add_gradient_checkpointing(model, ["Block"])
    other = pickle.loads(pickle.dumps(model))
    assert torch.equal(other(torch.ones(2, 16)), model(torch.ones(2, 16)))
    with torch.no_grad():
        model.transformer[0].down.bias.add_(1.0)
    assert not torch.equal(other(torch.ones(2, 16)), model(torch.ones(2, 16)))


def test_a_forward_that_others_have_set_on_a_module_is_the_one_that_is_checkpointed() -> None:
    model = Model()
    block = model.transformer[0]
    inner = block.forward
    block.forward = lambda x, scale: 3 * inner(x, scale=scale)
    expected, gradients, _ = outcome(model)
    gradients = [g.clone() for g in gradients]
    add_gradient_checkpointing(model, ["Block"])
    found, again, _ = outcome(model)
    assert torch.equal(expected, found)
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


def test_in_evaluation_nothing_is_checkpointed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model().eval()
    add_gradient_checkpointing(model, ["Block"])
    monkeypatch.setattr("smart_monitor.losses.checkpointing.checkpoint", None)
    assert (32, 1) == outcome(model)[0].shape


def test_a_name_that_nothing_goes_by_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no module goes by 'transfomer'; did you mean 'transformer'"):
        add_gradient_checkpointing(Model(), ["transfomer"])


def test_without_torch_one_sentence_says_what_to_install() -> None:
    program = "import sys; sys.modules['torch'] = None; from smart_monitor.losses import ImprovedActivations"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ImportError: smart_monitor.losses needs PyTorch: pip install 'smart-monitor[torch]'" == done.stderr.splitlines()[-1]
