"""The published diffusion prior's toy: our backbone and energies from its recorded weights, under a map of names."""

from ebm_vectors import load
from toy import Toy

from hebm_plugins.energies.conv_time import ConvTime

NETS = {"diffusion_T3_cifarnet": "residual", "diffusion_T6_celebanet": "plain"}
"""The two vector files, and which of our nets each holds."""

# recorded module → ours, of both nets
HEAD = {
    f"linear{k + 1}_{theirs}.1": f"head.blocks.{k}.{ours}"
    for k in range(2)
    for theirs, ours in {"x": "first", "t": "time", "all": "second", "short": "shortcut"}.items()
} | {"out.1": "head.out"}


def _halving(k, names):
    """Recorded names of halve, time, smooth, shortcut → those of block k."""
    ours = ("halve", "time", "smooth", "shortcut")
    return {theirs: f"blocks.{k}.{name}" for theirs, name in zip(names, ours, strict=True)}


def module_names(net):
    """Recorded module name → ours, for a net of `ConvTime`."""
    if hasattr(net, "convs"):
        last = len(net.convs) - 1
        convs = {f"conv2d.conv{k + 1}": f"convs.{k}" for k in range(last)} | {"downsample": f"convs.{last}"}
        return {"t_ebm_model1.0": "time.first", "t_ebm_model1.2": "time.second"} | convs | HEAD
    times = {
        f"t_ebm_model{k}.{n}": f"{a}.{b}"
        for k, a in ((1, "shift"), (2, "time"))
        for n, b in ((0, "first"), (2, "second"))
    }
    names = times | _halving(0, ("conv_start", "t_linear.1", "conv_all.1", "conv_short"))
    for k in range(len(net.blocks) - 1):
        recorded = ("conv2d_1.1", "linear.1", "conv2d_2.1", "conv2d_shortcut.1")
        names |= _halving(k + 1, tuple(f"res_blocks.{k}.{name}" for name in recorded))
    return names | HEAD


def recorded_name(net, ours):
    """The recorded name of an entry of our state dict: `blocks.0.halve.normal.u` → `conv_start.weight_u`."""
    module, _, kind = ours.replace(".normal.", ".weight_").rpartition(".")
    theirs = next(theirs for theirs, name in module_names(net).items() if name == module)
    normalised = any(name.endswith("normal.u") for name in net.state_dict())
    return f"{theirs}.{kind}{'_orig' if normalised and kind == 'weight' else ''}"


def backbone(vectors):
    """The toy transform T, in float64."""
    features, side, _ = vectors["toy/prior_ftr"].shape
    net = Toy(int(vectors["cfg/c"]), features, side).double()
    net.load_state_dict({key.removeprefix("toy/"): value for key, value in vectors.items() if key.startswith("toy/")})
    return net


def energy(vectors, name, layout, logits=1):
    """Our energies with the recorded weights, u and v, in float64."""
    normalised = any(key.endswith("_orig") for key in vectors)
    recipe = ConvTime(net=NETS[name], channels=int(vectors["cfg/ebm_ch"]), spectral_norm=normalised)
    built = recipe.build(layout, logits).double()
    for i, net in enumerate(built.nets):
        net.load_state_dict({key: vectors[f"ebm{i}/{recorded_name(net, key)}"] for key in net.state_dict()})
    return built


def subject(name):
    """Vectors, backbone and energy of one file."""
    vectors = load(name)
    toy = backbone(vectors)
    return vectors, toy, energy(vectors, name, toy.layout)
