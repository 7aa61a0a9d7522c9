// Models: their versions, how they have learned beside what needs no learning, and which of them is used.
import { maybe, path, request } from "./api.js";
import { chart } from "./chart.js";
import { button, h, keyed, mark, row, say, table } from "./dom.js";
import { ago, clock, count, figure } from "./format.js";
import { every } from "./live.js";
import { ask, attempt, may, tell } from "./shell.js";

// The figures that say most; those that there is no room for are in the answer of the API.
const first = ["auc", "log_loss", "accuracy", "f1", "r2", "rmse", "mae", "mean_reward"];
const heads = ["Model", "-Estimator", "#Versions", "#Latest", "Aliases", "-Updated"];

// All models.
export function models() {
  const body = h("tbody");
  const list = h("div", { class: "panel scroll", hidden: true }, table("Models", heads, body));
  const empty = h("p", { class: "soft lone" }, "asking …");
  const make = (model) => ({
    node: row(
      heads,
      h("a", { href: `#/models/${encodeURIComponent(model.name)}` }, model.name),
      model.estimator ?? "—",
      "",
      "",
      "",
      "",
    ),
  });
  const update = ({ node }, model) => {
    const [, , versions, latest, aliases, updated] = node.children;
    say(versions, Array.isArray(model.versions) ? model.versions.length : count(model.versions));
    say(latest, model.latest);
    if (aliases.dataset.key !== JSON.stringify(model.aliases)) aliases.replaceChildren(...chips(model.aliases));
    aliases.dataset.key = JSON.stringify(model.aliases);
    say(updated, ago(model.updated));
  };
  const poll = every(5000, async (signal) => {
    const answer = await maybe("/models", { signal });
    const items = answer?.items ?? [];
    list.hidden = !items.length;
    empty.hidden = items.length > 0;
    say(empty, answer ? "No flow has published a model yet." : "This daemon does not know models.");
    keyed(body, items, (model) => model.name, make, update);
  });
  const node = h("section", null, h("div", { class: "top" }, h("h1", null, "Models")), list, empty);
  return { title: "Models", node, topics: [], paint() {}, close: poll.stop };
}

const chips = (aliases) =>
  Object.entries(aliases ?? {}).map(([alias, version]) =>
    h("span", { class: alias === "champion" ? "chip on" : "chip" }, `${alias} ${version}`),
  );

// One model.
export function model(route) {
  const screen = new Model(route.parts[1]);
  return { title: screen.name, node: screen.node, topics: [], paint() {}, close: () => screen.poll.stop() };
}

class Model {
  constructor(name) {
    this.name = name;
    this.chips = h("span", { class: "row" });
    this.judged = h("p", { class: "soft" });
    this.curve = h("div", { class: "panel pad", hidden: true });
    this.list = h("div", { class: "panel scroll" });
    this.node = h(
      "section",
      null,
      h(
        "div",
        { class: "top" },
        h("h1", null, name),
        this.chips,
        h("a", { class: "button end", href: "#/models" }, "All models"),
      ),
      this.judged,
      this.curve,
      this.list,
    );
    this.poll = every(5000, (signal) => this.load(signal));
  }

  async load(signal) {
    const at = (part) => path("models", this.name, part);
    const [versions, series] = await Promise.all([maybe(at("versions"), { signal }), maybe(at("series"), { signal })]);
    if (!versions)
      return this.list.replaceChildren(h("p", { class: "soft lone" }, `There is no model called ${this.name}.`));
    const { items } = versions;
    const key = JSON.stringify([items, series?.points?.length, series?.points?.at(-1)]);
    if (key === this.key) return;
    this.key = key;
    this.versions = [...items].sort((a, b) => b.version - a.version);
    this.aliases = Object.fromEntries(
      this.versions.flatMap((each) => (each.aliases ?? []).map((alias) => [alias, each.version])),
    );
    this.chips.replaceChildren(...chips(this.aliases));
    this.drawVersions();
    this.drawCurve(series);
  }

