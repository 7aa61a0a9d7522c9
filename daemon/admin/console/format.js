// Numbers, times and states in words.
import { now } from "./connection.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

export const count = (n) => (n == null ? "—" : whole.format(n));
export const figure = (n) => (typeof n === "number" ? fine.format(n) : n == null ? "—" : String(n));
export const share = (x) => (x == null ? "—" : `${whole.format(100 * x)} %`);
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

export const perSecond = (n) => (n == null ? "—" : `${n < 10 ? tenth.format(n) : whole.format(n)} /s`);

// Numbers of an axis, short.
export const brief = (n) => {
  for (const [unit, size] of [
    ["G", 1e9],
    ["M", 1e6],
    ["k", 1e3],
  ])
    if (Math.abs(n) >= size) return fine.format(n / size) + unit;
  return fine.format(n);
};

export function bytes(n) {
  if (n == null) return "—";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < 4) ((n /= 1024), unit++);
  return `${n < 10 && unit > 0 ? tenth.format(n) : whole.format(n)} ${units[unit]}`;
}

// A length of time.
export function span(seconds) {
  if (seconds == null || !isFinite(seconds)) return "—";
  if (seconds < 0.0995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${tenth.format(seconds)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export const since = (at) => (at ? Math.max(0, (now() - Date.parse(at)) / 1000) : null);
export const ago = (at) => (at ? (since(at) < 1.5 ? "just now" : `${span(Math.round(since(at)))} ago`) : "—");
export const until = (at) => (at ? span(Math.max(0, Math.round((Date.parse(at) - now()) / 1000))) : "—");

// The time of day, and the day if it is another than today.
export function clock(at) {
  if (!at) return "—";
  const time = new Date(at);
  const day =
    time.toDateString() === new Date(now()).toDateString()
      ? ""
      : `${time.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} `;
  return day + time.toLocaleTimeString("en-GB", day ? { timeStyle: "short" } : undefined);
}

// The middle of a long name is left out: what distinguishes names is at their ends.
export const middle = (name, room) => {
  if (name.length <= room) return name;
  const head = Math.ceil((room - 1) * 0.6);
  return `${name.slice(0, head)}…${name.slice(name.length - (room - 1 - head))}`;
};

export const firstLine = (text) => (text ?? "").split("\n", 1)[0];

// How a flow is, in the order of what needs somebody: its shape (and colour) and its words.
export function condition(flow) {
  const words = flow.state.replace("_", " ");
  if (flow.state === "failed") return { rank: 0, shape: "bad", words: "failed" };
  if (flow.health === "failing") return { rank: 1, shape: "bad", words: `${words}, failing` };
  if (flow.state === "backing_off") return { rank: 2, shape: "warn", words: "backing off" };
  if (flow.health === "degraded") return { rank: 3, shape: "warn", words: `${words}, degraded` };
  if (flow.problem) return { rank: 4, shape: "warn", words: `${words}, change refused` };
  if (flow.paused) return { rank: 5, shape: "off", words: `${words}, inputs held` };
  if (["starting", "changing", "stopping"].includes(flow.state)) return { rank: 5, shape: "moving", words };
  if (flow.state === "running") return { rank: 6, shape: "ok", words };
  return { rank: flow.state === "finished" ? 7 : 8, shape: flow.state === "finished" ? "done" : "off", words };
}

// What is wrong with a flow, in the words of the daemon.
export const trouble = (flow) =>
  condition(flow).rank > 4 ? (flow.paused ?? null) : flow.reason || flow.problem?.reason || null;
