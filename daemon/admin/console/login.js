// The screen that asks for a token, and makes a session of it.
import { request } from "./api.js";
import { h, say } from "./dom.js";

export function login(done) {
  const wrong = h("p", { class: "wrong", role: "alert" });
  const token = h("input", {
    id: "token",
    type: "password",
    autocomplete: "current-password",
    required: true,
    spellcheck: "false",
  });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await request("POST", "/session", { body: { token: token.value.trim() } });
      done();
    } catch (error) {
      say(wrong, error.status === 401 ? "The daemon does not know this token, or it has expired." : error.message);
      token.select();
    }
  };
  const form = h(
    "form",
    { class: "login panel", submit },
    h("h1", null, "Log in"),
    h(
      "p",
      { class: "soft" },
      "With a token of this daemon. ",
      h("code", null, "millstream token create --name NAME --role operator"),
      " makes one, on the machine where it runs.",
    ),
    h("label", { for: "token" }, h("span", null, "Token"), token),
    wrong,
    h("button", { type: "submit", class: "main" }, "Log in"),
  );
  return { title: "Log in", node: form, focus: token, topics: [], paint() {}, close() {} };
}
