"""The multi-stage prior: what each stage learns and leaves alone, its negatives, chains, transitions and labels."""

import copy
import math

import pytest
import torch
from multi_stage_recipes import changed
from torch.nn import functional as F

from hebm.contrasts import bce
from hebm.errors import ConfigError, NonFiniteError
from hebm.interfaces import Draw, ImageSpec, Progress, Request, RowCache, Tilt, tilt_after, tilt_of
from hebm.latents import LatentLayout, Posterior
from hebm.model import Model
from hebm.noise import Noise
from hebm.sampling import Trace
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import image_batch, perturbed, points, seeded
from hebm.training.joint import JointMCMC, posterior_chain
from hebm.training.kept_latents import Kept
from hebm.training.optimization import averaged
from hebm_plugins.energies.mlp import MLP, MLPConcat
from hebm_plugins.priors.multi_stage.negatives import Bank, Pool
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.samplers.ula import ULA

NET = MLP(width=8, zero_init=False)
SMALL = changed(MultiStage(energy=NET, sampler=ULA(steps=3, step_size=0.2)), negatives="pool", pool=96)
ROWS, STEP = 6, Progress(0, 10)
TWO_LOG_2 = 2 * math.log(2)


def noise(*path, **options):
    return Noise(0, *path, dtype=torch.float64, **options)


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone).double().requires_grad_(False)


def made(backbone, trained=0, **fields):
    """A prior away from its start, whose first stages have started."""
    prior = perturbed(seeded(lambda: changed(SMALL, **fields).build(backbone)), 0.2).double()
    for m in range(1, trained + 1):
        begin(prior, m, backbone)
    return prior


def begin(prior, m, backbone):
    stage = prior.stages()[m - 1]
    stage.start(backbone, noise("begin", stage.key))
    return stage


def posterior_of(backbone, rows=ROWS, name="posterior"):
    with torch.no_grad():
        return Posterior(backbone.latents(points(rows, backbone.layout.dim, torch.float64, name)).detach())


def loss_of(prior, m, backbone, labels=None, step=STEP, path="o", posterior=None):
    posterior = posterior_of(backbone) if posterior is None else posterior
    return prior.stages()[m - 1].objective(backbone, posterior, noise(path), step, labels)


def names(prior, backbone):
    return [transition.name for transition in prior.transitions(backbone)]


def ratio(prior, s, latents):
    """log r_s of each energy, by its net alone; the first is 1."""
    return prior.ratios[s - 1](latents).squeeze(2)


def chain(prior, backbone, stages, u, source):
    """u + (h/2) ∇ + √h ξ on the product of `stages`, written out."""
    for _ in range(prior.sampler.steps):
        leaf = u.detach().requires_grad_()
        f = sum(ratio(prior, s, backbone.latents(leaf)).sum() for s in stages) - 0.5 * leaf.square().sum()
        (grad,) = torch.autograd.grad(f, leaf)
        h = prior.sampler.step_size
        u = u + 0.5 * h * grad + math.sqrt(h) * source.normal(*u.shape)
    return u


# ---------------------------------------------------------------- a stage's loss


@pytest.mark.parametrize(("loss", "logits"), [("joint", 1), ("per-layer", 2)])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_at_the_start_the_ratio_is_1_and_the_loss_2_log_2_a_logit(backbone, loss, logits, m):
    prior = seeded(lambda: changed(SMALL, energy=MLP(width=8), loss=loss).build(backbone)).double()
    begin(prior, m, backbone)
    assert not prior.tilt(posterior_of(backbone).latents).any()
    assert float(loss_of(prior, m, backbone).total.detach()) == pytest.approx(logits * TWO_LOG_2, abs=1e-12)


@pytest.mark.parametrize("loss", ["joint", "per-layer"])
def test_the_loss_is_the_contrast_of_posterior_and_negatives(backbone, loss):
    prior = made(backbone, 2, loss=loss)
    found = loss_of(prior, 2, backbone)
    positive, negative = (ratio(prior, 2, z) for z in (posterior_of(backbone).latents, found.negative))
    if loss == "joint":
        positive, negative = positive.sum(1), negative.sum(1)
    expected = (F.softplus(-positive) + F.softplus(negative)).mean(0).sum()
    torch.testing.assert_close(found.total, expected)
    each = bce(*(ratio(prior, 2, z) for z in (posterior_of(backbone).latents, found.negative)))
    torch.testing.assert_close(torch.stack([found.terms[f"bce_layer_{i}"] for i in range(2)]), each.detach())


