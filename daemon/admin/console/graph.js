// The picture of a flow: nodes as links in topological order, and edges as pipes that fill with the rows that wait in them.
import { button, h, mark, s, say } from "./dom.js";
import { middle, perSecond, share, span } from "./format.js";
import { glyph } from "./glyphs.js";
import { layout } from "./layout.js";

const tall = 52;
const margin = { x: 12, top: 26, bottom: 12 };
const longest = 26;
const smallest = 0.62;
const phone = matchMedia("(max-width: 700px)");

// A picture without a graph yet. `href({ node } | { edge })` says where its links lead.
export class Graph {
  constructor(href) {
    this.href = href;
    this.picture = s("svg", { class: "graph", role: "group", keydown: (event) => this.move(event) });
    this.scroll = h("div", { class: "scroll" }, this.picture);
    this.zoom = null;
    this.under = h(
      "div",
      { class: "row under" },
      h(
        "div",
        { class: "row end zooms" },
        button("Fit", () => this.scale(null)),
        button("100 %", () => this.scale(1)),
      ),
    );
    this.node = h("div", { class: "stage" }, this.scroll, this.under);
    this.watch = new ResizeObserver(() => this.graph && this.resize());
    this.watch.observe(this.scroll);
  }

  close() {
    this.watch.disconnect();
  }

  // Lays out another graph; the same one is left as it is.
  show(graph, label) {
    const key = JSON.stringify([
      graph.nodes.map((node) => [node.name, node.type]),
      graph.edges.map((edge) => edge.id),
      phone.matches,
    ]);
    if (key === this.key) return;
    Object.assign(this, { key, graph, down: phone.matches });
    mark(this.picture, "aria-label", label);
    const sizes = graph.nodes.map((node) => ({ id: node.name, width: width(node), height: tall }));
    const links = graph.edges.map((edge) => ({ id: edge.id, from: edge.from.node, to: edge.to }));
    const named = graph.edges.some((edge) => this.portName(edge));
    this.places = layout(sizes, links, {
      down: this.down,
      along: this.down ? 56 : named ? 84 : 60,
      across: this.down ? 16 : 26,
    });
    this.draw();
    this.resize();
  }

  draw() {
    const { edges, nodes, order } = this.places;
    this.pipes = new Map(
      this.graph.edges
        .filter((edge) => edges.has(edge.id))
        .map((edge) => [edge.id, this.pipe(edge, edges.get(edge.id))]),
    );
    this.named = new Map(this.graph.nodes.map((node) => [node.name, node]));
    this.boxes = new Map(order.map((name) => [name, this.box(this.named.get(name), nodes.get(name))]));
    const parts = [...this.pipes.values(), ...this.boxes.values()].map((part) => part.node);
    this.picture.replaceChildren(...parts);
  }

  // A port's name is said where a node has several.
  portName(edge) {
    const ports = new Set(
      this.graph.edges.filter((other) => other.from.node === edge.from.node).map((other) => other.from.port),
    );
    return ports.size > 1 ? edge.from.port : null;
  }

  pipe(edge, { d, ...places }) {
    const model = edge.from.port === "model";
    const fill = s("path", { class: "fill", d, pathLength: 100 });
    const title = s("title");
    const label = this.portLabel(edge, places);
    const reach = s("path", { class: "reach", d });
    const properties = {
      class: model ? "pipe model" : "pipe",
      href: this.href({ edge: edge.id }),
      tabindex: -1,
      "aria-label": `edge ${edge.id}`,
    };
    return {
      fill,
      title,
      node: s("a", properties, title, s("path", { class: "track", d }), model ? null : fill, reach, label),
    };
  }

  // Where a long edge runs straight, else at its end.
  portLabel(edge, { x, y, straight }) {
    const name = this.portName(edge);
    if (!name) return null;
    const place = this.down
      ? { x: x + 8, y: y - 8 }
      : straight
        ? { x: straight[0], y: straight[1] - 8, "text-anchor": "middle" }
        : { x: x - 10, y: y - 8, "text-anchor": "end" };
    return s("text", { class: "port", ...place }, middle(name, 14));
  }

  box(node, { x, y, width }) {
    const name = s("text", { class: "name", x: 38, y: 22 }, middle(called(node), longest));
    const sub = s("text", { class: "sub", x: 38, y: 40 });
    const tag = s("text", { class: "tag", x: 2, y: -8 });
    const properties = {
      class: "node",
      href: this.href({ node: node.name }),
      transform: `translate(${x} ${y})`,
      "data-node": node.name,
    };
    const title = s("title");
    const link = s("a", properties, title, s("rect", { width, height: tall, rx: 8 }));
    link.append(s("path", { class: "glyph", transform: "translate(11 17)", d: glyph(node) }), name, sub, tag);
    return { node: link, title, sub, tag, room: Math.floor((width - 46) / 6.1) };
  }

  // As large as there is room for, but never so small that it can't be read.
  scale(zoom) {
    this.zoom = zoom;
    this.resize();
  }

