// Which routes the daemon has, as it says itself: what it has not is left out of the page, and never asked for.
import { request } from "./api.js";

let known = null;

// Asks once. A daemon that does not say is taken to have all.
export async function learn() {
  try {
    const { paths } = (await request("GET", "/openapi.json")).body;
    known = Object.entries(paths).map(([path, methods]) => [
      new RegExp(`^${path.replace(/\{[^}]*\}/g, "[^/]+")}$`),
      Object.keys(methods),
    ]);
  } catch {
    known = null;
  }
}

// Whether there is a route for a request: `has("POST", "/flows/x/drain")`.
export function has(method, at) {
  const path = `/api/v1${at.split("?")[0]}`;
  return (
    known === null || known.some(([pattern, methods]) => pattern.test(path) && methods.includes(method.toLowerCase()))
  );
}
