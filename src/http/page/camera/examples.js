// Things that are shown: a still picture, a box around a thing, its name

let still = null;

const isOpen = () => still !== null;

async function openStill() {
  const button = the("show-example");
  button.disabled = true;
  try {
    const response = await fetch("snapshot.jpg?boxes=false", { cache: "no-store" });
    if (!response.ok) throw new Error((await response.json()).error);
    const jpeg = await response.blob();
    still = { jpeg, picture: await createImageBitmap(jpeg), box: null };
  } catch (reason) {
    complain("look-error", reason);
    return;
  } finally {
    button.disabled = false;
  }
  const canvas = the("still").querySelector("canvas");
  [canvas.width, canvas.height] = [still.picture.width, still.picture.height];
  the("still").hidden = false;
  showBox(null, "Drag a box close around one thing");
  ask("api/words?limit=1000").then(({ words }) => {
    the("known-words").replaceChildren(...words.map(({ word }) => new Option(word)));
  }, () => {});
}

function closeStill() {
  still?.picture.close();
  still = null;
  the("still").hidden = true;
  the("show-example").focus();
}

function showBox(box, hint) {
  const canvas = the("still").querySelector("canvas");
  const context = canvas.getContext("2d");
  context.drawImage(still.picture, 0, 0);
  still.box = box;
  the("still").querySelector("form").hidden = box === null;
  set(the("still-hint"), hint);
  if (!box) return;
  const [left, top, right, bottom] = box;
  context.fillStyle = "rgb(10 12 14 / 50%)";
  context.beginPath();
  context.rect(0, 0, canvas.width, canvas.height);
  context.rect(left, top, right - left, bottom - top);
  context.fill("evenodd");
  context.strokeStyle = "#fff";
  context.lineWidth = Math.max(2, canvas.width / 300);
  context.strokeRect(left, top, right - left, bottom - top);
}

// Where the pointer is, in pixels of the picture.
function pointIn(canvas, event) {
  const place = canvas.getBoundingClientRect();
  const scale = Math.min(place.width / canvas.width, place.height / canvas.height);
  const x = (event.clientX - place.left - (place.width - canvas.width * scale) / 2) / scale;
  const y = (event.clientY - place.top - (place.height - canvas.height * scale) / 2) / scale;
  return [Math.min(Math.max(x, 0), canvas.width), Math.min(Math.max(y, 0), canvas.height)];
}

function drag(canvas) {
  let from = null;
  const boxTo = (event) => {
    const [x, y] = pointIn(canvas, event);
    return [Math.min(from[0], x), Math.min(from[1], y), Math.max(from[0], x), Math.max(from[1], y)].map(Math.round);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    from = pointIn(canvas, event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (from) showBox(boxTo(event), "");
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!from) return;
    const box = boxTo(event);
    from = null;
    const isTooSmall = box[2] - box[0] < 4 || box[3] - box[1] < 4;
    if (isTooSmall) return showBox(null, "Drag a box close around one thing");
    showBox(box, "");
    the("called").focus();
  });
  canvas.addEventListener("pointercancel", () => { from = null; });
}

async function addExample() {
  const query = new URLSearchParams({ word: the("called").value, box: still.box.join() });
  the("still").querySelector("form").inert = true;
  set(the("still-hint"), "the student looks at it …");
  const error = await change(`api/examples?${query}`, "POST", still.jpeg);
  the("still").querySelector("form").inert = false;
  if (error) return showBox(still.box, sentence(error.message));
  the("called").value = "";
  closeStill();
}

function showExamples(examples) {
  const list = the("shown-examples");
  const told = JSON.stringify(examples);
  if (list.dataset.told === told) return;
  list.dataset.told = told;
  list.hidden = examples.length === 0;
  list.replaceChildren(...examples.map(({ word, examples, negative }) => {
    const count = examples + negative;
    const [item, forget] = [make("li", "", `${word}, by ${count === 1 ? "an example" : `${count} examples`}`), make("button", "", "×")];
    forget.type = "button";
    forget.title = `Forget the examples of ${word}`;
    forget.setAttribute("aria-label", forget.title);
    forget.addEventListener("click", () => change(`api/examples?${new URLSearchParams({ word })}`, "DELETE"));
    item.append(forget);
    return item;
  }));
}

drag(the("still").querySelector("canvas"));
the("show-example").addEventListener("click", openStill);
the("no-example").addEventListener("click", closeStill);
the("still").addEventListener("keydown", (event) => { if (event.key === "Escape" && isOpen()) closeStill(); });
the("still").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  addExample();
});
