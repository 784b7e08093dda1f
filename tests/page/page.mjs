// The live page in a real browser: what a person would do with it, and pictures of it in the end.
//
//   node page.mjs PLAYWRIGHT-CORE CHROMIUM URL URL-WITH-TOKEN TOKEN FOLDER-FOR-PICTURES with-teacher|without-teacher
//
// It ends with 0 and one line for each thing that was seen to work, or with 1 and the first that doesn't.

import { createRequire } from "node:module";

const [playwright, executablePath, url, lockedUrl, token, folder, teacher] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);

const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

const PATIENCE = { timeout: 180_000 };
const sizes = { phone: { width: 390, height: 844 }, desktop: { width: 1440, height: 900 } };

function works(what) {
  console.log(`ok: ${what}`);
}

function check(is, what) {
  if (!is) throw new Error(what);
}

// A page that must say nothing on the console, but for what a refusal that is wanted says.
async function open(address, options = {}, expected = []) {
  const context = await browser.newContext({ viewport: sizes.desktop, colorScheme: "light", ...options });
  const page = await context.newPage();
  page.complaints = [];
  const complain = (text) => {
    if (!expected.some((part) => text.includes(part))) page.complaints.push(text);
  };
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complain(message.text()));
  page.on("pageerror", (error) => complain(String(error)));
  await page.goto(address);
  return page;
}

const hasPicture = () => document.getElementById("stream").naturalWidth > 0;

// What the picture shows at the moment, made small.
const look = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [64, 36];
  const context = canvas.getContext("2d");
  context.drawImage(document.getElementById("stream"), 0, 0, 64, 36);
  return [...context.getImageData(0, 0, 64, 36).data].join();
};

async function changes(page) {
  // Asked again and again: the page's policy lets nothing be made from text in it.
  const before = await page.evaluate(look);
  const end = Date.now() + PATIENCE.timeout;
  while ((await page.evaluate(look)) === before) {
    check(Date.now() < end, "the picture stands still");
    await page.waitForTimeout(100);
  }
}

const seen = (page) => page.locator("#now li:not(.empty) .name").evaluateAll((names) => names.map((name) => name.firstChild.textContent));
const words = async (page) => (await page.evaluate(() => fetch("/api/words?limit=1000").then((answer) => answer.json()))).words.map(({ word }) => word);

// Types words, and has them kept and taken back.
async function typeWords(page) {
  await page.locator("#typed").fill("red cup, laptop , red cup");
  await page.keyboard.press("Enter");
  await page.locator("#look-error").waitFor(PATIENCE);
  works(`words that make no list are refused: ${await page.locator("#look-error").textContent()}`);
  await page.locator("#typed").fill("mug, laptop computer");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("chosen").textContent === "chosen here, until a restart", null, PATIENCE);
  check((await words(page)).join() === "mug,laptop computer", `the words are ${await words(page)}`);
  await page.waitForFunction(
    () => {
      const rows = [...document.querySelectorAll("#now li:not(.empty) .name")].map((name) => name.firstChild.textContent);
      return rows.length > 0 && rows.every((row) => ["mug", "laptop computer"].includes(row));
    }, null, PATIENCE);
  await page.locator("#look").screenshot({ path: `${folder}/typed.png` });
  works(`typed words name what is seen: ${(await seen(page)).join(", ")}`);
  // A status may come between the click and a look at the box: what counts is where it ends.
  await page.locator("#keep").click();
  await page.waitForFunction(
    () => document.getElementById("keep").checked && document.getElementById("chosen").textContent === "chosen here, also after a restart",
    null, PATIENCE);
  await page.locator("#as-configured").click();
  await page.waitForFunction(
    () => !document.getElementById("keep").checked && document.getElementById("chosen").textContent.startsWith("as the configuration"),
    null, PATIENCE);
  await page.locator("#now li:not(.empty)").first().waitFor(PATIENCE);
  works("what was typed can be kept, and is taken back");
}

