import base64
import sys

import pytest

from querykit.cluster import KubeconfigStore
from querykit.testing.backend.kubeconfigs import encode_kubeconfig

DEV = """
contexts:
- name: dev
  context:
    cluster: dev
    extensions:
    - {name: other, extension: {customName: no}}
    - {name: headlamp_info, extension: {customName: my dev}}
    - {name: headlamp_info, extension: nothing}
users:
- {name: ada, user: {token: s3cret}}
"""
PROD = encode_kubeconfig("prod", "https://prod.test", "s3cret")


def test_a_kubeconfig_is_found_by_a_contexts_name_or_its_custom_name():
    store = KubeconfigStore([DEV, PROD])
    encoded = base64.b64encode(DEV.encode()).decode()
    assert store.find("dev") == store.find("my dev") == encoded
    assert store.find("prod") == PROD
    assert store.find("no") is None
    assert store.clusters == {"dev", "my dev", "prod"}
    assert len(store) == 2


def test_base64_may_have_line_breaks_which_no_header_has():
    broken = "\n".join([PROD[:40], PROD[40:]])
    assert KubeconfigStore([broken]).find("prod") == PROD


def test_of_two_with_one_name_the_first_counts():
    other = encode_kubeconfig("prod", "https://other.test", "t")
    store = KubeconfigStore([PROD, other])
    assert store.find("prod") == PROD
    store.remove("prod")
    assert store.find("prod") == other


def test_a_change_is_told_with_the_clusters_that_it_concerns():
    store, told = KubeconfigStore([DEV]), []
    undo = store.subscribe(told.append)
    store.add(PROD)
    store.add(PROD)  # finds nothing new
    store.remove("dev")
    store.remove("nowhere")
    store.replace([])
    assert told == [{"prod"}, {"dev", "my dev"}, {"prod"}]
    undo()
    store.add(DEV)
    assert len(told) == 3


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"contexts: []", TypeError),
        (None, TypeError),
        ("!!!", ValueError),
        (base64.b64encode(b"\xff\xfe").decode(), ValueError),
        ("token: s3cret: no", ValueError),
        ("contexts: s3cret", ValueError),
        ("s3cret:", ValueError),
        ("", ValueError),
        ("contexts: [s3cret, {context: {}}]", ValueError),
    ],
)
def test_a_text_that_is_no_kubeconfig_is_refused_without_being_shown_and_the_store_stays(text, error):
    store = KubeconfigStore([DEV])
    with pytest.raises(error) as raised:
        store.add(text)
    assert "s3cret" not in repr(raised.value)
    assert raised.value.__context__ is None
    with pytest.raises(error):
        store.replace([PROD, text])
    assert store.clusters == {"dev", "my dev"}


def test_one_text_is_no_list_of_texts():
    with pytest.raises(TypeError, match="list of texts"):
        KubeconfigStore(PROD)


def test_without_pyyaml_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert len(KubeconfigStore()) == 0
    with pytest.raises(ModuleNotFoundError, match=r"querykit\[kubernetes\]"):
        KubeconfigStore([DEV])


def test_a_repr_shows_no_kubeconfig():
    assert repr(KubeconfigStore([DEV])) == "<KubeconfigStore of 1 kubeconfigs>"
