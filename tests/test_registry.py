"""Registry semantics, on real distributions: a .dist-info with entry points next to a module, on the path."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import catalogue
import pytest

from hebm import entry_points, registry
from hebm.config.recipes import recipe
from hebm.errors import PluginError
from hebm.interfaces import EnergyRecipe, PriorRecipe

FINE = """\
from hebm.config.recipes import option, recipe
from hebm.interfaces import PriorRecipe


@recipe
class Fine(PriorRecipe):
    \"\"\"A prior that works.\"\"\"

    width: int = option(3, doc="a number")

    def build(self, backbone):
        raise NotImplementedError
"""
BROKEN = {
    "raises": ("raise RuntimeError('boom at import')", "RuntimeError: boom at import"),
    "exits": ("import sys\nsys.exit('bye')", "SystemExit: bye"),
    "raises-anything": ("class Odd(BaseException): pass\nraise Odd('neither')", "Odd: neither"),
    "recurses": ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
    "unprintable": ("class Odd(Exception):\n    def __str__(self): raise self\nraise Odd", "cannot be imported: Odd"),
    "hostile": (
        "class Odd:\n    @property\n    def __class__(self): raise OSError('no')\nFine = Odd()",
        "it cannot be used: OSError: no",
    ),
    "syntax": ("class Fine(:\n", "SyntaxError"),
    "dependency": ("import no_such_package_of_any_kind\nclass Fine: pass", "no_such_package_of_any_kind"),
    "absent": ("", "Fine"),
    "wrong-base": ("class Fine: pass", "not a subclass of hebm.interfaces.PriorRecipe"),
    "other-group": (FINE.replace("PriorRecipe", "EnergyRecipe"), "not a subclass of hebm.interfaces.PriorRecipe"),
    "no-class": ("def Fine(): pass", "not a subclass of hebm.interfaces.PriorRecipe"),
    "abstract": (FINE.replace("def build", "def construct"), "not implement: build"),
    "undecorated": (FINE.replace("@recipe\n", ""), "not decorated with hebm.config.recipes.recipe"),
    "bad-field": (FINE.replace("int = option(3,", "dict = option({},"), "no TOML key can hold"),
    "unresolved": (FINE.replace("width: int", "width: 'Nowhere'"), "Nowhere"),
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder on the path; its call installs a distribution there: name, {group: {name: "module:attr"}}, sources."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_BLOCKED", set())
    monkeypatch.setattr(catalogue, "REGISTRY", dict(catalogue.REGISTRY))  # what one test loads, no other finds
    entry_points.reread()
    before = set(sys.modules)

    def install(name, points, sources=(), version="1.0", folder=tmp_path):
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in points.items()]
        info.joinpath("entry_points.txt").write_text("\n".join(lines))
        for module, source in dict(sources).items():
            folder.joinpath(f"{module}.py").write_text(source)
        entry_points.reread()
        return folder

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("plug_"):
            del sys.modules[module]
    entry_points.reread()


def prior(site, name, source, module=None, distribution=None, **options):
    module = module or f"plug_{name.replace('-', '_')}"
    return site(distribution or f"d-{name}", {"hebm_priors": {name: f"{module}:Fine"}}, {module: source}, **options)


# ---------------------------------------------------------------- listing and finding


def test_an_installed_plugin_is_listed_without_being_imported_and_found_when_asked_for(site):
    prior(site, "fine", FINE)
    assert "fine" in registry.names("hebm_priors")
    entry = next(entry for entry in registry.status("hebm_priors") if entry.name == "fine")
    assert (entry.summary, entry.error, str(entry.origins[0])) == ("A prior that works.", None, "d-fine 1.0")
    assert "plug_fine" not in sys.modules
    assert registry.find("hebm_priors", "fine")().width == 3
    assert registry.find("hebm_priors", "fine") is registry.find("hebm_priors", "fine")


def test_the_origin_has_file_and_line_before_and_after_loading(site):
    folder = prior(site, "fine", FINE)
    before = registry.origin("hebm_priors", "fine")
    assert (before.file, before.line) == (str(folder / "plug_fine.py"), 5)
    registry.find("hebm_priors", "fine")
    after = registry.origin("hebm_priors", "fine")
    assert (after.file, after.distribution, after.path) == (before.file, "d-fine", "plug_fine:Fine")
    assert after.line in (5, 6)


def test_an_unknown_name_names_what_there_is_and_the_near_one(site):
    prior(site, "fine", FINE)
    with pytest.raises(PluginError, match=r"hebm_priors has no 'fien'; did you mean 'fine'\? \(available: .*fine"):
        registry.find("hebm_priors", "fien")
    with pytest.raises(PluginError, match="did you mean 'hebm_priors'"):
        registry.find("hebm_prior", "fine")


def test_a_plugin_installed_meanwhile_is_found(site):
    with pytest.raises(PluginError):
        registry.find("hebm_priors", "fine")
    prior(site, "fine", FINE)
    assert registry.find("hebm_priors", "fine")


# ---------------------------------------------------------------- broken ones


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_reported_with_its_cause_and_hurts_nobody_else(site, kind):
    source, cause = BROKEN[kind]
    prior(site, "broken", source, module=f"plug_{kind.replace('-', '_')}")
    prior(site, "fine", FINE)
    assert {"broken", "fine"} <= set(registry.names("hebm_priors"))
    assert registry.find("hebm_priors", "fine")
    assert registry.name_of(registry.find("hebm_priors", "fine")()) == "fine"
    status = {entry.name: entry for entry in registry.status("hebm_priors", load=True)}
    assert status["fine"].error is None
    assert cause in status["broken"].error
    with pytest.raises(PluginError, match=r"hebm_priors 'broken' of d-broken 1\.0") as caught:
        registry.find("hebm_priors", "broken")
    assert cause in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("kind", ["syntax", "dependency", "absent"])
def test_what_the_source_plainly_shows_is_listed_as_broken_without_an_import(site, kind):
    source, cause = BROKEN[kind]
    prior(site, "broken", source)
    (entry,) = [entry for entry in registry.status("hebm_priors") if entry.name == "broken"]
    assert cause in entry.error
    assert "plug_broken" not in sys.modules


def test_a_module_that_is_not_there_is_broken(site):
    site("d-gone", {"hebm_priors": {"gone": "plug_gone.deeper:Fine", "odd": "not a module"}})
    status = {entry.name: entry.error for entry in registry.status("hebm_priors")}
    assert "module 'plug_gone.deeper' not found" in status["gone"]
    for name in ("gone", "odd"):
        with pytest.raises(PluginError, match="cannot be imported"):
            registry.find("hebm_priors", name)


def test_a_command_must_be_a_click_command(site):
    site("d-cmd", {"hebm_commands": {"odd": "plug_cmd:odd"}}, {"plug_cmd": "def odd(): pass"})
    with pytest.raises(PluginError, match="not a click command"):
        registry.find("hebm_commands", "odd")


# ---------------------------------------------------------------- two of one name


def test_two_distributions_with_one_name_are_an_error_that_names_both_only_when_asked_for(site):
    prior(site, "twin", FINE, module="plug_one", distribution="d-one")
    prior(site, "twin", FINE, module="plug_two", distribution="d-two")
    prior(site, "fine", FINE)
    (entry,) = [entry for entry in registry.status("hebm_priors", load=True) if entry.name == "twin"]
    assert "ambiguous" in entry.error
    with pytest.raises(PluginError, match=r"ambiguous.*d-(one|two) 1\.0.* and d-(one|two) 1\.0.*HEBM_BLOCK"):
        registry.find("hebm_priors", "twin")
    assert registry.find("hebm_priors", "fine")


BOTH = ("d-one", "d-two")


@pytest.fixture
def twins(site):
    """Two distributions that declare a prior of one name, and an energy each."""
    for name in BOTH:
        module = f"plug_{name[2:]}"
        points = {"hebm_priors": {"twin": f"{module}:Fine"}, "hebm_energies": {f"net-{name}": f"{module}:Fine"}}
        site(name, points, {module: FINE})


@pytest.mark.parametrize("what", ["D.One/priors:twin", "d_one/hebm_priors:twin", "d-one"])
def test_blocking_one_side_of_an_ambiguity_leaves_the_other(twins, what):
    registry.block(what)
    assert registry.find("hebm_priors", "twin").__module__ == "plug_two"
    assert ("net-d-one" in registry.names("hebm_energies")) == ("/" in what)


def test_a_component_can_be_blocked_whoever_declares_it(twins):
    registry.block("priors:twin")
    assert "twin" not in registry.names("hebm_priors")
    assert {"net-d-one", "net-d-two"} <= set(registry.names("hebm_energies"))
    with pytest.raises(PluginError, match=r"no 'twin'.*blocked: priors:twin"):
        registry.find("hebm_priors", "twin")


def test_a_first_party_component_can_be_blocked_alone_and_its_name_taken_by_hand(twins):
    registry.block("priors:joint")
    assert {"run", "plugins"} <= set(registry.names("hebm_commands"))
    registry.register("hebm_priors", "joint", Mine)
    try:
        assert registry.find("hebm_priors", "joint") is Mine
    finally:
        registry.unregister("hebm_priors", "joint")


def test_the_error_of_an_ambiguity_says_what_to_type(twins):
    with pytest.raises(PluginError, match="ambiguous") as caught:
        registry.find("hebm_priors", "twin")
    registry.block(str(caught.value).rpartition("HEBM_BLOCK=")[2])
    assert registry.find("hebm_priors", "twin")


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("d-oen", "no distribution of this name has plugins; did you mean 'd-one'"),
        ("prior:twin", "unknown group 'hebm_prior'; did you mean 'hebm_priors'"),
        ("priors:twn", "priors has no 'twn'; did you mean 'twin'"),
        ("hebm/priors:twin", "'twin' is declared by d-one and d-two only"),
        ("d-one/twin", "expected DISTRIBUTION, GROUP:NAME or DISTRIBUTION/GROUP:NAME"),
        ("/priors:twin", "expected DISTRIBUTION"),
        ("priors:", "expected DISTRIBUTION"),
        (":twin", "expected DISTRIBUTION"),
        ("", "expected DISTRIBUTION"),
    ],
)
def test_what_cannot_be_blocked_is_refused_with_what_can(twins, what, complaint):
    with pytest.raises(PluginError, match="cannot block") as caught:
        registry.block(what)
    assert complaint in str(caught.value)
    assert registry.blocked() == ()


def test_a_malformed_environment_variable_is_an_error_not_ignored(twins, monkeypatch):
    monkeypatch.setenv("HEBM_BLOCK", "d-one, prior:twin")
    with pytest.raises(PluginError, match="cannot block 'prior:twin'"):
        registry.names("hebm_priors")


def test_blocking_one_of_two_leaves_the_other(site, monkeypatch):
    prior(site, "twin", FINE, module="plug_one", distribution="d-one")
    prior(site, "twin", FINE, module="plug_two", distribution="d-two")
    monkeypatch.setenv("HEBM_BLOCK", "other, D_One")
    assert registry.find("hebm_priors", "twin").__module__ == "plug_two"
    registry.block("d.two")
    with pytest.raises(PluginError, match="blocked: d-one, d-two, other"):
        registry.find("hebm_priors", "twin")


def test_one_distribution_that_stands_twice_on_the_path_is_no_ambiguity(site, tmp_path, monkeypatch):
    prior(site, "fine", FINE)
    monkeypatch.syspath_prepend(str(tmp_path / "again"))
    prior(site, "fine", FINE, folder=tmp_path / "again")
    assert len(registry.status("hebm_priors")) == len(set(registry.names("hebm_priors")))
    assert registry.find("hebm_priors", "fine")


def test_a_distribution_without_metadata_hurts_nobody(site):
    folder = prior(site, "fine", FINE)
    next(folder.glob("*.dist-info")).joinpath("METADATA").unlink()
    entry_points.reread()
    assert registry.find("hebm_priors", "fine")


# ---------------------------------------------------------------- the interface that a plugin was written for


def declaring(site, *numbers, source=FINE):
    points = {"hebm_priors": {"fine": "plug_fine:Fine"}, "hebm_interface": dict.fromkeys(numbers, "plug_fine")}
    return site("d-fine", points, {"plug_fine": source})


@pytest.mark.parametrize("number", [registry.INTERFACE - 1, registry.INTERFACE + 1])
def test_a_plugin_for_another_interface_is_refused_with_both_numbers_before_it_is_imported(site, number):
    declaring(site, str(number))
    expected = f"written for interface {number}, this hebm has {registry.INTERFACE}; install a release of d-fine"
    with pytest.raises(PluginError, match=rf"hebm_priors 'fine' of d-fine 1\.0 was {expected}"):
        registry.find("hebm_priors", "fine")
    (entry,) = [entry for entry in registry.status("hebm_priors") if entry.name == "fine"]
    assert entry.error.startswith(expected)
    assert "plug_fine" not in sys.modules


@pytest.mark.parametrize("numbers", [(registry.INTERFACE,), (registry.INTERFACE - 1, registry.INTERFACE)])
def test_a_plugin_for_this_interface_and_perhaps_others_is_found(site, numbers):
    declaring(site, *map(str, numbers))
    assert registry.find("hebm_priors", "fine")().width == 3


@pytest.mark.parametrize("kind", ["raises", "abstract"])
def test_a_broken_plugin_that_declares_no_interface_is_told_so(site, kind):
    hint = "d-fine does not declare which interface it was written for"
    declaring(site, source=BROKEN[kind][0])
    with pytest.raises(PluginError, match=hint):
        registry.find("hebm_priors", "fine")


def test_a_broken_plugin_that_declares_this_interface_is_not_told_to_declare_one(site):
    declaring(site, str(registry.INTERFACE), source=BROKEN["raises"][0])
    with pytest.raises(PluginError, match="boom") as caught:
        registry.find("hebm_priors", "fine")
    assert "interface it was written for" not in str(caught.value)


# ---------------------------------------------------------------- by hand


@recipe
class Mine(PriorRecipe):
    """A recipe that a user types into a notebook."""

    def build(self, backbone):
        raise NotImplementedError


@pytest.fixture
def mine():
    registry.register("hebm_priors", "mine")(Mine)
    yield Mine
    registry.unregister("hebm_priors", "mine")


def test_a_class_registered_by_hand_is_found_listed_and_named(mine):
    assert registry.find("hebm_priors", "mine") is mine
    assert registry.name_of(mine()) == registry.name_of(mine) == "mine"
    origin = registry.origin("hebm_priors", "mine")
    assert (str(origin), origin.file) == ("registered by hand", __file__)


def test_registering_again_replaces_as_a_rerun_cell_does(mine):
    again = recipe(type("Mine", (Mine,), {}))
    registry.register("hebm_priors", "mine", again)
    assert registry.find("hebm_priors", "mine") is again
    with pytest.raises(PluginError, match="is not registered in hebm_priors"):
        registry.name_of(mine())


def test_the_name_of_an_installed_plugin_cannot_be_taken_by_hand(site):
    prior(site, "fine", FINE)
    with pytest.raises(PluginError, match="name of a plugin of d-fine"):
        registry.register("hebm_priors", "fine", Mine)


def test_a_class_of_the_wrong_kind_cannot_be_registered_by_hand():
    with pytest.raises(PluginError, match=r"not a subclass of hebm\.interfaces\.EnergyRecipe"):
        registry.register("hebm_energies", "mine", Mine)


def test_a_name_unregistered_is_gone(mine):
    registry.unregister("hebm_priors", "mine")
    assert "mine" not in registry.names("hebm_priors")


# ---------------------------------------------------------------- this distribution


def test_every_group_but_commands_has_an_abstract_recipe():
    assert {vars(registry.interface(group)).get("group", registry.COMMANDS) for group in registry.GROUPS} == set(
        registry.GROUPS
    )
    assert registry.interface("hebm_energies") is EnergyRecipe


def test_the_names_installed_are_those_that_pyproject_declares():
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["entry-points"]
    assert declared.pop("pytest11") == {"hebm": "hebm.pytest_plugin"}
    assert set(declared) <= set(registry.GROUPS)
    for group, points in declared.items():
        own = [e for e in registry.status(group) if e.origins[0].distribution == "hebm"]
        assert {entry.name: entry.origins[0].path for entry in own} == points


def test_the_names_are_these():
    script = "import json; from hebm import registry as r; print(json.dumps({g: r.names(g) for g in r.GROUPS}))"
    output = subprocess.run([sys.executable, "-c", script], check=True, env=os.environ, capture_output=True).stdout
    names = {group.removeprefix("hebm_"): " ".join(found) for group, found in json.loads(output).items()}
    assert names == {
        "backbones": "auto-encoder dvp hvae nvae nvae-tiny two-layer two-layer-joint two-layer-multi-stage vdvae "
        "vdvae-tiny",
        "energies": "conv conv-residual conv-time feature-conv feature-mlp image-conv mlp mlp-concat mlp-time "
        "with-context",
        "priors": "adaptive-ce diffusion dvp feature-contrast gaussian image-contrast joint lebm multi-stage ncp score",
        "samplers": "langevin mala pcn pcn-mala ula",
        "datasets": "arrays celeba cifar10 digits fashion-mnist from-dataset huggingface image-folder lsun mnist "
        "omniglot omniglot-iwae svhn tensors",
        "extractors": "classifier efficientnet-lite0 inception vgg16",
        "metrics": "active-units class-shares fd fid gap-closed inception-score kid label-agreement likelihood "
        "nearest prdc two-sample",
        "schemes": "joint two-phase variational",
        "formats": "nvae vdvae",
        "analyses": "anomaly chains context cost hierarchical hole interpolation nearest ood sanity stages temperature",
        "commands": "analyse check clean compare detect evaluate export import info init measure plugins report run "
        "sample sweep verify",
    }


def test_importing_the_registry_and_the_command_line_does_not_import_torch():
    script = (
        "import sys, hebm.registry, hebm.cli.main, hebm.cli.plugins, hebm.cli.init; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)
