// Requests to the daemon, and the problems that it answers with.
import { heard, lost } from "./connection.js";
import { has } from "./routes.js";

const prefix = "api/v1";
const stream = "text/event-stream";
const absent = [404, 405, 501];
let refused = () => {};

// Calls `listener` when the daemon does not know who asks.
export const onRefused = (listener) => (refused = listener);

export const path = (...parts) => "/" + parts.map(encodeURIComponent).join("/");
export const flowPath = (name, ...rest) => path("flows", name, ...rest);

// An answer that is none: what was wrong, in the daemon's words.
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `The daemon answered with status ${status}.`);
    Object.assign(this, { status, code: body.code ?? "", errors: body.errors ?? [], instance: body.instance });
  }

  // The daemon does not have this (yet), or not for this role: its part of the page is left out.
  get missing() {
    return absent.includes(this.status) || this.status === 403;
  }
}

async function fetched(method, at, { body, type, headers, signal, accept = "application/json" } = {}) {
  const json = body !== undefined && typeof body !== "string";
  const content = body === undefined ? {} : { "Content-Type": type ?? "application/json" };
  const limit = AbortSignal.timeout(20000);
  try {
    const answer = await fetch(prefix + at, {
      method,
      body: json ? JSON.stringify(body) : body,
      headers: { Accept: accept, ...content, ...headers },
      credentials: "same-origin",
      cache: "no-store",
      signal: signal ? (accept === stream ? signal : AbortSignal.any([signal, limit])) : limit,
    });
    heard(answer.headers.get("Date"));
    return answer;
  } catch (error) {
    if (!signal?.aborted) lost();
    throw error;
  }
}

// Asks, and gives the answer with its body read: `{ status, body, etag }`.
export async function request(method, at, options) {
  const answer = await fetched(method, at, options);
  if (!answer.ok) throw await problem(answer);
  const text = await answer.text();
  const json = (answer.headers.get("Content-Type") ?? "").includes("json");
  return { status: answer.status, body: json && text ? JSON.parse(text) : text, etag: answer.headers.get("ETag") };
}

async function problem(answer) {
  if (answer.status === 401) refused();
  return new Problem(answer.status, await answer.json().catch(() => ({})));
}

export const get = async (at, options) => (await request("GET", at, options)).body;
export const post = async (at, body = {}, headers) => (await request("POST", at, { body, headers })).body;

// What a route says, or null where there is none.
export async function maybe(at, options) {
  if (!has("GET", at)) return null;
  try {
    return await get(at, options);
  } catch (error) {
    if (error instanceof Problem && error.missing) return null;
    throw error;
  }
}

// All items of a list, page by page, up to a bound.
export async function pages(at, limit, bound, signal) {
  const items = [];
  let cursor = "";
  do {
    const page = await get(`${at}${at.includes("?") ? "&" : "?"}limit=${limit}${cursor}`, { signal });
    items.push(...page.items);
    cursor = page.next ? `&cursor=${encodeURIComponent(page.next)}` : "";
  } while (cursor && items.length < bound);
  return items;
}

// What an answer tells that goes on, event by event. The one stream of `live` is for what is told of all; this one is for what somebody looks at.
export async function* events(at, signal) {
  const answer = await fetched("GET", at, { signal, accept: stream });
  if (!answer.ok) throw await problem(answer);
  let rest = "";
  for await (const part of chunks(answer.body.pipeThrough(new TextDecoderStream()))) {
    const whole = (rest + part).split("\n");
    rest = whole.pop();
    for (const line of whole) if (line.startsWith("data:")) yield JSON.parse(line.slice(5));
  }
}

async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}
