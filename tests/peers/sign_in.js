// A person with a browser: opens a URL, does what each page asks for (a device's code, a sign-in,
// a consent), and says what the last page shows.
//
//   node sign_in.js CHROMIUM
//
// Each line of standard input is a request in JSON: {"url", "user", "password", "code"?: what a
// device shows, "cancel"?: true to refuse where consent is asked for}. Each is answered by a line:
// {"url": without its query, "text": …, "steps": [what was done]}, or {"error": …}. Every request
// gets a browser that nobody is signed in with. It ends when its standard input does.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const browser = await chromium.launch({
  executablePath: process.argv[2],
  headless: true,
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

async function act({ url, user, password, code, cancel }, page) {
  const steps = [];
  const there = (element) => element.first().isVisible();
  const press = async (step, element) => {
    steps.push(step);
    const next = page.waitForEvent("framenavigated");
    await element.first().click();
    await next;
    await page.waitForLoadState();
  };
  const button = (name) => page.getByRole("button", { name });
  const yes = button(/^(accept|continue)$/i);
  const no = button(/cancel|abort/i).or(page.getByRole("link", { name: /cancel|abort/i }));
  const deviceCode = page.locator("input[name=user_code]:visible");
  const secret = page.locator("input[type=password]:visible");
  const name = page.locator("input[type=text]:visible, input[type=email]:visible");

  page.setDefaultTimeout(30_000);
  await page.goto(url);
  for (;;) {
    // A page that comes back has refused what it was given.
    if ((await there(deviceCode)) && !steps.includes("code")) {
      await deviceCode.fill(code);
      await press("code", button(/^(next|continue)$/i));
    } else if ((await there(secret)) && !steps.includes("sign in")) {
      await name.first().fill(user);
      await secret.fill(password);
      await press("sign in", button(/^sign.?in$/i));
    } else if ((await there(yes)) && !(await there(deviceCode)) && !steps.includes("cancel")) {
      await (cancel ? press("cancel", no) : press("accept", yes));
    } else {
      return { url: page.url().split("?")[0], text: await page.innerText("body"), steps };
    }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  try {
    console.log(JSON.stringify(await act(JSON.parse(line), await context.newPage())));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  } finally {
    await context.close();
  }
}
await browser.close();