  resize() {
    if (phone.matches !== this.down) return void this.onTurn?.();
    const [wide, high] = [this.places.width + 2 * margin.x, this.places.height + margin.top + margin.bottom];
    const room = this.scroll.clientWidth - 16;
    const zoom = this.zoom ?? Math.max(smallest, Math.min(1, room / wide));
    mark(this.picture, "viewBox", `${-margin.x} ${-margin.top} ${wide} ${high}`);
    mark(this.picture, "width", Math.round(wide * zoom));
    mark(this.picture, "height", Math.round(high * zoom));
    mark(this.node, "data-small", this.zoom === null && room / wide > 0.8);
  }

  // Says how nodes and edges do, as `derive` has found; nothing moves.
  paint(view, selected) {
    for (const [id, pipe] of this.pipes) this.paintPipe(id, pipe, view, selected);
    for (const [name, box] of this.boxes) this.paintBox(this.named.get(name), box, view, selected);
  }

  paintPipe(id, pipe, view, selected) {
    const members = this.graph.edges.find((edge) => edge.id === id).members ?? [id];
    const all = members.map((member) => view.edges.get(member)).filter(Boolean);
    const fill = Math.max(0, ...all.map((edge) => edge.fill));
    const rate = all.reduce((sum, edge) => sum + (edge.rate ?? 0), 0);
    const filled = fill < 0.005 ? 0 : 100 * fill;
    mark(pipe.fill, "stroke-dasharray", `0 ${(100 - filled).toFixed(1)} ${filled.toFixed(1)} 1`);
    mark(pipe.fill, "visibility", filled ? "visible" : "hidden");
    mark(pipe.node, "data-level", fill >= 0.9 ? "full" : fill >= 0.6 ? "high" : null);
    mark(pipe.node, "data-flows", rate > 0);
    mark(pipe.node, "data-selected", selected.edge === id);
    say(pipe.title, `${id}: ${share(fill)} full, ${perSecond(rate)}`);
  }

  paintBox(node, box, view, selected) {
    const now = node.members ? together(node.members, view) : view.nodes.get(node.name);
    if (!now) return;
    say(box.sub, fitting(doing(node, now), box.room));
    say(box.tag, now.cause ? "cause" : now.stalled ? "stalled" : isFinite(now.eta) ? `full in ${span(now.eta)}` : "");
    mark(
      box.node,
      "data-state",
      now.cause || now.trouble ? "cause" : now.stalled ? "stalled" : now.heldBy ? "held" : null,
    );
    mark(box.node, "data-selected", selected.node === node.name);
    mark(box.node, "aria-current", selected.node === node.name ? "true" : null);
    say(box.title, spoken(node, now, this.graph));
  }

  // Arrows follow the edges, and in a layer go from one to the next.
  move(event) {
    const name = document.activeElement?.getAttribute?.("data-node");
    const turn = this.down
      ? { ArrowDown: "after", ArrowUp: "before", ArrowRight: 1, ArrowLeft: -1 }
      : { ArrowRight: "after", ArrowLeft: "before", ArrowDown: 1, ArrowUp: -1 };
    const way = turn[event.key];
    if (!name || !way || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const next = typeof way === "number" ? this.besides(name, way) : this.along(name, way);
    this.boxes.get(next)?.node.focus();
  }

  along(name, way) {
    const { nodes } = this.places;
    const ends = this.graph.edges
      .filter((edge) => (way === "after" ? edge.from.node : edge.to) === name)
      .map((edge) => (way === "after" ? edge.to : edge.from.node));
    return ends.sort((a, b) => nodes.get(a).index - nodes.get(b).index)[0];
  }

  besides(name, step) {
    const { nodes } = this.places;
    const { layer, index } = nodes.get(name);
    const same = [...nodes].filter(([, place]) => place.layer === layer && Math.sign(place.index - index) === step);
    return same.sort(([, a], [, b]) => step * (a.index - b.index))[0]?.[0];
  }
}

const called = (node) => node.label ?? node.name;
const width = (node) => Math.round(Math.max(148, 50 + 7.4 * Math.min(longest, called(node).length)));

// What stands below a node's name, the most that fits first.
function doing(node, now) {
  const many = node.members?.length;
  const type = many ? (node.type === "several" ? `${many} nodes` : `${many} × ${node.type}`) : node.type;
  if (now.trouble) return [now.trouble];
  if (now.rate == null) return [type];
  const rate = now.rate > 0 ? perSecond(now.rate) : now.heldBy ? "held back" : now.stalled ? "does not move" : "idle";
  return [`${type}, ${rate}`, rate];
}

const fitting = (words, room) => words.find((each) => each.length <= room) ?? `${words.at(-1).slice(0, room - 1)}…`;

// The name for those who hear it: without numbers, which would be said anew all the time.
function spoken(node, now, graph) {
  const after = graph.edges.filter((edge) => edge.from.node === node.name).map((edge) => edge.to);
  const state = now.cause
    ? ", holds others back"
    : now.stalled
      ? ", stalled"
      : now.heldBy
        ? `, waits for ${now.heldBy}`
        : "";
  const what = node.members ? `${node.members.length} nodes, folded` : `${node.name}, ${node.type} ${node.role}`;
  return `${what}${state}${after.length ? `, leads to ${after.join(", ")}` : ""}`;
}

function together(members, view) {
  const all = members.map((name) => view.nodes.get(name)).filter(Boolean);
  const rates = all.map((now) => now.rate).filter((rate) => rate != null);
  return { rate: rates.length ? Math.max(...rates) : null, eta: Infinity };
}
