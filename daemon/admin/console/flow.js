// One flow: its graph with what goes through it now, what is wrong, a node or an edge looked at closely, and what is kept of it.
import { flowPath, maybe, post } from "./api.js";
import { derive, graphOf, Samples } from "./derive.js";
import { button, h, mark, say } from "./dom.js";
import { Notice } from "./flows.js";
import { fold } from "./fold.js";
import { ago, bytes, condition, count, perSecond, plural, span } from "./format.js";
import { Graph } from "./graph.js";
import { inspect } from "./inspect.js";
import { every, repaintNow, streams } from "./live.js";
import { has } from "./routes.js";
import { ask, attempt, flowAt, go, may, operate } from "./shell.js";
import { tabs } from "./tabs.js";

const many = 100;

export function flow(route) {
  const screen = new Flow(route);
  const name = screen.name;
  return {
    title: name,
    node: screen.node,
    topics: ["flows", `flow:${name}.stats`, "operations"],
    handlers: {
      gone: (gone) => gone?.name === name && screen.missing(),
      flow: (state) => state?.name === name && screen.take(state),
      stats: (stats) => stats?.flow === name && screen.sample(stats),
      resync: () => screen.polls[0].again(),
    },
    go: (next) => screen.select(next),
    paint: () => screen.paint(),
    keys: { e: () => go(flowAt(name, "edit")), Escape: () => go(flowAt(name)) },
    close: () => screen.close(),
  };
}

class Flow {
  constructor(route) {
    this.name = route.parts[1];
    this.samples = new Samples();
    this.selected = {};
    this.unfolded = false;
    this.opened = new Set();
    this.picture = new Graph((what) => flowAt(this.name, null, { tab: this.tab, ...what }));
    this.picture.onTurn = () => this.draw();
    this.build();
    this.tabs = tabs(this.name, (tab) => this.href({ tab }));
    this.node.append(this.tabs.node);
    this.polls = [every(5000, (signal) => this.load(signal)), every(1000, (signal) => this.ask(signal))];
    this.select(route);
  }

  href(query) {
    return flowAt(this.name, null, { ...this.selected, tab: this.tab, ...query });
  }

  build() {
    this.dot = h("i", { class: "dot" });
    this.words = h("span");
    this.facts = h("p", { class: "soft facts" });
    this.actions = h("div", { class: "row end" });
    this.description = h("p", { class: "soft" });
    this.notice = h("div", { class: "notices" });
    this.causes = h("p", { class: "causes", role: "status" });
    this.folds = button("", () => ((this.unfolded = !this.unfolded), this.draw()), { class: "plain" });
    this.inspector = h("div");
    this.node = h(
      "section",
      null,
      h(
        "div",
        { class: "top" },
        h("h1", null, this.name),
        h("span", { class: "state" }, this.dot, this.words),
        this.actions,
      ),
      this.facts,
      this.description,
      this.notice,
      this.causes,
      h("div", { class: "panel" }, this.picture.node),
      this.inspector,
    );
    this.picture.under.prepend(this.folds);
  }

  close() {
    this.polls.forEach((poll) => poll.stop());
    this.picture.close();
    this.open?.close();
    this.tabs.close();
  }

  // The graph is asked for anew only when the flow has another revision.
  async load(signal) {
    const state = await maybe(flowPath(this.name), { signal });
    if (!state) return this.missing();
    this.take(state);
    const revision = this.state.running_revision || this.state.revision;
    if (this.graph?.revision === revision) return;
    const graph = await maybe(flowPath(this.name, "graph"), { signal });
    if (!graph) return;
    this.graph = graphOf(graph, revision);
    this.draw();
    this.look();
  }

  missing() {
    this.close();
    const words = h("p", { class: "soft" }, `There is no flow called ${this.name}.`);
    this.node.replaceChildren(
      h("div", { class: "lone" }, words, h("a", { class: "button", href: "#/flows" }, "All flows")),
    );
  }

  async ask(signal) {
    const fresh = this.samples.last && Date.now() - this.heard < 2500;
    if (streams() && fresh) return;
    // One that has never run has no counters, and says so with 409.
    const stats = this.state?.running_revision ? await maybe(flowPath(this.name, "stats"), { signal }) : null;
    if (stats) this.sample(stats);
  }

  sample(stats) {
    this.heard = Date.now();
    this.samples.add(stats);
  }

  take(state) {
    this.state = state;
  }

  select(route) {
    const { node, edge, tab } = Object.fromEntries(route.query);
    const folded = this.shown?.nodes.find((each) => each.name === node)?.members;
    if (folded) return this.unfold(folded);
    this.selected = node ? { node } : edge ? { edge } : {};
    this.tab = tab;
    this.tabs.show(tab);
    this.look();
    repaintNow();
  }

  unfold(members) {
    for (const member of members) this.opened.add(member);
    this.draw();
    history.replaceState(null, "", this.href({}));
  }

  // Opens what is selected beside the graph.
  look() {
    const key = JSON.stringify([this.selected, this.graph?.revision]);
    if (!this.graph || key === this.looked) return;
    this.looked = key;
    this.open?.close();
    this.open = inspect({
      name: this.name,
      graph: this.graph,
      selected: this.selected,
      away: this.href({ node: null, edge: null }),
      href: (what) => this.href({ node: null, edge: null, ...what }),
    });
    this.inspector.replaceChildren(...(this.open ? [this.open.node] : []));
  }

  draw() {
    const { nodes } = this.graph;
    const folds = nodes.length > many && !this.unfolded;
    this.shown = folds ? fold(this.graph, this.watched(derive(this.graph, this.samples))) : this.graph;
    this.picture.show(
      this.shown,
      `Graph of ${this.name}: ${plural(nodes.length, "node")}. The table of nodes below says the same.`,
    );
    this.folds.hidden = nodes.length <= many;
    say(
      this.folds,
      folds
        ? `Show all ${count(nodes.length)} nodes; ${count(this.shown.nodes.length)} are shown`
        : "Fold what is alike",
    );
    repaintNow();
  }

