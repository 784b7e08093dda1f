// Zones, lines and masks: counted over the picture, listed beside it, drawn in a still picture

const KINDS = { zone: "zone", crossing_line: "line", mask: "mask" };
const makeSvg = (tag, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

// As they are in use, what is counted at them, and the picture's size.
let zones = null;
let zoneCounts = null;
let pictureSize = null;

async function loadZones() {
  try {
    useZones(await ask("api/zones"));
  } catch {
    // The next status asks again.
  }
}

function useZones(now) {
  zones = now;
  const kept = now.is_kept ? "drawn here, also after a restart" : "drawn here, until a restart";
  set(the("zones-chosen"), now.is_as_configured ? "" : kept);
  the("zones-as-configured").hidden = now.is_as_configured;
  showZoneCounts(pictureSize);
}

function showZones(counts, isKept) {
  const told = JSON.stringify([counts?.zones.map(({ name }) => name), counts?.lines.map(({ name }) => name)]);
  if (!zones || zones.is_kept !== isKept || the("zone-list").dataset.named !== told) {
    the("zone-list").dataset.named = told;
    loadZones();
  }
  zoneCounts = counts ?? null;
  const perWord = (words, what) => words.filter((word) => what(word) > 0).map((word) => `${word.word} ${number(what(word))}`).join(", ");
  const rows = (counts?.zones ?? []).map((zone) =>
    [zone.name, `${number(zone.now)} now · ${number(zone.entered.total)} entered`, perWord(zone.words, ({ now }) => now)]);
  for (const line of counts?.lines ?? []) {
    const crossed = line.directions.map(({ direction, crossed }) => `${direction} ${number(crossed.total)}`);
    rows.push([line.name, crossed.join(" · "), ""]);
  }
  const shown = JSON.stringify(rows);
  const list = the("zone-list");
  if (list.dataset.shown !== shown) {
    list.dataset.shown = shown;
    const items = rows.map(([name, what, more]) => {
      const item = make("li");
      item.append(make("span", "name", name), make("span", "what", what));
      if (more) item.append(make("small", "", more));
      return item;
    });
    list.replaceChildren(...(items.length ? items : [make("li", "empty", "none yet: draw one to count who enters, stays or crosses")]));
    showZoneCounts(pictureSize);
  }
}

// The numbers, in the middle of each zone and beside each line; outlines and names are drawn in the picture itself.
function showZoneCounts(size) {
  if (!size) return;
  pictureSize = size;
  const [width, height] = size;
  const over = the("zone-counts");
  over.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const texts = [];
  const text = ([x, y], told) => texts.push(makeSvg("text", { x: x * width, y: y * height, "font-size": Math.min(width, height) / 21 }, told));
  for (const { name, points } of zones?.zone ?? []) {
    const counted = zoneCounts?.zones.find((zone) => zone.name === name);
    if (counted) text(middleOf(points), number(counted.now));
  }
  for (const { name, from, to } of zones?.crossing_line ?? []) {
    const counted = zoneCounts?.lines.find((line) => line.name === name);
    // Away from the name, which is at its beginning, and from what is in the middle of a zone around it.
    if (counted) text([0, 1].map((axis) => from[axis] + 0.8 * (to[axis] - from[axis])), counted.directions.map(({ direction, crossed }) => `${direction} ${number(crossed.total)}`).join(" · "));
  }
  over.replaceChildren(...texts);
}

const middleOf = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);

// What is drawn: shapes with their points in parts of the picture, which one is chosen, what is being drawn or dragged.
let editor = null;

const shapeOf = (kind, keys) => ({ kind, ...keys, points: (kind === "crossing_line" ? [keys.from, keys.to] : keys.points).map((point) => [...point]) });

function keysOf({ kind, points, from, to, ...keys }) {
  const round = (point) => point.map((part) => Math.round(part * 1e4) / 1e4);
  const [placed, rounded] = [{ ...keys }, points.map(round)];
  if (kind === "crossing_line") [placed.from, placed.to] = rounded;
  else placed.points = rounded;
  return placed;
}

