// A picture for every kind of node: lines in a square of 18, so that a graph can be read before its words are.
const glyphs = {
  broker: "M3 4v10M3 9l6-4M3 9l6 4M12 5h3M12 13h3M9 5h1M9 13h1",
  table: "M3 5c0-2.2 12-2.2 12 0v8c0 2.2-12 2.2-12 0zM3 5c0 2.2 12 2.2 12 0M3 9c0 2.2 12 2.2 12 0",
  file: "M5 2.5h5l3.5 3.5v9.5h-8.5zM10 2.5v3.5h3.5",
  objects: "M2.5 6l6.5-3.5 6.5 3.5v6.5l-6.5 3.5-6.5-3.5zM2.5 6l6.5 3.5 6.5-3.5M9 9.5v6.5",
  web: "M9 2.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M2.5 9h13M9 2.5c-4 4-4 9 0 13c4-4 4-9 0-13",
  sql: "M3 4h12M3 9h8M3 14h10",
  join: "M2.5 4.5c6 0 5 4.5 9 4.5h4M2.5 13.5c6 0 5-4.5 9-4.5",
  route: "M2.5 9h4c4 0 3-4.5 9-4.5M6.5 9c4 0 3 4.5 9 4.5M6.5 9h9",
  learn: "M2.5 14.5l4-5 3 2.5 6-8.5M11.5 3.5h4v4",
  serve: "M9 2.5l1.8 4.7 4.7 1.8-4.7 1.8-1.8 4.7-1.8-4.7-4.7-1.8 4.7-1.8z",
  window: "M2.5 4h13v10h-13zM7 4v10M11 4v10",
  buffer: "M3 5h12M3 9h12M3 13h12M3 5v8M15 5v8",
  several: "M5.5 5.5h10v10h-10zM2.5 12.5v-10h10",
  input: "M2.5 9h10M8.5 5l4 4-4 4M15.5 3v12",
  output: "M2.5 3v12M5.5 9h10M11.5 5l4 4-4 4",
  processor: "M9 5.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7M2 9h3.5M12.5 9h3.5",
};

const kinds = [
  ["broker", /kafka|mqtt|nats|syslog/],
  ["table", /mysql|postgres|delta|lookup/],
  ["objects", /object|s3|gcs|azure/],
  ["web", /http|web|git/],
  ["learn", /train|evaluate|segment|learn/],
  ["serve", /predict|score|decide|serve/],
  ["window", /window|aggregate|over/],
  ["route", /route|split/],
  ["join", /join|union|merge/],
  ["buffer", /buffer/],
  ["sql", /sql|parse|flatten|schema|validate|mask/],
  ["file", /file|parquet|csv/],
  ["several", /several/],
];

// The lines for a node.
export const glyph = ({ type, role }) =>
  glyphs[kinds.find(([, pattern]) => pattern.test(type))?.[0] ?? role] ?? glyphs.processor;
