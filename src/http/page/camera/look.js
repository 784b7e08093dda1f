// What is looked for

let isAsking = false;

function showInUse(now) {
  const before = inUse;
  inUse = now;
  const [select, slider] = [the("vocabulary"), the("threshold")];
  if (!before || before.vocabulary !== now.vocabulary || before.words !== now.words) {
    showVocabularies();
    the("all-words").querySelector("ul").replaceChildren();
    the("all-words").open = false;
    set(the("count"), "");
  }
  set(the("words-of"), now.words === 1 ? "Show the word" : `Show all ${number(now.words)} words`);
  // A status that was written before the answer would undo what was just clicked.
  if (isAsking) return;
  if (document.activeElement !== select) select.value = now.vocabulary;
  if (!slider.matches(":active")) {
    slider.disabled = false;
    slider.value = Math.round(now.score_threshold * 100);
    showScore();
  }
  the("as-configured").disabled = now.is_as_configured;
  the("keep").disabled = false;
  the("keep").checked = now.is_kept;
  const chosen = now.is_kept ? "chosen here, also after a restart" : "chosen here, until a restart";
  set(the("chosen"), now.is_as_configured ? "as the configuration says" : chosen);
  showExamples(now.examples);
}

function showScore() {
  const slider = the("threshold");
  the("score").textContent = `${slider.value} %`;
  slider.style.setProperty("--part", `${slider.value}%`);
  slider.setAttribute("aria-valuetext", `${slider.value} percent`);
}

async function showVocabularies() {
  const select = the("vocabulary");
  let listed;
  try {
    listed = await ask("api/vocabularies");
  } catch {
    return;
  }
  const options = listed.vocabularies.map((one) => {
    const words = one.words === null ? "can't be read" : one.words === 1 ? "1 word" : `${number(one.words)} words`;
    const option = new Option(`${one.name} – ${words}`, one.name);
    option.disabled = one.words === null;
    option.title = one.trouble ?? "";
    return option;
  });
  if (!inUse.is_in_folder) options.unshift(new Option(inUse.vocabulary, inUse.vocabulary));
  select.replaceChildren(...options);
  select.value = inUse.vocabulary;
  select.disabled = options.length < 2;
  select.title = options.length < 2 ? "upload a vocabulary to switch to it" : "";
  the("download").hidden = !inUse.is_in_folder;
  the("delete").hidden = !inUse.is_in_folder || inUse.is_as_configured;
  the("download").href = `api/vocabularies/${encodeURIComponent(inUse.vocabulary)}`;
  the("download").download = `${inUse.vocabulary}.safetensors`;
}

// Asks for a change; returns why it is refused, if it is.
async function change(path, method, body) {
  if (isAsking) return new Error("something else is being changed; try again");
  isAsking = true;
  the("look-error").hidden = true;
  the("look").setAttribute("aria-busy", "true");
  the("vocabulary").disabled = the("as-configured").disabled = the("keep").disabled = true;
  set(the("chosen"), "asking …");
  let [now, refused] = [inUse, null];
  try {
    now = await ask(path, method, body);
  } catch (reason) {
    refused = reason;
    complain("look-error", reason);
  }
  isAsking = false;
  the("look").removeAttribute("aria-busy");
  the("vocabulary").disabled = the("vocabulary").options.length < 2;
  the("vocabulary").value = now.vocabulary;
  showInUse(now);
  return refused;
}

// Puts a file into the folder of vocabularies, and switches to it.
async function upload(file) {
  const name = file.name.replace(/\.safetensors$/, "");
  const path = `api/vocabularies/${encodeURIComponent(name)}`;
  the("look-error").hidden = true;
  try {
    await ask(path, "PUT", file);
  } catch (reason) {
    complain("look-error", reason);
    return;
  }
  await change("api/vocabulary", "PUT", { name });
  showVocabularies();
}

// What is in use can't be deleted: before that, what the configuration says is looked for.
async function deleteVocabulary(name) {
  if (!confirm(`Delete the vocabulary "${name}" from this device? What the configuration says is looked for then.`)) return;
  if (await change("api/choices", "DELETE")) return;
  try {
    await ask(`api/vocabularies/${encodeURIComponent(name)}`, "DELETE");
  } catch (reason) {
    complain("look-error", reason);
  }
  showVocabularies();
}

the("delete").addEventListener("click", () => deleteVocabulary(inUse.vocabulary));
the("upload").addEventListener("click", () => the("file").click());
the("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) upload(file);
  event.target.value = "";
});
the("vocabulary").addEventListener("change", (event) => change("api/vocabulary", "PUT", { name: event.target.value }));
the("type").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = the("typed").value.split(/[,\n]/).map((word) => word.trim()).filter(Boolean);
  if (words.length > 0) change("api/words", "PUT", { words });
});
the("keep").addEventListener("change", (event) => change("api/choices", "PUT", { keep: event.target.checked }));
the("threshold").addEventListener("input", showScore);
the("threshold").addEventListener("change", (event) => change("api/threshold", "PUT", { score: event.target.value / 100 }));
the("as-configured").addEventListener("click", () => change("api/choices", "DELETE"));
the("all-words").addEventListener("toggle", async (event) => {
  const list = event.target.querySelector("ul");
  if (!event.target.open || list.children.length > 0) return;
  const { total, words } = await ask("api/words?limit=200");
  const items = words.map(({ word, colour }) => {
    const [item, dot] = [make("li"), make("span", "dot")];
    dot.style.background = colour;
    item.append(dot, word);
    return item;
  });
  if (total > words.length) items.push(make("li", "", `and ${number(total - words.length)} more`));
  list.replaceChildren(...items);
});
