// Tells the words of a TOML line apart, so that they can be coloured: not a parser, and never wrong about where a word is.
const pattern =
  /(#.*)|("""|''')|("(?:\\.|[^"\\])*"?|'[^']*'?)|(^\s*\[\[?[^\]]*\]?\]?)|([A-Za-z0-9_\-.]+)(?=\s*=)|(\b(?:true|false)\b|[-+]?\b\d[\d_.:TZ+\-eE]*\b)/g;
const looks = ["comment", "string", "string", "head", "key", "value"];

// The parts of lines: `[[look, text], …]` of each; texts over several lines are followed from the first line on.
export function colours(lines) {
  let quote = null;
  return lines.map((line) => {
    const parts = [];
    let at = 0;
    if (quote) {
      const end = line.indexOf(quote);
      if (end < 0) return [["string", line]];
      parts.push(["string", line.slice(0, (at = end + 3))]);
      quote = null;
    }
    pattern.lastIndex = at;
    for (let found = pattern.exec(line); found; found = pattern.exec(line)) {
      if (found.index > at) parts.push([null, line.slice(at, found.index)]);
      const look = looks[found.slice(1).findIndex((group) => group !== undefined)];
      at = pattern.lastIndex;
      if (found[2]) {
        const end = line.indexOf(found[2], at);
        if (end < 0) quote = found[2];
        at = end < 0 ? line.length : end + 3;
        pattern.lastIndex = at;
      }
      parts.push([look, line.slice(found.index, at)]);
      if (quote) return parts;
    }
    if (at < line.length) parts.push([null, line.slice(at)]);
    return parts;
  });
}
