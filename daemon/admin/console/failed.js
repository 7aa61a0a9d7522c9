// Rows that a flow has set aside: looked at, mended and sent again, or dropped.
import { flowPath, maybe, request } from "./api.js";
import { button, h, say } from "./dom.js";
import { clock, count, plural } from "./format.js";
import { every } from "./live.js";
import { has } from "./routes.js";
import { ask, attempt, may, tell } from "./shell.js";

const page = 50;

// A tab of the flow's screen.
export function failed(flow) {
  const screen = new Failed(flow);
  return { node: screen.node, close: () => screen.poll.stop(), paint: ({ graph }) => screen.offer(graph) };
}

class Failed {
  items = [];
  edits = new Map();
  chosen = new Set();
  room = page;

  constructor(flow) {
    this.flow = flow;
    this.status = h("span", { class: "soft" });
    this.of = h(
      "select",
      { "aria-label": "Rows of", change: () => this.again() },
      h("option", { value: "" }, "all nodes"),
    );
    this.which = h(
      "select",
      { "aria-label": "Which rows", change: () => this.again() },
      h("option", { value: "&waiting=true" }, "not replayed"),
      h("option", { value: "" }, "also replayed"),
    );
    this.replay = button("Replay", () => this.send(), { class: "main" });
    this.drop = button("Drop …", () => this.throwAway(), { class: "danger" });
    this.all = h("input", { type: "checkbox", id: "all-rows", change: () => this.choose(this.all.checked) });
    this.replays = may("operator") && has("POST", flowPath(flow, "dead_letters", "replay"));
    this.drops = may("operator") && has("DELETE", flowPath(flow, "dead_letters"));
    const all = h("label", { class: "check", for: "all-rows" }, this.all, h("span", null, "all shown"));
    const acts = [this.replays && this.replay, this.drops && this.drop];
    this.tools = h("div", { class: "row tools" }, this.acts && all, this.of, this.which, acts, this.status);
    this.list = h("ul", { class: "rows" });
    this.more = button("Show more", () => ((this.room += page), this.poll.again()), { class: "more" });
    this.empty = h("p", { class: "soft lone" }, "asking …");
    this.node = h("div", null, this.tools, this.list, this.more, this.empty);
    this.poll = every(5000, (signal) => this.load(signal));
  }

  // Whether anything can be done with rows, for which they are chosen.
  get acts() {
    return this.replays || this.drops;
  }

  again() {
    this.room = page;
    this.chosen.clear();
    this.poll.again();
  }

  offer(graph) {
    if (this.of.options.length > 1) return;
    this.of.append(...graph.nodes.map((node) => h("option", { value: node.name }, node.name)));
  }

  async load(signal) {
    const of = this.of.value && `&node=${encodeURIComponent(this.of.value)}`;
    const at = `${flowPath(this.flow, "dead_letters")}?limit=${Math.min(500, this.room)}${of}${this.which.value}`;
    const answer = await maybe(at, { signal });
    this.items = answer?.items ?? [];
    this.tools.hidden = !answer;
    this.empty.hidden = this.items.length > 0;
    this.more.hidden = !answer?.next;
    const none = this.which.value ? "No failed row waits to be replayed." : "No row has failed.";
    say(this.empty, answer ? none : "This daemon keeps no failed rows.");
    const here = new Set(this.items.map(({ id }) => id));
    for (const id of this.chosen) if (!here.has(id)) this.chosen.delete(id);
    this.draw();
  }

  // A row that somebody is mending stays as it is on the page.
  draw() {
    const key = JSON.stringify(this.items.map(({ id, replayed }) => [id, replayed]));
    if (key !== this.drawn) this.list.replaceChildren(...this.items.map((item) => this.line(item)));
    this.drawn = key;
    this.count();
  }

