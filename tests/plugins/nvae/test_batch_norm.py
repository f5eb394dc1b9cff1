"""Two processes normalise as one does on all rows."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from real_runs import fork_server
from safetensors.torch import load_file, save_file
from torch import nn

from hebm_plugins.nvae.batch_norm import BatchNorm, mean_over_processes

HERE = Path(__file__).parent
TOLERANCE = 1e-12


def net(dtype=torch.float64):
    """Two BatchNorm layers with a convolution between them; the second sees what the first one's sum changed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(BatchNorm(3), nn.Conv2d(3, 4, 3), nn.SiLU(), BatchNorm(4))
        for norm in (layers[0], layers[3]):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return layers.to(dtype)


def rows(count=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return (3 * torch.randn(count, 3, 6, 5, generator=generator, dtype=torch.float64) + 2).to(dtype)


def trained(share, model):
    """Outputs, gradients and buffers after two training passes over a share of the rows."""
    x = share.clone().requires_grad_()
    model(x.detach() ** 2)
    out = model(x)
    (out.sin().sum((1, 2, 3)) * out.flatten(1)[:, 0]).mean().backward()
    gradients = {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
    return {"out": out.detach(), "x.grad": x.grad}, gradients, dict(model.named_buffers())


def one_of_two(argument):
    """For a process of two: train on its half, and leave what came out."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    local, gradients, buffers = trained(rows().chunk(2)[rank], net())
    averaged = {name: mean_over_processes(gradient) for name, gradient in gradients.items()}
    alone = net()
    for module in alone:
        module.together = False
    if rank == 0:  # neither of these may wait for the other process
        local["eval"] = net().eval()(rows())
        local["alone"] = alone(rows())
    save_file({k: v.contiguous() for k, v in {**local, **averaged, **buffers}.items()}, f"{argument}/{rank}")
    dist.barrier()


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves")
    processes = fork_server().world("test_batch_norm:one_of_two", str(folder), path=[HERE])
    assert [process.end() for process in processes] == [0, 0], "".join(process.stderr for process in processes)
    return [load_file(folder / str(rank)) for rank in range(2)]


def distance(a, b):
    return float((a.double() - b.double()).abs().max())


def test_two_processes_give_the_outputs_of_one(halves):
    whole, *_ = trained(rows(), net())
    assert distance(torch.cat([half["out"] for half in halves]), whole["out"]) < TOLERANCE


def test_two_processes_give_the_gradients_of_one(halves):
    whole, gradients, _ = trained(rows(), net())
    assert distance(torch.cat([half["x.grad"] for half in halves]) / 2, whole["x.grad"]) < TOLERANCE
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 1e-3 or name == "grad.1.bias"  # which the second layer takes away again
        for half in halves:
            assert distance(half[name], gradient) < TOLERANCE


def test_two_processes_keep_the_running_statistics_of_one(halves):
    *_, buffers = trained(rows(), net())
    assert buffers["0.num_batches_tracked"] == 2
    for name, buffer in buffers.items():
        for half in halves:
            assert distance(half[name], buffer) < TOLERANCE
            assert half[name].dtype == buffer.dtype


def test_the_comparison_notices_statistics_of_half_the_rows(halves):
    half, *_ = trained(rows()[:4], net())
    assert distance(half["out"], halves[0]["out"]) > 1e-2


def test_evaluation_and_passes_of_one_process_wait_for_nobody(halves):
    assert torch.equal(halves[0]["eval"], net().eval()(rows()))
    assert torch.equal(halves[0]["alone"], net()(rows()))


def test_in_one_process_it_is_torchs_batch_norm():
    ours, torchs = BatchNorm(3), nn.BatchNorm2d(3, eps=1e-5, momentum=0.05)
    x = rows(dtype=torch.float32)
    for _ in range(2):
        assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours.eval()(x), torchs.eval()(x))
    assert list(ours.state_dict()) == list(torchs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), torchs.buffers(), strict=True))


def test_in_one_process_a_mean_over_processes_is_the_tensor():
    x = rows()
    assert mean_over_processes(x) is x