// Marks a thing in a still picture, names it, and has it forgotten again.
async function showExample(page) {
  await page.locator("#view").hover();
  await page.locator("#show-example").click();
  const canvas = page.locator("#still canvas");
  await canvas.waitFor(PATIENCE);
  // A photograph is given up where all cores are busy: then it is asked for again.
  let things = [];
  for (const end = Date.now() + PATIENCE.timeout; things.length === 0; ) {
    check(Date.now() < end, "nothing is seen in the still picture");
    things = await page.evaluate(() => fetch("/api/detect", { method: "POST", body: still.jpeg })
      .then((answer) => answer.json()).then((line) => line.detections ?? []));
    if (things.length > 0) break;
    await page.locator("#no-example").evaluate((button) => button.click());
    await page.locator("#view").hover();
    await page.locator("#show-example").click();
    await canvas.waitFor(PATIENCE);
  }
  const place = await canvas.boundingBox();
  const size = await canvas.evaluate((canvas) => [canvas.width, canvas.height]);
  const scale = Math.min(place.width / size[0], place.height / size[1]);
  const at = ([x, y]) => [
    place.x + (place.width - size[0] * scale) / 2 + x * scale, place.y + (place.height - size[1] * scale) / 2 + y * scale,
  ];
  const [left, top, right, bottom] = things[0].box_in_frame;
  const drag = async (from, to) => {
    await page.mouse.move(...at(from));
    await page.mouse.down();
    await page.mouse.move(...at(to), { steps: 4 });
    await page.mouse.up();
  };
  // Near a corner, which is round, there is no thing.
  await drag([30, 30], [40, 40]);
  await page.locator("#called").fill("gadget");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("still-hint").textContent.includes("sees no thing"), null, PATIENCE);
  await drag([left + 1, top + 1], [right - 1, bottom - 1]);
  await page.locator("#called").fill("gadget");
  await page.locator("#view").screenshot({ path: `${folder}/example.png` });
  await page.keyboard.press("Enter");
  await page.locator("#still").waitFor({ state: "hidden", ...PATIENCE });
  check((await words(page)).includes("gadget"), `the words are ${await words(page)}`);
  await page.waitForFunction(
    () => [...document.querySelectorAll("#now li:not(.empty) .name")].some((name) => name.firstChild.textContent === "gadget"),
    null, PATIENCE);
  await page.locator("#look").screenshot({ path: `${folder}/examples.png` });
  works(`a thing that was marked is found by its new name, a ${things[0].word} before`);
  await page.locator("#shown-examples button").click();
  await page.locator("#shown-examples").waitFor({ state: "hidden", ...PATIENCE });
  check(!(await words(page)).includes("gadget"), "the word stays");
  works("its examples are forgotten");
}

// Draws a zone and a line with a finger, sees what is counted at them, and takes them back.
async function drawZones() {
  const page = await open(url, { viewport: sizes.phone, hasTouch: true, isMobile: true, deviceScaleFactor: 2 }, ["409"]);
  const desk = await open(url);
  await page.waitForFunction(hasPicture, null, PATIENCE);
  const svg = page.locator("#drawing");
  const at = ([x, y]) => svg.evaluate((svg, [x, y]) => {
    const [place, [, , width, height]] = [svg.getBoundingClientRect(), svg.getAttribute("viewBox").split(" ").map(Number)];
    const scale = Math.min(place.width / width, place.height / height);
    return [place.left + (place.width - width * scale) / 2 + x * width * scale, place.top + (place.height - height * scale) / 2 + y * height * scale];
  }, [x, y]);
  const tap = async (point) => page.touchscreen.tap(...(await at(point)));
  const drag = async (from, to) => {
    await page.mouse.move(...(await at(from)));
    await page.mouse.down();
    await page.mouse.move(...(await at(to)), { steps: 4 });
    await page.mouse.up();
  };
  const inUse = () => page.evaluate(() => fetch("api/zones").then((answer) => answer.json()));
  await page.locator("#edit-zones").click();
  await svg.waitFor(PATIENCE);
  await page.locator('[data-kind="zone"]').tap();
  for (const point of [[0.01, 0.05], [0.95, 0.05], [0.95, 0.6], [0.5, 0.7], [0.01, 0.6]]) await tap(point);
  check((await page.locator("#draw-hint").textContent()).includes("the first one to close it"), "nothing says how to close it");
  await tap([0.01, 0.05]);
  await page.locator("#shape-name").fill("everywhere");
  // Two corners are dragged beyond the picture, and one is taken away.
  await drag([0.95, 0.6], [0.95, 1.1]);
  await drag([0.01, 0.6], [0.01, 1.1]);
  await tap([0.5, 0.7]);
  await page.locator("#remove-point").tap();
  await page.locator('[data-kind="crossing_line"]').tap();
  await drag([0.5, 0.1], [0.5, 0.9]);
  await page.locator("#shape-name").fill("middle");
  await page.locator("#shape-right").fill("westwards");
  await page.locator("#turn").tap();
  await page.locator("#shape-word").fill((await words(page))[0]);
  await page.locator("#add-word").tap();
  await page.locator('[data-kind="mask"]').tap();
  for (const point of [[0.2, 0.2], [0.3, 0.2], [0.3, 0.3], [0.2, 0.2]]) await tap(point);
  await page.locator("#remove-shape").tap();
  await page.locator("#shapes button").first().tap();
  await page.screenshot({ path: `${folder}/phone-draw.png`, fullPage: true });
  await page.locator('#edit button[type="submit"]').tap();
  await page.locator("#edit").waitFor({ state: "hidden", ...PATIENCE });
  const { zone: [zone], crossing_line: [line], mask, is_as_configured } = await inUse();
  check(zone.points.length === 4 && zone.points[2][1] === 1 && zone.points[3][1] === 1, `the zone is ${JSON.stringify(zone)}`);
  check(line.from[1] > 0.8 && line.to[1] < 0.2 && line.to_right === "westwards" && line.words.length === 1, `the line is ${JSON.stringify(line)}`);
  check(mask.length === 0 && is_as_configured === false, "a mask stays that was deleted");
  works("a zone and a line are drawn with a finger, dragged, named and saved");
  for (const one of [page, desk]) {
    await one.waitForFunction(() => /everywhere\d+ now · [1-9]\d* entered/.test(document.getElementById("zone-list").textContent), null, PATIENCE);
    await one.waitForFunction(() => document.querySelectorAll("#zone-counts text").length === 2, null, PATIENCE);
    await one.waitForFunction(() => / entered everywhere/.test(document.getElementById("events").textContent), null, PATIENCE);
  }
  await page.screenshot({ path: `${folder}/phone-zones.png`, fullPage: true });
  await desk.screenshot({ path: `${folder}/desktop-zones.png` });
  works("what is counted there is shown to whoever looks on");
  const toml = await page.evaluate(() => fetch("api/zones?format=toml").then((answer) => answer.text()));
  check(toml.includes("[[zone]]") && toml.includes('name = "everywhere"'), toml);
  await desk.locator("#edit-zones").click();
  await desk.locator("#drawing").waitFor(PATIENCE);
  await desk.screenshot({ path: `${folder}/desktop-draw.png` });
  await desk.locator("#leave-zones").click();
  await page.locator("#edit-zones").tap();
  await page.locator("#shape-name").fill(" ");
  await page.locator('#edit button[type="submit"]').tap();
  await page.locator("#zones-error").waitFor(PATIENCE);
  works(`a zone that can't be is refused in words: ${await page.locator("#zones-error").textContent()}`);
  await page.locator("#leave-zones").tap();
  await page.locator("#zones-as-configured").tap();
  await page.locator("#zone-list .empty").waitFor(PATIENCE);
  check((await inUse()).zone.length === 0, "the zone stays");
  works("and all is as configured again");
  const complaints = [...page.complaints, ...desk.complaints];
  check(complaints.length === 0, `the console says: ${complaints.join("; ")}`);
  await page.context().close();
  await desk.context().close();
}

