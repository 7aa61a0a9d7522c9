// Folds what is alike in a large graph: chains of nodes, and nodes side by side of one type between the same others. What has a problem stays open.
const alike = 4;

// `graph` with folds in place of their nodes: a fold has `members`. `open` are the names that stay as they are.
export function fold(graph, open) {
  const groups = [...beside(graph, open)];
  const taken = new Set(groups.flat());
  groups.push(...chains(graph, new Set([...open, ...taken])));
  const name = new Map(
    groups.flatMap((members) => members.map((member) => [member, `${members[0]} … ${members.at(-1)}`])),
  );
  const of = (node) => name.get(node) ?? node;
  const nodes = graph.nodes
    .filter((node) => !name.has(node.name))
    .concat(groups.map((members) => folded(graph, members, of(members[0]))));
  const edges = new Map();
  for (const edge of graph.edges) {
    const [from, to] = [of(edge.from.node), of(edge.to)];
    if (from === to) continue;
    const id = name.has(edge.from.node) || name.has(edge.to) ? `${from}>${to}` : edge.id;
    if (edges.has(id)) edges.get(id).members.push(edge.id);
    else edges.set(id, { ...edge, id, from: { node: from, port: edge.from.port }, to, members: [edge.id] });
  }
  return { ...graph, nodes, edges: [...edges.values()] };
}

function folded(graph, members, name) {
  const types = [...new Set(members.map((member) => graph.nodes.find((node) => node.name === member).type))];
  const type = types.length === 1 ? types[0] : "several";
  return { name, label: `${common(members)}…`, role: "processor", type, members, ports: [] };
}

// What the names of nodes begin with, or the first one.
function common([first, ...names]) {
  let length = first.length;
  while (!names.every((name) => name.startsWith(first.slice(0, length)))) length--;
  return length > 2 ? first.slice(0, length) : `${first} `;
}

function neighbours(graph) {
  const all = new Map(graph.nodes.map((node) => [node.name, { node, into: [], outOf: [] }]));
  for (const edge of graph.edges) {
    all.get(edge.from.node)?.outOf.push(edge.to);
    all.get(edge.to)?.into.push(edge.from.node);
  }
  return all;
}

function beside(graph, open) {
  const groups = new Map();
  for (const [name, { node, into, outOf }] of neighbours(graph)) {
    if (open.has(name)) continue;
    const key = JSON.stringify([node.type, [...into].sort(), [...outOf].sort()]);
    groups.set(key, [...(groups.get(key) ?? []), name]);
  }
  return [...groups.values()].filter((members) => members.length >= alike);
}

function* chains(graph, open) {
  const all = neighbours(graph);
  const inside = (name) => !open.has(name) && all.get(name).into.length <= 1 && all.get(name).outOf.length <= 1;
  const goesOn = (name) => all.get(name).outOf.length === 1 && inside(all.get(name).outOf[0]);
  for (const [name, { into }] of all) {
    if (!inside(name) || (into.length === 1 && inside(into[0]))) continue;
    const members = [name];
    while (goesOn(members.at(-1)) && !members.includes(all.get(members.at(-1)).outOf[0]))
      members.push(all.get(members.at(-1)).outOf[0]);
    if (members.length >= 3) yield members;
  }
}
