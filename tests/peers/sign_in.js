// A person with a browser: opens URL, does what each page asks for (a device's code, a sign-in,
// a consent), and prints what the last page says.
//
//   node sign_in.js CHROMIUM URL USER PASSWORD [CODE [accept|cancel]]
//
// CODE is what a device shows, or "-". Prints one line of JSON: {"url": without its query,
// "text": …, "steps": [what was done]}.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [executablePath, url, user, password, code = "-", decision = "accept"] =
  process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), "postrider-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  ignoreHTTPSErrors: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // A page's wish for a font from elsewhere must not depend on there being a network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
  ],
});
const steps = [];
try {
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(url);

  const there = async (element) => (await element.count()) > 0 && (await element.first().isVisible());
  const press = async (step, element) => {
    steps.push(step);
    const next = page.waitForEvent("framenavigated");
    await element.first().click();
    await next;
    await page.waitForLoadState();
  };
  const button = (name) => page.getByRole("button", { name });

  for (let pages = 0; pages < 8; pages += 1) {
    const secret = page.locator("input[type=password]:visible");
    const deviceCode = page.locator("input[name=user_code]:visible");
    if (await there(deviceCode)) {
      if (steps.includes("code")) break;
      await deviceCode.fill(code);
      await press("code", button(/^(next|continue)$/i));
    } else if (await there(secret)) {
      if (steps.includes("sign in")) break;
      const name = page.locator("input[type=text]:visible, input[type=email]:visible").first();
      await name.fill(user);
      await secret.fill(password);
      await press("sign in", button(/^sign.?in$/i));
    } else if (await there(button(/^(accept|continue)$/i))) {
      if (decision === "accept") {
        await press("accept", button(/^(accept|continue)$/i));
      } else {
        const no = /cancel|abort/i;
        await press("cancel", button(no).or(page.getByRole("link", { name: no })));
      }
    } else {
      break;
    }
  }
  const text = await page.innerText("body");
  console.log(JSON.stringify({ url: page.url().split("?")[0], text, steps }));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