async function openEditor() {
  const button = the("edit-zones");
  button.disabled = true;
  the("zones-error").hidden = true;
  try {
    const response = await fetch("snapshot.jpg?boxes=false", { cache: "no-store" });
    if (!response.ok) throw new Error((await response.json()).error);
    const picture = await createImageBitmap(await response.blob());
    const still = the("draw-still");
    const size = [still.width, still.height] = [picture.width, picture.height];
    still.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    useZones(await ask("api/zones"));
    const shapes = Object.keys(KINDS).flatMap((kind) => zones[kind].map((keys) => shapeOf(kind, keys)));
    editor = { shapes, chosen: null, drawn: null, grip: null, point: null, size };
  } catch (reason) {
    complain("zones-error", reason);
    return;
  } finally {
    button.disabled = false;
  }
  the("drawing").setAttribute("viewBox", `0 0 ${editor.size.join(" ")}`);
  showEditor(true);
  the("view").scrollIntoView({ block: "nearest" });
  ask("api/words?limit=1000").then(({ words }) => {
    the("zone-words").replaceChildren(...words.map(({ word }) => new Option(word)));
  }, () => {});
  if (editor.shapes.length > 0) choose(0);
  else drawEditor();
}

function closeEditor() {
  if (!editor) return;
  editor = null;
  showEditor(false);
  the("edit-zones").focus();
}

function showEditor(is) {
  the("draw").hidden = the("edit").hidden = !is;
  the("zones").classList.toggle("is-drawn", is);
  the("zone-list").hidden = the("zones-begin").hidden = is;
  the("zones-error").hidden = true;
}

function choose(place) {
  editor.chosen = place;
  editor.drawn = editor.grip = editor.point = null;
  showShape();
  drawEditor();
}

const chosen = () => (editor && editor.chosen !== null ? editor.shapes[editor.chosen] : null);

const titleOf = (shape, place) => shape.name || `${KINDS[shape.kind]} ${place + 1}`;

// Begins a zone, line or mask, whose points are tapped then.
function begin(kind) {
  const taken = new Set(editor.shapes.map(({ name }) => name));
  let count = 1;
  while (taken.has(`${KINDS[kind]} ${count}`)) count += 1;
  const name = kind === "mask" ? {} : { name: `${KINDS[kind]} ${count}` };
  editor.chosen = editor.grip = editor.point = null;
  editor.drawn = { kind, ...name, points: [] };
  showShape();
  drawEditor();
  the("drawing").focus({ preventScroll: true });
  the("view").scrollIntoView({ block: "nearest" });
}

function finish() {
  const { drawn } = editor;
  if (!drawn || drawn.points.length < (drawn.kind === "crossing_line" ? 2 : 3)) return;
  editor.shapes.push(drawn);
  choose(editor.shapes.length - 1);
}

// Pixels of the picture in so many of the page.
function scaleOf(svg) {
  const place = svg.getBoundingClientRect();
  return Math.min(place.width / editor.size[0], place.height / editor.size[1]);
}

// Where the pointer is, in parts of the picture.
function partOf(svg, event) {
  const [place, scale, size] = [svg.getBoundingClientRect(), scaleOf(svg), editor.size];
  const part = [
    (event.clientX - place.left - (place.width - size[0] * scale) / 2) / scale / size[0],
    (event.clientY - place.top - (place.height - size[1] * scale) / 2) / scale / size[1],
  ];
  return part.map((axis) => Math.min(Math.max(axis, 0), 1));
}

const pixels = (point) => point.map((part, axis) => part * editor.size[axis]);
const apart = (a, b) => Math.hypot(...[0, 1].map((axis) => pixels(a)[axis] - pixels(b)[axis]));

function apartFromSide([from, to], point) {
  const [a, b, p] = [from, to, point].map(pixels);
  const [along, off] = [[b[0] - a[0], b[1] - a[1]], [p[0] - a[0], p[1] - a[1]]];
  const length = along[0] ** 2 + along[1] ** 2;
  const part = length > 0 ? Math.min(Math.max((off[0] * along[0] + off[1] * along[1]) / length, 0), 1) : 0;
  return Math.hypot(off[0] - part * along[0], off[1] - part * along[1]);
}