@pytest.mark.parametrize("negatives", ["pool", "chain", "posterior"])
def test_only_the_net_of_a_stage_gets_a_gradient(backbone, negatives):
    prior = made(backbone, 2, negatives=negatives)
    loss_of(prior, 2, backbone).total.backward()
    reached = [any(p.grad is not None and p.grad.any() for p in net.parameters()) for net in prior.ratios]
    assert reached == [False, True, False]
    assert all(p.grad is None for p in backbone.parameters())


def test_ratios_before_a_stage_are_in_eval_mode_when_it_begins(backbone):
    prior = made(backbone).train()
    begin(prior, 3, backbone)
    assert [net.training for net in prior.ratios] == [False, False, True]


def test_the_negatives_are_drawn_from_the_stages_before(backbone):
    """Changing r_1 changes those of stage 2; changing r_2 or r_3 does not."""
    drawn = []
    for other in (None, 0, 1, 2):
        prior = made(backbone, 2)
        if other is not None:
            perturbed(prior.ratios[other], 1.0)
        drawn.append(loss_of(prior, 2, backbone).negative.u)
    assert [torch.equal(u, drawn[0]) for u in drawn] == [True, False, True, True]


@pytest.mark.parametrize("negatives", ["pool", "chain", "posterior"])
def test_the_first_stages_negatives_are_draws_of_the_root(backbone, negatives):
    negative = loss_of(made(backbone, 1, negatives=negatives), 1, backbone).negative
    assert torch.equal(negative.u, noise("o", "base").normal(ROWS, backbone.layout.dim))
    torch.testing.assert_close(negative.flat_z, backbone.latents(negative.u).flat_z)


def test_chain_negatives_are_draws_after_the_stage_before(backbone):
    prior = made(backbone, 3, negatives="chain")
    negative = loss_of(prior, 3, backbone).negative
    expected = prior.sample(backbone, ROWS, noise("o", "negative"), Request(after="stage 2"))
    torch.testing.assert_close(negative.u, expected.u)
    other = loss_of(prior, 3, backbone, path="other").negative
    assert not torch.equal(other.u, negative.u)


# ---------------------------------------------------------------- stages whose training has started


def test_stages_that_were_not_trained_do_not_count(backbone):
    prior, latents = made(backbone), posterior_of(backbone).latents
    start = prior.root.sample(backbone, ROWS, noise("s", "base")).u
    assert ratio(prior, 1, latents).all()  # an energy that does not start at 0
    assert not prior.tilt(latents).any()
    assert torch.equal(prior.sample(backbone, ROWS, noise("s")).u, start)
    assert prior.transitions(backbone) == ()
    for m in (1, 2, 3):
        begin(prior, m, backbone)
        expected = sum(ratio(prior, s, latents) for s in range(1, m + 1))
        torch.testing.assert_close(prior.tilt(latents), expected)
        assert not torch.equal(prior.sample(backbone, ROWS, noise("s")).u, start)


def test_before_any_stage_the_density_is_the_roots(backbone):
    u = points(ROWS, backbone.layout.dim, torch.float64)
    value, grad = made(backbone).density(backbone).value_and_grad(u)
    torch.testing.assert_close(value, -0.5 * u.square().sum(1))
    torch.testing.assert_close(grad, -u)


def other_object(prior, backbone):
    twin = made(backbone)
    twin.load_state_dict(prior.state_dict())
    return twin


def of_averages(prior, backbone):
    return averaged(prior, 0.9).module


def of_loaded_averages(prior, backbone):
    average = averaged(made(backbone), 0.9)
    average.load_state_dict(averaged(prior, 0.9).state_dict())
    return average.module


def of_a_model(prior, backbone):
    model = Model(copy.deepcopy(backbone), made(backbone))
    model.load_state_dict(Model(backbone, prior).state_dict())
    return model.prior


