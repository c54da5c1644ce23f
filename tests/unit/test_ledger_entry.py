"""The identity of a piece of work."""

from __future__ import annotations

from open3dsg.db.ledger import Entry


def test_options_hash_to_the_same_in_any_order_and_differ_by_value() -> None:
    first = Entry("observe", 1, {"every": 10, "thresholds": {"a": 1, "b": 2.5}})
    same = Entry("observe", 1, {"thresholds": {"b": 2.5, "a": 1}, "every": 10})
    other = Entry("observe", 1, {"every": 11, "thresholds": {"a": 1, "b": 2.5}})
    assert first.options_hash == same.options_hash != other.options_hash
    assert len(first.options_hash) == 16
    assert first.key() == {
        "step": "observe",
        "variant": "",
        "step_version": 1,
        "options_hash": first.options_hash,
    }
