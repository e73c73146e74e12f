"""The README's first example: ask, follow, and change, with a list in the place of a server."""

import asyncio

from querykit import QueryClient, query_options

server = ["web-1", "web-2"]


async def fetch_pods() -> list[str]:
    print("asking the server")
    return list(server)


async def create_pod(name: str) -> None:
    server.append(name)


pods = query_options(("pods", "prod"), fetch_pods, stale_time=30)


async def follow(client: QueryClient) -> None:
    async with client.observe(pods) as results:
        async for result in results:  # the present one, and one after each change
            print("it is now", result.data)


async def main() -> None:
    async with QueryClient() as client:
        print(await asyncio.gather(client.query(pods), client.query(pods)))  # two callers, one request
        print(await client.query(pods))  # fresh for 30 s: from the cache

        following = asyncio.create_task(follow(client))
        await asyncio.sleep(0)
        await client.mutate(
            create_pod,
            "web-3",
            optimistic=[(pods.key, lambda data, name: sorted({*data, name}))],  # seen at once, undone if it fails
            invalidates=[("pods",)],  # then all keys that begin so are asked for anew
        )
        print("created")
    await following  # it has ended with the client


asyncio.run(main())
