"""Every formulation against its slow float64 twin, its gradient, and what it may allocate."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="no PyTorch here: pip install 'smart-monitor[torch]'")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from smart_monitor.losses import StableLossFunctions, get_stable_loss_function  # noqa: E402

pytestmark = pytest.mark.torch

VERSIONS = (0, 1, 2, 3)


def twin(version, features, normalize):
    """The formula written out over whole [B_1, ..., B_N, d] tensors in float64."""
    features = [f.double() for f in features]
    if normalize or version == 2:
        features = [f / f.norm(dim=-1, keepdim=True) for f in features]
    number = len(features)
    shape = [f.shape[0] for f in features] + [features[0].shape[1]]
    whole = torch.stack(
        [f.reshape(*[1] * n, -1, *[1] * (number - n - 1), shape[-1]).expand(shape) for n, f in enumerate(features)]
    )
    mean = whole.mean(0)
    if version == 0:
        return whole.prod(0).sum(-1)
    if version == 1:
        return mean.norm(dim=-1)
    if version == 2:
        pairs = [(whole[n] * whole[m]).sum(-1) for n in range(number) for m in range(n + 1, number)]
        return torch.stack(pairs).mean(0)
    return -(whole - mean).square().sum(-1).mean(0)


def features(number, batch=3, width=5, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch + n % 2, width, generator=generator, dtype=dtype) for n in range(number)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("number", [2, 3, 4, 6])
def test_it_gives_what_the_formula_gives(version: int, normalize: bool, number: int) -> None:
    given_ = features(number)
    found = get_stable_loss_function(version, normalize)(*given_)
    assert [f.shape[0] for f in given_] == list(found.shape)
    torch.testing.assert_close(found.double(), twin(version, given_, normalize), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("number", [2, 3])
def test_its_gradient_is_that_of_the_formula(version: int, number: int) -> None:
    given_ = [f.requires_grad_() for f in features(number, batch=2, width=3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(get_stable_loss_function(version), given_)
    assert torch.autograd.gradcheck(get_stable_loss_function(version, normalize=False), given_)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and not func.is_view:
                self.elements = max(self.elements, tensor.numel())
        return found


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_larger_than_the_logits_is_built_forward_or_backward(version: int) -> None:
    batch, width, number = 6, 40, 4
    given_ = [torch.randn(batch, width, requires_grad=True) for _ in range(number)]
    with Largest() as largest:
        get_stable_loss_function(version)(*given_).sum().backward()
    assert largest.elements == max(batch**number, batch**2 * width if version == 0 else 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-8, 1e20, 3e38])
@pytest.mark.parametrize("normalize", [True, False])
def test_zero_tiny_and_huge_vectors_give_finite_logits_and_gradients(version: int, value: float, normalize: bool) -> None:
    given_ = [torch.full((2, 4), value), torch.full((2, 4), -value), torch.eye(2, 4) * value]
    given_ = [f.requires_grad_() for f in given_]
    logits = get_stable_loss_function(version, normalize)(*given_)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(f.grad).all() for f in given_)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_zero_and_tiny_vectors_in_half_precision_have_finite_slopes(version: int, normalize: bool, dtype: torch.dtype) -> None:
    for factor in (0.0, 1e-7):
        given_ = [f.to(dtype).requires_grad_() for f in features(3)]
        with torch.no_grad():
            given_[0][0] *= factor
        get_stable_loss_function(version, normalize)(*given_).mean().backward()
        assert all(torch.isfinite(f.grad).all() for f in given_)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_one_row_of_1e20_leaves_the_logits_of_the_others_as_they_are(version: int, dtype: torch.dtype) -> None:
    given_ = features(4)
    given_[3][-1] *= 1e20
    given_ = [f.to(dtype).requires_grad_() for f in given_]
    found = get_stable_loss_function(version, normalize=False)(*given_)
    expected = twin(version, given_, normalize=False).clamp(-100, 100)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert all(torch.isfinite(f.grad).all() for f in given_)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("value", [1e200, 1e300])
def test_values_that_only_double_precision_holds_are_as_stable_in_it(version: int, value: float) -> None:
    given_ = [(f * value).requires_grad_() for f in features(3, dtype=torch.float64)]
    torch.testing.assert_close(get_stable_loss_function(version)(*given_), twin(version, features(3, dtype=torch.float64), True))
    plain = get_stable_loss_function(version, normalize=False)(*given_)
    plain.sum().backward()
    assert torch.isfinite(plain).all()
    assert all(torch.isfinite(f.grad).all() for f in given_)


@pytest.mark.parametrize("version", VERSIONS)
def test_features_of_different_precision_are_computed_in_the_best_of_them(version: int) -> None:
    a, b, c = features(3)
    found = get_stable_loss_function(version)(a.half(), b.double(), c)
    torch.testing.assert_close(found, twin(version, [a.half(), b, c], True))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_under_autocast_too(version: int, dtype: torch.dtype) -> None:
    given_ = [(f * 3000).to(dtype).requires_grad_() for f in features(3, width=64)]
    assert dtype == torch.bfloat16 or torch.isinf(given_[0].square().sum(-1)).all()  # what a naive length meets
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = get_stable_loss_function(version)(*given_)
    assert torch.float32 == found.dtype
    torch.testing.assert_close(found.double(), twin(version, given_, True), rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert all(torch.isfinite(f.grad).all() for f in given_)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_nan_is_not_hidden(version: int) -> None:
    given_ = features(3)
    given_[1][0, 0] = float("nan")
    found = get_stable_loss_function(version)(*given_)
    assert torch.isnan(found[:, 0]).all()
    assert torch.isfinite(found[:, 1:]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), st.integers(2, 4), st.integers(0, 99), st.floats(-18, 18), st.booleans())
def test_logits_stay_within_their_bounds_whatever_the_scale(
    version: int, number: int, seed: int, power: float, normalize: bool
) -> None:
    found = get_stable_loss_function(version, normalize)(*[f * 10**power for f in features(number, seed=seed)])
    assert torch.isfinite(found).all()
    assert -100 <= found.min() <= found.max() <= 100
    if normalize:
        low, high = ((-1, 1), (0, 1), (-1, 1), (-1, 0))[version]
        assert low - 1e-5 <= found.min() <= found.max() <= high + 1e-5


def test_agreement_scores_highest() -> None:
    one = torch.randn(4, 8)
    for version in VERSIONS[1:]:
        found = get_stable_loss_function(version)(one, one, one)
        assert (found.diagonal(dim1=0, dim2=1).diagonal() >= found.amax() - 1e-5).all()


def test_the_operations_serve_a_loss_of_ones_own() -> None:
    stable = StableLossFunctions(eps=1e-8, clamp_min=-2, clamp_max=0.5)
    normal = [stable.stable_norm(f) for f in features(3)]
    assert all(torch.allclose(f.norm(dim=-1), torch.ones(len(f))) for f in normal)
    assert 0.5 == stable.stable_norm_based_similarity(*[normal[0]] * 3).max()
    torch.testing.assert_close(torch.tensor(1e4 + 0.6931472), stable.stable_logsumexp(torch.full((2,), 1e4).half().float(), 0))
    assert [0.5, -2.0] == stable.stable_clamp(torch.tensor([9.0, -9.0])).tolist()


def test_each_operation_is_its_formula_in_double_precision_and_so_is_its_slope() -> None:
    stable = StableLossFunctions()
    (x,) = [f.requires_grad_() for f in features(1, batch=3, width=4, dtype=torch.float64)]
    twins = {
        stable.stable_norm: lambda v: v / v.norm(dim=-1, keepdim=True),
        stable.stable_logsumexp: lambda v: v.exp().sum(-1).log(),
        stable.stable_clamp: lambda v: v.clamp(-100, 100),
    }
    for operation, formula in twins.items():
        torch.testing.assert_close(operation(x), formula(x))
        torch.testing.assert_close(operation(x.float()).double(), formula(x), rtol=1e-6, atol=1e-6)
        assert torch.autograd.gradcheck(operation, (x,))
        huge = operation((x.detach().float() * 1e20).requires_grad_())
        assert torch.isfinite(huge).all()


def test_where_the_naive_form_gives_nan_the_stable_one_does_not() -> None:
    """Zero vectors, 1e20, float16: the length of a naive normalisation is 0 or infinite there."""
    for bad in (torch.zeros(2, 4), torch.full((2, 4), 1e20), torch.full((2, 4), 300.0, dtype=torch.float16)):
        naive = bad / bad.square().sum(-1, keepdim=True).sqrt()
        found = StableLossFunctions().stable_norm(bad)
        assert torch.isnan(naive).any() or (naive == 0).any()
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found.norm(dim=-1), torch.full((2,), float(bad.any())))


def test_what_cannot_be_meant_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="loss_version is 0"):
        get_stable_loss_function(4)
    with pytest.raises(ValueError, match="eps must be above 0"):
        get_stable_loss_function(eps=0)
    with pytest.raises(ValueError, match="clamp_min must be below"):
        StableLossFunctions(clamp_min=1, clamp_max=1)
    with pytest.raises(ValueError, match="at least 2"):
        get_stable_loss_function()(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"of one d, not \(2, 3\), \(2, 4\)"):
        get_stable_loss_function()(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(TypeError, match=r"not torch\.int64"):
        get_stable_loss_function()(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3))
