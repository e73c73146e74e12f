"""The README's first example: many callers, one call upstream, until somebody says that it is out of date."""

import asyncio

from querykit import QueryClient


async def fetch_pods() -> list[str]:
    print("asking the server")
    return ["web-1", "web-2"]


async def main() -> None:
    async with QueryClient() as client:
        pods = ("pods", "prod")
        print(await asyncio.gather(*[client.query(pods, fetch_pods, stale_time=30) for _ in range(2)]))
        print(await client.query(pods, fetch_pods, stale_time=30))  # fresh for 30 s: from the cache
        client.invalidate_queries(("pods",))  # all keys that begin so are out of date
        print(await client.query(pods, fetch_pods, stale_time=30))


asyncio.run(main())
