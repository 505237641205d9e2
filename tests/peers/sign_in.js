// A person with a browser: opens URL, signs in, consents, and prints what the last page says.
//
//   node sign_in.js CHROMIUM URL USER PASSWORD
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [executablePath, url, user, password] = process.argv.slice(2);
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
  ],
});
try {
  const page = await context.newPage();
  await page.goto(url);
  const userField = page.getByLabel(/user|account|email/i).first();
  if (await userField.isEditable()) await userField.fill(user);
  await page.getByLabel(/password/i).fill(password);
  await page.getByRole("button", { name: /sign in/i }).click();
  const consent = page.getByRole("button", { name: /accept/i });
  if (await consent.isVisible()) await consent.click();
  await page.waitForLoadState();
  console.log(JSON.stringify({ url: page.url().split("?")[0], text: await page.innerText("body") }));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
