"""What every command with `--json` shares."""

import json
import math

from hebm.cli.json_output import only_json, print_json


def test_an_object_is_printed_as_json_that_every_reader_accepts(capsys):
    print_json({"value": math.nan, "names": ("π", "b"), "error": None})
    assert json.loads(capsys.readouterr().out) == {"value": None, "names": ["π", "b"], "error": None}


def test_what_is_printed_meanwhile_goes_to_the_error_stream_alone(capsys):
    with only_json(True):
        print("downloading")
    print_json({})
    with only_json(False):
        print("text")
    assert tuple(capsys.readouterr()) == ("{}\ntext\n", "downloading\n")
