from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_models import TinyData, tiny_evaluation

from hebm.errors import ConfigError
from hebm.training.listeners import Listener
from hebm_plugins.datasets.digits import Digits
from hebm_plugins.extractors import classifier
from hebm_plugins.extractors.classifier import ClassifierExtractor, Halving, LabelledPixels, new_net, train


def few_steps(monkeypatch):
    monkeypatch.setattr(classifier, "_ROUNDS", 1)
    monkeypatch.setattr(classifier, "_LEAST_ROUND", 3)


def extractor_of(tmp_path, data):
    return tiny_evaluation(tmp_path, data=data).extractor()


def test_digits_are_recognised_within_seconds(tmp_path):
    started = time.perf_counter()
    description = extractor_of(tmp_path, Digits()).describe()
    assert description["accuracy"] >= 0.95
    assert time.perf_counter() - started < 60  # a few seconds on an idle machine


def test_training_repeats_bit_for_bit(tmp_path, monkeypatch):
    few_steps(monkeypatch)
    first, second = (extractor_of(tmp_path / name, TinyData()).describe() for name in "ab")
    assert first == second
    assert len(first["sha256"]) == 64


def test_global_generator_is_not_touched(tmp_path, monkeypatch):
    few_steps(monkeypatch)
    before = torch.get_rng_state()
    extractor_of(tmp_path, TinyData())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("damage", ["nothing", "flip", "truncate", "empty", "accuracy"])
def test_a_damaged_cache_is_trained_again(tmp_path, monkeypatch, damage):
    few_steps(monkeypatch)
    expected = extractor_of(tmp_path, TinyData()).describe()
    (path,) = (tmp_path / "extractors").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    elif damage == "accuracy":
        at = content.index(b'"accuracy":"') + len(b'"accuracy":"')
        content[at] = ord("1") if content[at] == ord("0") else ord("0")
    path.write_bytes({"truncate": content[:-100], "empty": b""}.get(damage, content))
    trained = []
    monkeypatch.setattr(classifier, "train", lambda *args: trained.append(args) or train(*args))
    assert extractor_of(tmp_path, TinyData()).describe() == expected
    assert len(trained) == (damage != "nothing")
    assert extractor_of(tmp_path, TinyData()).describe() == expected
    assert len(trained) == (damage != "nothing"), "the repaired cache is used"


def test_training_is_announced_once(tmp_path, monkeypatch):
    few_steps(monkeypatch)
    for expected in (['trains the extractor "classifier" on 400 images, once for these data'], []):
        said = []
        listener = Listener()
        monkeypatch.setattr(listener, "said", said.append)
        tiny_evaluation(tmp_path, data=TinyData(), listener=listener).extractor()
        assert said == expected


def test_of_several_processes_one_trains_and_the_others_wait_and_use_its_weights(tmp_path, monkeypatch):
    """Threads, which a lock on a file keeps apart like processes."""
    few_steps(monkeypatch)
    trained, said, together = [], [], threading.Barrier(3)
    monkeypatch.setattr(classifier, "train", lambda *args: (trained.append(args), time.sleep(0.3), train(*args)))

    def describe(_):
        listener = Listener()
        listener.said = said.append
        evaluation = tiny_evaluation(tmp_path, data=TinyData(), listener=listener)
        together.wait()
        return evaluation.extractor().describe()

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(describe, range(3))
    assert others == [first, first]
    assert len(trained) == 1
    assert sum(line.startswith("waits for another run") for line in said) == 2


def test_other_data_get_other_weights(tmp_path, monkeypatch):
    few_steps(monkeypatch)
    first, second = (extractor_of(tmp_path, TinyData(rows=n)).describe() for n in (300, 301))
    assert first["sha256"] != second["sha256"]


def test_a_cache_that_cannot_be_written_is_only_a_loss(tmp_path, monkeypatch, caplog):
    few_steps(monkeypatch)
    (tmp_path / "extractors").write_text("a file where the folder should be")
    assert extractor_of(tmp_path, TinyData()).describe()["accuracy"] is not None
    assert "computed again" in caplog.text


def test_unlabelled_images_name_the_alternatives(tmp_path):
    evaluation = tiny_evaluation(tmp_path)
    evaluation.splits["train"].labels = None
    with pytest.raises(ConfigError, match=r'evaluate\.extractors: "classifier" .* use .*"inception"'):
        evaluation.features("data")


def test_attributes_are_not_classes(tmp_path):
    evaluation = tiny_evaluation(tmp_path)
    images = evaluation.splits["train"]
    images.labels, images.classes, images.attributes = torch.zeros(len(images), 2).long(), (), ("x", "y")
    with pytest.raises(ConfigError, match=r'needs images with class labels.*use .*"inception"'):
        evaluation.features("data")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 64, 64), (3, 96, 72), (1, 9, 17)])
def test_any_image_size_gives_features(shape, monkeypatch):
    few_steps(monkeypatch)
    pixels = torch.randint(0, 256, (6, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    net = new_net(shape, 3)
    train(net, LabelledPixels(pixels, torch.arange(6) % 3), torch.device("cpu"))
    features, logits = net(pixels)
    assert features.shape == (6, classifier.WIDTH)
    assert logits.shape == (6, 3)


def test_words_do_not_change_the_code_that_the_cache_is_keyed_by():
    before = classifier.code_of('"""Words."""\ndef f(x):\n    """More words."""\n    return x + 1  # and more\n')
    assert before == classifier.code_of('"""Other words."""\ndef f(x):\n    """None."""\n    return x + 1\n')
    assert before != classifier.code_of('"""Words."""\ndef f(x):\n    """More words."""\n    return x + 2\n')


@pytest.mark.parametrize("sides", [(8, 8), (7, 8), (7, 7)])
def test_halving_equals_max_pooling_in_training_and_evaluation(sides):
    maps = torch.randn(3, 4, *sides, generator=torch.Generator().manual_seed(0))
    maps[0, 0, 0, 0] = math.nan
    expected = torch.nn.functional.max_pool2d(maps, 2, ceil_mode=True)
    for training in (True, False):
        assert torch.equal(Halving().train(training)(maps).nan_to_num(9.0), expected.nan_to_num(9.0))


def test_features_do_not_depend_on_how_many_images_are_mapped_at_once():
    extractor = ClassifierExtractor(new_net((1, 8, 8), 10), None)
    pixels = torch.randint(0, 256, (130, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole, one = extractor(pixels), extractor(pixels[129:])
    assert {name: len(values) for name, values in whole.items()} == {"features": 130, "logits": 130}
    torch.testing.assert_close(whole["features"][129:], one["features"])
    assert len(extractor(pixels[:0])["logits"]) == 0
