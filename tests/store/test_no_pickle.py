"""R8: nothing in the package writes or reads a pickle."""

import re
from pathlib import Path

import hebm

FORBIDDEN = re.compile(
    r"\b(import|from) (cPickle|dill|cloudpickle|joblib|shelve|marshal)\b|\bfrom pickle\b"
    r"|\bpickle\.(?!UnpicklingError|PickleError)|(?<!safetensors\.)\btorch\.(save|load)\("
    r"|\.save_state\(|\.load_state\(|allow_pickle\s*=\s*True"
)


def test_no_module_mentions_pickle_or_what_pickles():
    """Foreign `.pt` files may come in by one door only, with `weights_only=True` on the same line."""
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in Path(hebm.__file__).parent.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if FORBIDDEN.search(line) and "weights_only=True" not in line
    ]
    assert found == []


def test_the_search_would_find_what_it_forbids():
    for line in (
        "pickle.loads(x)",
        "torch.save(x, f)",
        "torch.load(f)",
        "np.load(f, allow_pickle=True)",
        "from pickle import load",
    ):
        assert FORBIDDEN.search(line)
