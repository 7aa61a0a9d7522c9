// What is around every screen: who is there, whether the daemon answers, notes, questions, keys and appearance.
import { Problem, get, maybe, path, request } from "./api.js";
import { connection, onConnection } from "./connection.js";
import { button, h, mark, say } from "./dom.js";
import { clock } from "./format.js";

const roles = ["viewer", "operator", "admin"];
const most = 4;
let session = { who: null, role: "admin" };

// Whether who is here may do what a role may.
export const may = (role) => roles.indexOf(session.role ?? "admin") >= roles.indexOf(role);

export const go = (hash) => (location.hash = hash);

// The address of a flow's screen: `flowAt("clicks", "edit", { node: "x" })`.
export function flowAt(name, part, query) {
  const words = new URLSearchParams(Object.entries(query ?? {}).filter(([, value]) => value != null)).toString();
  return `#/flows/${encodeURIComponent(name)}${part ? `/${part}` : ""}${words && `?${words}`}`;
}

// Asks who is there. Where there are no sessions, everybody who comes through may do everything.
export async function meet() {
  session = (await maybe("/session")) ?? { who: null, role: "admin" };
  const who = document.getElementById("who");
  who.replaceChildren();
  if (!session.who) return;
  who.append(
    h(
      "span",
      { class: session.role === "viewer" ? "chip" : "chip role" },
      session.role === "viewer" ? "read only" : session.role,
    ),
    h("span", null, session.who),
    button("Log out", leave, { class: "plain" }),
  );
}

async function leave() {
  await attempt("log out", () => request("DELETE", "/session"));
  location.reload();
}

onConnection((away) => {
  // Who is there may be another one for a daemon that has come back.
  if (!away) meet().catch(() => {});
  const contact = document.getElementById("contact");
  document.body.classList.toggle("away", connection.away);
  contact.replaceChildren();
  if (!connection.away) return;
  contact.append(
    h("i", { class: "dot bad" }),
    `The daemon does not answer. This is what it said at ${clock(new Date(connection.heard))}.`,
  );
});

// A line for a while, or until it is closed if it is of something that went wrong.
export function tell(words, bad = false) {
  const notes = document.getElementById("notes");
  const line = h(
    "div",
    { class: bad ? "note bad" : "note" },
    h("span", null, words),
    button("×", () => line.remove(), { class: "plain", "aria-label": "Close" }),
  );
  notes.append(line);
  while (notes.children.length > most) notes.firstChild.remove();
  if (!bad) setTimeout(() => line.remove(), 8000);
  return line;
}

// Does something, and says so in words if it goes wrong. Gives what it gave, or undefined.
export async function attempt(what, work) {
  try {
    return await work();
  } catch (error) {
    tell(`Could not ${what}: ${error.message}`, true);
    if (!(error instanceof Problem)) console.error(error);
    return undefined;
  }
}

// Has the daemon do something that takes a while, and says how it goes until it has ended. Gives the operation, or undefined.
export async function operate(what, method, at, body = {}) {
  return attempt(what, async () => {
    const started = await request(method, at, { body, headers: { Prefer: "wait=2" } });
    return followed(what, started.body);
  });
}

// Says how an operation goes that is under way, until it has ended.
export const watch = (what, operation) => attempt(what, () => followed(what, operation));

async function followed(what, operation) {
  const line = tell(`${what} …`);
  const end = await ended(operation, (detail) => say(line.firstChild, `${what}: ${detail}`));
  line.remove();
  if (["failed", "cancelled"].includes(end?.state)) throw new Error(end.problem ?? `it was ${end.state}`);
  tell(`${what}: done`);
  return end;
}

async function ended(operation, progress) {
  while (["queued", "running"].includes(operation?.state)) {
    progress(operation.detail || operation.state);
    await new Promise((resolve) => setTimeout(resolve, 500));
    operation = await get(path("operations", operation.id));
  }
  return operation;
}

// Asks before something is done; the promise is of what `fields` hold, by name, or null.
export function ask(title, words, yes, { fields = [], danger = false } = {}) {
  return new Promise((resolve) => {
    const inputs = fields.map((field) =>
      h(field.tag ?? "input", { id: `ask-${field.name}`, name: field.name, ...field.properties }, field.children ?? []),
    );
    const values = () =>
      Object.fromEntries(inputs.map((input) => [input.name, input.type === "checkbox" ? input.checked : input.value]));
    const finish = (result) => (dialog.close(), dialog.remove(), resolve(result));
    const form = h(
      "form",
      { submit: (event) => (event.preventDefault(), finish(values())) },
      h("h2", { id: "ask-title" }, title),
      [words].flat().map((line) => (line instanceof Node ? line : h("p", null, line))),
      inputs.map((input, i) =>
        h(
          "label",
          { for: input.id, class: input.type === "checkbox" ? "check" : null },
          h("span", null, fields[i].label),
          input,
        ),
      ),
      h(
        "div",
        { class: "row end" },
        button("Cancel", () => finish(null)),
        h("button", { type: "submit", class: danger ? "danger" : "main" }, yes),
      ),
    );
    const dialog = h(
      "dialog",
      { "aria-labelledby": "ask-title", cancel: (event) => (event.preventDefault(), finish(null)) },
      form,
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

const keys = [
  ["?", "these keys"],
  ["g then f, m, s", "go to flows, models, system"],
  ["/", "search"],
  ["n", "a new flow"],
  ["e", "edit the flow"],
  ["← → ↑ ↓", "in a graph: along its edges, and from node to node"],
  ["Esc", "close what is open"],
  ["Ctrl Enter", "in the editor: show what a change would do"],
];

// What the keys do, and how it looks.
export function showHelp() {
  const theme = h(
    "select",
    { id: "theme", change: (event) => dress(event.target.value) },
    ["auto", "light", "dark"].map((name) =>
      h("option", { value: name, selected: name === stored("theme", "auto") }, name),
    ),
  );
  const single = h("input", {
    type: "checkbox",
    id: "single",
    checked: singleKeys(),
    change: (event) => store("keys", event.target.checked ? "on" : "off"),
  });
  const dialog = h(
    "dialog",
    { class: "keys", "aria-labelledby": "keys-title", close: () => dialog.remove() },
    h("h2", { id: "keys-title" }, "Keys"),
    h(
      "dl",
      null,
      keys.map(([key, does]) => [h("dt", null, h("kbd", null, key)), h("dd", null, does)]),
    ),
    h("label", { class: "check", for: "single" }, single, h("span", null, "Keys without Ctrl do something")),
    h("h2", null, "Appearance"),
    h("label", { for: "theme" }, h("span", null, "Colours"), theme),
    h(
      "div",
      { class: "row end" },
      button("Close", () => dialog.close(), { class: "main" }),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
}

export const singleKeys = () => stored("keys", "on") === "on";

function stored(name, otherwise) {
  try {
    return localStorage.getItem(`millstream-${name}`) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function store(name, value) {
  try {
    localStorage.setItem(`millstream-${name}`, value);
  } catch {
    // A browser that keeps nothing forgets it with the page.
  }
}

// Light, dark, or as the system is.
export function dress(theme = stored("theme", "auto")) {
  store("theme", theme);
  mark(document.documentElement, "data-theme", theme === "auto" ? null : theme);
}
