// The text of a flow: checked while somebody types, then a plan of what the change does, then the change.
import { flowPath, maybe, request } from "./api.js";
import { button, h, say } from "./dom.js";
import { Graph } from "./graph.js";
import { derive, graphOf, Samples } from "./derive.js";
import { effects } from "./revisions.js";
import { flowAt, go, may, tell, watch } from "./shell.js";
import { mistakes, Text } from "./text.js";

const pause = 300;
const begin = `# What the flow is for stands in its description.
flow.description = ""

[input.rows]
type = "generate"
rate = "10/s"
columns = { id = "row" }

[output.kept]
type = "file"
from = "rows"
path = "out/rows/"
format = "ndjson"
if_exists = "append"
`;

export function edit(route) {
  const screen = new Edit(route.parts[0] === "new" ? null : route.parts[1], route.query.get("node"));
  return {
    title: screen.name ? `Edit ${screen.name}` : "New flow",
    node: screen.node,
    topics: [],
    paint() {},
    keys: { "Control+Enter": () => screen.plan(), "Control+s": () => screen.plan() },
    leave: () => screen.dirty && "The text was changed and not applied.",
    close: () => screen.close(),
  };
}

class Edit {
  constructor(name, node) {
    this.name = name;
    this.text = new Text(name ? `Text of the flow ${name}` : "Text of the new flow", "", () => this.typed());
    this.title = name ? h("h1", null, name) : h("h1", null, "New flow");
    this.called =
      !name &&
      h("input", {
        id: "name",
        placeholder: "name",
        pattern: "[A-Za-z0-9_\\-]+",
        "aria-label": "Name of the flow",
        spellcheck: "false",
        input: () => this.typed(),
      });
    this.facts = h("span", { class: "soft" });
    this.status = h("p", { class: "verdict", role: "status" });
    this.list = h("ul", { class: "mistakes" });
    this.planned = button("Plan", () => this.plan(), { class: "main", title: "Ctrl Enter" });
    this.outcome = h("div", { class: "outcome", "aria-live": "polite" });
    this.picture = new Graph(({ node }) => (node ? `#line-${node}` : "#"));
    this.picture.onTurn = () => this.graph && this.preview(this.graph);
    this.picture.node.addEventListener("click", (event) => this.jump(event));
    this.preface = h("div");
    this.node = h(
      "section",
      { class: "edit" },
      h(
        "div",
        { class: "top" },
        this.title,
        this.called,
        this.facts,
        h(
          "div",
          { class: "row end" },
          name && h("a", { class: "button", href: flowAt(name) }, "Back"),
          may("operator") && this.planned,
        ),
      ),
      this.preface,
      h("div", { class: "panel" }, this.text.node, h("div", { class: "below" }, this.status, this.list)),
      this.outcome,
      (this.drawn = h("div", { class: "panel preview", hidden: true }, this.picture.node)),
    );
    this.open(node);
  }

  close() {
    this.text.close();
    this.picture.close();
    clearTimeout(this.timer);
    this.checking?.abort();
  }

  async open(node) {
    try {
      if (this.name) await this.read();
      else this.text.value = begin;
    } catch (error) {
      return say(this.status, error.message);
    }
    this.original = this.text.value;
    await this.check();
    if (node) this.text.goTo(this.text.place(node));
  }

  async read() {
    const [flow, source] = await Promise.all([
      request("GET", flowPath(this.name)),
      request("GET", flowPath(this.name, "source"), { accept: "application/toml" }),
    ]);
    this.etag = flow.etag ?? `"${flow.body.revision}"`;
    this.text.value = source.body;
    this.file = flow.body.source?.kind === "file" ? flow.body.source.path : null;
    say(this.facts, `revision ${flow.body.revision}`);
    if (!this.file) return;
    this.planned.remove();
    this.preface.replaceChildren(
      h(
        "div",
        { class: "notice", "data-shape": "off" },
        h(
          "p",
          null,
          "This flow is the file ",
          h("code", null, this.file),
          ". Change it there, and the daemon takes it up. What you write here is checked, and kept nowhere.",
        ),
      ),
    );
  }

  get dirty() {
    return this.original !== undefined && this.text.value !== this.original && !this.file;
  }

