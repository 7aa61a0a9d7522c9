// Where the console begins: who is there, which screen the address names, and what the keys do.
import { connection } from "./connection.js";
import { maybe, onRefused } from "./api.js";
import { mark } from "./dom.js";
import { edit } from "./edit.js";
import { flow } from "./flow.js";
import { flows } from "./flows.js";
import { follow, paintWith } from "./live.js";
import { login } from "./login.js";
import { model, models } from "./models.js";
import { has, learn } from "./routes.js";
import { ask, dress, go, may, meet, showHelp, singleKeys } from "./shell.js";
import { system } from "./system.js";

const main = document.getElementById("main");
let screen = null;
let at = null;

// The screen of an address, and what it is of: the same again is told of the address, and not made anew.
function find({ parts: [first, second, third] }) {
  if (first === "flows" && third === "edit") return [`edit ${second}`, edit];
  if (first === "flows" && second) return [`flow ${second}`, flow];
  if (first === "models" && second) return [`model ${second}`, model];
  return { models: ["models", models], system: ["system", system], new: ["new", edit] }[first] ?? ["flows", flows];
}

function read(hash) {
  const [words, query] = hash.replace(/^#\//, "").split("?");
  return { parts: words.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

async function route(event) {
  if (location.hash && !location.hash.startsWith("#/")) return;
  const route = read(location.hash);
  const [key, make] = find(route);
  if (key === at && screen?.go) return screen.go(route);
  const stays = event && screen?.leave?.();
  if (stays && !(await ask("Leave the text?", stays, "Leave it", { danger: true })))
    return history.replaceState(null, "", event.oldURL);
  at = key;
  show(make(route));
  for (const link of document.querySelectorAll(".bar nav a"))
    mark(link, "aria-current", link.hash === `#/${route.parts[0] ?? "flows"}` ? "page" : null);
}

function show(next) {
  screen?.close();
  screen = next;
  document.body.classList.toggle("out", at === "login");
  main.replaceChildren(next.node);
  document.title = next.title === "Flows" ? "Millstream" : `${next.title} · Millstream`;
  scrollTo(0, 0);
  follow(next.topics, next.handlers ?? {});
  paintWith(() => next.paint());
  (next.focus ?? main).focus({ preventScroll: true });
}

function askWho() {
  if (at === "login") return;
  at = "login";
  show(login(() => ((at = null), begin())));
}

async function begin() {
  try {
    await learn();
    document.querySelector('nav a[href="#/models"]').hidden = !has("GET", "/models");
    await meet();
  } catch (error) {
    if (error.status === 401) return;
    // Away: the screens say so, and ask again.
  }
  if (at !== "login") route();
}

// Whether the daemon is there, also where a screen asks for nothing.
async function beat() {
  if (!document.hidden && at !== "login") await maybe("/system").catch(() => {});
  setTimeout(beat, connection.away ? 2000 : 10000);
}

const typing = (target) => target.closest?.("input, textarea, select, dialog");
let before = "";

function press(event) {
  const control = event.ctrlKey || event.metaKey;
  const own = screen?.keys?.[control ? `Control+${event.key}` : event.key];
  if (event.altKey || document.querySelector("dialog")) return;
  if (control || event.key === "Escape") {
    if (own) (event.preventDefault(), own());
    return;
  }
  if (typing(event.target) || !singleKeys()) return;
  const screens = { f: "#/flows", m: "#/models", s: "#/system" };
  const does = before === "g" ? screens[event.key] && (() => go(screens[event.key])) : (shortcuts[event.key] ?? own);
  before = event.key;
  if (does) (event.preventDefault(), does());
}

const shortcuts = {
  "?": showHelp,
  "/": () => document.getElementById("search")?.focus(),
  n: () => may("operator") && go("#/new"),
};

dress();
onRefused(askWho);
addEventListener("hashchange", route);
addEventListener("keydown", press);
addEventListener("beforeunload", (event) => screen?.leave?.() && event.preventDefault());
document.getElementById("help").addEventListener("click", showHelp);
document.querySelector(".skip").addEventListener("click", (event) => (event.preventDefault(), main.focus()));
begin().then(beat);