try {
  const page = await open(url, {}, ["409", "503"]);
  await page.waitForFunction(hasPicture, null, PATIENCE);
  await changes(page);
  works("the stream is shown, and what it shows changes");
  await page.locator("#now li:not(.empty)").first().waitFor(PATIENCE);
  await page.waitForFunction(() => /\d/.test(document.getElementById("fps").textContent), null, PATIENCE);
  check((await page.locator("#state").textContent()) === "running", "the state is not `running`");
  await page.locator("#events li:not(.empty)").first().waitFor(PATIENCE);
  works("words, events, rates and the state are shown");

  const other = await open(url, { viewport: sizes.phone });
  await other.waitForFunction(hasPicture, null, PATIENCE);
  await Promise.all([changes(page), changes(other)]);
  const viewers = await page.evaluate(() => fetch("/api/status").then((answer) => answer.json()).then((status) => status.viewers));
  check(viewers === 2, `${viewers} look on, and not 2`);
  works("two look on at once");

  const before = await words(page);
  await page.locator("#vocabulary").selectOption("other-words");
  await page.waitForFunction(() => document.getElementById("chosen").textContent.startsWith("chosen here"), null, PATIENCE);
  const after = await words(page);
  check(after.join() !== before.join(), "the words are the same");
  await page.waitForFunction(
    (known) => {
      const rows = [...document.querySelectorAll("#now li:not(.empty) .name")].map((name) => name.firstChild.textContent);
      return rows.length > 0 && rows.every((row) => known.includes(row));
    },
    after, PATIENCE);
  await other.waitForFunction(() => document.getElementById("vocabulary").value === "other-words", null, PATIENCE);
  works(`another vocabulary is chosen, and things are named by it: ${(await seen(page)).join(", ")}`);

  await page.locator("#vocabulary").selectOption("strangers");
  await page.locator("#look-error").waitFor(PATIENCE);
  const error = await page.locator("#look-error").textContent();
  check(error.includes("teacher"), error);
  check((await page.locator("#vocabulary").inputValue()) === "other-words", "the choice stays at what was refused");
  works(`what is refused is said in words: ${error}`);

  await page.locator("#threshold").focus();
  await page.keyboard.press("End");
  await page.locator("#now li.empty").waitFor(PATIENCE);
  check((await page.locator("#score").textContent()) === "100 %", "the slider's value");
  works("the slider raises the least score, and nothing is found any more");
  await page.locator("#as-configured").click();
  await page.waitForFunction(() => document.getElementById("chosen").textContent.startsWith("as the configuration"), null, PATIENCE);
  check((await words(page)).join() === before.join(), "the words are not those of the configuration");
  await page.locator("#now li:not(.empty)").first().waitFor(PATIENCE);
  works("as configured again");

  const bytes = await page.evaluate(() => fetch("/api/vocabularies/other-words").then((answer) => answer.arrayBuffer()).then((bytes) => [...new Uint8Array(bytes)]));
  const file = (name, buffer) => ({ name, mimeType: "application/octet-stream", buffer });
  await page.locator("#file").setInputFiles(file("broken.safetensors", Buffer.from("no words")));
  await page.locator("#look-error").waitFor(PATIENCE);
  await page.locator("#file").setInputFiles(file("my words.safetensors", Buffer.from(bytes)));
  await page.waitForFunction(() => document.getElementById("vocabulary").value === "my words", null, PATIENCE);
  check((await words(page)).join() === after.join(), `the words are ${await words(page)}`);
  await page.waitForFunction(() => document.getElementById("download").getAttribute("href") === "api/vocabularies/my%20words", null, PATIENCE);
  works("a vocabulary is uploaded and looked for, and a broken one is not");
  page.once("dialog", (dialog) => dialog.accept());
  await page.locator("#delete").click();
  await page.waitForFunction(
    () => document.getElementById("chosen").textContent.startsWith("as the configuration")
      && ![...document.getElementById("vocabulary").options].some((option) => option.value === "my words"),
    null, PATIENCE);
  check(!(await page.locator("#delete").isVisible()), "what the configuration names can be deleted");
  await page.locator("#now li:not(.empty)").first().waitFor(PATIENCE);
  works("and deleted");

  if (teacher === "with-teacher") await typeWords(page);
  await showExample(page);

  await page.locator("#all-words summary").click();
  await page.locator("#all-words .words li").first().waitFor(PATIENCE);
  check((await page.locator("#all-words .words li").count()) === before.length, "not all words are listed");
  await page.locator("#all-words summary").click();
  works("the words can be listed");
  const complaints = [...page.complaints, ...other.complaints];
  check(complaints.length === 0, `the console says: ${complaints.join("; ")}`);
  works("the console says nothing");
  await page.context().close();
  await other.context().close();

  await drawZones();

  for (const [size, viewport] of Object.entries(sizes)) {
    for (const colorScheme of ["light", "dark"]) {
      const shown = await open(url, { viewport, colorScheme, deviceScaleFactor: size === "phone" ? 2 : 1 });
      await shown.waitForFunction(hasPicture, null, PATIENCE);
      await shown.locator("#now li:not(.empty)").nth(1).waitFor(PATIENCE).catch(() => {});
      await shown.waitForTimeout(3_000);
      const width = await shown.evaluate(() => document.documentElement.scrollWidth);
      check(width <= viewport.width, `at ${viewport.width} pixels it is ${width} wide`);
      await shown.screenshot({ path: `${folder}/${size}-${colorScheme}.png`, fullPage: true });
      check(shown.complaints.length === 0, `the console says: ${shown.complaints.join("; ")}`);
      await shown.context().close();
    }
  }
  works("it fits a phone and a desk, by day and by night");

  const locked = await open(lockedUrl, { viewport: sizes.phone }, ["401"]);
  await locked.locator("#token").fill("not-the-token-at-all");
  await locked.locator("#login button").click();
  await locked.locator("#login-error").waitFor(PATIENCE);
  await locked.screenshot({ path: `${folder}/phone-login.png` });
  await locked.locator("#token").fill(token);
  await locked.keyboard.press("Enter");
  await locked.waitForFunction(hasPicture, null, PATIENCE);
  check(!(await locked.locator("#login").isVisible()), "the form stays");
  check(!locked.url().includes(token), "the token is in the URL");
  check(!(await locked.evaluate(() => document.cookie)), "a script can read the cookie");
  await locked.reload();
  await locked.waitForFunction(hasPicture, null, PATIENCE);
  check(locked.complaints.length === 0, `the console says: ${locked.complaints.join("; ")}`);
  works("whoever has the token logs in, once");
} catch (error) {
  console.log(`FAILED: ${error.stack}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