const holds = (points, [x, y]) => points.reduce((is, [ax, ay], place) => {
  const [bx, by] = points[(place + 1) % points.length];
  return (ay > y) !== (by > y) && x < ax + ((y - ay) / (by - ay)) * (bx - ax) ? !is : is;
}, false);

const sidesOf = (shape) => (shape.kind === "crossing_line" ? [] : shape.points.map((point, place) => [point, shape.points[(place + 1) % shape.points.length]]));

// A finger or a mouse comes down: on a point of what is chosen, between two, in a shape, or beside all.
function grip(svg, event) {
  const [at, near] = [partOf(svg, event), 22 / scaleOf(svg)];
  if (editor.drawn) return tap(at, near);
  const shape = chosen();
  if (shape) {
    const place = nearest(shape.points.map((point) => apart(point, at)), near);
    if (place !== null) return hold({ point: place });
    const middles = sidesOf(shape).map((side) => apart(middleOf(side), at));
    const between = shape.points.length < 64 ? nearest(middles, 0.75 * near) : null;
    if (between !== null) {
      shape.points.splice(between + 1, 0, at);
      return hold({ point: between + 1 });
    }
  }
  const isAt = (one) => (one.kind === "crossing_line" ? apartFromSide(one.points, at) < near : holds(one.points, at));
  const places = editor.shapes.map((_, place) => place).sort((a, b) => (b === editor.chosen) - (a === editor.chosen) || b - a);
  const place = places.find((one) => isAt(editor.shapes[one]));
  choose(place ?? null);
  if (place !== undefined) hold({ from: at, points: editor.shapes[place].points.map((point) => [...point]) });
}

function nearest(distances, most) {
  const place = distances.indexOf(Math.min(...distances));
  return distances.length > 0 && distances[place] < most ? place : null;
}

function hold(grip) {
  editor.grip = grip;
  editor.point = grip.point ?? null;
  drawEditor();
}

function tap(at, near) {
  const { drawn } = editor;
  const closes = drawn.kind !== "crossing_line" && drawn.points.length > 2 && apart(drawn.points[0], at) < near;
  if (closes) return finish();
  const isAgain = drawn.points.length > 0 && apart(drawn.points.at(-1), at) < near / 4;
  if (!isAgain && drawn.points.length < 64) drawn.points.push(at);
  if (drawn.kind === "crossing_line" && drawn.points.length === 2) return finish();
  // A line may also be dragged from one end to the other.
  editor.grip = drawn.kind === "crossing_line" ? { dragged: at } : null;
  drawEditor();
}

function dragShape(svg, event) {
  const { grip } = editor;
  if (!grip) return;
  const at = partOf(svg, event);
  if (grip.dragged) {
    grip.to = at;
  } else if (grip.point !== undefined) {
    chosen().points[grip.point] = at;
  } else {
    // As far as all of it stays in the picture.
    const by = [0, 1].map((axis) => {
      const all = grip.points.map((point) => point[axis]);
      return Math.min(Math.max(at[axis] - grip.from[axis], -Math.min(...all)), 1 - Math.max(...all));
    });
    chosen().points = grip.points.map((point) => point.map((part, axis) => part + by[axis]));
  }
  drawEditor();
}

function release(svg) {
  const { grip } = editor;
  editor.grip = null;
  if (grip?.dragged && grip.to && apart(grip.dragged, grip.to) > 22 / scaleOf(svg)) {
    editor.drawn.points.push(grip.to);
    finish();
  }
  showShape();
  drawEditor();
}

function removePoint() {
  const shape = chosen();
  if (!shape || shape.kind === "crossing_line" || editor.point === null || shape.points.length < 4) return;
  shape.points.splice(editor.point, 1);
  editor.point = null;
  showShape();
  drawEditor();
}

function removeShape() {
  if (!chosen()) return;
  editor.shapes.splice(editor.chosen, 1);
  choose(null);
}

const HINTS = {
  zone: ["Tap the corners of the zone", "Tap the next corner", "Tap the next corner, or the first one to close it"],
  mask: ["Tap the corners of what is not to be looked at", "Tap the next corner", "Tap the next corner, or the first one to close it"],
  crossing_line: ["Tap where the line begins", "Tap where it ends"],
};