  drawCurve(series) {
    const points = series?.points ?? [];
    this.curve.hidden = points.length < 2;
    if (this.curve.hidden) return;
    const lines = [{ name: this.name, look: "model", points: points.map((each) => [each.row, each.value]) }];
    for (const [name, of] of baselines(points))
      lines.push({ name, look: "baseline", points: points.map((each) => [each.row, of(each)]) });
    const marks = this.versions.map((each) => ({ x: each.rows, name: `version ${each.version}` }));
    const last = points.at(-1);
    const label = `${series.metric} over rows: ${figure(last.value)} at the end${
      lines.length > 1
        ? `, ${lines
            .slice(1)
            .map((line) => `${line.name} ${figure(line.points.at(-1)[1])}`)
            .join(", ")}`
        : ""
    }`;
    say(this.judged, `${series.metric}, each row predicted before it is learned`);
    this.curve.replaceChildren(
      chart({
        label,
        x: "rows",
        y: series.metric,
        series: lines,
        marks,
        width: Math.max(560, this.curve.clientWidth - 32),
      }),
    );
  }

  drawVersions() {
    const figures = (metrics) => Object.keys(metrics ?? {}).filter((name) => typeof metrics[name] === "number");
    const all = [...new Set(this.versions.flatMap((each) => figures(each.metrics)))];
    const names = [...all.filter((name) => first.includes(name)), ...all.filter((name) => !first.includes(name))].slice(
      0,
      6,
    );
    const columns = [
      "Version",
      "When",
      "#Rows",
      ...names.map((name) => `#${name.replaceAll("_", " ")}`),
      "Aliases",
      "",
    ];
    const lines = this.versions.slice(0, 200).map((each) => this.line(columns, names, each));
    lines.splice(1, 0, ...baselineRows(columns, names, this.versions[0]?.baselines));
    this.list.replaceChildren(
      lines.length
        ? table("Versions, newest first", columns, h("tbody", null, lines))
        : h("p", { class: "soft lone" }, "There is no version yet."),
    );
  }

  line(columns, names, each) {
    const promote =
      may("operator") && this.aliases.champion !== each.version && button("Promote …", () => this.promote(each));
    return row(
      columns,
      each.version,
      clock(each.at),
      count(each.rows),
      ...names.map((name) => figure(each.metrics?.[name])),
      h("span", null, chips(Object.fromEntries((each.aliases ?? []).map((alias) => [alias, ""])))),
      promote,
    );
  }

  async promote(each) {
    const alias = {
      name: "alias",
      label: "Name that flows use",
      properties: { value: "champion", required: true, pattern: "[A-Za-z0-9_\\-]+" },
    };
    const now = this.versions.find((other) => other.version === this.aliases.champion);
    const words = [
      `Flows that predict with this name take version ${each.version} of ${this.name}${now ? ` in place of version ${now.version}` : ""}.`,
      compare(now, each),
    ];
    const answer = await ask(`Promote version ${each.version}?`, words, "Promote", { fields: [alias] });
    if (!answer) return;
    const done = await attempt("promote the version", () =>
      request("PUT", path("models", this.name, "aliases", answer.alias), { body: { version: each.version } }),
    );
    if (done) tell(`${this.name}@${answer.alias} is now version ${each.version}.`);
    this.poll.again();
  }
}

const compared = ["Metric", "#Now", "#Then"];

function compare(now, then) {
  const lines = Object.entries(then.metrics ?? {}).map(([name, value]) =>
    row(compared, name.replaceAll("_", " "), figure(now?.metrics?.[name]), figure(value)),
  );
  return h("div", { class: "scroll", tabindex: 0 }, table("Metrics now and then", compared, h("tbody", null, lines)));
}

// Baselines come as a number or as several with names.
function baselines(points) {
  const first = points.find((each) => each.baseline != null)?.baseline;
  if (first == null) return [];
  if (typeof first === "number") return [["baseline", (each) => each.baseline]];
  return Object.keys(first).map((name) => [name.replaceAll("_", " "), (each) => each.baseline?.[name] ?? null]);
}

// What needs no learning, below the newest version: `baselines` is by baseline and then by metric, or of one by metric.
function baselineRows(columns, names, all) {
  const several = Object.values(all ?? {}).some((each) => each && typeof each === "object");
  const each = Object.entries(several ? all : all ? { baseline: all } : {});
  return each.map(([name, metrics]) => {
    const line = row(
      columns,
      "",
      name.replaceAll("_", " "),
      "",
      ...names.map((metric) => figure(metrics[metric])),
      "",
      "",
    );
    mark(line, "class", "soft");
    return line;
  });
}