@pytest.mark.parametrize(
    "carried", [other_object, lambda prior, _: copy.deepcopy(prior), of_averages, of_loaded_averages, of_a_model]
)
def test_the_number_of_trained_stages_goes_with_the_weights(backbone, carried):
    prior = made(backbone, 2)
    twin = carried(prior, backbone)
    assert names(twin, backbone) == ["stage 1", "stage 2"]
    assert torch.equal(twin.sample(backbone, ROWS, noise("s")).u, prior.sample(backbone, ROWS, noise("s")).u)


# ---------------------------------------------------------------- the pool


def resumed(prior, m, backbone):
    """A new object with the weights of another, its stage started as the other's was."""
    twin = other_object(prior, backbone)
    begin(twin, m, backbone)
    return twin


def pool_of(prior):
    """All u that a pool holds, `(96, D)`."""
    return prior.pool.take(noise("choice"), Progress(0, 10), torch.zeros(96, dtype=torch.float64)).u


def test_the_pool_holds_draws_after_the_stage_before(backbone):
    prior = made(backbone, 2, negatives="pool")
    source = noise("begin", prior.stages()[1].key, "pool", 0, "negative")
    drawn = prior.sample(backbone, 96, source, Request(after="stage 1")).u
    torch.testing.assert_close(pool_of(prior), drawn)


def test_each_step_takes_the_next_draws_whatever_its_parts(backbone):
    prior = made(backbone, 2, negatives="pool")
    whole, start = pool_of(prior), Progress(3, 10, 30)
    taken = loss_of(prior, 2, backbone, step=start, posterior=posterior_of(backbone, 30)).negative.u
    assert torch.equal(taken, torch.cat([whole[90:], whole[:24]]))
    part = prior.pool.take(noise("o", start=10), start, torch.zeros(5, dtype=torch.float64))
    assert torch.equal(part.u, taken[10:15])


def test_draws_of_the_root_are_kept_only_if_something_is_decoded_of_them(backbone):
    assert made(backbone, 1, negatives="pool").pool is None
    prior = made(backbone, negatives="pool")
    for ratio_net in prior.ratios:
        ratio_net.sees = ("latents", "image")
    begin(prior, 1, backbone)
    source = noise("begin", prior.stages()[0].key, "pool", 0, "base")
    torch.testing.assert_close(pool_of(prior), prior.root.sample(backbone, 96, source).u)


def test_a_resumed_stage_has_the_same_pool(backbone):
    prior = made(backbone, 2)
    first = loss_of(prior, 2, backbone, step=Progress(0, 10))
    perturbed(prior.ratios[1], 1.0)  # stage 2 has learned
    twin = resumed(prior, 2, backbone)
    a, b = (loss_of(one, 2, backbone, step=Progress(7, 10), path="later") for one in (prior, twin))
    assert torch.equal(a.total, b.total)
    assert torch.equal(pool_of(prior), pool_of(twin))
    assert not torch.equal(first.negative.u, a.negative.u)


def test_runs_share_a_pool_only_if_its_draws_are_the_same(backbone, tmp_path):
    def kept(prior, sampler=None):
        stage, cache = prior.stages()[1], RowCache(tmp_path)
        prior.sampler = sampler or prior.sampler
        stage.start(backbone, noise("begin", stage.key), cache)
        loss_of(prior, 2, backbone)
        return len(list(tmp_path.iterdir()))

    prior = made(backbone, 1)
    assert [kept(prior), kept(resumed(prior, 1, backbone))] == [1, 1]
    assert kept(resumed(prior, 1, backbone), ULA(steps=4)) == 2
    perturbed(prior.ratios[1], 1.0)
    assert kept(prior) == 2  # stage 2 does not count
    perturbed(prior.ratios[0], 1.0)
    assert kept(prior) == 3


def test_the_pool_is_drawn_again_as_often_as_asked(backbone):
    prior, taken = made(backbone, 2, negatives="pool", refresh=3), []
    for step in range(7):
        loss_of(prior, 2, backbone, step=Progress(step, 10))
        taken.append(prior.pool.take(noise("o"), Progress(step, 10, 96), torch.zeros(4, dtype=torch.float64)).u)
    same = [torch.equal(a, b) for a, b in zip(taken[1:], taken[:-1], strict=True)]
    assert same == [True, True, False, True, True, False]
    assert len({tuple(u[0].tolist()) for u in taken}) == 3
    twin = made(backbone, refresh=3)
    twin.load_state_dict(prior.state_dict())
    begin(twin, 2, backbone)
    again = twin.pool.take(noise("o"), Progress(4, 10, 96), torch.zeros(4, dtype=torch.float64)).u
    assert torch.equal(again, taken[4])


