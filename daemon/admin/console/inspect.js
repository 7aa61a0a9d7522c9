// A node or an edge looked at closely: its numbers, columns and settings, and the rows that go through it.
import { spark } from "./chart.js";
import { h, mark, row, say, table } from "./dom.js";
import { bytes, clock, count, figure, perSecond, plural, share, span } from "./format.js";
import { flowAt } from "./shell.js";
import { tap } from "./tap.js";

const main = "main";
const states = { connecting: "not reached yet", connected: "connected", retrying: "trying again" };

// A panel for what is selected, or null: `{ node, paint, close }`.
export function inspect(context) {
  const { graph, selected } = context;
  const node = graph.nodes.find((each) => each.name === selected.node);
  if (node) return new NodePanel(node, context);
  const edge = graph.edges.find((each) => each.id === selected.edge);
  return edge ? new EdgePanel(edge, context) : null;
}

// Facts with names, of which each is shown when there is something to say.
class Facts {
  constructor() {
    this.node = h("dl", { class: "facts" });
    this.lines = new Map();
  }

  say(name, value) {
    if (!this.lines.has(name)) {
      if (value == null) return;
      this.lines.set(name, [h("dt", null, name), h("dd")]);
      this.node.append(...this.lines.get(name));
    }
    const [dt, dd] = this.lines.get(name);
    dt.hidden = dd.hidden = value == null;
    say(dd, value);
  }
}

const close = (away) => h("a", { class: "plain close", href: away, "aria-label": "Close" }, "×");

class NodePanel {
  constructor(node, context) {
    this.spec = node;
    this.facts = new Facts();
    this.reported = new Facts();
    this.report = h("details", { open: true, hidden: true }, h("summary", null, "What it reports"), this.reported.node);
    this.time = new Time();
    this.spark = spark(320, 44);
    const { graph, name, href } = context;
    const taps = graph.edges
      .filter((edge) => edge.to === node.name)
      .map((edge) => ({ label: `before: from ${edge.from.node}`, query: edge.from }));
    const after = node.ports
      .filter((port) => port.name !== "model")
      .map((port) => ({
        label: port.name === main ? "after" : `after: ${port.name}`,
        query: { node: node.name, port: port.name },
      }));
    this.tap = tap(name, [...after, ...taps]);
    this.node = h(
      "aside",
      { class: "panel inspect", "aria-label": node.name },
      h(
        "header",
        null,
        h("h2", null, node.name),
        h("span", { class: "soft" }, `${node.type} ${node.role}`),
        close(context.away),
      ),
      h("section", null, this.spark.node, this.facts.node, this.time.node),
      h(
        "section",
        null,
        around(node, graph, href),
        this.report,
        columns(node),
        h(
          "p",
          null,
          h(
            "a",
            { class: "soft", href: flowAt(name, "edit", { node: node.name }) },
            "Settings, in the text of the flow",
          ),
        ),
      ),
      this.tap.node,
    );
  }

  paint(view, samples) {
    const now = view.nodes.get(this.spec.name);
    const totals = now?.totals;
    this.spark.update(samples.rates.get(this.spec.name) ?? []);
    this.facts.say("rows", now?.rate == null ? "—" : perSecond(now.rate));
    this.facts.say("holds others back", now?.cause ? "yes: rows wait before it, none behind it" : null);
    this.facts.say("waits for", now?.heldBy);
    this.facts.say("trouble", now?.trouble);
    const { state, since } = now?.connection ?? {};
    this.facts.say("other side", state && `${states[state] ?? state} since ${clock(since)}`);
    if (totals) this.paintTotals(totals, now);
    this.time.paint(now?.shares);
    this.tap.paint();
  }

  paintTotals(totals, now) {
    this.facts.say("taken", totals.rows_in ? count(totals.rows_in) : null);
    for (const [port, rows] of Object.entries(totals.rows_out ?? {})) {
      if (port === main || rows > 0) this.facts.say(port === main ? "given" : `given, ${port}`, count(rows));
    }
    this.facts.say("failed", totals.rows_failed ? `${count(totals.rows_failed)}, ${perSecond(now.failing)}` : "0");
    this.facts.say("commits pending", totals.pending_commits || null);
    this.facts.say("event time", totals.watermark && clock(totals.watermark));
    const reported = report(totals.report);
    this.report.hidden = !reported.length;
    for (const [name, value] of reported) this.reported.say(name, value);
  }

  close() {
    this.tap.close();
  }
}