function drawEditor() {
  const svg = the("drawing");
  const [parts, radius] = [[], 8 / scaleOf(svg)];
  const at = (point) => pixels(point).map((part) => part.toFixed(1)).join(",");
  const outline = (shape, points, isOpen, isChosen) => {
    const tag = isOpen || shape.kind === "crossing_line" ? "polyline" : "polygon";
    const form = { points: points.map(at).join(" ") };
    parts.push(makeSvg(tag, { ...form, class: "rim" }), makeSvg(tag, { ...form, class: `shape ${shape.kind}${isChosen ? " chosen" : ""}` }));
    if (shape.kind === "crossing_line" && points.length === 2) parts.push(...directionsOf(shape, points, radius));
  };
  editor.shapes.forEach((shape, place) => {
    outline(shape, shape.points, false, place === editor.chosen);
    const [x, y] = pixels(middleOf(shape.points));
    if (shape.kind !== "crossing_line") parts.push(makeSvg("text", { x, y, "font-size": 2 * radius }, titleOf(shape, place)));
  });
  const dot = (point, name, size = radius) => {
    const [cx, cy] = pixels(point);
    parts.push(makeSvg("circle", { cx, cy, r: size, class: name }));
  };
  const shape = chosen();
  sidesOf(shape ?? { points: [] }).forEach((side) => dot(middleOf(side), "between", 0.6 * radius));
  shape?.points.forEach((point, place) => dot(point, place === editor.point ? "gripped" : ""));
  const { drawn } = editor;
  if (drawn) {
    outline(drawn, editor.grip?.to ? [...drawn.points, editor.grip.to] : drawn.points, true, true);
    drawn.points.forEach((point, place) => dot(point, place === 0 ? "gripped" : ""));
  }
  svg.replaceChildren(...parts);
  const hints = drawn ? HINTS[drawn.kind] : null;
  const begun = editor.shapes.length === 0 ? "Begin with a new zone, line or mask" : "";
  set(the("draw-hint"), hints ? hints[Math.min(drawn.points.length, hints.length - 1)] : begun);
}

// What a crossing to each side of a line is called, on that side.
function directionsOf(shape, points, radius) {
  const [[ax, ay], [bx, by]] = points.map(pixels);
  const length = Math.hypot(bx - ax, by - ay) || 1;
  const [x, y] = [(ax + bx) / 2, (ay + by) / 2];
  const [right, down] = [-(by - ay) / length, (bx - ax) / length];
  const name = (side, told) => {
    // Beside an upright line it begins or ends there, so that it doesn't lie on it.
    const across = Math.abs(right) < 0.4 ? "" : side * right > 0 ? "begins" : "ends";
    const by = (across ? 1.4 : 2.4) * side * radius;
    return makeSvg("text", { x: x + by * right, y: y + by * down, "font-size": 1.8 * radius, class: across }, told);
  };
  const title = makeSvg("text", { x: ax, y: ay - 2 * radius, "font-size": 2 * radius }, shape.name);
  return [title, name(1, shape.to_right || "right"), name(-1, shape.to_left || "left")];
}

// The fields of what is chosen, and the list of all.
function showShape() {
  const shape = chosen();
  the("shapes").replaceChildren(...editor.shapes.map((one, place) => {
    const [item, button] = [make("li", place === editor.chosen ? "chosen" : ""), make("button", "", titleOf(one, place))];
    button.type = "button";
    button.setAttribute("aria-pressed", String(place === editor.chosen));
    button.addEventListener("click", () => choose(place));
    item.append(button);
    return item;
  }));
  const fields = the("shape");
  fields.hidden = !shape;
  if (!shape) return;
  const [isLine, isZone] = [shape.kind === "crossing_line", shape.kind === "zone"];
  for (const [name, is] of [["of-named", isLine || isZone], ["of-line", isLine], ["of-zone", isZone], ["of-polygon", !isLine]]) {
    fields.querySelectorAll(`.${name}`).forEach((element) => { element.hidden = !is; });
  }
  const values = { "shape-name": shape.name, "shape-left": shape.to_left, "shape-right": shape.to_right, "shape-dwell": shape.dwell_s, "shape-anchor": shape.anchor ?? "bottom" };
  for (const [id, value] of Object.entries(values)) {
    if (document.activeElement !== the(id)) the(id).value = value ?? "";
  }
  the("remove-point").disabled = editor.point === null || shape.points.length < 4;
  const words = shape.words ?? [];
  the("shape-words").hidden = words.length === 0;
  the("shape-words").replaceChildren(...words.map((word) => {
    const [item, remove] = [make("li", "", word), make("button", "", "×")];
    remove.type = "button";
    remove.title = `Not ${word}`;
    remove.setAttribute("aria-label", remove.title);
    remove.addEventListener("click", () => write("words", words.filter((one) => one !== word)));
    item.append(remove);
    return item;
  }));
}

