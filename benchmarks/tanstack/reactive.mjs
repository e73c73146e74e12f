// The TanStack column of ../reactive.py, which starts this and says what to do: one JSON object a line comes in, one
// goes out. {"open": row, "scene": ..., "size": ...} | {"run": row, "times": ...} | {"close": true} | {"memory": true}

import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

import { environmentManager, QueriesObserver, QueryClient, QueryObserver } from '@tanstack/query-core'

// As in a browser: entries are collected after 5 minutes. (What it takes for a server never collects.)
environmentManager.setIsServer(() => false)

const keyOf = (number) => ['clusterMe', number]
const payload = (number) => ({ id: number, name: `user ${number}`, tags: ['admin', 'eu'] })
const payloads = (times) => Array.from({ length: times }, () => payload((made += 1)))
let made = 0

const clients = []

function opened() {
  const client = new QueryClient()
  clients.push(client)
  return client
}

function check(what, found, wanted) {
  if (found !== wanted) throw new Error(`${what}: ${found}, not ${wanted}`)
}

function optionsOf(number) {
  return { queryKey: keyOf(number), queryFn: async () => payload((made += 1)), staleTime: Infinity }
}

function fill(client, size) {
  for (let number = 0; number < size; number += 1) client.setQueryData(keyOf(number), payload((made += 1)))
}

// What the callbacks of one scene have seen. Each callback is a closure of its own.
class Seen {
  calls = 0
  data = undefined

  callback() {
    return (result) => {
      this.calls += 1
      this.data = result.data
    }
  }
}

function counters(size) {
  return Array.from({ length: size }, () => {
    let calls = 0
    return {
      add: (_result) => {
        calls += 1
      },
      calls: () => calls,
    }
  })
}

const scenes = {
  // The yardstick: callbacks in a Set, of which a copy is called.
  loopOverSet(size) {
    const all = counters(size)
    const callbacks = new Set(all.map((one) => one.add))
    const given = payload(0)
    return (times) => {
      const before = all[0].calls()
      const begin = performance.now()
      for (let time = 0; time < times; time += 1) {
        for (const call of [...callbacks]) call(given)
      }
      const took = performance.now() - begin
      for (const one of all) check('calls', one.calls() - before, times)
      return [took / size, times * size]
    }
  },

  // The same from an array.
  loopOverList(size) {
    const all = counters(size)
    const callbacks = all.map((one) => one.add)
    const given = payload(0)
    return (times) => {
      const before = all[0].calls()
      const begin = performance.now()
      for (let time = 0; time < times; time += 1) {
        for (const call of callbacks.slice()) call(given)
      }
      const took = performance.now() - begin
      for (const one of all) check('calls', one.calls() - before, times)
      return [took / size, times * size]
    }
  },

  setOne(size) {
    const client = opened()
    const seen = new Seen()
    fill(client, 1)
    for (let at = 0; at < size; at += 1) new QueryObserver(client, optionsOf(0)).subscribe(seen.callback())
    return (times) => {
      const values = payloads(times)
      seen.calls = 0
      const begin = performance.now()
      for (const value of values) client.setQueryData(['clusterMe', 0], value)
      const took = performance.now() - begin
      check('callbacks', seen.calls, times * size)
      if (size) check('data', seen.data.id, values.at(-1).id)
      return [took, seen.calls]
    }
  },

  many(size) {
    const client = opened()
    fill(client, size)
    let calls = 0
    let at = 0
    let data
    const all = new QueriesObserver(
      client,
      Array.from({ length: size }, (_, number) => optionsOf(number)),
    )
    all.subscribe((results) => {
      calls += 1
      data = results[at].data
    })
    return (times) => {
      const values = payloads(times)
      calls = 0
      const begin = performance.now()
      for (const value of values) {
        at = (at + 7919) % size // a prime: it comes to every key
        client.setQueryData(['clusterMe', at], value)
      }
      const took = performance.now() - begin
      check('callbacks', calls, times)
      check('data', data.id, values.at(-1).id)
      return [took, calls]
    }
  },

  flag: (size) => invalidating(size, 'none'),
  refetch: (size) => invalidating(size, 'active'),

  observe(size) {
    const client = opened()
    const seen = new Seen()
    fill(client, size)
    const callback = seen.callback()
    return (times) => {
      seen.calls = 0
      const begin = performance.now()
      for (let time = 0; time < times; time += 1) {
        const observer = new QueryObserver(client, optionsOf(time % size))
        const undo = observer.subscribe(callback)
        undo()
      }
      const took = performance.now() - begin
      return [took, seen.calls]
    }
  },
}

function invalidating(size, refetchType) {
  const client = opened()
  const seen = new Seen()
  const keys = size / 10
  fill(client, keys)
  for (let at = 0; at < size; at += 1) new QueryObserver(client, optionsOf(at % keys)).subscribe(seen.callback())
  return async (times) => {
    let took = 0
    let calls = 0
    for (let time = 0; time < times; time += 1) {
      fill(client, keys)
      seen.calls = 0
      const last = made
      const begin = performance.now()
      await client.invalidateQueries({ queryKey: ['clusterMe'], refetchType })
      took += performance.now() - begin
      calls += seen.calls
      check('fetches', made - last, refetchType === 'none' ? 0 : keys)
      check('flagged', client.getQueryState(keyOf(0)).isInvalidated, refetchType === 'none')
    }
    return [took, calls]
  }
}

function memory() {
  globalThis.gc()
  globalThis.gc()
  return process.memoryUsage().heapUsed
}

const rows = new Map()

async function answer(asked) {
  if ('open' in asked) {
    rows.set(asked.open, scenes[asked.scene](asked.size))
    return {}
  }
  if ('run' in asked) {
    globalThis.gc()
    const [milliseconds, callbacks] = await rows.get(asked.run)(asked.times)
    return { seconds: milliseconds / 1e3 / asked.times, callbacks: callbacks / asked.times }
  }
  if ('memory' in asked) return { bytes: memory() }
  rows.clear()
  for (const client of clients.splice(0)) client.clear() // with the timers, which would hold it
  return {}
}

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`)
const { version } = createRequire(import.meta.url)('@tanstack/query-core/package.json')
say({ node: process.versions.node, v8: process.versions.v8, queryCore: version })
for await (const line of createInterface({ input: process.stdin })) say(await answer(JSON.parse(line)))
process.exit(0) // the gc timers of what was left would hold it for minutes
