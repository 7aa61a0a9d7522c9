// What the totals of a flow mean: rates, fills, who is the cause of what waits, and when a queue will be full.
const kept = 16;
const drawn = 150;
const full = 0.9;
const times = ["busy_s", "waiting_s", "blocked_s"];

// The graph of a flow as the screens take it, of what the daemon says. Stats know an edge by less than its id.
export function graphOf({ nodes, edges }, revision) {
  const edge = ({ id, from, port, to, input }) => ({
    id,
    from: { node: from, port },
    to,
    input,
    stats: `${from}.${port}>${to}`,
  });
  return { revision, nodes, edges: edges.map(edge) };
}

// The last samples of a flow's totals. A rate is that of a few seconds, so that it does not flicker.
export class Samples {
  all = [];
  rates = new Map();

  add(stats) {
    const before = this.all.at(-1);
    if (before && Date.parse(stats.at) <= Date.parse(before.at)) return;
    if (before && began(before, stats)) this.all = [];
    this.all.push(stats);
    if (this.all.length > kept) this.all.shift();
    for (const name of Object.keys(stats.nodes)) this.draw(name);
  }

  get last() {
    return this.all.at(-1) ?? null;
  }

  // The sample some seconds before the last one.
  before(seconds = 4) {
    const end = Date.parse(this.last?.at);
    return (
      this.all.find((sample) => end - Date.parse(sample.at) <= 1000 * seconds + 500 && sample !== this.last) ?? null
    );
  }

  draw(name) {
    const rate = this.rate(name);
    const line = this.rates.get(name) ?? [];
    if (rate != null) line.push(rate);
    if (line.length > drawn) line.shift();
    this.rates.set(name, line);
  }

  // Rows a second that a node takes, or, of an input, gives.
  rate(name) {
    const [a, b, seconds] = this.pair(name);
    return a && (flowed(b) - flowed(a)) / seconds;
  }

  // A node's totals some seconds ago and now.
  pair(name, seconds) {
    const before = this.before(seconds);
    const [a, b] = [before?.nodes[name], this.last?.nodes[name]];
    return a && b ? [a, b, (Date.parse(this.last.at) - Date.parse(before.at)) / 1000] : [null, b ?? null, 0];
  }
}

export const given = (totals) => Object.values(totals.rows_out ?? {}).reduce((sum, n) => sum + n, 0);
const flowed = (totals) => totals.rows_in || given(totals);

// Another revision, or totals that are less than they were: counted anew.
const began = (before, stats) =>
  (before.revision ?? stats.revision) !== (stats.revision ?? before.revision) ||
  Object.entries(before.nodes).some(([name, totals]) => flowed(stats.nodes[name] ?? totals) < flowed(totals));

// How a flow's nodes and edges do: `{ nodes, edges, causes }`, the first two by name and id.
export function derive(graph, samples) {
  const edges = new Map(graph.edges.map((edge) => [edge.id, edgeNow(edge, samples)]));
  const nodes = new Map(graph.nodes.map((node) => [node.name, nodeNow(node, graph, edges, samples)]));
  const causes = graph.nodes
    .filter((node) => nodes.get(node.name).cause)
    .map((node) => ({ node: node.name, holds: held(node.name, graph, edges) }));
  for (const { node, holds } of causes) for (const name of holds) nodes.get(name).heldBy ??= node;
  return { nodes, edges, causes };
}

const fillOf = (queue) =>
  queue
    ? Math.min(
        1,
        Math.max(
          queue.limit_rows ? queue.rows / queue.limit_rows : 0,
          queue.limit_bytes ? queue.bytes / queue.limit_bytes : 0,
        ),
      )
    : 0;

function edgeNow(edge, samples) {
  const queue = samples.last?.edges?.[edge.stats] ?? null;
  const [a, b, seconds] = samples.pair(edge.from.node);
  const rate = a && ((b.rows_out?.[edge.from.port] ?? 0) - (a.rows_out?.[edge.from.port] ?? 0)) / seconds;
  return { queue, fill: fillOf(queue), rate, eta: eta(edge.stats, samples) };
}

// Seconds until a queue is full, if it has grown all the while that is known: one that goes up and down will not.
function eta(id, samples) {
  const fills = samples.all.map((sample) => fillOf(sample.edges?.[id]));
  if (fills.length < 8 || fills.at(-1) >= full || fills.at(-1) < 0.2) return null;
  const half = fills.length >> 1;
  const seconds = (Date.parse(samples.last.at) - Date.parse(samples.all[0].at)) / 1000;
  const growth = (fills.at(-1) - fills[0]) / seconds;
  if (fills.at(-1) - fills[0] < 0.04 || fills[half] < fills[0] || fills.at(-1) < fills[half]) return null;
  const left = (1 - fills.at(-1)) / growth;
  return left < 3600 ? left : null;
}

function nodeNow(node, graph, edges, samples) {
  const [before, totals, seconds] = samples.pair(node.name);
  const into = graph.edges.filter((edge) => edge.to === node.name).map((edge) => edges.get(edge.id));
  const outOf = graph.edges.filter((edge) => edge.from.node === node.name).map((edge) => edges.get(edge.id));
  const waits = into.some((edge) => edge.fill >= full);
  const held = outOf.some((edge) => edge.fill >= full);
  const rate = before && (flowed(totals) - flowed(before)) / seconds;
  const stalled = before && rate === 0 && !held && seconds >= 3 && into.some((edge) => edge.queue?.rows > 0);
  return {
    totals,
    rate,
    failing: before && (totals.rows_failed - before.rows_failed) / seconds,
    shares: before ? shares(before, totals) : null,
    cause: waits && !held,
    stalled: Boolean(stalled) && !(waits && !held),
    heldBy: null,
    eta: Math.min(...into.map((edge) => edge.eta ?? Infinity)),
    trouble: totals?.retrying ?? totals?.connection?.reason ?? null,
    connection: totals?.connection ?? null,
  };
}

// Of its time, how much a node was busy, waited for rows, and was blocked by what is behind it.
function shares(before, totals) {
  const spent = times.map((name) => Math.max(0, (totals[name] ?? 0) - (before[name] ?? 0)));
  const sum = spent[0] + spent[1] + spent[2];
  return sum > 0 ? spent.map((n) => n / sum) : null;
}

// The nodes before a node that wait for it, over edges that are full, the nearest first.
function held(name, graph, edges) {
  const found = [];
  const look = [name];
  while (look.length) {
    const at = look.shift();
    for (const edge of graph.edges) {
      const before = edge.from.node;
      if (edge.to !== at || edges.get(edge.id).fill < full || found.includes(before) || before === name) continue;
      found.push(before);
      look.push(before);
    }
  }
  return found;
}
