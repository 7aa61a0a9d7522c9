// The daemon itself: what it uses, what it is doing, how it is configured, who may what, and who did what.
import { maybe, path, request } from "./api.js";
import { button, h, mark, row, say, table } from "./dom.js";
import { ago, bytes, clock, count, share } from "./format.js";
import { every } from "./live.js";
import { has } from "./routes.js";
import { ask, attempt, may, tell } from "./shell.js";

export function system() {
  const parts = [budgets(), operations(), config(), logging(), tokens(), audit()];
  const reload = button("Reload", () => again(), { hidden: !may("admin") || !has("POST", "/system/reload") });
  const nothing = h("p", { class: "soft lone", hidden: true }, "This daemon does not say how it is.");
  const shown = async (part, signal) => {
    part.node.hidden = !(await part.load(signal));
    nothing.hidden = parts.some((each) => !each.node.hidden);
  };
  const polls = parts.map((part) => every(part.every, (signal) => shown(part, signal)));
  const node = h(
    "section",
    null,
    h("div", { class: "top" }, h("h1", null, "System"), h("div", { class: "row end" }, reload)),
    parts.map((part) => part.node),
    nothing,
  );
  const now = () => polls.forEach((poll) => poll.again());
  node.addEventListener("changed", now);
  return {
    title: "System",
    node,
    topics: ["operations"],
    handlers: { operation: () => polls[1].again(), resync: now },
    paint() {},
    close: () => polls.forEach((poll) => poll.stop()),
  };
}

async function again() {
  const answer = await attempt(
    "reload the configuration",
    async () => (await request("POST", "/system/reload", { body: {} })).body,
  );
  if (!answer) return;
  const files = (answer.flows ?? []).map(({ file, outcome }) => `${file}: ${outcome}`);
  const said = [files.join(", ") || "No file of a flow has changed", answer.problem, answer.settings];
  tell(`${said.filter(Boolean).join(". ")}.`, Boolean(answer.problem || answer.settings));
}

const part = (title, ...children) => h("section", { class: "part", hidden: true }, h("h2", null, title), children);
const changed = (node) => node.dispatchEvent(new Event("changed", { bubbles: true }));

function budgets() {
  const words = h("p", { class: "soft" });
  const bars = h("div", { class: "panel pad bars" });
  const node = part("Now", words, bars);
  const load = async (signal) => {
    const now = await maybe("/system", { signal });
    if (!now) return false;
    const flows = Object.entries(now.flows ?? {})
      .filter(([, n]) => n > 0)
      .map(([state, n]) => `${count(n)} ${state.replace("_", " ")}`);
    say(
      words,
      [
        `version ${now.version}`,
        `started ${ago(now.started)}`,
        flows.length ? `flows: ${flows.join(", ")}` : "no flows",
        now.threads && `${now.threads} threads`,
        now.address,
      ]
        .filter(Boolean)
        .join(" · "),
    );
    const limit = now.memory_budget_bytes ?? now.memory_limit_bytes;
    const disks = [now.disk ?? []]
      .flat()
      .map((disk) =>
        bar(
          `disk ${disk.path}`,
          disk.total_bytes - disk.free_bytes,
          disk.total_bytes,
          `${bytes(disk.free_bytes)} free`,
        ),
      );
    bars.replaceChildren(...(now.memory_bytes ? [bar("memory", now.memory_bytes, limit)] : []), ...disks);
    bars.hidden = !bars.children.length;
    return true;
  };
  return { node, load, every: 3000 };
}

function bar(name, used, total, rest) {
  const part = total ? used / total : 0;
  const fill = h("i", { class: part > 0.9 ? "blocked" : "busy" });
  fill.style.width = `${(100 * part).toFixed(1)}%`;
  return h(
    "div",
    null,
    h(
      "p",
      null,
      h("span", { class: "strong" }, name),
      " ",
      h(
        "span",
        { class: "soft" },
        total ? `${bytes(used)} of ${bytes(total)}, ${share(part)}${rest ? `, ${rest}` : ""}` : bytes(used),
      ),
    ),
    h("div", { class: "time", "aria-hidden": "true" }, fill),
  );
}

// A part that is one table: `rows(items)` are its lines.
function tabled(title, at, heads, cells, none, ...more) {
  const body = h("tbody");
  const empty = h("p", { class: "soft" }, none);
  const grid = h("div", { class: "panel scroll" }, table(title, heads, body));
  const node = part(title, more, grid, empty);
  let known = null;
  const load = async (signal) => {
    const answer = await maybe(at, { signal });
    if (!answer) return false;
    const items = answer.items ?? [];
    grid.hidden = !items.length;
    empty.hidden = items.length > 0;
    const key = JSON.stringify(items);
    if (key !== known) body.replaceChildren(...items.slice(0, 300).map((item) => row(heads, ...cells(item))));
    known = key;
    return true;
  };
  return { node, load, every: 5000 };
}

const operationHeads = ["What", "Of", "State", "-By", "-Submitted", ""];
const shapes = { done: "done", failed: "bad", cancelled: "off", running: "moving", queued: "off" };

