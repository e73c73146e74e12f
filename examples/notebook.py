# mypy: disable-error-code="top-level-await"
# %% [markdown]
# # A cache in a notebook
#
# A notebook's cells all run in one event loop, so that a client made in one cell serves the others, and what it
# does goes on between them. Open this file as a notebook (VS Code, or Jupyter with jupytext), or paste the cells;
# `await` works in them as it stands.

# %% A client for the whole session, and something slow to ask
import asyncio

from querykit import QueryClient, QueryResult, query_options

client = QueryClient()
asked: list[str] = []


async def read_temperature(city: str) -> float:
    """Stand in for a request that takes its time."""
    asked.append(city)
    await asyncio.sleep(0.1)
    return 20.0 + len(asked)


@client.cached("temperature", stale_time=3600)
async def temperature(city: str) -> float:
    return await read_temperature(city)


# %% Run this cell again as often as you like: each city is asked for once an hour
cities = ["Oslo", "Lima", "Pune"]
table = dict(zip(cities, await asyncio.gather(*map(temperature, cities)), strict=True))
print(table)

# %% Or ask anew by hand. Who awaits an invalidation waits for what is observed; here nothing is, yet
temperature.invalidate("Oslo")
print("Oslo:", await temperature("Oslo"), "- asked for", asked.count("Oslo"), "times")

# %% Follow a value while you go on working: the client owns the task, and ends it


async def follow(city: str) -> None:
    async with temperature.observe(city) as results:
        async for result in results:
            print(f"{city} is followed: {result.data}, {result.fetch_status}")


following = client.own(follow("Oslo"), "following Oslo")

# %% Whoever follows sees what is set, and what is fetched
client.set_query_data(temperature.key("Oslo"), -5.0)

# %% It is observed now: to await its invalidation is to wait for the answer
await temperature.invalidate("Oslo")
print("Oslo:", temperature.get("Oslo"))

# %% Wait until something is so, with a question that is asked again each twentieth of a second
counter = query_options(("counter",), lambda: len(asked), refetch_interval=0.05)
client.prefetch(temperature.options("Quito"))


def six_were_asked(result: QueryResult[int]) -> bool:
    return result.data == 6


print("asked", (await client.wait_for(counter, six_were_asked, timeout=10)).data, "times")

# %% What is in the cache
print(client.stats())
for key, data in client.get_queries_data():
    print(key, data)

# %% At the end, or before you run the first cell again
await client.aclose()