def test_a_large_pool_is_drawn_in_parts_that_are_rows_of_one_whole(backbone):
    seen = []

    def draw(n, source):
        seen.append((n, source.start))
        return Draw(source.normal(n, backbone.layout.dim))

    pool = Pool(backbone, draw, Kept(frozenset({"latents"})), 1100, 0, noise("pool"), RowCache())
    like = torch.zeros(1100, dtype=torch.float64)
    assert torch.equal(pool.take(noise("o"), STEP, like).u, noise("pool", 0).normal(1100, backbone.layout.dim))
    assert seen == [(512, 0), (512, 512), (76, 1024)]
    pool.take(noise("o"), Progress(5, 10), like[:64])
    assert len(seen) == 3


def test_a_copy_of_the_prior_has_the_same_draws_and_does_not_copy_them(backbone):
    prior = made(backbone, 2)
    assert copy.deepcopy(prior).pool is prior.pool


def test_draws_that_diverged_are_not_kept(backbone):
    prior = made(backbone, 1, sampler=ULA(steps=20, step_size=1e30))
    begin(prior, 2, backbone)
    with pytest.raises(NonFiniteError, match=r"cannot store draws whose u has .* lower prior\.sampler\.step_size"):
        loss_of(prior, 2, backbone)


# ---------------------------------------------------------------- posterior draws as negatives


def test_a_stage_takes_what_was_recorded_while_the_one_before_learned(backbone):
    prior = made(backbone, 1, negatives="posterior")
    drawn = [posterior_of(backbone, name=name) for name in ("a", "b")]
    for posterior in drawn:
        loss_of(prior, 1, backbone, posterior=posterior)
    begin(prior, 2, backbone)
    recorded = torch.cat([posterior.latents.flat_z for posterior in drawn])
    taken = prior.bank.take(noise("t"), 200)
    assert all((recorded - row).abs().sum(1).min() == 0 for row in taken)
    assert len(taken.unique(dim=0)) == 2 * ROWS
    loss = loss_of(prior, 2, backbone, posterior=posterior_of(backbone, name="c"))
    assert loss.negative is None
    negative = prior.bank.take(noise("o", "bank"), ROWS)
    on_negative = ratio(prior, 2, backbone.invert(backbone.layout.split(negative)))
    on_positive = ratio(prior, 2, posterior_of(backbone, name="c").latents)
    torch.testing.assert_close(loss.total, bce(on_positive.sum(1), on_negative.sum(1)))


def test_what_was_recorded_survives_a_state_dict_and_a_resume(backbone):
    prior = made(backbone, 1, negatives="posterior")
    loss_of(prior, 1, backbone)
    for stop in (1, 2):  # within the stage that records, within the one that takes
        twin = made(backbone, negatives="posterior")
        twin.load_state_dict(prior.state_dict())
        begin(twin, stop, backbone)
        for one in (prior, twin):
            if stop == 1:
                begin(one, 2, backbone)
        a, b = (loss_of(one, 2, backbone, path="later") for one in (prior, twin))
        assert a.negative is None
        assert torch.equal(a.total, b.total)
        assert torch.equal(prior.bank.counts, twin.bank.counts)


def test_the_bank_keeps_the_newest_draws():
    bank = Bank(4, 1).double()
    assert bank.take(noise("t"), 3) is None
    for first in (0, 3):
        bank.record(torch.arange(first, first + 3).double().unsqueeze(1))
    assert bank.take(noise("t"), 3) is None
    bank.turn()
    assert set(bank.take(noise("t"), 200).flatten().tolist()) == {2.0, 3.0, 4.0, 5.0}
    bank.record(torch.full((1, 1), 9.0).double())
    assert 9.0 not in bank.take(noise("t"), 200)
    bank.turn()
    assert set(bank.take(noise("t"), 200).flatten().tolist()) == {9.0}


