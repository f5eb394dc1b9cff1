"""Micro-batches of one step: means of losses and terms, sums of counts."""

import torch

from hebm.interfaces import Loss
from hebm.training.step_metrics import mean_metrics


def loss(total, kl, chains):
    terms = {"kl": torch.tensor(kl), "nonfinite_chains": torch.tensor(chains)}
    return Loss(torch.tensor(total, requires_grad=True), terms)


def test_losses_and_terms_are_averaged_and_counts_are_summed():
    metrics = mean_metrics([loss(1.0, 2.0, 3), loss(2.0, 6.0, 4)])
    assert {name: float(value) for name, value in metrics.items()} == {"loss": 1.5, "kl": 4.0, "nonfinite_chains": 7.0}


def test_metrics_hold_no_graph():
    assert not mean_metrics([loss(1.0, 2.0, 3)])["loss"].requires_grad
