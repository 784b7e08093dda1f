// Looks at the page with all cameras: node cameras.mjs PLAYWRIGHT CHROMIUM URL NUMBER FOLDER
//
// Pictures of it, as wide as a phone and as a desktop, are written into FOLDER.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";

const [playwright, executablePath, url, count, folder] = process.argv.slice(2);
const number = Number(count);
const { chromium } = createRequire(import.meta.url)(playwright);
const PATIENCE = 120_000;

// Asked again and again: the page's policy lets nothing be made from text in it.
async function until(page, is, what, argument) {
  const end = Date.now() + PATIENCE;
  while (!(await page.evaluate(is, argument).catch(() => false))) {
    assert.ok(Date.now() < end, `not so: ${what}`);
    await page.waitForTimeout(100);
  }
}

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
try {
  for (const [name, viewport] of [["desktop", { width: 1440, height: 900 }], ["phone", { width: 390, height: 844 }]]) {
    const page = await browser.newPage({ viewport });
    page.setDefaultTimeout(PATIENCE);
    const errors = [];
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("console", (message) => { if (message.type() === "error") errors.push(message.text()); });
    await page.goto(url);
    await until(page, (number) => document.querySelectorAll("#cameras li").length === number, "a tile for each", number);
    // Those that can be seen have a picture.
    await until(page, () => {
      const visible = [...document.querySelectorAll("#cameras li")].filter((tile) => tile.getBoundingClientRect().top < innerHeight - 40);
      return visible.length > 0 && visible.every((tile) => tile.querySelector(".picture.shows img")?.naturalWidth > 0);
    }, "pictures of all that can be seen");
    await until(page, () => /all run/.test(document.getElementById("state").textContent), "all run");
    const scrolls = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(scrolls, false, "it scrolls sideways");
    await page.screenshot({ path: path.join(folder, `cameras-${number}-${name}.png`) });

    if (number > 1) {
      await page.locator("#cameras .picture").nth(1).click();
      await page.waitForSelector("#cameras li.is-large .picture.shows");
      await page.screenshot({ path: path.join(folder, `cameras-${number}-${name}-large.png`) });
      await page.locator("#cameras li.is-large .picture").click();
      await until(page, () => document.querySelectorAll("#cameras li.is-large").length === 0, "none is large");
    } else {
      assert.equal(await page.locator("#cameras li.is-large").count(), 1, "the only one is large");
    }

    // A name leads to the camera's own page, and from there back.
    const link = page.locator("#cameras .about a").first();
    const called = await link.textContent();
    await link.click();
    await until(page, (called) => document.getElementById("name")?.textContent === called, "the camera's page", called);
    await page.waitForSelector("#view.shows");
    if (number === 4) await page.screenshot({ path: path.join(folder, `camera-of-${number}-${name}.png`) });
    await page.locator("#all").click();
    await page.waitForSelector("#cameras li");
    // A picture that was under way when the page was left is no error of it.
    assert.deepEqual(errors.filter((error) => !/ERR_ABORTED|Failed to load resource/.test(error)), []);
    await page.close();
  }
} finally {
  await browser.close();
}
