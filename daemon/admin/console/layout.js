// Places a graph in layers: a node stands behind all that lead to it, edges cross as little as is found soon, and run as straight as they can.
const rounds = 16;

// `nodes` are `{ id, width, height }`, `edges` are `{ id, from, to }`. Gives the places of nodes and the curves of edges by their ids, the nodes in
// topological order, and the size of it all. `down` lets the graph run downwards instead of to the right.
export function layout(nodes, edges, { along = 64, across = 20, down = false } = {}) {
  const cells = new Map(nodes.map((node) => [node.id, cell(node, down)]));
  const drawn = edges.filter((edge) => edge.from !== edge.to && cells.has(edge.from) && cells.has(edge.to));
  const order = topological(cells, drawn);
  rank(order);
  const { layers, lanes } = intoLayers(order, drawn, cells);
  untangle(layers);
  const size = place(layers, along, across);
  const flip = (u, v) => (down ? [v, u] : [u, v]);
  const [width, height] = flip(size.u, size.v);
  return {
    order: order.map((cell) => cell.id),
    nodes: new Map(order.map((cell) => [cell.id, placed(cell, down)])),
    edges: curves(lanes, flip),
    width,
    height,
  };
}

// `long` is its extent in the direction in which the graph runs, `broad` the other one; `before` and `after` are links in the next layers.
const cell = ({ id, width, height }, down) => ({
  ...{ id, long: down ? height : width, broad: down ? width : height, into: [], outOf: [] },
  ...{ before: [], after: [], layer: 0, index: 0, u: 0, v: 0 },
});

const placed = (cell, down) =>
  down
    ? { x: cell.v, y: cell.u, width: cell.broad, height: cell.long, layer: cell.layer, index: cell.index }
    : { x: cell.u, y: cell.v, width: cell.long, height: cell.broad, layer: cell.layer, index: cell.index };

// Kahn's order. Where a cycle is left, it is entered at the node with the fewest edges from the cycle.
function topological(cells, edges) {
  for (const { from, to } of edges) {
    cells.get(from).outOf.push(cells.get(to));
    cells.get(to).into.push(cells.get(from));
  }
  const left = new Map([...cells.values()].map((cell) => [cell, cell.into.length]));
  const ready = [...left.keys()].filter((cell) => left.get(cell) === 0);
  const order = [];
  ready.forEach((cell) => left.delete(cell));
  while (ready.length || left.size) {
    if (!ready.length) {
      const entry = [...left.keys()].reduce((best, cell) => (left.get(cell) < left.get(best) ? cell : best));
      left.delete(entry);
      ready.push(entry);
    }
    const cell = ready.shift();
    cell.position = order.push(cell) - 1;
    for (const next of cell.outOf) {
      if (!left.has(next)) continue;
      left.set(next, left.get(next) - 1);
      if (left.get(next) === 0) (left.delete(next), ready.push(next));
    }
  }
  return order;
}

// The longest path decides; inputs stand just before their first reader, so that a side input is drawn beside what it joins.
function rank(order) {
  for (const cell of order) {
    const before = cell.into.filter((other) => other.position < cell.position);
    cell.layer = Math.max(0, ...before.map((other) => other.layer + 1));
  }
  for (const cell of [...order].reverse()) {
    if (!cell.into.length && cell.outOf.length)
      cell.layer = Math.max(0, Math.min(...cell.outOf.map((other) => other.layer)) - 1);
  }
}

// Edges over several layers get a cell in each of those between, so that nothing is drawn over them.
function intoLayers(order, edges, cells) {
  const layers = [];
  const put = (cell) => ((layers[cell.layer] ??= []).push(cell), cell);
  order.forEach(put);
  const lanes = edges.map((edge) => {
    const back = cells.get(edge.from).layer >= cells.get(edge.to).layer;
    const [first, last] = back
      ? [cells.get(edge.to), cells.get(edge.from)]
      : [cells.get(edge.from), cells.get(edge.to)];
    const lane = [first];
    for (let layer = first.layer + 1; layer < last.layer; layer++) {
      lane.push(put({ ...cell({ id: null, width: 0, height: 6 }), broad: 6, long: 0, layer, bend: true }));
    }
    lane.push(last);
    for (let i = 1; i < lane.length; i++) (lane[i - 1].after.push(lane[i]), lane[i].before.push(lane[i - 1]));
    return { edge, lane, back };
  });
  return { layers: layers.filter(Boolean), lanes };
}

const number = (layers) => layers.forEach((layer) => layer.forEach((cell, index) => (cell.index = index)));

// Sweeps to and fro, each layer sorted by where its neighbours are; keeps the best order that was seen.
function untangle(layers) {
  number(layers);
  let best = { crossings: crossings(layers), layers: layers.map((layer) => [...layer]) };
  for (let round = 0; round < rounds && best.crossings > 0; round++) {
    const forth = round % 2 === 0;
    for (const layer of forth ? layers : [...layers].reverse()) {
      for (const cell of layer)
        cell.wish = mean((forth ? cell.before : cell.after).map((other) => other.index)) ?? cell.index;
      layer.sort((a, b) => a.wish - b.wish || a.index - b.index);
      layer.forEach((cell, index) => (cell.index = index));
    }
    const found = crossings(layers);
    if (found < best.crossings) best = { crossings: found, layers: layers.map((layer) => [...layer]) };
  }
  best.layers.forEach((layer, i) => (layers[i] = layer));
  number(layers);
}

