// Elements from words: all that is on the page is made here, of text nodes and attributes, never of markup.
const SVG = "http://www.w3.org/2000/svg";

function dress(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value == null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

// An element of HTML: `h("a", { href, click: listener }, "text", other)`. What is null or false is left out.
export const h = (tag, properties, ...children) => dress(document.createElement(tag), properties, children);

// An element of SVG.
export const s = (tag, properties, ...children) => dress(document.createElementNS(SVG, tag), properties, children);

// Sets the text of an element, and touches nothing if it says so already, which keeps selections and saves layout.
export function say(element, text) {
  const words = text == null ? "" : String(text);
  if (element.textContent !== words) element.textContent = words;
}

// Sets an attribute, or takes it away, where that changes something.
export function mark(element, name, value) {
  if (value == null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

const records = new WeakMap();

// Makes the children of `parent` those of `items`, in their order: `make` gives a record with its `node` for a new item, `update` is told of all.
export function keyed(parent, items, key, make, update = () => {}) {
  const known = records.get(parent) ?? new Map();
  records.set(parent, known);
  const wanted = new Set(items.map(key));
  for (const [id, record] of known) if (!wanted.has(id)) (record.node.remove(), known.delete(id));
  let place = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    if (!known.has(id)) known.set(id, make(item));
    const record = known.get(id);
    update(record, item);
    if (record.node === place) place = place.nextSibling;
    else parent.insertBefore(record.node, place);
  }
}

// A table with its heads; those that begin with `#` are of numbers, those with `-` are left out on a phone.
export function table(caption, heads, ...bodies) {
  const cells = heads.map((head) =>
    h(
      "th",
      { scope: "col", class: kind(head) },
      head.replace(/^[#-]+/, "") || h("span", { class: "unseen" }, "Actions"),
    ),
  );
  return h("table", null, h("caption", { class: "unseen" }, caption), h("thead", null, h("tr", null, cells)), bodies);
}

// The class of a column, by how its head begins.
export const kind = (head) => {
  const sign = head.match(/^[#-]*/)[0];
  return [sign.includes("#") && "number", sign.includes("-") && "wide"].filter(Boolean).join(" ") || null;
};

// A row of a table whose cells have the classes of their columns.
export const row = (heads, ...cells) =>
  h(
    "tr",
    null,
    cells.map((cell, i) => h("td", { class: kind(heads[i]) }, cell)),
  );

// A button.
export const button = (label, click, properties) => h("button", { type: "button", click, ...properties }, label);
