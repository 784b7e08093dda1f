// How it is

const history = [];
let inUse = null;

function showStatus(status) {
  if (status.history) history.splice(0, history.length, ...status.history);
  else history.push(status.rates);
  while (history.length > 120) history.shift();
  const { health, in_use, rates } = status;
  set(the("name"), status.name || "Wordsight");
  set(the("source"), health.source);
  document.title = `${status.name} – Wordsight`;
  const names = { starting: "waiting for frames", running: "running", lost: "camera lost", ended: "ended" };
  const state = the("state");
  state.dataset.state = status.is_well ? "well" : status.is_ready ? "troubled" : "lost";
  set(the("state"), status.is_ready && !status.is_well ? "running, with trouble" : status.is_ready ? "running" : names[health.state]);
  const reasons = the("reasons");
  reasons.hidden = status.is_well;
  const told = status.reasons.join("\n");
  if (reasons.dataset.told !== told) {
    reasons.dataset.told = told;
    reasons.querySelector("ul").replaceChildren(...status.reasons.map((reason) => make("li", "", sentence(reason))));
  }
  the("view").classList.toggle("is-old", !status.is_ready);
  set(the("no-picture"), status.is_ready ? "waiting for the first picture" : names[health.state]);
  figure("fps", rates.fps, 1, "frames/s", history.map((one) => one.fps), "frames per second");
  figure("latency", rates.latency_ms, 1, "ms", history.map((one) => one.latency_ms), "milliseconds of latency");
  showInUse(in_use);
  showZones(status.zones, in_use.is_kept);
  const outputs = status.outputs.map((output) => output.name + (output.trouble ? " (in trouble)" : ""));
  facts("made", [
    ["Student", in_use.student],
    ["Engine", in_use.engine],
    ["Age of results", rates.age_ms === null ? "–" : `${number(rates.age_ms, 1)} ms`],
    ["Frames", number(status.frames)],
    ["Dropped for newer", number(status.dropped)],
    ["Held back", status.held_back ? number(status.held_back) : null],
    ["Followed", number(status.tracked)],
    ["Outputs", outputs.length ? outputs.join(", ") : null],
    ["Looking on", number(status.viewers)],
    ["Version", status.version],
  ]);
}

function facts(id, pairs) {
  const list = the(id).querySelector("dl");
  const shown = pairs.filter(([, value]) => value !== null);
  const names = shown.map(([name]) => name).join();
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...shown.flatMap(([name]) => [make("dt", "", name), make("dd")]));
  }
  shown.forEach(([, value], place) => {
    const at = list.children[2 * place + 1];
    if (at.textContent !== value) at.textContent = value;
  });
}

function figure(id, value, digits, unit, values, name) {
  const at = the(id);
  at.textContent = value === null || value === undefined ? "–" : number(value, digits);
  if (at.textContent !== "–") at.append(" ", make("small", "", unit));
  const spark = the(`${id}-spark`);
  spark.setAttribute("aria-label", `${at.textContent} ${name}, over the last two minutes`);
  const most = Math.max(...values.filter((one) => one !== null), 1e-9) * 1.15;
  // From half a minute on all the room is used.
  const step = 240 / Math.max(values.length - 1, 30);
  const points = values.map((one, place) =>
    [240 - step * (values.length - 1 - place), 51 - ((one ?? 0) / most) * 50].map((x) => x.toFixed(1)).join(" "));
  const line = points.length > 1 ? `M${points.join("L")}` : "";
  spark.querySelector(".line").setAttribute("d", line);
  spark.querySelector(".under").setAttribute("d", line && `${line}L240 52L${points[0].split(" ")[0]} 52Z`);
}
