"""The store and the patches as such, without HTTP."""

from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from querykit.testing.backend.listing import ListOptions
from querykit.testing.backend.manifests import parse_timestamp, timestamp
from querykit.testing.backend.patches import merge_patch
from querykit.testing.backend.resources import DEPLOYMENTS, NAMESPACES, NODES, RESOURCES, parse_target
from querykit.testing.backend.store import Store

NAMES = st.lists(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,6}[a-z0-9])?", fullmatch=True), unique=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def store_of(names):
    store = Store(clock=lambda: 0.0, rng=Random(1))
    for name in names:
        store.create(NODES, {"metadata": {"name": name}})
    return store


def page_of(store, query):
    return store.list_objects(NODES, "", ListOptions.from_query(query, NODES))


@settings(deadline=None)
@given(NAMES, st.integers(1, 5), st.randoms())
def test_pages_are_complete_and_without_doubles_whatever_is_written_between(names, limit, random):
    """kubernetes.md 1.2: every page belongs to the first one's state."""
    store = store_of(names)
    query = {"limit": str(limit)}
    found, left = [], list(names)
    while True:
        page = page_of(store, query)
        found += [item["metadata"]["name"] for item in page["items"]]
        if not (token := page["metadata"].get("continue")):
            break
        assert page["metadata"]["remainingItemCount"] == len(names) - len(found)
        query["continue"] = token
        if left and random.random() < 0.5:
            store.delete(NODES, left.pop(random.randrange(len(left))))
        else:
            store.create(NODES, {"metadata": {"generateName": "0-"}})
    assert found == sorted(names)


@settings(deadline=None)
@given(NAMES)
def test_resource_versions_rise_by_one_with_each_write(names):
    store = store_of(names)
    versions = [int(item["metadata"]["resourceVersion"]) for item in store.all(NODES)]
    assert sorted(versions) == list(range(1001, 1001 + len(names)))
    assert page_of(store, {})["metadata"]["resourceVersion"] == str(1000 + len(names))


def test_what_was_given_can_be_changed_without_harm():
    store = store_of([])
    manifest = {"metadata": {"name": "one", "labels": {"a": "b"}}}
    store.create(NODES, manifest)
    manifest["metadata"]["labels"]["a"] = "c"
    assert store.get(NODES, "one")["metadata"]["labels"] == {"a": "b"}


def test_a_generated_name_has_at_most_63_characters():
    assert len(store_of([]).generate_name("x" * 100)) == 63


def test_an_object_whose_finalizers_end_after_its_time_is_gone_at_the_next_look():
    clock = [0.0]
    store = Store(clock=lambda: clock[0], rng=Random(1))
    store.write(NAMESPACES, {"metadata": {"name": "demo"}})
    held = store.create(NODES, {"metadata": {"name": "n", "finalizers": ["x"]}})
    store.delete(NODES, "n")
    clock[0] = 100.0
    assert store.get(NODES, "n")["metadata"]["finalizers"] == ["x"]
    store.replace(NODES, "n", {"metadata": {"name": "n", "uid": held["metadata"]["uid"]}})
    assert not store.all(NODES)


def test_an_earlier_state_is_read_without_the_changes_of_other_types():
    store = store_of(["a"])
    first = page_of(store, {})
    store.create(NAMESPACES, {"metadata": {"name": "demo"}})
    store.create(NODES, {"metadata": {"name": "b"}})
    exact = {"resourceVersion": first["metadata"]["resourceVersion"], "resourceVersionMatch": "Exact"}
    assert page_of(store, exact) == first
    nothing = page_of(store, {"resourceVersion": "1000", "resourceVersionMatch": "Exact"})
    assert nothing["items"] == []


def test_an_owner_and_what_it_owns_go_together():
    store = store_of([])
    store.write(NAMESPACES, {"metadata": {"name": "demo"}})
    owner = store.write(DEPLOYMENTS, {"metadata": {"name": "a", "namespace": "demo"}})
    owned = {"name": "b", "namespace": "demo", "ownerReferences": [{"uid": owner["metadata"]["uid"]}]}
    store.write(DEPLOYMENTS, {"metadata": owned})
    store.delete(NAMESPACES, "demo")
    assert not store.all(DEPLOYMENTS)


@settings(deadline=None)
@given(st.integers(0, 4_000_000_000))
def test_a_timestamp_can_be_read_back(seconds):
    assert parse_timestamp(timestamp(seconds)) == seconds


def test_every_row_of_the_table_is_found_by_its_path():
    for row in RESOURCES:
        root = f"/apis/{row.group}/{row.version}" if row.group else f"/api/{row.version}"
        collection = f"{root}/namespaces/demo/{row.plural}" if row.namespaced else f"{root}/{row.plural}"
        for path in (collection, f"{collection}/name"):
            target = parse_target(path)
            assert target is not None
            assert target.resource is row


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_does_what_the_standard_shows(target, patch, result):
    """RFC 7396, appendix A."""
    assert merge_patch(target, patch) == result


@settings(deadline=None)
@given(JSON, JSON)
def test_a_merge_patch_leaves_its_target_and_applies_once(target, patch):
    before = repr(target)
    once = merge_patch(target, patch)
    assert repr(target) == before
    assert merge_patch(once, patch) == once
