"""Files of words and of labels: what is read, what is passed over and counted, what is refused and where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open3dsg.datasets.files import unchanged
from open3dsg.datasets.labelfile import read_labels
from open3dsg.datasets.wordfile import Words, read_words
from open3dsg.errors import BadFileError, UserError


def write(folder: Path, content: bytes | str, name: str = "words.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\N{ZERO WIDTH NO-BREAK SPACE}"])
@pytest.mark.parametrize("last", [True, False])
def test_a_word_a_line(tmp_path: Path, end: str, mark: str, last: bool) -> None:
    lines = ["sofa", " night stand ", "", "# a comment", "bed", "sofa", "Sofa", "Stühle 椅子", "bed", "   "]
    path = write(tmp_path, mark + end.join(lines) + (end if last else ""))
    assert read_words(path, None, 500) == Words(
        ["sofa", "night stand", "bed", "Sofa", "Stühle 椅子"], ["sofa", "bed"], empty=2, comments=1
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'id,name\n1,wall\n2,"chair, red"\n3,wall\n4,\n5\n'),
        ("t.tsv", "id\tname\n1\twall\n2\tchair, red\n3\twall\n4\t\n5\n"),
        ("t.txt", "id\tname\n1\twall\n2\tchair, red\n3\twall\n4\t\n5\n"),
    ],
)
def test_a_column_of_a_table(tmp_path: Path, name: str, content: str) -> None:
    path = write(tmp_path, content, name)
    assert read_words(path, "name", 500) == Words(["wall", "chair, red"], ["wall"], empty=2, comments=0)


def test_wordings_stand_for_words_of_the_list(tmp_path: Path) -> None:
    lines = [
        "to the left of = left",
        "left",
        "=b",
        "a=b",
        "x  =\tleft",
        "# a = b",
        "to the left of = left",
        "y",
    ]
    found = read_words(write(tmp_path, "\n".join(lines)), None, 500)
    assert found == Words(
        ["to the left of", "left", "=b", "a=b", "x", "y"],
        ["to the left of"],
        empty=0,
        comments=1,
        stands_for={"to the left of": "left", "x": "left"},
    )


def test_a_table_has_its_wordings_in_a_column(tmp_path: Path) -> None:
    path = write(tmp_path, "says,means\nto the left of,left\nleft,\na = b, left \n,\n", "t.csv")
    stands_for = {"to the left of": "left", "a = b": "left"}
    assert read_words(path, "says", 500, "means") == Words(
        ["to the left of", "left", "a = b"], [], empty=1, comments=0, stands_for=stands_for
    )
    assert read_words(path, "says", 500).stands_for == {}
    with pytest.raises(UserError, match="has no column 'meant'; it has says, means"):
        read_words(path, "says", 500, "meant")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "left\nx = right",
            "line 2: 'x' stands for 'right', which is not in the list: give that word a line",
        ),
        ("a = b\nb = c\nc", "line 1: 'a' stands for 'b', which stands for 'c' (line 2): name 'c'"),
        ("a = b\nb = a", "line 1: 'a' stands for 'b', which stands for 'a' (line 2)"),
        ("a = a", "line 1: 'a' stands for 'a', itself: write the word alone"),
        ("b\nc\na = b\na = c", "line 4: 'a' stands for 'c', and for 'b' on line 3: leave one"),
        ("b\na = b\na", "line 3: 'a' stands for 'a', and for 'b' on line 2: leave one"),
        ("b\n = b", "line 2 lacks the wording that stands for 'b'"),
        ("b\na = ", "line 2 is 'a =': write it as WORDING = WORD"),
        ("b\n=\n", "line 2 is '=': write it as WORDING = WORD"),
        ("b\na = b = c", "line 2 is 'a = b = c': write it as WORDING = WORD"),
        ("b\na = " + "x" * 501, "line 2 has 501 characters"),
        ("b\na = c\0d", "line 2 holds a character that cannot be shown"),
    ],
)
def test_wordings_of_nothing_are_refused_with_their_line(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(BadFileError) as caught:
        read_words(write(tmp_path, content), None, 500)
    assert f"words.txt: {told}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "column", "told"),
    [
        (
            "w.txt",
            "a\nb\n" + "x" * 501,
            None,
            "w.txt: line 3 has 501 characters; a word or phrase has at most 500",
        ),
        ("w.txt", b"a\nb\n\xff\n", None, "w.txt: line 3 is not UTF-8 text"),
        ("w.txt", "a\nb\0c\n", None, "w.txt: line 2 holds a character that cannot be shown"),
        ("w.txt", "\n# nothing\n", None, "w.txt: holds no words"),
        ("w.txt", "", None, "w.txt: holds no words"),
        ("t.csv", "id,name\n1,wall\n", None, "say which --column holds the words; it has id, name"),
        ("t.csv", "id,name\n1,wall\n", "label", "has no column 'label'; it has id, name"),
        ("t.csv", "", "label", "has no column 'label'; it has none"),
        ("t.csv", "name,name\nwall,wand\n", "name", "has several columns 'name'"),
        ("t.csv", "id,name\n1,wall\n2," + "x" * 501, "name", "line 3 has 501 characters"),
        ("t.csv", "x" * 200_000 + ",name\n1,wall\n", "name", "t.csv: line 1: field larger"),
    ],
)
def test_what_cannot_be_a_list_is_refused_with_its_line(
    tmp_path: Path, name: str, content: bytes | str, column: str | None, told: str
) -> None:
    with pytest.raises(UserError) as caught:
        read_words(write(tmp_path, content, name), column, 500)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8)))
def test_every_line_is_a_word_or_counted(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = write(tmp_path_factory.mktemp("words"), "\n".join(["first", *lines]))
    found = read_words(path, None, 500)
    assert len(found.words) + len(found.duplicates) + found.empty + found.comments == len(lines) + 1
    assert list(found.words) == list(dict.fromkeys(w for w in ["first", *lines] if not w.startswith("#")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", 'dataset,scan,instance,label\nd,a,4,desk\n,b,7,"a, b"\nd,a,5,bed\n'),
        ("l.csv", 'label,instance,scan,dataset,note\ndesk,4,a,d,x\n"a, b",7,b,,x\nbed,5,a,d,x\n'),
        ("l.json", '{"d/a": {"4": "desk", "5": "bed"}, "b": {"7": "a, b"}}'),
    ],
)
def test_labels_of_ones_own(tmp_path: Path, name: str, content: str) -> None:
    assert read_labels(write(tmp_path, content, name)) == {"d/a": {4: "desk", 5: "bed"}, "b": {7: "a, b"}}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("l.csv", "scan,label\na,b\n", "dataset,scan,instance,label; instance is missing"),
        ("l.csv", "scan,instance,label\na,4\n", "line 2: 3 columns are needed"),
        ("l.csv", "scan,instance,label\na,4,b,c\n", "line 2: 3 columns are needed"),
        ("l.csv", "scan,instance,label\na,4,b\na,-1,b\n", "line 3: instance '-1' is no number from 0"),
        ("l.csv", "scan,instance,label\na,99999999999,b\n", "line 2: instance '99999999999'"),
        ("l.csv", "scan,instance,label\na," + "1" * 5000 + ",b\n", "line 2: instance '1111"),
        ("l.csv", '"scan"x,instance,label\na,4,b\n', "l.csv: line 1: "),
        ("l.csv", "scan,instance,label\na,4, \n", "line 2: the label of instance 4 is empty"),
        ("l.csv", "scan,instance,label\na,4,b\na,4,b\n", "line 3: instance 4 of scan a is named twice"),
        ("l.csv", "scan,instance,label\n", "names no instance"),
        ("l.json", "{}", "names no instance"),
        ("l.json", '{"a": ["b"]}', "'a': an object was expected"),
        ("l.json", '{"a": {"4": 5}}', "'a': '4': a text was expected"),
        ("l.json", '{"a": {"x": "b"}}', "instance 'x' is no number from 0"),
        ("l.json", '{"a"', "not valid JSON at line 1"),
        ("l.json", '{"a": ' + "1" * 5000 + "}", "l.json: no dataset file: Exceeds the limit"),
    ],
)
def test_labels_that_cannot_be_are_refused_with_their_line(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    with pytest.raises(UserError) as caught:
        read_labels(write(tmp_path, content, name))
    assert told in str(caught.value)


def test_files_that_come_go_or_change_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    kept, changed, gone = (write(tmp_path / "below", "x", name) for name in ("a", "b", "c"))
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    places = (tmp_path, tmp_path / "absent", kept)
    with unchanged("s", *places):
        kept.read_text()
    with (
        pytest.raises(UserError, match=rf"{changed}: changed while s was read: wait"),
        unchanged("s", *places),
    ):
        changed.write_text("xy")
    with (
        pytest.raises(UserError, match=rf"{tmp_path}/absent: changed while s was read, as did 2 more"),
        unchanged("s", *places),
    ):
        swap(gone, tmp_path / "below" / "new", tmp_path / "absent")
    with pytest.raises(UserError, match="changed while"), unchanged("s", tmp_path):
        os.utime(kept, ns=(0, 1))


def swap(gone: Path, *new: Path) -> None:
    gone.unlink()
    for path in new:
        path.write_text("x")
    raise BadFileError("damaged")


def test_damage_is_told_as_such_where_nothing_changed(tmp_path: Path) -> None:
    path = write(tmp_path, "x")
    with pytest.raises(BadFileError, match="damaged"), unchanged("s", tmp_path):
        raise BadFileError("damaged")
    with pytest.raises(UserError, match=rf"{path}: changed while s"), unchanged("s", tmp_path):
        swap(path)
