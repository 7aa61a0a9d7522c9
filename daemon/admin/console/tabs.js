// What is kept of a flow, and the table that says what its graph says: one part at a time, asked for when it is opened.
import { flowPath, get, maybe } from "./api.js";
import { button, h, keyed, mark, row, say, table } from "./dom.js";
import { failed } from "./failed.js";
import { ago, bytes, clock, count, perSecond, share, span } from "./format.js";
import { every } from "./live.js";
import { has } from "./routes.js";
import { revisions } from "./revisions.js";
import { attempt } from "./shell.js";

// Each with the route that it shows; that of nodes is always there.
const names = [
  ["nodes", "Nodes", "graph"],
  ["failed", "Failed rows", "dead_letters"],
  ["aside", "Set aside", "graph"],
  ["checkpoints", "Checkpoints", "checkpoints"],
  ["revisions", "Revisions", "revisions"],
  ["log", "Log", "logs"],
  ["errors", "Errors", "errors"],
];
const parts = { nodes, failed, aside, checkpoints, revisions, log, errors };

// The tabs of a flow; `href(tab)` is the address of each.
export function tabs(flow, href) {
  const links = names
    .filter(([, , route]) => has("GET", flowPath(flow, route)))
    .map(([name, label]) => [name, h("a", { href: href(name) }, label)]);
  const body = h("div", { class: "panel scroll" });
  let open = null;
  let shown = null;
  const show = (name = "nodes") => {
    for (const [each, link] of links)
      (mark(link, "aria-current", each === name ? "page" : null), (link.href = href(each)));
    if (name === shown) return;
    open?.close?.();
    shown = name;
    open = (parts[name] ?? nodes)(flow);
    body.replaceChildren(open.node);
  };
  const node = h(
    "section",
    null,
    h(
      "nav",
      { class: "tabs", "aria-label": "Parts of the flow" },
      links.map(([, link]) => link),
    ),
    body,
  );
  return { node, show, paint: (now) => open?.paint?.(now), close: () => open?.close?.() };
}

const nodeHeads = ["Node", "-Type", "State", "#Rows", "#-Busy", "#-Fullest queue before it", "#Failed", "-Leads to"];

function nodes() {
  const body = h("tbody");
  const make = () => {
    const node = row(nodeHeads, ...nodeHeads.map(() => ""));
    return { node, link: node.firstChild.appendChild(h("a")) };
  };
  const update = ({ node, link }, { spec, now, graph, view, href }) => {
    const cells = [...node.children];
    say(link, spec.name);
    mark(link, "href", href({ node: spec.name }));
    const before = graph.edges.filter((edge) => edge.to === spec.name).map((edge) => view.edges.get(edge.id).fill);
    const after = graph.edges.filter((edge) => edge.from.node === spec.name);
    say(cells[1], `${spec.type} ${spec.role}`);
    say(cells[2], stateOf(now));
    mark(cells[2], "data-warn", now.cause || now.stalled || Boolean(now.trouble));
    say(cells[3], perSecond(now.rate));
    say(cells[4], now.shares ? share(now.shares[0]) : "—");
    say(cells[5], before.length ? share(Math.max(...before)) : "—");
    say(cells[6], count(now.totals?.rows_failed ?? 0));
    say(cells[7], after.map((edge) => edge.to).join(", ") || "—");
  };
  const paint = (now) => {
    const items = now.graph.nodes.map((spec) => ({ ...now, spec, now: now.view.nodes.get(spec.name) }));
    keyed(body, items, (item) => item.spec.name, make, update);
  };
  return { node: table("Nodes of the flow, with what goes through them", nodeHeads, body), paint };
}

function stateOf(now) {
  if (now.trouble) return now.cause ? `holds others back: ${now.trouble}` : now.trouble;
  if (now.cause) return "holds others back";
  if (now.stalled) return "stalled: rows wait, none are taken";
  if (now.heldBy) return `waits for ${now.heldBy}`;
  if (isFinite(now.eta)) return `full in ${span(now.eta)}`;
  return now.rate == null ? "—" : now.rate > 0 ? "runs" : "idle";
}

