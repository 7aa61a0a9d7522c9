// The revisions of a flow, what was changed between two, and the way back.
import { flowPath, get, maybe } from "./api.js";
import { button, h, row, say, table } from "./dom.js";
import { clock } from "./format.js";
import { every } from "./live.js";
import { ask, attempt, may, operate } from "./shell.js";

const heads = ["Revision", "When", "-Author", "Message", ""];

// A tab of the flow's screen.
export function revisions(flow) {
  const body = h("tbody");
  const grid = table("Revisions, newest first", heads, body);
  const empty = h("p", { class: "soft lone" }, "asking …");
  const diff = h("div", { class: "diff", "aria-live": "polite" });
  let known = "";
  const show = async (number, to) => {
    const answer = await attempt(`compare revisions ${number} and ${to}`, () => get(`${flowPath(flow, "revisions", number, "diff")}?to=${to}`));
    if (answer) diff.replaceChildren(h("h2", null, `From revision ${number} to ${to}`), effects(answer.nodes ?? []), changes(answer.text ?? ""));
  };
  const poll = every(5000, async (signal) => {
    const answer = await maybe(flowPath(flow, "revisions"), { signal });
    const items = [...(answer?.items ?? [])].sort((a, b) => b.number - a.number);
    grid.hidden = !items.length;
    empty.hidden = items.length > 0;
    say(empty, answer ? "There is one revision, as it was read." : "This daemon does not say.");
    if (JSON.stringify(items) === known) return;
    known = JSON.stringify(items);
    body.replaceChildren(...items.map((each, i) => line(flow, each, items[i + 1], i === 0 ? null : items[0], show)));
  });
  grid.hidden = true;
  return { node: h("div", null, grid, empty, diff), close: poll.stop };
}

function line(flow, each, before, newest, show) {
  const what = [
    before && button("What changed", () => show(before.number, each.number)),
    newest && may("operator") && button("Go back to it …", () => back(flow, each.number)),
  ];
  return row(heads, each.number, clock(each.at), each.author ?? "—", h("span", { class: "text" }, each.message || "—"), h("div", { class: "row end" }, what));
}

async function back(flow, number) {
  const words = [`The text of revision ${number} becomes a new revision. Nodes that are the same in both keep their state; the revisions between stay in this list.`];
  if (await ask(`Go back to revision ${number}?`, words, "Go back")) await operate(`roll ${flow} back to ${number}`, "POST", flowPath(flow, "rollback"), { to: number });
}

const effectHeads = ["Node", "Effect", "State", "Why"];
const states = { kept: "kept", fresh: "begins anew", dropped: "is dropped", none: "has none" };

// What a change does to each node; those that stay as they are, are only counted.
export function effects(nodes) {
  const changed = nodes.filter((node) => node.effect !== "same");
  const same = nodes.length - changed.length;
  const rest = h("p", { class: "soft" }, changed.length ? (same ? `${same} other node${same === 1 ? " stays as it is" : "s stay as they are"}.` : "") : "All nodes stay as they are.");
  if (!changed.length) return rest;
  const lines = changed.map((node) => row(effectHeads, node.node, h("span", { class: `effect ${node.effect}` }, node.effect), h("span", { class: node.state === "dropped" ? "bad" : null }, states[node.state] ?? node.state), h("span", { class: "text" }, node.why ?? "")));
  return h("div", null, h("div", { class: "scroll", tabindex: 0 }, table("What the change does to nodes", effectHeads, h("tbody", null, lines))), rest);
}

// A unified difference, with lines told apart by sign and colour.
export function changes(text) {
  const look = (line) => (/^(---|\+\+\+|@@)/.test(line) ? "place" : line.startsWith("+") ? "plus" : line.startsWith("-") ? "minus" : null);
  return h("pre", { class: "changes", tabindex: 0 }, text.split("\n").map((line) => h("span", { class: look(line) }, `${line}\n`)));
}
