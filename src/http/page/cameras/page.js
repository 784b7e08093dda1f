// All cameras, a tile for each

// From one look at the cameras to the next, and at a small picture; milliseconds. Of small pictures few are asked for at a
// time: each keeps a connection, and a browser has six of them.
const LOOK_MS = 2000;
const PICTURE_MS = 1000;
const MOST_ASKED_FOR = 3;
// A camera whose last picture is so old is not what there is to be seen.
const OLD_MS = 10000;

// ---- Tiles, in the order of the configuration

const tiles = new Map();
let large = null;

function tileOf(camera) {
  const element = make("li");
  const picture = make("button", "picture");
  picture.type = "button";
  const [image, instead] = [make("img"), make("span")];
  picture.append(image, instead);
  const about = make("div", "about");
  const [dot, name, rate, seen] = [make("i", "dot"), make("a"), make("span", "rate"), make("p", "seen")];
  about.append(dot, name, rate);
  element.append(picture, about, seen);
  const path = camera.path.slice(1);
  const tile = { element, picture, image, instead, name, rate, seen, path, at: 0, asked: 0, isAsking: false, isVisible: true };
  name.href = path;
  set(name, camera.name);
  image.alt = `What ${camera.name} sees`;
  picture.setAttribute("aria-label", `${camera.name}, large or small`);
  picture.addEventListener("click", () => enlarge(large === tile ? null : tile));
  // An MJPEG stream tells of no further pictures than its first.
  image.addEventListener("load", () => { tile.at = performance.now(); tile.isAsking = false; picture.classList.add("shows"); });
  image.addEventListener("error", () => { tile.isAsking = false; });
  visible.observe(element);
  return tile;
}

const visible = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const tile = [...tiles.values()].find((tile) => tile.element === entry.target);
    if (tile) tile.isVisible = entry.isIntersecting;
  }
});

function enlarge(tile) {
  if (large) {
    large.element.classList.remove("is-large");
    large.isAsking = false;
    large.image.removeAttribute("src");
  }
  large = tile;
  if (!tile) return;
  tile.element.classList.add("is-large");
  tile.image.src = `${tile.path}stream.mjpg?${Date.now()}`;
  scrollTo({ top: 0 });
}

function show(cameras) {
  const names = new Set(cameras.map((camera) => camera.name));
  for (const [name, tile] of tiles) {
    if (names.has(name)) continue;
    if (large === tile) enlarge(null);
    visible.unobserve(tile.element);
    tile.element.remove();
    tiles.delete(name);
  }
  cameras.forEach((camera, place) => {
    let tile = tiles.get(camera.name);
    if (!tile) {
      tile = tileOf(camera);
      tiles.set(camera.name, tile);
    }
    if (the("cameras").children[place] !== tile.element) {
      the("cameras").insertBefore(tile.element, the("cameras").children[place] ?? null);
    }
    showCamera(tile, camera);
  });
  if (cameras.length === 1 && !large) enlarge(tiles.get(cameras[0].name));
  const running = cameras.filter((camera) => camera.is_ready).length;
  const fps = cameras.reduce((sum, camera) => sum + camera.rates.fps, 0);
  set(the("count"), `${cameras.length} camera${cameras.length === 1 ? "" : "s"}, ${fps.toFixed(1)} frames/s`);
  the("state").dataset.state = running === cameras.length ? "well" : running > 0 ? "troubled" : "lost";
  set(the("state"), running === cameras.length ? "all run" : `${running} of ${cameras.length} run`);
}

function showCamera(tile, camera) {
  tile.element.dataset.state = !camera.is_ready ? "lost" : camera.is_well ? "well" : "troubled";
  set(tile.rate, camera.is_ready ? `${camera.rates.fps.toFixed(1)} frames/s` : "");
  const [reason] = camera.reasons;
  const tracked = camera.tracked === 1 ? "1 thing" : `${camera.tracked} things`;
  set(tile.seen, reason ?? `${tracked} now, ${camera.in_use.words} words`);
  tile.seen.title = camera.reasons.join("\n");
  tile.picture.classList.toggle("is-old", !camera.is_ready);
  set(tile.instead, camera.is_ready ? "waiting for the first picture" : reason ?? "");
}

// ---- Coming and going. Who doesn't look has no pictures made

async function look() {
  if (document.hidden) return;
  try {
    show((await ask("api/cameras")).cameras);
  } catch (reason) {
    the("state").dataset.state = "lost";
    set(the("state"), "no connection");
    for (const tile of tiles.values()) tile.picture.classList.add("is-old");
  }
}

function askForPictures() {
  if (document.hidden || loggingIn) return;
  const now = performance.now();
  const asking = [...tiles.values()].filter((tile) => tile.isAsking && tile !== large);
  // One that doesn't answer is not waited for for ever.
  for (const tile of asking) if (now - tile.asked > OLD_MS) tile.isAsking = false;
  const due = [...tiles.values()]
    .filter((tile) => tile !== large && tile.isVisible && !tile.isAsking && now - tile.asked >= PICTURE_MS)
    .sort((a, b) => a.asked - b.asked);
  for (const tile of due.slice(0, Math.max(MOST_ASKED_FOR - asking.length, 0))) {
    tile.isAsking = true;
    tile.asked = now;
    tile.image.src = `${tile.path}snapshot.jpg?n=${Math.round(now)}`;
  }
}

function connect() {
  if (document.hidden) return;
  if (large) large.image.src = `${large.path}stream.mjpg?${Date.now()}`;
  look();
}

function disconnect() {
  large?.image.removeAttribute("src");
}

document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
connect();
setInterval(look, LOOK_MS);
setInterval(askForPictures, 150);
