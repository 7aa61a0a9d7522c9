// All flows, with what is wrong first.
import { flowPath, pages } from "./api.js";
import { spark } from "./chart.js";
import { button, h, keyed, mark, say, table } from "./dom.js";
import { ago, clock, condition, count, firstLine, middle, perSecond, plural, trouble, until } from "./format.js";
import { every, repaintNow } from "./live.js";
import { flowAt, may, operate } from "./shell.js";

const heads = ["Flow", "State", "#Rows in", "-Last minutes", "#-Failed rows", "-Checkpoint", "#-Revision"];
const bound = 2000;
const shown = 100;
const notices = 3;
const drawn = 90;

const filters = [
  ["all", () => true],
  ["problems", (flow) => condition(flow).rank <= 4],
  ["running", (flow) => flow.state === "running"],
  ["stopped", (flow) => ["stopped", "finished"].includes(flow.state)],
];

export function flows() {
  const screen = new Flows();
  return {
    title: "Flows",
    node: screen.node,
    topics: ["flows", "operations"],
    handlers: {
      flow: (flow) => screen.take(flow),
      gone: ({ name }) => screen.all?.delete(name),
      resync: () => screen.poll.again(),
    },
    paint: () => screen.paint(),
    close: () => screen.poll.stop(),
  };
}

class Flows {
  all = null;
  rates = new Map();
  filter = "all";
  words = "";
  room = shown;

  constructor() {
    this.summary = h("span", { class: "soft" });
    this.chips = filters.map(([name]) =>
      button(name, () => ((this.filter = name), (this.room = shown), repaintNow()), { class: "chip" }),
    );
    this.search = h("input", {
      type: "search",
      id: "search",
      placeholder: "Search",
      "aria-label": "Search flows",
      input: (event) => this.seek(event.target.value),
    });
    this.notices = h("div", { class: "notices" });
    this.rest = h("p", { class: "soft rest" });
    this.rows = h("tbody");
    this.list = h("div", { class: "panel scroll" }, table("Flows, those with problems first", heads, this.rows));
    this.more = button("", () => ((this.room += shown), repaintNow()), { class: "more" });
    this.empty = h("div", { class: "lone" });
    const add = may("operator") && h("a", { class: "button", href: "#/new" }, "New flow");
    this.node = h(
      "section",
      null,
      h(
        "div",
        { class: "top" },
        h("h1", null, "Flows"),
        this.summary,
        h("div", { class: "row end" }, this.search, add),
      ),
      this.notices,
      this.rest,
      (this.bar = h("div", { class: "row chips" }, this.chips)),
      this.list,
      this.more,
      this.empty,
    );
    this.poll = every(
      () => ((this.all?.size ?? 0) > 100 ? 5000 : 2000),
      (signal) => this.load(signal),
    );
  }

  seek(words) {
    this.words = words.trim().toLowerCase();
    this.room = shown;
    repaintNow();
  }

  async load(signal) {
    const items = await pages("/flows", 500, bound, signal);
    this.all = new Map(items.map((flow) => [flow.name, flow]));
    for (const name of this.rates.keys()) if (!this.all.has(name)) this.rates.delete(name);
    for (const flow of items) this.count(flow);
  }

  // An event says how a flow is; its rows are counted at even times, so that rates are smooth.
  take(flow) {
    this.all?.set(flow.name, flow);
  }

  count(flow) {
    const [at, rows] = [performance.now(), flow.rows?.read ?? 0];
    const known = this.rates.get(flow.name) ?? { line: [], rate: null };
    if (known.at)
      known.rate = flow.state !== "running" ? null : Math.max(0, (rows - known.rows) / ((at - known.at) / 1000));
    if (known.at) known.line.push(known.rate ?? 0);
    if (known.line.length > drawn) known.line.shift();
    this.rates.set(flow.name, Object.assign(known, { at, rows }));
  }

  chosen() {
    const [, test] = filters.find(([name]) => name === this.filter);
    const found = [...this.all.values()].filter((flow) => test(flow) && (!this.words || this.matches(flow)));
    return found.sort((a, b) => condition(a).rank - condition(b).rank || (a.name < b.name ? -1 : 1));
  }

  matches(flow) {
    return `${flow.name} ${flow.description ?? ""} ${flow.state}`.toLowerCase().includes(this.words);
  }

  paint() {
    if (!this.all) return say(this.summary, "asking …");
    const all = [...this.all.values()];
    const chosen = this.chosen();
    this.paintSummary(all);
    filters.forEach(([name, test], i) => this.paintChip(this.chips[i], name, all.filter(test).length));
    const noticed = this.noticed(all);
    keyed(
      this.notices,
      noticed.slice(0, notices),
      (flow) => flow.name,
      (flow) => new Notice(flow),
      (notice, flow) => notice.paint(flow),
    );
    this.paintRest(noticed.length - notices);
    const said = new Set(noticed.slice(0, notices).map((flow) => flow.name));
    keyed(
      this.rows,
      chosen.slice(0, this.room),
      (flow) => flow.name,
      (flow) => new Line(flow),
      (line, flow) => line.paint(flow, this.rates.get(flow.name), said),
    );
    say(this.more, `Show ${Math.min(shown, chosen.length - this.room)} more of ${count(chosen.length)}`);
    this.more.hidden = chosen.length <= this.room;
    this.paintEmpty(all.length, chosen.length);
  }

