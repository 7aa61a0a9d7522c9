// The rows that go through a place of a flow, a few a second: the last hundred, and how many were not shown.
import { Problem, events, flowPath } from "./api.js";
import { button, h, say } from "./dom.js";
import { clock, count, plural } from "./format.js";
import { repaint } from "./live.js";
import { has } from "./routes.js";
import { may } from "./shell.js";

const ring = 100;
const widest = 40;

// A section with a choice of places; nothing is asked of the flow before somebody says so.
export function tap(flow, places) {
  return new Tap(flow, places);
}

class Tap {
  rows = [];
  passed = 0;
  unseen = 0;

  constructor(flow, places) {
    Object.assign(this, { flow, places });
    this.place = h(
      "select",
      { "aria-label": "Where to look", change: () => this.control && this.start() },
      places.map(({ label }, i) => h("option", { value: i }, label)),
    );
    this.toggle = button("Look at rows", () => (this.control ? this.stop() : this.start()));
    this.freeze = button("Freeze", () => this.hold(), { hidden: true, "aria-pressed": "false" });
    this.status = h("p", { class: "soft" });
    this.head = h("tr");
    this.body = h("tbody");
    this.grid = h(
      "div",
      { class: "tap scroll", tabindex: 0, role: "region", "aria-label": "Rows", hidden: true },
      h("table", null, h("thead", null, this.head), this.body),
    );
    this.node = h(
      "section",
      { class: "taps" },
      h("div", { class: "row" }, this.place, this.toggle, this.freeze),
      this.status,
      this.grid,
    );
    this.node.hidden = !places.length || !has("GET", flowPath(flow, "tap")) || !may("operator");
    this.onHide = () => document.hidden && this.stop();
    document.addEventListener("visibilitychange", this.onHide);
  }

  close() {
    this.stop();
    document.removeEventListener("visibilitychange", this.onHide);
  }

  stop() {
    this.control?.abort();
    this.control = null;
    this.toggle.textContent = "Look at rows";
    this.freeze.hidden = true;
  }

  async start() {
    this.stop();
    const control = (this.control = new AbortController());
    Object.assign(this, { rows: [], passed: 0, unseen: 0, frozen: false, changed: true });
    this.toggle.textContent = "Stop looking";
    this.freeze.hidden = false;
    this.paint();
    try {
      await this.read(control.signal);
    } catch (error) {
      if (control.signal.aborted) return;
      this.stop();
      say(this.status, error instanceof Problem && error.missing ? "This daemon does not show rows." : error.message);
    }
  }

  async read(signal) {
    const query = new URLSearchParams(this.places[this.place.value].query);
    for await (const event of events(`${flowPath(this.flow, "tap")}?${query}`, signal)) this.take(event);
    if (!signal.aborted) (this.stop(), this.paint());
  }

  take({ at, rows, source, passed }) {
    this.passed += passed ?? 0;
    if (this.frozen) return void (this.unseen += rows.length);
    const of = source && `from ${source[0]} ${source[1]}, positions ${source[2]} to ${source[3]}`;
    this.rows = [...this.rows, ...rows.map((row) => ({ at, row, of }))].slice(-ring);
    this.changed = true;
    repaint();
  }

  hold() {
    this.frozen = !this.frozen;
    this.unseen = 0;
    this.freeze.setAttribute("aria-pressed", this.frozen);
    this.freeze.textContent = this.frozen ? "Go on" : "Freeze";
    this.paint();
  }

  paint() {
    if (!this.control && !this.changed) return;
    const held = this.frozen ? `, ${count(this.unseen)} came while frozen` : "";
    say(
      this.status,
      this.rows.length || this.passed
        ? `The last ${plural(this.rows.length, "row")} shown, ${count(this.passed)} passed unseen${held}.`
        : "No row has come yet.",
    );
    if (!this.changed || this.frozen) return;
    this.changed = false;
    this.grid.hidden = !this.rows.length;
    const names = [...new Set(this.rows.flatMap(({ row }) => Object.keys(row)))].slice(0, widest);
    const look = (name) => (typeof this.rows.at(-1)?.row[name] === "number" ? "number" : null);
    this.head.replaceChildren(...["seen", ...names].map((name) => h("th", { scope: "col", class: look(name) }, name)));
    this.body.replaceChildren(
      ...[...this.rows].reverse().map(({ at, row, of }) =>
        h(
          "tr",
          { title: of },
          h("td", { class: "soft" }, clock(at)),
          names.map((name) => cell(row[name])),
        ),
      ),
    );
  }
}

// A value as JSON would say it, but for text and long fractions; what is cut is whole in its title.
function cell(value) {
  if (value === undefined) return h("td");
  const whole = typeof value === "string" ? value : JSON.stringify(value);
  const short = typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : whole;
  const text = short.length > 48 ? `${short.slice(0, 47)}…` : short;
  const look = typeof value === "number" ? "number" : value === null ? "soft" : null;
  return h("td", { class: look, title: text === whole ? null : whole.slice(0, 2000) }, text);
}
