import pytest

from querykit.cluster import KubeconfigStore
from querykit.errors import WrongThread
from querykit.testing.backend.kubeconfigs import encode_kubeconfig

DEV = encode_kubeconfig("dev", "https://dev.test", "t")
DEV_2 = encode_kubeconfig("dev", "https://dev.test", "u")
PROD = encode_kubeconfig("prod", "https://prod.test", "t")


@pytest.fixture
def cluster(server, connect):
    return connect(server.url, kubeconfigs=[DEV])


async def fetched(client, cluster):
    """The keys whose data is of the present credentials, after each was asked for once."""
    await client.query(("backend",), lambda: cluster.request("/x"))
    await client.query(("dev",), lambda: cluster.request("/x", cluster="dev"))
    await client.query(("prod",), lambda: cluster.request("/x", cluster="prod"))


def kept(client):
    return {query.key[0] for query in client.cache if query.state.has_data}


@pytest.mark.parametrize("name", ["backend_token", "backstage_token"])
async def test_another_token_forgets_everything_that_was_asked_with_the_former(name, client, cluster, server):
    for token in ("one", "two", None):
        await fetched(client, cluster)
        setattr(cluster, name, token)
        assert getattr(cluster, name) == token
        assert kept(client) == set()
    await fetched(client, cluster)
    setattr(cluster, name, None)
    setattr(cluster, name, "")
    assert kept(client) == {"backend", "dev", "prod"}
    with pytest.raises(ValueError, match=name):
        setattr(cluster, name, "line\nbreak")
    assert kept(client) == {"backend", "dev", "prod"}


async def test_observed_queries_are_fetched_again_with_the_new_token(client, cluster, server):
    async with client.observe(("backend",), lambda: cluster.request("/x")) as results:
        async for result in results:
            if result.is_success:
                break
        cluster.backend_token = "new"
        async for result in results:
            if result.is_success:
                break
    assert server.seen("X-HEADLAMP_BACKEND-TOKEN") == [None, "new"]


async def test_a_changed_kubeconfig_forgets_what_was_asked_of_its_cluster_alone(client, cluster, server):
    await fetched(client, cluster)
    cluster.kubeconfigs.add(PROD)
    assert kept(client) == {"backend", "dev"}
    await fetched(client, cluster)
    cluster.kubeconfigs.replace([DEV_2, PROD])
    assert kept(client) == {"backend", "prod"}
    await fetched(client, cluster)
    cluster.kubeconfigs.remove("prod")
    assert kept(client) == {"backend", "dev"}
    server.requests.clear()
    await fetched(client, cluster)
    assert set(server.seen("KUBECONFIG")) <= {None, DEV_2}


async def test_another_store_forgets_what_differs_and_the_former_is_not_heard_any_more(client, cluster):
    former = cluster.kubeconfigs
    await fetched(client, cluster)
    store = KubeconfigStore([DEV, PROD])
    cluster.kubeconfigs = store
    assert cluster.kubeconfigs is store
    assert kept(client) == {"backend", "dev"}
    former.replace([])
    assert kept(client) == {"backend", "dev"}
    cluster.kubeconfigs = [DEV_2]
    assert kept(client) == {"backend"}


async def test_a_store_is_not_heard_after_the_client_is_closed(client, cluster):
    await fetched(client, cluster)
    await cluster.aclose()
    await cluster.aclose()
    cluster.kubeconfigs.replace([])
    assert "dev" in kept(client)


async def test_from_another_thread_a_token_cannot_be_changed(client, cluster):
    import asyncio

    await fetched(client, cluster)
    with pytest.raises(WrongThread):
        await asyncio.to_thread(setattr, cluster, "backend_token", "x")
    assert cluster.backend_token is None
    assert kept(client) == {"backend", "dev", "prod"}


@pytest.mark.parametrize(("kubeconfigs", "error"), [("text", TypeError), (["nonsense"], ValueError)])
async def test_what_is_no_kubeconfig_is_refused_and_those_there_are_stay(kubeconfigs, error, cluster):
    before = cluster.kubeconfigs
    with pytest.raises(error):
        cluster.kubeconfigs = kubeconfigs
    assert cluster.kubeconfigs is before
