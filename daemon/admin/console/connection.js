// Whether the daemon answers, since when it does not, and what its clock says.
const listeners = new Set();
let skew = 0;

export const connection = { heard: Date.now(), away: false };

// Calls `listener` whenever the daemon comes or goes.
export const onConnection = (listener) => listeners.add(listener);

// The daemon's time, in milliseconds; differences that requests explain are none.
export const now = () => Date.now() + skew;

// It has answered.
export function heard(date) {
  connection.heard = Date.now();
  const difference = date ? Date.parse(date) + 500 - Date.now() : skew;
  if (Math.abs(difference - skew) > 2000) skew = Math.abs(difference) > 2000 ? difference : 0;
  change(false);
}

// It has not.
export const lost = () => change(true);

function change(away) {
  if (connection.away === away) return;
  connection.away = away;
  for (const listener of listeners) listener(away);
}
