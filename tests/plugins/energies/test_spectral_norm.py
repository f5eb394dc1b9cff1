"""Spectral norm: the recursion of torch's own old implementation, warm from the start."""

import pytest
import torch

from hebm.testing.subjects import seeded
from hebm_plugins.energies.spectral_norm import ConvMap, LinearMap

MAPS = {
    "linear": lambda: LinearMap(5, 7, spectral=True).double(),
    "conv": lambda: ConvMap(3, 4, 4, 2, spectral=True).double(),
}


def largest(kernel):
    return torch.linalg.matrix_norm(kernel.flatten(1), 2)


def theirs_of(ours):
    """The same map under torch's implementation, with the same weight, u and v."""
    plain = (
        torch.nn.Linear(5, 7, bias=False)
        if isinstance(ours, LinearMap)
        else torch.nn.Conv2d(3, 4, 4, 2, padding=1, bias=False)
    )
    theirs = torch.nn.utils.spectral_norm(plain.double())
    state = {"weight_orig": ours.weight, "weight_u": ours.normal.u, "weight_v": ours.normal.v}
    theirs.load_state_dict({key: value.detach().clone() for key, value in state.items()})
    return theirs


@pytest.fixture(params=MAPS)
def ours(request):
    built = seeded(MAPS[request.param])
    with torch.no_grad():  # away from convergence: a recursion at its fixed point shows nothing
        built.weight.add_(torch.linspace(-1, 1, built.weight.numel(), dtype=torch.float64).view_as(built.weight).sin())
    return built


@pytest.fixture
def x(ours):
    shape = (6, 5) if isinstance(ours, LinearMap) else (6, 3, 8, 8)
    return torch.linspace(-2, 2, 6 * 5 if len(shape) == 2 else 6 * 3 * 64, dtype=torch.float64).view(shape).cos()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_states_are_those_of_torch(ours, x, training):
    theirs = theirs_of(ours).train(training)
    ours.train(training)
    for _ in range(3):
        a, b = ours(x), theirs(x)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    grads = [torch.autograd.grad(f.square().sum(), w)[0] for f, w in ((a, ours.weight), (b, theirs.weight_orig))]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours.normal.u, theirs.weight_u, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.normal.v, theirs.weight_v, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 4, 64])
def test_a_new_map_in_evaluation_has_norm_near_one(size):
    for seed in range(5):
        built = seeded(lambda: LinearMap(2 * size, size, spectral=True), seed).eval()
        assert 0.99 <= largest(built.kernel()) < 1.2


def test_evaluation_leaves_the_state_and_training_converges(ours):
    before = {name: value.clone() for name, value in ours.normal.named_buffers()}
    ours.eval().kernel()
    assert all(torch.equal(value, before[name]) for name, value in ours.normal.named_buffers())
    ours.train()
    for _ in range(300):
        kernel = ours.kernel()
    torch.testing.assert_close(largest(kernel), torch.ones((), dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_second_forward_in_training_leaves_the_graph_of_the_first_intact(ours, x):
    first = ours.train()(x).sum()
    ours(x)
    ours.eval()(x)
    first.backward()
    assert ours.weight.grad.isfinite().all()


def test_the_iteration_is_in_full_precision_under_autocast():
    a, b = (seeded(lambda: LinearMap(8, 8, spectral=True)).train() for _ in range(2))
    a.kernel()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        b.kernel()
    assert torch.equal(a.normal.u, b.normal.u)


def test_without_normalisation_the_weight_is_used_as_it_is():
    plain = LinearMap(5, 7, spectral=False, bias=True)
    assert plain.kernel() is plain.weight
    assert set(plain.state_dict()) == {"weight", "bias"}