  // What must not be folded away, and what was not once: a graph does not close by itself what somebody looks at.
  watched(view) {
    if (this.selected.node) this.opened.add(this.selected.node);
    for (const [name, now] of view.nodes)
      if (now.cause || now.stalled || now.trouble || now.failing > 0) this.opened.add(name);
    return this.opened;
  }

  hides(names) {
    const shown = new Set(this.shown.nodes.map((node) => node.name));
    return [...names].some((name) => !shown.has(name));
  }

  paint() {
    if (!this.state) return;
    this.paintHead();
    if (!this.graph) return;
    const view = derive(this.graph, this.samples);
    if (this.shown !== this.graph && this.hides(this.watched(view))) this.draw();
    this.picture.paint(view, this.selected);
    this.open?.paint(view, this.samples);
    this.tabs.paint({
      view,
      graph: this.graph,
      state: this.state,
      href: (what) => this.href({ node: null, edge: null, ...what }),
    });
    this.paintCauses(view);
  }

  paintHead() {
    const { shape, words } = condition(this.state);
    mark(this.dot, "class", `dot ${shape}`);
    const why = this.state.paused ? `${words}: ${this.state.paused}` : words;
    say(this.words, this.state.operation ? `${why}, under way` : why);
    say(this.facts, this.said());
    say(this.description, this.state.description);
    this.description.hidden = !this.state.description;
    this.paintNotice();
    const key = `${this.state.state} ${this.state.operation} ${this.state.source?.kind} ${this.state.paused}`;
    if (key !== this.acted) this.actions.replaceChildren(...actions(this.name, this.state));
    this.acted = key;
  }

  said() {
    const { revision, running_revision: running, checkpoint, rows, source, budget, set_aside: aside } = this.state;
    const rate = this.graph?.nodes
      .filter((node) => node.role === "input")
      .reduce((sum, node) => sum + (this.samples.rate(node.name) ?? 0), 0);
    const said = [
      running && running !== revision ? `revision ${running} runs, ${revision} is wanted` : `revision ${revision}`,
      source?.path,
      checkpoint && `checkpoint ${count(checkpoint.number)}, ${ago(checkpoint.at)}, took ${span(checkpoint.took_s)}`,
    ];
    said.push(
      rate ? perSecond(rate).replace(" /s", " rows/s") : null,
      rows && `${count(rows.read)} read, ${count(rows.written)} written, ${count(rows.failed)} failed`,
      aside?.length && `${plural(aside.length, "row")} set aside`,
      taken("memory", budget?.memory),
      taken("disk", budget?.disk),
    );
    return said.filter(Boolean).join(" · ");
  }

  paintNotice() {
    const bad = condition(this.state).rank <= 4;
    if (bad && !this.noted) ((this.noted = new Notice(this.state, true)), this.notice.append(this.noted.node));
    if (!bad && this.noted) this.noted = void this.noted.node.remove();
    this.noted?.paint(this.state);
  }

  paintCauses(view) {
    const said = view.causes.map(({ node, holds }) => {
      const why = view.nodes.get(node).trouble ?? "it takes rows slower than they come";
      return `${node} holds back ${holds.slice(0, 4).join(", ")}${holds.length > 4 ? ` and ${holds.length - 4} more` : ""}: ${why}.`;
    });
    say(this.causes, said.join(" "));
    this.causes.hidden = !said.length;
  }
}

// What a flow takes, where it may take only so much.
const taken = (what, part) =>
  part?.limit_bytes && `${what} ${bytes(part.used_bytes)} of ${bytes(part.limit_bytes)}`;

// What may be done with a flow as it is.
function actions(name, { state, operation, source, paused }) {
  if (!may("operator")) return [];
  const act = (label, verb, properties) =>
    has("POST", flowPath(name, verb)) &&
    button(label, () => operate(`${verb} ${name}`, "POST", flowPath(name, verb)), {
      disabled: Boolean(operation),
      ...properties,
    });
  const rests = ["stopped", "finished", "failed", "backing_off"].includes(state);
  return [
    rests
      ? act(state === "finished" ? "Run again" : "Start", "start", { class: "main" })
      : act("Checkpoint", "checkpoint", { title: "Keep now what would be resumed from" }),
    !rests && hold(name, paused),
    !rests && act("Drain", "drain", { title: "Read no more, and stop when all that was read is written" }),
    (!rests || state === "backing_off") && act("Stop", "stop", { title: "Make a checkpoint, then stop" }),
    h("a", { class: "button", href: flowAt(name, "edit") }, source?.kind === "file" ? "Text" : "Edit"),
    source?.kind !== "file" && rests && button("Delete …", () => remove(name), { class: "danger" }),
  ].filter(Boolean);
}

// Only inputs wait; what they have read goes on to outputs, and checkpoints are taken.
function hold(name, paused) {
  const verb = paused ? "resume" : "pause";
  const at = flowPath(name, verb);
  return (
    has("POST", at) &&
    button(paused ? "Resume" : "Pause", () => attempt(`${verb} ${name}`, () => post(at)), {
      title: paused ? "Let inputs read on" : "Let inputs read no more for now",
    })
  );
}

async function remove(name) {
  const sure = await ask(
    `Delete ${name}?`,
    "The flow is taken away. Its state stays, and so do rows that it has written.",
    "Delete the flow",
    { danger: true },
  );
  if (sure && (await operate(`delete ${name}`, "DELETE", flowPath(name)))) go("#/flows");
}
