import pytest

from hebm.errors import DataError
from hebm_plugins.datasets.label_table import read_table


def read(text):
    return read_table(text if isinstance(text, bytes) else text.encode(), "t.csv")


def test_one_column_holds_classes():
    table = read("file,kind\n1.png,cat\n./a/2.png, dog \n\n")
    assert table.attributes == ()
    assert {name: (row.line, row.value) for name, row in table.rows.items()} == {
        "1.png": (2, "cat"),
        "a/2.png": (3, "dog"),
    }


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1", "-1"), ("true", "False"), ("TRUE", "0")])
def test_several_columns_hold_attributes(yes, no):
    table = read(f"file,male,smiling\r\n1.png,{yes},{no}\r\n2.png,{no},{no}\r\n")
    assert table.attributes == ("male", "smiling")
    assert [row.value for row in table.rows.values()] == [(1, 0), (0, 0)]


def test_byte_order_marks_quotes_and_cells_of_two_lines_are_read():
    table = read('\ufefffile,kind\n"a, b.png","big\ncat"\n2.png,dog\n')
    assert table.rows["a, b.png"].value == "big\ncat"
    assert table.rows["2.png"].line == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv, line 1: has 0 column"),
        ("file\n1.png\n", r"line 1: has 1 column.*header"),
        ("1.png,cat\n2.png,dog\n", r"line 1: is not a header: it starts with the image '1\.png'.*header"),
        ("file,a,b\n1.png,1,0\n2.png,1\n", r"line 3: has 2 cells, the header has 3"),
        ("file,a\n1.png,x\n\n2.png,x,y\n", r"line 4: has 3 cells, the header has 2"),
        ("file,a\n1.png,x\n1.png,y\n", r"line 3: '1\.png' is already in line 2"),
        ("file,a\n1.png,\n", r"line 2: the class is empty"),
        ("file,a,b\n1.png,1,2\n", r"line 2: b is '2'; allowed are 1 and 0"),
        ("file,a,b\n1.png,1,\n", r"line 2: b is ''"),
        ("file,a,b\n1.png,1,-1\n2.png,1,0\n", r'"no" is 0 in line 3, but -1 in line 2'),
        ("file,a b,A_B\n1.png,1,0\n", r"line 1: the column name 'A_B' occurs twice"),
        ("file,a,\n1.png,1,0\n", r"line 1: the column name '' is empty"),
        ('file,a\n1.png,"x\n', r"line 2: is not CSV"),
        (b"file,a\n1.png,\xff\n", r"t\.csv: is not UTF-8 \(byte 13\)"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "UTF-8"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(text, message):
    with pytest.raises(DataError, match=message):
        read(text)
