// Coming and going. Who doesn't look has no pictures made

let source = null;
let looks = null;

function connect() {
  if (source || document.hidden) return;
  ask("api/status").then(showStatus, () => {});
  source = new EventSource("api/events");
  source.addEventListener("open", showPictures);
  source.addEventListener("frame", (event) => showFrame(JSON.parse(event.data)));
  source.addEventListener("event", (event) => showEvent(JSON.parse(event.data)));
  source.addEventListener("status", (event) => showStatus(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    the("state").dataset.state = "lost";
    set(the("state"), "no connection");
    the("view").classList.add("is-old");
    set(the("no-picture"), "no connection to the device; trying again");
    if (source?.readyState !== EventSource.CLOSED) return;
    // Refused: by the status it shows whether the token is why.
    disconnect();
    setTimeout(() => ask("api/status").catch(() => {}).then(connect), 2000);
  });
  showBoard();
  looks = setInterval(showBoard, 2000);
}

function disconnect() {
  source?.close();
  source = null;
  clearInterval(looks);
  the("stream").removeAttribute("src");
}

let picture = 0;

function showPictures() {
  picture += 1;
  the("stream").src = `stream.mjpg?${picture}`;
}

setInterval(() => the("view").classList.toggle("shows", the("stream").naturalWidth > 0), 200);
the("stream").addEventListener("error", () => setTimeout(() => { if (source && !document.hidden) showPictures(); }, 2000));
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
the("full").addEventListener("click", () =>
  document.fullscreenElement ? document.exitFullscreen() : the("view").requestFullscreen?.());
// One of several cameras has a page below theirs.
the("all").hidden = !/\/cameras\/[^/]+\/$/.test(location.pathname);
connect();