  line(item) {
    const check = h("input", {
      type: "checkbox",
      "aria-label": `Choose row ${item.id}`,
      checked: this.chosen.has(item.id),
      change: () => this.pick(item.id, check.checked),
    });
    const edited = h("span", { class: "chip on", hidden: !this.edits.has(item.id) }, "mended");
    const text = h("code", { class: "text" }, JSON.stringify(this.edits.get(item.id) ?? item.row));
    const mend = this.replays && !item.replayed && button("Mend …", () => this.mend(item, text, edited));
    return h(
      "li",
      null,
      this.acts ? check : h("span"),
      h(
        "div",
        null,
        h(
          "p",
          null,
          h("span", { class: "strong" }, item.node),
          " ",
          h("span", { class: "soft" }, [clock(item.at), origin(item)].filter(Boolean).join(", ")),
          " ",
          edited,
          item.replayed && h("span", { class: "chip" }, sentAgain(item.replayed)),
        ),
        h("p", { class: "wrong" }, item.error),
        text,
      ),
      mend,
    );
  }

  pick(id, on) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    this.count();
  }

  choose(on) {
    this.chosen = new Set(on ? this.items.map(({ id }) => id) : []);
    this.list.querySelectorAll("input").forEach((input) => (input.checked = on));
    this.count();
  }

  count() {
    const none = this.chosen.size === 0;
    this.replay.disabled = this.drop.disabled = none;
    say(
      this.status,
      none
        ? `${count(this.items.length)} shown${this.acts ? "; choose those to replay or drop" : ""}`
        : `${plural(this.chosen.size, "row")} chosen`,
    );
  }

  async mend(item, text, edited) {
    const words = JSON.stringify(this.edits.get(item.id) ?? item.row, null, 2);
    const field = {
      name: "row",
      label: "The row, as JSON",
      tag: "textarea",
      children: [words],
      properties: { rows: Math.min(18, words.split("\n").length + 1), spellcheck: "false" },
    };
    const answer = await ask(
      `Mend a row of ${item.node}`,
      h("p", { class: "wrong" }, item.error),
      "Keep, to be replayed",
      { fields: [field] },
    );
    if (!answer) return;
    const row = await attempt("read the row", async () => JSON.parse(answer.row));
    if (row === undefined) return;
    this.edits.set(item.id, row);
    this.pick(item.id, true);
    text.closest("li").querySelector("input").checked = true;
    say(text, JSON.stringify(row));
    edited.hidden = false;
  }

  async send() {
    const ids = [...this.chosen];
    const edit = Object.fromEntries(ids.filter((id) => this.edits.has(id)).map((id) => [id, this.edits.get(id)]));
    const at = flowPath(this.flow, "dead_letters", "replay");
    const done = await attempt("replay the rows", () => request("POST", at, { body: { ids, edit } }));
    // Of rows that were sent together, some may have been taken.
    if (!done) return this.poll.again();
    const { replayed, already } = done.body;
    tell(`${plural(replayed, "row")} replayed${already ? `; ${plural(already, "other")} had been before` : ""}`);
    this.forget(ids);
  }

  async throwAway() {
    const ids = [...this.chosen];
    const sure = await ask(
      `Drop ${plural(ids.length, "row")}?`,
      "They are deleted, and can't be replayed any more.",
      `Drop ${plural(ids.length, "row")}`,
      { danger: true },
    );
    if (!sure) return;
    const at = `${flowPath(this.flow, "dead_letters")}?ids=${ids.map(encodeURIComponent).join(",")}`;
    if (await attempt("drop the rows", () => request("DELETE", at))) this.forget(ids);
  }

  forget(ids) {
    ids.forEach((id) => (this.chosen.delete(id), this.edits.delete(id)));
    this.all.checked = false;
    this.poll.again();
  }
}

// What a row that was replayed says of that.
const sentAgain = ({ at, by, to, edited }) => `${edited ? "mended and " : ""}replayed into ${to} by ${by}, ${clock(at)}`;

// From where a row came, as far as that is known.
function origin({ source, partition, position, line }) {
  const at = [position != null && `position ${count(position)}`, line != null && `line ${count(line)}`].filter(Boolean);
  return [source && [source, partition].filter(Boolean).join(" "), ...at].filter(Boolean).join(", ");
}