// What a node reports of itself, as lines; of what is nested only the first level.
function report(value) {
  const of = (group, name) => (group === "metrics" ? name : `${group} ${name}`);
  const inner = ([group, each]) => Object.entries(each).map(([name, figure]) => [of(group, name), figure]);
  const isTable = ([, each]) => each && typeof each === "object" && !Array.isArray(each);
  const lines = Object.entries(value ?? {}).flatMap((line) => (isTable(line) ? inner(line) : [line]));
  const known = lines.filter(([name, each]) => name !== "kind" && each != null && typeof each !== "object");
  return known
    .slice(0, 16)
    .map(([name, each]) => [name.replaceAll("_", " "), typeof each === "string" ? each : figure(each)]);
}

// Busy, waiting and blocked as parts of a bar, and in words.
class Time {
  constructor() {
    this.parts = ["busy", "waits", "blocked"].map((name) => h("i", { class: name }));
    this.words = h("p", { class: "soft" });
    this.node = h("div", null, h("div", { class: "time", "aria-hidden": "true" }, this.parts), this.words);
  }

  paint(shares) {
    this.node.hidden = !shares;
    if (!shares) return;
    this.parts.forEach((part, i) => (part.style.width = `${(100 * shares[i]).toFixed(1)}%`));
    say(
      this.words,
      `busy ${share(shares[0])} · waits for rows ${share(shares[1])} · blocked by what follows ${share(shares[2])}`,
    );
  }
}

// The neighbours, as links.
function around(node, graph, href) {
  const into = graph.edges.filter((edge) => edge.to === node.name);
  const outOf = graph.edges.filter((edge) => edge.from.node === node.name);
  const link = (edge, other) =>
    h(
      "a",
      { href: href({ edge: edge.id }) },
      other,
      edge.from.port !== main ? h("span", { class: "soft" }, ` ${edge.from.port}`) : "",
    );
  const list = (title, links) =>
    links.length > 0 && [
      h("dt", null, title),
      h(
        "dd",
        null,
        links.slice(0, 12).flatMap((each, i) => [i ? ", " : "", each]),
        links.length > 12 ? ` and ${links.length - 12} more` : "",
      ),
    ];
  return h(
    "dl",
    { class: "facts" },
    list(
      "from",
      into.map((edge) => link(edge, edge.from.node)),
    ),
    list(
      "to",
      outOf.map((edge) => link(edge, edge.to)),
    ),
    node.place ? [h("dt", null, "place"), h("dd", null, node.place)] : null,
  );
}

const side = (node, port) => (!node.ports.length ? "what it takes" : port.name === main ? "what it gives" : port.name);
const columnHeads = ["Column", "Type", "May be null"];

function columns(node) {
  // An output has none that leave.
  const ports = node.ports.length ? node.ports : node.inputs;
  return ports
    .filter((port) => port.columns.length)
    .map((port, i) =>
      h(
        "details",
        { open: i === 0 && port.columns.length <= 8 },
        h("summary", null, `${plural(port.columns.length, "column")} of ${side(node, port)}`),
        table(
          `Columns of ${side(node, port)}`,
          columnHeads,
          h(
            "tbody",
            null,
            port.columns.map((column) =>
              row(columnHeads, column.name, h("code", null, column.type), column.nullable ? "yes" : "no"),
            ),
          ),
        ),
      ),
    );
}

class EdgePanel {
  constructor(edge, context) {
    this.id = edge.id;
    this.facts = new Facts();
    this.level = h("i", { class: "busy" });
    this.tap = tap(context.name, [{ label: "rows of this edge", query: edge.from }]);
    const to = (name) => h("a", { href: context.href({ node: name }) }, name);
    this.node = h(
      "aside",
      { class: "panel inspect two", "aria-label": edge.id },
      h(
        "header",
        null,
        h("h2", null, edge.from.node, " → ", edge.to),
        edge.from.port === main ? null : h("span", { class: "soft" }, `port ${edge.from.port}`),
        close(context.away),
      ),
      h(
        "section",
        null,
        h("div", { class: "time", "aria-hidden": "true" }, this.level),
        this.facts.node,
        h("p", { class: "soft" }, "From ", to(edge.from.node), " to ", to(edge.to)),
      ),
      this.tap.node,
    );
  }

  paint(view) {
    this.tap.paint();
    const { fill, queue, rate, eta } = view.edges.get(this.id);
    this.level.style.width = `${(100 * fill).toFixed(1)}%`;
    mark(this.level, "class", fill >= 0.9 ? "blocked" : "busy");
    this.facts.say("rows", perSecond(rate));
    this.facts.say("full", share(fill));
    this.facts.say("full in", eta && span(eta));
    this.facts.say(
      "rows that wait",
      queue && `${count(queue.rows)}${queue.limit_rows ? ` of ${count(queue.limit_rows)}` : ""}`,
    );
    this.facts.say(
      "bytes that wait",
      queue && `${bytes(queue.bytes)}${queue.limit_bytes ? ` of ${bytes(queue.limit_bytes)}` : ""}`,
    );
  }

  close() {
    this.tap.close();
  }
}
