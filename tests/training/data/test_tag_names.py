"""Tags in file names: read back as written, and nothing else is taken for tags."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_plimseg.errors import TagError
from plimseg_training.data.entries import group_in_name, name_without_tags, parse_tags

TAGS = st.lists(st.integers(0, 1), min_size=1, max_size=12)
# as LUAD-HistoSeg, WSSS4LUAD and BCSS-WSSS write them
SEPARATORS = st.sampled_from([" ", ", ", ""])


@given(TAGS, SEPARATORS)
def test_tags_are_read_in_every_style(tags, separator):
    bracket = f"[{separator.join(str(tag) for tag in tags)}]"
    assert parse_tags(bracket) == tuple(tags)
    assert parse_tags(f"slide [x]-1-2-{bracket}.png", len(tags)) == tuple(tags)


@given(st.text(max_size=30))
def test_any_other_text_is_refused(text):
    inner = re.search(r"\[([^\[\]]*)\](\.[A-Za-z0-9]+)?\Z", text)
    one_way = inner and re.fullmatch(r" *[01]( +[01])* *|[01]+| *[01]( *, *[01])* *", inner[1])
    if one_way:
        assert len(parse_tags(text)) >= 1
    else:
        with pytest.raises(TagError):
            parse_tags(text)


@given(st.text("[]01, 2a.", max_size=14))
def test_brackets_that_are_nearly_tags(text):
    try:
        tags = parse_tags(text)
    except TagError:
        return
    bracket = text[text.rindex("[") : text.rindex("]")]
    assert list(tags) == [int(c) for c in bracket if c.isdigit()]


@pytest.mark.parametrize(
    ("name", "tags", "stem"),
    [
        ("1031280-2300-27920-[1 0 0 1].png", (1, 0, 0, 1), "1031280-2300-27920"),
        (
            "TCGA-A1-A0SK-DX1_xmin45749_MPP-0.2500+0[1101].png",
            (1, 1, 0, 1),
            "TCGA-A1-A0SK-DX1_xmin45749_MPP-0.2500",
        ),
        ("436219-7159-48057-[1, 0, 0].png", (1, 0, 0), "436219-7159-48057"),
        ("[0,1]", (0, 1), "[0,1]"),
    ],
)
def test_names_of_the_public_data_sets(name, tags, stem):
    assert parse_tags(name, len(tags)) == tags
    assert name_without_tags(name.removesuffix(".png")) == stem


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a-[1 0 1].png", "3 tags where there are 2 classes"),
        ("a-[2 0].png", "'2'"),
        ("a-[1 x].png", "not a list of zeros and ones"),
        ("a-[1 0, 1].png", "not a list of zeros and ones"),
        ("a-[].png", "not a list of zeros and ones"),
        ("a.png", "no tags at the end"),
        ("a-[1 0] copy.png", "no tags at the end"),
    ],
)
def test_wrong_tags_name_the_file_and_the_mistake(name, says):
    with pytest.raises(TagError) as caught:
        parse_tags(name, 2)
    assert says in str(caught.value)
    assert name in str(caught.value)


def test_groups_that_names_tell():
    assert group_in_name("1031280-2300-27920") == "1031280"
    assert group_in_name("TCGA-A1-A0SK-DX1_xmin1_MPP-0.2500") == "TCGA-A1-A0SK"
    assert group_in_name("slide 7_x100_y200") == "slide 7"
    assert group_in_name("case12") is None