// Writes a key of what is chosen; one without a value is left out.
function write(key, value) {
  const shape = chosen();
  if (!shape) return;
  const isNone = value === null || value.length === 0;
  if (isNone && key !== "name") delete shape[key];
  else shape[key] = value;
  showShape();
  drawEditor();
}

function addWord() {
  const word = the("shape-word").value.trim();
  the("shape-word").value = "";
  const words = chosen()?.words ?? [];
  if (word && !words.includes(word)) write("words", [...words, word]);
}

async function saveZones() {
  if (editor.drawn) finish();
  const of = (kind) => editor.shapes.filter((shape) => shape.kind === kind).map(keysOf);
  const body = { zone: of("zone"), crossing_line: of("crossing_line"), mask: of("mask") };
  the("edit").inert = true;
  the("zones-error").hidden = true;
  try {
    useZones(await ask("api/zones", "PUT", body));
    closeEditor();
  } catch (reason) {
    complain("zones-error", reason);
  } finally {
    the("edit").inert = false;
  }
}

{
  const svg = the("drawing");
  svg.addEventListener("pointerdown", (event) => {
    if (!editor || !event.isPrimary) return;
    svg.setPointerCapture(event.pointerId);
    grip(svg, event);
  });
  svg.addEventListener("pointermove", (event) => { if (editor && event.isPrimary) dragShape(svg, event); });
  svg.addEventListener("pointerup", (event) => { if (editor && event.isPrimary) release(svg); });
  svg.addEventListener("pointercancel", () => { if (editor) { editor.grip = null; drawEditor(); } });
  svg.addEventListener("keydown", (event) => {
    if (!editor) return;
    if (event.key === "Escape") choose(editor.chosen);
    if (event.key === "Enter") finish();
    if (event.key === "Delete" || event.key === "Backspace") removePoint();
  });
  new ResizeObserver(() => { if (editor) drawEditor(); }).observe(svg);
}
the("edit-zones").addEventListener("click", openEditor);
the("leave-zones").addEventListener("click", closeEditor);
the("zones-as-configured").addEventListener("click", async () => {
  try {
    useZones(await ask("api/zones", "DELETE"));
  } catch (reason) {
    complain("zones-error", reason);
  }
});
document.querySelectorAll("#edit [data-kind]").forEach((button) => button.addEventListener("click", () => begin(button.dataset.kind)));
the("shape-name").addEventListener("input", (event) => write("name", event.target.value));
the("shape-left").addEventListener("input", (event) => write("to_left", event.target.value));
the("shape-right").addEventListener("input", (event) => write("to_right", event.target.value));
the("shape-dwell").addEventListener("input", (event) => write("dwell_s", event.target.value === "" ? null : Number(event.target.value)));
the("shape-anchor").addEventListener("change", (event) => write("anchor", event.target.value === "bottom" ? null : event.target.value));
the("add-word").addEventListener("click", addWord);
the("shape-word").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  addWord();
});
the("turn").addEventListener("click", () => write("points", [...chosen().points].reverse()));
the("remove-point").addEventListener("click", removePoint);
the("remove-shape").addEventListener("click", removeShape);
the("edit").addEventListener("submit", (event) => {
  event.preventDefault();
  saveZones();
});