def test_a_stage_after_one_without_steps_draws_chains(backbone):
    prior = made(backbone, 2, negatives="posterior")
    expected = prior.sample(backbone, ROWS, noise("o", "negative"), Request(after="stage 1"))
    torch.testing.assert_close(loss_of(prior, 2, backbone).negative.u, expected.u)


# ---------------------------------------------------------------- chains


def test_joint_sampling_is_one_chain_on_the_product(backbone):
    prior = made(backbone, 3)
    start = noise("s", "base").normal(ROWS, backbone.layout.dim)
    expected = chain(prior, backbone, (1, 2, 3), start, noise("s", "chain", 0))
    torch.testing.assert_close(prior.sample(backbone, ROWS, noise("s")).u, expected)


@pytest.mark.parametrize(
    ("factors", "targets"), [("product", [(1,), (1, 2), (1, 2, 3)]), ("single", [(1,), (2,), (3,)])]
)
def test_progressive_sampling_goes_on_from_each_stage_to_the_next(backbone, factors, targets):
    prior = made(backbone, 3, mode="progressive", factors=factors)
    u = noise("s", "base").normal(ROWS, backbone.layout.dim)
    for i, stages in enumerate(targets):
        u = chain(prior, backbone, stages, u, noise("s", "chain", i))
    torch.testing.assert_close(prior.sample(backbone, ROWS, noise("s")).u, u)


@pytest.mark.parametrize(("mode", "chains"), [("joint", 1), ("progressive", 3)])
def test_an_observer_is_told_the_stage_and_the_step_within_it(backbone, mode, chains):
    seen, trace = [], Trace()
    prior = made(backbone, 3, mode=mode)
    observe = lambda name, k, state, info: seen.append((name, k))  # noqa: E731
    prior.sample(backbone, ROWS, noise("s"), Request(steps=4, observe=observe))
    assert seen == [(f"stage {s}", k) for s in range(4 - chains, 4) for k in range(4)]
    prior.sample(backbone, ROWS, noise("s"), Request(observe=trace))
    assert len(trace.values) == 3 * chains


# ---------------------------------------------------------------- after a stage


def test_after_a_stage_the_tilt_is_the_product_up_to_it_and_its_ratio_is_its_own(backbone):
    prior, latents = made(backbone, 3), posterior_of(backbone).latents
    way = prior.transitions(backbone)
    assert [transition.name for transition in way] == [stage.name for stage in prior.stages()]
    for s, transition in enumerate(way, 1):
        up_to = sum(ratio(prior, i, latents) for i in range(1, s + 1))
        torch.testing.assert_close(tilt_after(prior, backbone, transition.name).at(backbone, latents), up_to)
        torch.testing.assert_close(transition.ratio(None).at(backbone, latents), ratio(prior, s, latents))
    torch.testing.assert_close(tilt_after(prior, backbone, "stage 3").at(backbone, latents), prior.tilt(latents))
    assert tilt_after(prior, backbone, "root") is None


@pytest.mark.parametrize("mode", ["joint", "progressive", "smc"])
def test_draws_after_a_stage_are_those_of_a_prior_with_its_stages_alone(backbone, mode):
    prior = made(backbone, 3, mode=mode, particles=3)
    alone = made(backbone, 1, stages=1, mode=mode, particles=3)
    alone.ratios[0].load_state_dict(prior.ratios[0].state_dict())
    expected = alone.sample(backbone, ROWS, noise("s")).u
    assert torch.equal(prior.sample(backbone, ROWS, noise("s"), Request(after="stage 1")).u, expected)


def test_an_unknown_stage_is_refused_with_those_that_there_are(backbone):
    with pytest.raises(ConfigError, match=r"no transition 'stage 9'; it has 'root', 'stage 1', 'stage 2'"):
        made(backbone, 2).sample(backbone, ROWS, noise("s"), Request(after="stage 9"))


