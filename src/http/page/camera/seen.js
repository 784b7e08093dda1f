// What is seen now: a row for each word, in the order in which they came, so that nothing jumps; and what has happened

const percent = (part) => `${Math.round(part * 100)} %`;
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

const rows = new Map();
const STAYS_MS = 1500;

function showFrame(frame) {
  const words = new Map();
  for (const found of frame.detections) {
    const word = found.track ? found.track.word : found.word;
    const score = found.track ? found.track.score : found.score;
    const seen = words.get(word) ?? { number: 0, score: 0, tracks: [] };
    seen.number += 1;
    seen.score = Math.max(seen.score, score);
    if (found.track) seen.tracks.push(found.track.id);
    words.set(word, seen);
  }
  const now = performance.now();
  for (const [word, seen] of words) {
    const row = rows.get(word) ?? addRow(word, frame.colours[word]);
    row.at = now;
    row.element.classList.remove("gone");
    const tracks = seen.tracks.sort((a, b) => a - b).map((track) => `#${track}`);
    const shown = tracks.length > 3 ? `${tracks.slice(0, 3).join(" ")} …` : tracks.join(" ");
    const note = [seen.number > 1 ? `×${seen.number}` : "", shown].filter(Boolean).join("  ");
    if (row.note.textContent !== note) row.note.textContent = note;
    const score = percent(seen.score);
    if (row.score.textContent !== score) row.score.textContent = score;
    row.bar.style.transform = `scaleX(${seen.score})`;
  }
  set(the("count"), frame.detections.length === 1 ? "1 thing" : `${frame.detections.length} things`);
  const [width, height] = frame.frame_size;
  const ratio = `${width} / ${height}`;
  if (the("view").dataset.ratio !== ratio) {
    the("view").dataset.ratio = ratio;
    the("view").style.aspectRatio = ratio;
    showZoneCounts([width, height]);
  }
}

function addRow(word, colour) {
  const element = make("li");
  const [dot, name, note, score, bar, part] =
    [make("span", "dot"), make("span", "name", word), make("small"), make("span", "score"), make("span", "bar"), make("i")];
  dot.style.background = part.style.background = colour;
  bar.append(part);
  name.append(note);
  element.append(dot, name, score, bar);
  element.title = word;
  const row = { element, note, score, bar: part, at: 0 };
  rows.set(word, row);
  the("now").querySelector("ul").append(element);
  return row;
}

setInterval(() => {
  const now = performance.now();
  for (const [word, row] of rows) {
    if (now - row.at > STAYS_MS) {
      row.element.remove();
      rows.delete(word);
    } else if (now - row.at > STAYS_MS / 3) {
      row.element.classList.add("gone");
    }
  }
  const [list, is] = [the("now").querySelector("ul"), the("now").querySelector(".empty")];
  if (rows.size === 0 && !is) list.append(make("li", "empty", "none of the words"));
  if (rows.size > 0 && is) is.remove();
}, 250);


const known = new Set();
const EVENTS = 60;

function showEvent(event) {
  if (known.has(event.id)) return;
  known.add(event.id);
  const list = the("events").querySelector("ol");
  list.querySelector(".empty")?.remove();
  const at = new Date(event.timestamp_ns / 1e6);
  const item = make("li", event.event);
  const [time, dot, what, track] = [
    make("time", "", at.toLocaleTimeString("en-GB")),
    make("span", "dot"),
    make("span", "what"),
    make("span", "track", `#${event.track}`),
  ];
  time.dateTime = at.toISOString();
  dot.style.background = event.colour;
  what.textContent = what.title = happened(event);
  item.append(time, dot, what, track);
  list.prepend(item);
  while (list.children.length > EVENTS) list.lastChild.remove();
  if (known.size > 10 * EVENTS) known.delete(known.values().next().value);
}

function happened({ event, word, zone, line, direction, dwell_s, first_seen_ns, last_seen_ns }) {
  if (event === "left") return `${word} left after ${lasted((last_seen_ns - first_seen_ns) / 1e9)}`;
  if (event === "entered") return `${word} entered ${zone}`;
  if (event === "exited") return `${word} left ${zone} after ${lasted(dwell_s)}`;
  if (event === "dwelled") return `${word} in ${zone} for ${lasted(dwell_s)}`;
  if (event === "crossed") return `${word} crossed ${line}: ${direction}`;
  return `${word} appeared`;
}

function lasted(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${number(seconds / 3600, 1)} h`;
}