  typed() {
    this.outcome.replaceChildren();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), pause);
  }

  // An answer to a text that has been changed since is not waited for.
  async check() {
    this.checking?.abort();
    const { signal } = (this.checking = new AbortController());
    try {
      const { body } = await request("POST", this.at ? `/check?name=${encodeURIComponent(this.at)}` : "/check", {
        body: this.text.value,
        type: "application/toml",
        signal,
      });
      this.verdict(body.warnings, [], graphOf(body));
    } catch (error) {
      if (signal.aborted) return;
      if (error.errors?.length) this.verdict([], error.errors);
      else say(this.status, error.missing ? "This daemon does not check texts." : error.message);
    }
  }

  verdict(warnings, errors, graph) {
    this.wrong = errors.length > 0;
    this.text.show(errors);
    this.list.replaceChildren(
      ...mistakes(errors, this.text),
      ...warnings.map((words) => h("li", { class: "soft" }, words)),
    );
    say(this.status, errors.length ? `${errors.length} mistake${errors.length === 1 ? "" : "s"}` : "It checks.");
    this.status.className = errors.length ? "verdict wrong" : "verdict right";
    this.drawn.classList.toggle("stale", errors.length > 0);
    if (graph) this.preview(graph);
  }

  preview(graph) {
    this.graph = graph;
    this.drawn.hidden = graph.nodes.length === 0;
    this.picture.show(graph, "Graph of the text");
    this.picture.paint(derive(graph, new Samples()), {});
  }

  jump(event) {
    const name = event.target.closest("[data-node]")?.getAttribute("data-node");
    event.preventDefault();
    if (name) this.text.goTo(this.text.place(name));
  }

  get at() {
    return this.name ?? this.called.value.trim();
  }

  put(query) {
    const condition = this.name ? { "If-Match": this.etag } : { "If-None-Match": "*" };
    return request("PUT", `${flowPath(this.at)}?${new URLSearchParams(query)}`, {
      body: this.text.value,
      type: "application/toml",
      headers: condition,
    });
  }

  async plan() {
    if (!may("operator") || this.file) return;
    if (!this.at || !/^[\w-]+$/.test(this.at))
      return void (this.called.focus(), tell("Give the flow a name of letters, digits, _ and -.", true));
    const text = this.text.value;
    try {
      const { body } = await this.put({ dry_run: true });
      if (text === this.text.value) this.offer(body);
    } catch (error) {
      this.refused(error);
    }
  }

  // The plan, and what makes it so.
  offer(change) {
    const message = h("input", { id: "message", maxlength: 200, placeholder: "Why, for those who read the revisions" });
    const start = !this.name && h("input", { type: "checkbox", id: "start", checked: true });
    const apply = button(
      this.name ? "Apply" : "Make the flow",
      () => this.apply(change, message.value, start && start.checked),
      { class: "main" },
    );
    this.outcome.replaceChildren(
      h(
        "div",
        { class: "panel plan" },
        h("h2", null, this.name ? `What becomes of revision ${change.base}` : `${this.at} is new`),
        effects(change),
        h(
          "div",
          { class: "row" },
          h("label", { for: "message", class: "grow" }, h("span", { class: "unseen" }, "Message"), message),
          start && h("label", { class: "check", for: "start" }, start, h("span", null, "start it")),
          apply,
        ),
      ),
    );
    apply.scrollIntoView({ block: "nearest" });
    message.focus();
  }

  async apply(change, message, start) {
    const query = { plan: change.plan, ...(message && { message }), ...(start === false && { start: false }) };
    try {
      const { body } = await this.put(query);
      this.original = this.text.value;
      go(flowAt(this.at));
      await watch(this.name ? `change ${this.name} to revision ${body.revision}` : `make ${this.at}`, {
        id: body.operation,
        state: "running",
      });
    } catch (error) {
      this.refused(error);
    }
  }

  // Somebody else may have been faster: the text stays, and what it would do now is asked anew.
  async refused(error) {
    if (error.errors?.length) return this.verdict([], error.errors);
    if (error.code === "plan-stale") {
      tell("The plan is another one now; look at it again.", true);
      return this.plan();
    }
    if (error.status !== 412 || !this.name) return void tell(error.message, true);
    const now = await maybe(flowPath(this.name)).catch(() => null);
    this.outcome.replaceChildren(
      h(
        "div",
        { class: "notice", "data-shape": "warn" },
        h(
          "p",
          null,
          `Somebody has changed the flow meanwhile; it is revision ${now?.revision} now. Your text is based on ${this.etag.replaceAll('"', "")}.`,
        ),
        h(
          "div",
          { class: "row" },
          h(
            "a",
            { class: "button", href: flowAt(this.name, null, { tab: "revisions" }), target: "_blank" },
            "See what changed",
          ),
          button("Plan on the newest", () => ((this.etag = `"${now?.revision}"`), this.plan())),
        ),
      ),
    );
  }
}
