"""JSON read step by step is what is read at once, whatever the text."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_virchow.qupath import steps

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=17,
)


@given(VALUES, st.sampled_from([None, 1]))
def test_every_value_is_read_as_it_was_written(value, indent):
    assert steps.loads(json.dumps(value, indent=indent)) == value


@given(VALUES, st.integers(0, 60), st.sampled_from('[]{},:" x1'))
def test_a_damaged_text_is_refused_or_read_as_at_once(value, place, character):
    text = json.dumps(value)
    text = text[:place] + character + text[place + 1 :]
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match="."):
            steps.loads(text)
    else:
        assert steps.loads(text) == expected or expected != expected  # noqa: PLR0124


@pytest.mark.parametrize(
    "text", ["", " ", "[1,]", '{"a":1,}', "[1 2]", '{"a" 1}', "[1] x", "{1:2}"]
)
def test_what_is_no_json_is_refused_in_the_usual_words(text):
    with pytest.raises(json.JSONDecodeError):
        steps.loads(text)


def test_odd_things_that_files_have_are_read():
    assert math.isnan(steps.loads('{"features": [NaN]}')["features"][0])
    assert steps.loads('{"a": 1, "a": [2]}') == {"a": [2]}
    assert steps.loads(" \n[ ] ") == []


@given(st.lists(VALUES, max_size=7))
def test_what_is_written_in_steps_is_one_list(values):
    def dump(some):
        return json.dumps(some).encode()

    text = b"[" + b",".join(steps.dumped(values, dump)) + b"]"
    assert json.loads(text) == values
