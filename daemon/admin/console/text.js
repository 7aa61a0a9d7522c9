// A field for the text of a flow: a textarea, which keyboards, phones and screen readers know, with its lines numbered, its words coloured and its
// mistakes underlined behind it.
import { h } from "./dom.js";
import { colours } from "./toml.js";

const line = 20;
const above = 12;

// `changed()` is called when somebody types. `value`, `show(errors)` and `goTo(line, column)` are what it can.
export class Text {
  errors = [];

  constructor(label, value, changed) {
    this.area = h("textarea", {
      id: "text",
      "aria-label": label,
      spellcheck: "false",
      autocapitalize: "off",
      autocomplete: "off",
      wrap: "off",
    });
    this.area.value = value;
    this.gutter = h("div", { class: "gutter", "aria-hidden": "true" });
    this.back = h("div", { class: "back", "aria-hidden": "true" });
    this.node = h("div", { class: "text-field" }, this.gutter, this.back, this.area);
    this.area.addEventListener("scroll", () => this.draw());
    this.area.addEventListener("input", () => (this.read(), this.draw(), changed()));
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.area);
    this.read();
  }

  close() {
    this.watch.disconnect();
  }

  get value() {
    return this.area.value;
  }

  set value(text) {
    this.area.value = text;
    this.read();
    this.draw();
  }

  read() {
    this.lines = this.area.value.split("\n");
    this.parts = colours(this.lines);
  }

  show(errors) {
    this.errors = errors;
    this.draw();
  }

  // Only what can be seen is made, however long the text.
  draw() {
    const { scrollTop, scrollLeft, clientHeight } = this.area;
    const first = Math.max(0, Math.floor((scrollTop - above) / line));
    const last = Math.min(this.lines.length, first + Math.ceil(clientHeight / line) + 2);
    const shift = above + first * line - scrollTop;
    const wrong = new Set(this.errors.map((error) => error.line - 1));
    const numbers = [];
    const texts = [];
    for (let i = first; i < last; i++) {
      numbers.push(h("div", { class: wrong.has(i) ? "wrong" : null }, wrong.has(i) ? `▲ ${i + 1}` : String(i + 1)));
      texts.push(
        h(
          "div",
          { class: wrong.has(i) ? "wrong" : null },
          this.parts[i].map(([look, text]) => h("span", { class: look }, text)),
          this.errors.filter((error) => error.line === i + 1).map(underline),
        ),
      );
    }
    this.gutter.replaceChildren(...numbers);
    this.back.replaceChildren(...texts);
    this.gutter.style.paddingTop = this.back.style.paddingTop = `${Math.max(0, shift)}px`;
    this.gutter.style.marginTop = this.back.style.marginTop = `${Math.min(0, shift)}px`;
    this.back.style.transform = `translateX(${-scrollLeft}px)`;
  }

  // The line of the table of a node.
  place(name) {
    const head = new RegExp(`^\\s*\\[(input|processor|output)\\.("?)${name.replace(/[^\w-]/g, "\\$&")}\\2\\]`);
    return (
      1 +
      Math.max(
        0,
        this.lines.findIndex((line) => head.test(line)),
      )
    );
  }

  goTo(number, column = 1) {
    const start = this.lines.slice(0, number - 1).reduce((sum, text) => sum + text.length + 1, 0) + column - 1;
    this.area.focus();
    this.area.setSelectionRange(start, start);
    this.area.scrollTop = Math.max(0, (number - 1) * line - this.area.clientHeight / 3);
    this.draw();
  }
}

function underline({ column, length }) {
  const mark = h("u");
  mark.style.left = `${(column ?? 1) - 1}ch`;
  mark.style.width = `${Math.max(1, length ?? 1)}ch`;
  return mark;
}

// Mistakes as a list: each a button that goes to its place, with the way out.
export function mistakes(errors, field) {
  return errors.map((error) =>
    h(
      "li",
      null,
      h(
        "button",
        { type: "button", class: "plain place", click: () => field.goTo(error.line ?? 1, error.column ?? 1) },
        error.line ? `${error.line}:${error.column ?? 1}` : "flow",
      ),
      h("span", null, error.message, error.help ? h("span", { class: "soft" }, ` ${error.help}`) : null),
    ),
  );
}