# ---------------------------------------------------------------- labels

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def test_with_one_coupled_energy_the_loss_is_the_cross_entropy_of_k_plus_1_classes():
    flat = seeded(lambda: ReferenceBackbone(LatentLayout(((5,),)))).double().requires_grad_(False)
    prior = made(flat, 1, classes=3)
    loss = loss_of(prior, 1, flat, LABELS)
    logits = [prior.ratios[0](z)[:, 0] for z in (posterior_of(flat).latents, loss.negative)]
    assert logits[0].shape == (ROWS, 4)
    logits = [torch.cat([part[:, :3], part[:, 3:] + math.log(3)], dim=1) for part in logits]  # r = 1 of a net of zeros
    expected = F.cross_entropy(logits[0], LABELS) + F.cross_entropy(logits[1], torch.full((ROWS,), 3))
    torch.testing.assert_close(loss.total, expected)


def test_the_number_of_classes_counts_exactly_in_float64(backbone):
    assert made(backbone, 1, classes=3).label_shift.tolist() == [[math.log(3)]] * 2


def test_the_weight_of_labels_is_that_of_their_cross_entropy(backbone):
    losses = [loss_of(made(backbone, 1, classes=3, label_weight=w), 1, backbone, LABELS) for w in (0.0, 1.0, 2.5)]
    entropy = losses[0].terms["cross_entropy"]
    torch.testing.assert_close(losses[1].total - losses[0].total, entropy)
    torch.testing.assert_close(losses[2].total - losses[0].total, 2.5 * entropy)


def test_a_class_tilts_by_its_logit_in_the_last_stage_and_none_by_the_sum_of_all(backbone):
    prior, latents = made(backbone, 2, classes=3, label_layers=(1,)), posterior_of(backbone).latents
    logits = [net(latents) for net in prior.ratios[:2]]
    negatives = [part[:, 1, 3] + math.log(3) for part in logits]
    marginals = [part[:, 1, :3].logsumexp(1) - last for part, last in zip(logits, negatives, strict=True)]
    plain = sum(part[:, 0, 0] - part[:, 0, 3] for part in logits)  # an energy that carries no label
    torch.testing.assert_close(prior.tilt(latents), torch.stack([plain, sum(marginals)], dim=1))
    asked = torch.tensor([0, 1, 2, 0, -1, 2])
    found = prior._tilt(range(2), asked).f(latents)
    chosen = logits[1][:, 1].gather(1, asked.clamp(min=0)[:, None])[:, 0] - negatives[1]
    torch.testing.assert_close(found[:, 1], marginals[0] + torch.where(asked < 0, marginals[1], chosen))


def test_sampling_a_class_climbs_its_tilt(backbone):
    prior = made(backbone, 2, classes=3)
    assert prior.labelled
    start = noise("s", "base").normal(ROWS, backbone.layout.dim)
    density = prior.density(backbone, labels=LABELS)
    u, source = start, noise("s", "chain", 0)
    for _ in range(3):
        u = u + 0.1 * density.value_and_grad(u).grad + math.sqrt(0.2) * source.normal(*u.shape)
    torch.testing.assert_close(prior.sample(backbone, ROWS, noise("s"), Request(LABELS)).u, u)
    assert not torch.equal(prior.sample(backbone, ROWS, noise("s")).u, u)


def test_a_prior_without_labels_ignores_them(backbone):
    prior = made(backbone, 2)
    assert not prior.labelled
    assert torch.equal(
        prior.sample(backbone, ROWS, noise("s"), Request(LABELS)).u, prior.sample(backbone, ROWS, noise("s")).u
    )


# ---------------------------------------------------------------- errors


def test_a_data_set_without_labels_cannot_train_them(backbone):
    with pytest.raises(ConfigError, match=r"these images have no labels; set both to 0"):
        loss_of(made(backbone, 1, classes=3), 1, backbone)


def test_labels_must_be_those_of_the_images(backbone):
    prior = made(backbone, classes=3)
    prior.check(ImageSpec(1, 8, 8, classes=("a", "b", "c")))
    with pytest.raises(ConfigError, match=r"prior\.classes = 3, but the images have 2 classes"):
        prior.check(ImageSpec(1, 8, 8, classes=("a", "b")))


def test_one_net_over_all_layers_carries_a_label_and_no_second_attribute(backbone):
    prior = made(backbone, 1, classes=3, energy=MLPConcat(width=8))
    assert prior.coupling.columns == (0,)
    assert loss_of(prior, 1, backbone, LABELS).terms["cross_entropy"] > 0
    with pytest.raises(
        ConfigError, match=r"attributes = 2: each attribute needs a different layer, and there are 1 ener"
    ):
        made(backbone, 1, attributes=2, energy=MLPConcat(width=8))


