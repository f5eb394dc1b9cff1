"""R8: nothing in the project writes or reads a pickle, except for files of other codes, at the places listed here.

The kit pickles a recipe and images in memory, as sending them to worker processes does.
"""

import re
from pathlib import Path

import hebm
import hebm_plugins

FORBIDDEN = re.compile(
    r"\b(import|from) (cPickle|dill|cloudpickle|joblib|shelve|marshal)\b|\bfrom pickle\b"
    r"|\bpickle\.(?!UnpicklingError|PickleError)|(?<!safetensors\.)\btorch\.(save|load)\("
    r"|\.save_state\(|\.load_state\(|allow_pickle\s*=\s*True|weights_only\s*=\s*False|add_safe_globals"
)
DOORS = [
    'hebm/store/foreign.py: return torch.load(path, map_location="cpu", weights_only=True)',
    "hebm/store/foreign.py: torch.save(content, file)",
    "hebm/testing/dataset_files.py: twin: Any = pickle.loads(pickle.dumps(images))",
    "hebm/testing/dataset_files.py: other = pool.submit(_fingerprints_of, pickle.dumps(recipe)).result()",
    "hebm/testing/dataset_files.py: return _fingerprints(pickle.loads(pickled))",
    'hebm_plugins/extractors/downloaded.py: torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)',
    'hebm_plugins/extractors/efficientnet_lite0.py: state = torch.load(io.BytesIO(weights), map_location="cpu", '
    "weights_only=True)",
]


def found():
    for package in (hebm, hebm_plugins):
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            for line in path.read_text().splitlines():
                if FORBIDDEN.search(line):
                    yield f"{path.relative_to(root.parent).as_posix()}: {line.strip()}"


def test_no_module_mentions_pickle_or_what_pickles_but_these_for_files_of_other_codes():
    assert list(found()) == DOORS


def test_the_search_would_find_what_it_forbids():
    for line in (
        "pickle.loads(x)",
        "torch.save(x, f)",
        "torch.load(f)",
        "torch.load(f, weights_only=True)",
        "np.load(f, allow_pickle=True)",
        "from pickle import load",
        "torch.serialization.add_safe_globals([os.system])",
    ):
        assert FORBIDDEN.search(line)