function operations() {
  const cells = (each) => {
    const why = each.problem ?? (each.state === "running" ? each.detail : "");
    const cancel = may("operator") && ["queued", "running"].includes(each.state) && button("Cancel", () => stop(each));
    return [
      each.kind,
      each.flow,
      h(
        "span",
        null,
        h("span", { class: "state" }, h("i", { class: `dot ${shapes[each.state]}` }), each.state),
        h("span", { class: "why" }, why),
      ),
      each.by ?? "—",
      clock(each.submitted),
      cancel,
    ];
  };
  const self = tabled("Operations", "/operations", operationHeads, cells, "Nothing was asked of the daemon yet.");
  const stop = async (each) =>
    (await attempt("cancel it", () => request("DELETE", path("operations", each.id)))) && changed(self.node);
  return self;
}

const configHeads = ["Setting", "Value", "-From"];

function config() {
  const search = h("input", {
    type: "search",
    "aria-label": "Search settings",
    placeholder: "Search settings",
    input: () => filter(),
  });
  const cells = (each) => [
    h("code", null, each.key),
    h("code", { class: "text" }, typeof each.value === "string" ? each.value : JSON.stringify(each.value)),
    h("span", { class: each.origin === "default" ? "soft" : null }, each.origin),
  ];
  const self = tabled("Configuration", "/system/config", configHeads, cells, "There are no settings.", search);
  const filter = () =>
    self.node
      .querySelectorAll("tbody tr")
      .forEach((line) => (line.hidden = !line.textContent.toLowerCase().includes(search.value.trim().toLowerCase())));
  return {
    ...self,
    load: async (signal) => {
      const there = await self.load(signal);
      filter();
      return there;
    },
    every: 30000,
  };
}

function logging() {
  const words = h("p", { class: "soft" });
  const target = h("input", { "aria-label": "Module", placeholder: "millstream_sql", spellcheck: "false" });
  const level = h(
    "select",
    { "aria-label": "Level" },
    ["error", "warn", "info", "debug", "trace"].map((name) =>
      h("option", { value: name, selected: name === "debug" }, name),
    ),
  );
  const set = async () => {
    const done = await attempt("set the level", () =>
      request("PUT", "/logging", { body: { levels: { [target.value.trim()]: level.value }, for_s: 600 } }),
    );
    if (done) changed(node);
  };
  const form = may("admin") && h("div", { class: "row" }, target, level, button("Set for 10 minutes", set));
  const node = part("Log levels", words, form);
  const load = async (signal) => {
    const now = await maybe("/logging", { signal });
    if (now)
      say(
        words,
        [
          `${now.default ?? "info"} by default`,
          ...Object.entries(now.levels ?? {}).map(([name, at]) => `${name}: ${at}`),
        ].join(", ") + (now.for_s ? `; falls back in ${count(now.for_s)} s` : ""),
      );
    return Boolean(now);
  };
  return { node, load, every: 10000 };
}

const tokenHeads = ["Name", "Role", "-Flows", "-Expires", "-Last used", ""];

function tokens() {
  const made = h("div");
  const revoke = async (each) => {
    const sure = await ask(
      `Revoke ${each.name ?? each.id}?`,
      "Who uses it is refused from now on; sessions that began with it end.",
      "Revoke",
      { danger: true },
    );
    if (sure && (await attempt("revoke it", () => request("DELETE", path("tokens", each.id))))) changed(self.node);
  };
  const cells = (each) => [
    each.name ?? each.id,
    each.role,
    (each.flows ?? []).join(", ").replace(/^\*$/, "") || "all",
    each.expires ? clock(each.expires) : "never",
    ago(each.last_used),
    may("admin") && button("Revoke …", () => revoke(each)),
  ];
  const self = tabled(
    "Tokens",
    "/tokens",
    tokenHeads,
    cells,
    "There are no tokens.",
    may("admin") &&
      h(
        "p",
        null,
        button("New token …", () => create(self.node, made)),
      ),
    made,
  );
  return self;
}

// A token is shown once: the daemon keeps only what it is known by.
async function create(node, made) {
  const role = {
    name: "role",
    label: "Role",
    tag: "select",
    children: ["viewer", "operator", "admin"].map((name) => h("option", { value: name }, name)),
  };
  const fields = [{ name: "name", label: "Who or what it is for", properties: { required: true } }, role];
  const answer = await ask("New token", "Whoever has it may do what its role may.", "Make it", { fields });
  const token =
    answer && (await attempt("make a token", async () => (await request("POST", "/tokens", { body: answer })).body));
  if (!token) return;
  const words = h("code", { class: "token", tabindex: 0 }, token.secret);
  const copy = button("Copy", () => navigator.clipboard?.writeText(token.secret).then(() => tell("Copied.")));
  const line = h(
    "div",
    { class: "notice", "data-shape": "ok" },
    h("p", null, "It is shown only now: ", words),
    h(
      "div",
      { class: "row" },
      copy,
      button("Done", () => line.remove()),
    ),
  );
  mark(line, "role", "status");
  made.replaceChildren(line);
  changed(node);
}

// `begun`, `done`, or an object that says what was wrong.
function ending(result) {
  if (typeof result !== "object") return result;
  return h(
    "span",
    { class: "bad" },
    Object.entries(result ?? {})
      .map(([how, why]) => `${how}: ${why}`)
      .join(", "),
  );
}

const auditHeads = ["When", "Who", "-Role", "-From", "What", "Result"];

function audit() {
  const cells = (each) => [
    clock(each.at),
    each.who ?? "—",
    each.role ?? "",
    each.from ?? "",
    h("code", { class: "text" }, [each.method, each.path ?? each.target].filter(Boolean).join(" ")),
    ending(each.result),
  ];
  return { ...tabled("Audit", "/audit", auditHeads, cells, "Nothing was changed yet."), every: 15000 };
}
