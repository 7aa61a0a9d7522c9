// What the daemon tells by itself: one stream of events a tab, closed while nobody looks, and one paint at most twice a second for all of it.
import { heard } from "./connection.js";

const names = ["flow", "gone", "stats", "operation", "log", "resync"];
const between = 500;
let source = null;
let wanted = null;
let painter = () => {};
let timer = 0;
let framed = 0;
let last = 0;

// Follows topics in place of those before; `handlers` are called with what the events of their name say.
export function follow(topics, handlers) {
  wanted = topics.length ? { topics, handlers } : null;
  open();
}

// Whether events come; where not, screens ask instead.
export const streams = () => source?.readyState === EventSource.OPEN;

function open() {
  source?.close();
  source = null;
  if (!wanted || document.hidden) return;
  const { topics, handlers } = wanted;
  const stream = new EventSource(`api/v1/events?topics=${topics.map(encodeURIComponent).join(",")}`);
  source = stream;
  for (const name of names) stream.addEventListener(name, (event) => take(handlers[name], event));
  stream.addEventListener("open", () => heard());
  // A stream that was refused is not tried again by the browser.
  stream.addEventListener(
    "error",
    () => stream.readyState === EventSource.CLOSED && setTimeout(() => source === stream && open(), 15000),
  );
}

function take(handler, event) {
  heard();
  handler?.(event.data ? JSON.parse(event.data) : null);
  repaint();
}

document.addEventListener("visibilitychange", () => {
  open();
  if (!document.hidden) wanted?.handlers.resync?.();
});
addEventListener("pagehide", () => source?.close());

// Calls `paint` whenever something has changed: in the next frame, but not more often than twice a second.
export function paintWith(paint) {
  painter = paint;
  last = 0;
  repaint();
}

export function repaint() {
  if (!timer && !framed) timer = setTimeout(repaintNow, Math.max(0, last + between - performance.now()));
}

// Paints in the next frame: somebody has done something, and waits for it.
export function repaintNow() {
  clearTimeout(timer);
  timer = 0;
  framed ||= requestAnimationFrame(frame);
}

function frame(time) {
  framed = 0;
  last = time;
  painter();
}

// Does something now and then, while somebody looks and not twice at a time. `stop()` of the result ends it, and aborts what it waits for.
export function every(milliseconds, work) {
  const control = new AbortController();
  let timer;
  const round = async () => {
    if (!document.hidden) await work(control.signal).catch((error) => control.signal.aborted || note(error));
    repaint();
    if (!control.signal.aborted)
      timer = setTimeout(round, typeof milliseconds === "function" ? milliseconds() : milliseconds);
  };
  const again = () => (clearTimeout(timer), round());
  round();
  return { stop: () => (control.abort(), clearTimeout(timer)), again };
}

// That the daemon is away or says no is shown by others; everything else is a mistake of ours.
function note(error) {
  if (
    !(error instanceof TypeError && /fetch|network/i.test(error.message)) &&
    error.status === undefined &&
    error.name !== "TimeoutError"
  )
    console.error(error);
}
