// The revisions of a flow, what was changed between two, and the way back.
import { flowPath, get, maybe } from "./api.js";
import { button, h, row, say, table } from "./dom.js";
import { clock, plural } from "./format.js";
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
  const show = async (from, number) => {
    const answer = await attempt(`compare revisions ${from} and ${number}`, () =>
      get(`${flowPath(flow, "revisions", number, "diff")}?from=${from}`),
    );
    if (answer)
      diff.replaceChildren(
        h("h2", null, `From revision ${from} to ${number}`),
        effects(answer),
        changes(answer.text ?? ""),
      );
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
  return row(
    heads,
    each.number,
    clock(each.at),
    each.author ?? "—",
    h("span", { class: "text" }, each.message || "—"),
    h("div", { class: "row end" }, what),
  );
}

async function back(flow, number) {
  const words = [
    `The text of revision ${number} becomes a new revision. Nodes that are the same in both keep their state; the revisions between stay in this list.`,
  ];
  if (await ask(`Go back to revision ${number}?`, words, "Go back"))
    await operate(`roll ${flow} back to ${number}`, "POST", flowPath(flow, "rollback"), { to: number });
}

const effectHeads = ["Node", "Effect", "-Settings that differ", "State"];
const states = { changed: "kept", added: "begins without one", removed: "goes with it" };

// What a change does to each node; those that stay as they are, are only counted.
export function effects({ nodes = [], others = [] }) {
  const changed = nodes.filter((node) => node.effect !== "same");
  const same = nodes.length - changed.length;
  const line = ({ node, effect, settings = [], state }) =>
    row(
      effectHeads,
      node,
      h("span", { class: `effect ${effect}` }, effect),
      settings.join(", ") || "—",
      h("span", { class: effect === "removed" ? "bad" : null }, state ?? states[effect]),
    );
  const said = [
    changed.length
      ? same > 0 && `${plural(same, "other node")} ${same === 1 ? "stays as it is" : "stay as they are"}.`
      : "All nodes stay as they are.",
    others.length > 0 && `Of the flow itself: ${others.join(", ")}.`,
  ];
  const grid =
    changed.length > 0 &&
    h(
      "div",
      { class: "scroll", tabindex: 0 },
      table("What the change does to nodes", effectHeads, h("tbody", null, changed.map(line))),
    );
  return h("div", null, grid, h("p", { class: "soft" }, said.filter(Boolean).join(" ")));
}

// A unified difference, with lines told apart by sign and colour.
export function changes(text) {
  const look = (line) =>
    /^(---|\+\+\+|@@)/.test(line) ? "place" : line.startsWith("+") ? "plus" : line.startsWith("-") ? "minus" : null;
  return h(
    "pre",
    { class: "changes", tabindex: 0 },
    text.split("\n").map((line) => h("span", { class: look(line) }, `${line}\n`)),
  );
}