const mean = (numbers) => (numbers.length ? numbers.reduce((sum, n) => sum + n, 0) / numbers.length : null);

// Of two neighbouring layers the inversions of the ends of their links, counted with a Fenwick tree.
function crossings(layers) {
  let total = 0;
  for (let i = 1; i < layers.length; i++) {
    const tree = new Int32Array(layers[i].length + 1);
    let seen = 0;
    for (const cell of layers[i - 1]) {
      const ends = cell.after.map((other) => other.index + 1).sort((a, b) => a - b);
      for (const end of ends) {
        let notAbove = 0;
        for (let at = end; at > 0; at -= at & -at) notAbove += tree[at];
        total += seen - notAbove;
      }
      for (const end of ends) for (let at = end; at < tree.length; at += at & -at) tree[at]++;
      seen += ends.length;
    }
  }
  return total;
}

const middle = (cell) => cell.v + cell.broad / 2;

// Layers one behind the other; in them, each cell as near to the middle of its neighbours as the others of its layer leave it room.
function place(layers, along, across) {
  let u = 0;
  for (const layer of layers) {
    const long = Math.max(...layer.map((cell) => cell.long));
    let v = 0;
    for (const cell of layer) {
      cell.u = cell.bend ? u + long / 2 : u;
      cell.reach = long / 2;
      cell.v = v;
      v += cell.broad + across;
    }
    u += long + along;
  }
  for (let round = 0; round < 2 * rounds; round++) {
    const forth = round % 2 === 0;
    for (const layer of forth ? layers : [...layers].reverse()) settle(layer, forth ? "before" : "after", across);
  }
  const cells = layers.flat();
  const top = cells.length ? Math.min(...cells.map((cell) => cell.v)) : 0;
  for (const cell of cells) cell.v -= top;
  return { u: Math.max(0, u - along), v: Math.max(0, ...cells.map((cell) => cell.v + cell.broad)) };
}

// Cells that would overlap become one block, at the mean of what they wish (pool adjacent violators). What bends lies heavier, so that long edges
// are straight.
function settle(layer, side, across) {
  const blocks = [];
  for (const cell of layer) {
    const others = cell[side];
    const wish = others.length ? mean(others.map(middle)) - cell.broad / 2 : cell.v;
    const weight = cell.bend && others.every((other) => other.bend) ? 4 : 1;
    blocks.push({ cells: [[cell, 0]], weight, sum: weight * wish, size: cell.broad + across });
    while (blocks.length > 1 && start(blocks.at(-2)) + blocks.at(-2).size > start(blocks.at(-1)))
      join(blocks, blocks.pop());
  }
  for (const block of blocks) for (const [cell, offset] of block.cells) cell.v = start(block) + offset;
}

const start = (block) => block.sum / block.weight;

function join(blocks, next) {
  const block = blocks.at(-1);
  block.cells.push(...next.cells.map(([cell, offset]) => [cell, block.size + offset]));
  block.sum += next.sum - next.weight * block.size;
  block.weight += next.weight;
  block.size += next.size;
}

// Edges leave and reach a node side by side, in the order of where they come from and go to.
function curves(lanes, flip) {
  const leave = spread(
    lanes,
    (lane) => lane[0],
    (lane) => lane[1],
  );
  const reach = spread(
    lanes,
    (lane) => lane.at(-1),
    (lane) => lane.at(-2),
  );
  return new Map(lanes.map((each) => [each.edge.id, curve(each, leave.get(each), reach.get(each), flip)]));
}

function spread(lanes, end, next) {
  const ends = new Map();
  for (const each of lanes) ends.set(end(each.lane), [...(ends.get(end(each.lane)) ?? []), each]);
  const places = new Map();
  for (const [cell, group] of ends) {
    group.sort((a, b) => middle(next(a.lane)) - middle(next(b.lane)));
    const step = Math.min(14, (cell.broad - 16) / Math.max(1, group.length - 1));
    group.forEach((each, i) => places.set(each, middle(cell) + (i - (group.length - 1) / 2) * step));
  }
  return places;
}

const between = ([a, b], [c, e], flip) => flip((a + c) / 2, (b + e) / 2);

function curve({ lane, back }, leave, reach, flip) {
  const points = lane.flatMap((cell, i) => {
    if (i === 0) return [[cell.u + cell.long, leave]];
    if (i === lane.length - 1) return [[cell.u, reach]];
    return [
      [cell.u - cell.reach, middle(cell)],
      [cell.u + cell.reach, middle(cell)],
    ];
  });
  const at = (u, v) =>
    flip(u, v)
      .map((n) => Math.round(10 * n) / 10)
      .join(" ");
  let d = `M${at(...points[0])}`;
  for (let i = 1; i < points.length; i++) {
    const [[a, b], [c, e]] = [points[i - 1], points[i]];
    const half = (a + c) / 2;
    d += b === e ? `L${at(c, e)}` : `C${at(half, b)} ${at(half, e)} ${at(c, e)}`;
  }
  const [x, y] = flip(...(back ? points[0] : points.at(-1)));
  return { d, x, y, back, straight: points.length > 2 ? between(points[1], points[2], flip) : null };
}