  paintSummary(all) {
    const running = all.filter((flow) => flow.state === "running");
    const rate = running.reduce((sum, flow) => sum + (this.rates.get(flow.name)?.rate ?? 0), 0);
    const words = running.length
      ? `${count(running.length)} of ${count(all.length)} run, ${perSecond(rate).replace(" /s", " rows/s")}`
      : `all ${count(all.length)} are stopped`;
    say(this.summary, all.length ? words : "");
  }

  paintChip(chip, name, number) {
    say(chip, `${name} ${count(number)}`);
    mark(chip, "aria-pressed", String(this.filter === name));
  }

  // Those with problems, the worst first, of these the newest.
  noticed(all) {
    const bad = all.filter((flow) => condition(flow).rank <= 4);
    return bad.sort((a, b) => condition(a).rank - condition(b).rank || (a.since < b.since ? 1 : -1));
  }

  paintRest(more) {
    say(this.rest, more > 0 ? `and ${plural(more, "more flow")} with problems, first in the list` : "");
    this.rest.hidden = more <= 0;
  }

  paintEmpty(all, chosen) {
    this.list.hidden = chosen === 0;
    this.bar.hidden = all === 0;
    const key = all === 0 ? "none" : chosen === 0 ? "unfound" : "";
    if (this.empty.dataset.key === key) return;
    this.empty.dataset.key = key;
    if (key === "none")
      this.empty.replaceChildren(
        h("h2", null, "There are no flows yet"),
        h("p", { class: "soft" }, "Put a flow file into the folder of flows, and it runs. Or write one here."),
        may("operator") ? h("a", { class: "button main", href: "#/new" }, "New flow") : "",
      );
    else this.empty.replaceChildren(key ? h("p", { class: "soft" }, "No flow is like this.") : "");
  }
}

// A row of the list.
class Line {
  constructor(flow) {
    this.dot = h("i", { class: "dot" });
    this.words = h("span");
    this.why = h("span", { class: "why" });
    this.numbers = ["number", "number wide", "wide", "number wide"].map((kind) =>
      h("td", { class: `${kind}${kind === "number" ? "" : " soft"}` }),
    );
    this.spark = spark();
    const [rate, failed, checkpoint, revision] = this.numbers;
    this.node = h(
      "tr",
      null,
      h("td", null, h("a", { href: flowAt(flow.name), title: flow.name }, middle(flow.name, 36))),
      h("td", null, h("span", { class: "state" }, this.dot, this.words), this.why),
      rate,
      h("td", { class: "wide" }, this.spark.node),
      failed,
      checkpoint,
      revision,
    );
  }

  paint(flow, known, said) {
    const { shape, words } = condition(flow);
    mark(this.dot, "class", `dot ${shape}`);
    say(this.words, words);
    say(this.why, said.has(flow.name) ? "" : firstLine(trouble(flow)));
    const [rate, failed, checkpoint, revision] = this.numbers;
    say(rate, known?.rate == null ? "—" : known.rate === 0 ? "idle" : perSecond(known.rate));
    this.spark.update(known?.line ?? []);
    say(failed, flow.rows?.failed ? count(flow.rows.failed) : "—");
    mark(failed, "data-bad", flow.rows?.failed > 0);
    say(checkpoint, flow.checkpoint ? ago(flow.checkpoint.at) : "—");
    say(revision, flow.revision ?? "—");
  }
}

// What is wrong with a flow, and what can be done.
export class Notice {
  // On the flow's own screen it is `alone`, and need not say whose it is.
  constructor(flow, alone = false) {
    this.alone = alone;
    this.dot = h("i", { class: "dot" });
    this.name = !alone && [h("a", { class: "strong", href: flowAt(flow.name) }, flow.name), ": "];
    this.words = h("span");
    this.reason = h("code");
    this.start =
      may("operator") && button("Start now", () => operate(`start ${flow.name}`, "POST", flowPath(flow.name, "start")));
    const look = !alone && h("a", { class: "button", href: flowAt(flow.name) }, "Look");
    this.node = h(
      "div",
      { class: "notice" },
      h("p", null, this.dot, " ", this.name, this.words),
      h("div", { class: "row" }, this.start, look),
      this.reason,
    );
  }

  paint(flow) {
    const { shape } = condition(flow);
    mark(this.node, "data-shape", shape);
    mark(this.dot, "class", `dot ${shape}`);
    const words = happened(flow);
    say(this.words, this.alone ? words[0].toUpperCase() + words.slice(1) : words);
    say(this.reason, firstLine(trouble(flow)));
    this.reason.hidden = !trouble(flow);
    if (this.start) this.start.hidden = !["failed", "backing_off"].includes(flow.state);
  }
}

// What has happened to a flow.
function happened(flow) {
  const times = flow.restarts?.count
    ? `, restarted ${flow.restarts.count === 1 ? "once" : `${count(flow.restarts.count)} times`}`
    : "";
  if (flow.state === "failed") return `failed ${ago(flow.since)}${times}`;
  if (flow.state === "backing_off")
    return `stopped by an error ${ago(flow.since)}, starts again in ${until(flow.restarts?.next_at)}${times}`;
  if (flow.problem && flow.health === "ok")
    return `goes on as revision ${flow.revision}; its change was refused at ${clock(flow.problem.since)}`;
  if (flow.health === "failing") return `runs, but can't write, since ${clock(flow.since)}`;
  return `${flow.health} since ${clock(flow.problem?.since ?? flow.since)}${times}`;
}