def test_with_labels_a_net_of_zeros_is_r_1(backbone):
    recipe = changed(SMALL, classes=3, stages=1, energy=MLP(width=8))
    loss = loss_of(recipe.build(backbone).double(), 1, backbone, LABELS)
    assert loss.terms["bce"] == pytest.approx(TWO_LOG_2, abs=1e-12)


@pytest.mark.parametrize("mode", ["joint", "progressive", "smc"])
def test_negatives_are_drawn_given_the_context_of_the_positives(mode):
    contextual = seeded(lambda: ReferenceBackbone(LatentLayout(((3,), (4,)), context=(2,)))).double()
    prior = made(seeded(ReferenceBackbone).double().requires_grad_(False), 2, mode=mode, particles=2)
    context = points(ROWS, 2, torch.float64, "context")
    drawn = [
        prior.sample(contextual, ROWS, noise("n"), Request(context=c, after="stage 1")) for c in (context, 2 * context)
    ]
    assert not torch.equal(drawn[0].u, drawn[1].u)
    assert torch.equal(drawn[0].context, context)


@pytest.mark.parametrize("negatives", ["pool", "posterior"])
def test_kept_negatives_are_refused_where_they_belong_to_a_context(negatives):
    contextual = ReferenceBackbone(LatentLayout(((3,), (4,)), context=(2,)))
    recipe = changed(SMALL, negatives=negatives)
    with pytest.raises(ConfigError, match=r'without their context.*use "chain"'):
        recipe._check_pool(contextual.layout)


def test_a_pool_is_refused_on_a_backbone_that_moves(backbone):
    prior = made(backbone, negatives="pool")
    with pytest.raises(ConfigError, match=r'stores draws of a frozen backbone.*use "chain" or "posterior"'):
        prior.stages()[0].start(seeded(ReferenceBackbone), noise("begin"))


def test_a_pool_beyond_memory_is_refused_and_chains_are_offered(backbone):
    for negatives in ("pool", "posterior"):
        with pytest.raises(ConfigError, match=r"more than 8 GiB; use at most 306783378, or.*chain"):
            made(backbone, pool=10**9, negatives=negatives)
    made(backbone, pool=10**9, negatives="chain", stages=1)


def test_a_root_without_the_backbones_context_is_refused():
    contextual = ReferenceBackbone(LatentLayout(((3,), (4,)), context=(2,)))
    with pytest.raises(ConfigError, match=r"context of shape \(2,\)"):
        SMALL.build(contextual)


# ---------------------------------------------------------------- inference by MCMC


@pytest.mark.parametrize(("under", "stages"), [("previous", (1,)), ("current", (1, 2))])
def test_scheme_joint_infers_under_the_product_asked_for(backbone, under, stages):
    prior = made(backbone, 2, infer_under=under, negatives="posterior")
    scheme = JointMCMC(posterior_sampler=ULA(steps=4, step_size=0.1))
    phase = scheme.phases(backbone, prior)[1]
    batch = image_batch(ImageSpec(1, 8, 8), ROWS, torch.float64)
    prior.bank.turn()
    phase(batch, noise("p"), STEP)

    tilt = Tilt(lambda latents: sum(ratio(prior, s, latents) for s in stages), (prior,))
    u = posterior_chain(backbone, tilt, scheme.posterior_sampler, batch.target, noise("p", "posterior")).u
    torch.testing.assert_close(prior.bank.recorded[:ROWS], backbone.latents(u).flat_z.detach())
    latents = posterior_of(backbone).latents
    under_stage = prior.stages()[1].tilt or tilt_of(prior)
    torch.testing.assert_close(under_stage.at(backbone, latents), tilt.at(backbone, latents))
    torch.testing.assert_close(tilt_of(prior).at(backbone, latents), sum(ratio(prior, s, latents) for s in (1, 2)))


def test_the_first_stage_infers_under_the_root(backbone):
    tilt = made(backbone, 1).stages()[0].tilt
    assert not tilt.at(backbone, posterior_of(backbone).latents).any()