const asideHeads = ["Node", "-Input", "-Partition", "#Position", "Fails with"];

// The rows that nodes do without, which the flow itself tells.
function aside() {
  const body = h("tbody");
  const grid = table("Rows at which a node fails whenever it tries them, so that it does without them", asideHeads, body);
  const none = h("p", { class: "soft lone" }, "Nodes do without no row: none has failed at one again and again.");
  let shown = null;
  const paint = ({ state }) => {
    const rows = state.set_aside ?? [];
    const key = JSON.stringify(rows);
    if (key === shown) return;
    shown = key;
    grid.hidden = !rows.length;
    none.hidden = rows.length > 0;
    const cells = (one) => [one.node, one.input, one.partition || "—", count(one.position), one.error];
    body.replaceChildren(...rows.map((one) => row(asideHeads, ...cells(one))));
  };
  grid.hidden = true;
  return { node: h("div", null, grid, none), paint };
}

// A list that a route gives, as a table; `none` is said when it is empty, and when there is no such route.
function list(at, caption, heads, cells, none, paging = "") {
  const body = h("tbody");
  const grid = table(caption, heads, body);
  const empty = h("p", { class: "soft lone" }, "asking …");
  const poll = every(5000, async (signal) => {
    const answer = await maybe(at + paging, { signal });
    const items = [...(answer?.items ?? [])].sort((a, b) => (a.at < b.at ? 1 : -1));
    grid.hidden = !items.length;
    empty.hidden = items.length > 0;
    say(empty, answer ? none : "This daemon does not say.");
    body.replaceChildren(...items.map((item) => row(heads, ...cells(item))));
  });
  grid.hidden = true;
  return { node: h("div", null, grid, empty), close: poll.stop };
}

const checkpointHeads = ["Checkpoint", "When", "-Why", "#-Took", "#Size", "#Rows read", "-Kept", ""];
const triggers = { interval: "its time had come", asked: "asked for", stop: "the flow stopped", end: "all was read" };

function checkpoints(flow) {
  const detail = h("div", { class: "diff", "aria-live": "polite" });
  const show = async ({ number }) => {
    const answer = await attempt(`look at checkpoint ${number}`, () => get(flowPath(flow, "checkpoints", number)));
    if (answer) detail.replaceChildren(h("h2", null, `Checkpoint ${count(number)}, node by node`), ofNodes(answer));
  };
  const cells = (each) => [
    count(each.number),
    h("span", { title: each.at }, ago(each.at)),
    triggers[each.trigger] ?? "—",
    each.took_s == null ? "—" : span(each.took_s),
    bytes(each.bytes),
    count(each.rows_read),
    each.kept ? "yes" : "no",
    button("Nodes", () => show(each), { "aria-label": `Nodes of checkpoint ${each.number}` }),
  ];
  const self = list(
    flowPath(flow, "checkpoints"),
    "Checkpoints, newest first",
    checkpointHeads,
    cells,
    "There is no checkpoint yet.",
  );
  self.node.append(detail);
  return self;
}

const partHeads = ["Node", "#Rows", "#Size"];

function ofNodes({ nodes }) {
  const line = ([name, each]) => row(partHeads, name, count(each.rows_in), bytes(each.bytes));
  const body = h("tbody", null, Object.entries(nodes).map(line));
  return table("What the checkpoint has of each node", partHeads, body);
}

const logHeads = ["When", "Level", "-Node", "Message"];

function log(flow) {
  const cells = (each) => [
    clock(each.at),
    h("span", { class: `level ${each.level?.toLowerCase()}` }, each.level?.toLowerCase()),
    each.node ?? "",
    h("span", { class: "text" }, each.message),
  ];
  return list(flowPath(flow, "logs"), "Log, newest first", logHeads, cells, "Nothing was logged.", "?limit=200");
}

const errorHeads = ["When", "Node", "#Times", "Message"];

function errors(flow) {
  const cells = (each) => [
    clock(each.at),
    each.node ?? "",
    count(each.count),
    h("span", { class: "text" }, each.message),
  ];
  return list(flowPath(flow, "errors"), "Errors, newest first", errorHeads, cells, "There were no errors.");
}
