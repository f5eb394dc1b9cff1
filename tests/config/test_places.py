"""The line of each key is found in one pass over the text."""

import time

from hebm.config.places import has, lines_of_keys

TEXT = """seed = 1
name.first = "a"

[data]
size = [
  3,
  4,
]
text = "an [ open bracket"
after = { type = "x", inner = { k = 1 } }

[[metrics]]
type = "fd"
[[metrics]]
type = "kid"
[metrics.sub]
deep = 1
"""


def test_every_key_has_the_line_of_the_statement_that_first_sets_it():
    lines = lines_of_keys(TEXT)
    expected = {
        ("seed",): 1,
        ("name", "first"): 2,
        ("name",): 2,
        ("data",): 4,
        ("data", "size"): 5,
        ("data", "size", 1): 5,
        ("data", "text"): 9,
        ("data", "after", "inner", "k"): 10,
        ("metrics", 0): 12,
        ("metrics", 0, "type"): 13,
        ("metrics", 1, "type"): 15,
        ("metrics", 1, "sub"): 16,
        ("metrics", 1, "sub", "deep"): 17,
    }
    assert {path: lines[path] for path in expected} == expected
    assert ("data", "other") not in lines


def test_a_long_text_takes_a_time_in_proportion_to_it():
    few, many = ("\n".join(f"k{i} = {i}" for i in range(n)) for n in (500, 5000))
    seconds = []
    for text in (few, many):
        began = time.process_time()
        assert lines_of_keys(text)[("k499",)] == 500
        seconds.append(time.process_time() - began)
    assert seconds[1] < 40 * seconds[0]  # in proportion it is 10 times, with the square of the length 100 times


def test_a_value_of_many_lines_is_found_whatever_its_strings_hold():
    items = ",\n".join(f'  "[[{i}"' for i in range(300))
    lines = lines_of_keys(f"a = [\n{items}\n]\nb = 2\n" + "\n".join(f"c{i} = 1" for i in range(800)))
    assert lines[("a",)] == 1
    assert lines[("c799",)] > 1


def test_paths_through_tables_and_lists_are_found():
    table = {"a": [{"b": 1}]}
    assert has(table, ("a", 0, "b"))
    assert not has(table, ("a", 1))
    assert not has(table, ("a", "b"))
