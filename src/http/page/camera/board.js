// The board

async function showBoard() {
  let told;
  try {
    told = await ask("api/board");
  } catch {
    return;
  }
  const { board, watts, hottest, process, readings } = told;
  set(the("board-name"), board ?? "");
  const gauges = [];
  const gauge = (name, value, unit, part) => { if (value !== null && value !== undefined) gauges.push([name, value, unit, part]); };
  if (hottest) gauge(hottest.zone, number(hottest.celsius, 1), "°C", hottest.celsius / (hottest.celsius + hottest.margin_c));
  gauge("Power", watts === null ? null : number(watts, 1), "W");
  gauge("GPU", readings.gpu_load_percent === null ? null : number(readings.gpu_load_percent), "% busy", readings.gpu_load_percent / 100);
  gauge("GPU clock", readings.gpu_mhz === null ? null : number(readings.gpu_mhz), "MHz");
  const cores = readings.cpu_mhz.length;
  gauge("CPU clock", cores ? number(Math.max(...readings.cpu_mhz)) : null, "MHz");
  gauge("This program", process.cpu_percent === null ? null : number(process.cpu_percent / 100, 2), "cores");
  gauge("Its memory", process.resident_mib === null ? null : number(process.resident_mib), "MiB");
  gauge("Memory left", readings.memory_available_mib === null ? null : number(readings.memory_available_mib), "MiB");
  gauge("Load", readings.load_average === null ? null : number(readings.load_average, 2), "");
  if (told.is_throttled) gauge("Slowed", "for heat", "");
  const list = the("board").querySelector("dl");
  const names = gauges.map(([name]) => name).join();
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...gauges.map(([name, , , part]) => {
      const [group, value] = [make("div"), make("dd")];
      value.append(make("span"), " ", make("small"));
      group.append(make("dt", "", name), value);
      if (part !== undefined) {
        const bar = make("span", "bar");
        bar.append(make("i"));
        group.append(bar);
      }
      return group;
    }));
  }
  gauges.forEach(([, value, unit, part], place) => {
    const group = list.children[place];
    group.querySelector("span").textContent = value;
    group.querySelector("small").textContent = unit;
    if (part === undefined) return;
    const bar = group.querySelector(".bar i");
    bar.style.transform = `scaleX(${Math.min(Math.max(part, 0), 1)})`;
    bar.classList.toggle("is-high", part > 0.92);
  });
}
