// An OpenID provider to test against: oidc-provider (certified by the OpenID Foundation), over
// HTTPS on a free loopback port, with its own pages for signing in and consent, and two clients:
// a confidential one for client credentials, and the public one of an installed program, whose
// refresh tokens are for one use (using one again revokes the grant).
//
//   node provider.js CERTIFICATE KEY CLIENT_ID CLIENT_SECRET EMAIL
//
// Prints one line of JSON once it listens: {"issuer": …, "kid": …, "public_key": PEM,
// "person_client": …, "control": URL}; other lines are the provider's own. It ends when its
// standard input does.
//
// The control port speaks plain HTTP on loopback:
//   GET /requests    every request to the token endpoint, oldest first: {"grant_type", "outcome"
//                    ("granted", an OAuth error, or "fault"), "issued": the tokens, "at": when it
//                    was answered, in milliseconds}
//   POST /fault      {"times"?, "delay_ms"?, "status"?, "headers"?, "type"?, "body"?, "echo"?}: what
//                    becomes of the next requests to the token endpoint. With "echo" ("page" or
//                    "json") the answer repeats what was sent; without "status" and "echo" a
//                    request goes on after the delay. {} ends it.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createServer as createPlainServer } from "node:http";
import { exportJWK, exportSPKI, generateKeyPair } from "jose";
import { randomBytes } from "node:crypto";
import Provider from "oidc-provider";

const [certificate, key, clientId, clientSecret, email] = process.argv.slice(2);
const personClient = "postrider-person";

const pair = await generateKeyPair("RS256", { extractable: true });
const signing = { ...(await exportJWK(pair.privateKey)), alg: "RS256", use: "sig", kid: "test" };

const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) });
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const issuer = `https://localhost:${server.address().port}`;

const resource = "urn:example:submission";
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: clientId,
      client_secret: clientSecret,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: personClient,
      client_name: "Postrider",
      application_type: "native",
      token_endpoint_auth_method: "none",
      grant_types: [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
      ],
      redirect_uris: ["http://localhost"],
      response_types: ["code"],
    },
  ],
  jwks: { keys: [signing] },
  cookies: { keys: [randomBytes(16).toString("hex")] },
  claims: {
    openid: ["sub"],
    email: ["email", "email_verified"],
    profile: ["name", "preferred_username"],
  },
  // Whoever signs in at the provider's own pages exists, and their login is their address.
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      email: id,
      email_verified: true,
      name: "A person",
      preferred_username: id,
    }),
  }),
  rotateRefreshToken: true,
  ttl: { AccessToken: 600, IdToken: 600, Interaction: 600, Session: 600, Grant: 86400 * 14 },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // A person's token is for the provider itself, so that its userinfo endpoint takes it.
      defaultResource: (_context, client) =>
        client.clientId === clientId ? resource : undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "smtp",
        audience: "submission.example",
        accessTokenFormat: "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  extraTokenClaims: () => ({ email }),
  // Dovecot 2.3 takes "JWT" for a type and not RFC 9068's "at+jwt".
  formats: {
    customizers: {
      jwt: (_context, _token, jwt) => {
        jwt.header = { ...jwt.header, typ: "JWT" };
        return jwt;
      },
    },
  },
});

const requests = [];
let fault = null;

async function text(stream) {
  let all = "";
  for await (const part of stream) all += part;
  return all;
}

// Before everything of the provider's own: faults, and the count of token requests.
provider.use(async (context, next) => {
  if (context.path !== "/token" || context.method !== "POST") return next();
  const request = { grant_type: null, outcome: null, issued: [] };
  requests.push(request);
  const now = fault;
  if (now && now.times !== undefined && (now.times -= 1) <= 0) fault = null;
  if (now?.delay_ms) await new Promise((done) => setTimeout(done, now.delay_ms));
  if (now?.status || now?.echo) {
    const sent = await text(context.req);
    request.grant_type = new URLSearchParams(sent).get("grant_type");
    request.outcome = "fault";
    context.status = now.status ?? 500;
    for (const [name, value] of Object.entries(now.headers ?? {})) context.set(name, value);
    context.type = now.type ?? "text/html";
    context.body = now.body ?? "";
    const echoed = `${JSON.stringify(context.headers)}\n${sent}\n${decodeURIComponent(sent)}`;
    if (now.echo === "page") context.body = `<h1>Trouble</h1><pre>${echoed}</pre>`;
    if (now.echo === "json") {
      context.body = {
        error: "invalid_request",
        error_description: echoed,
        error_uri: `https://example.org/?${sent}`,
      };
    }
    return;
  }
  await next();
  request.at = Date.now();
  const body = context.body ?? {};
  request.grant_type = context.oidc?.params?.grant_type ?? null;
  request.outcome = body.error ?? "granted";
  request.issued = [body.access_token, body.refresh_token, body.id_token].filter(Boolean);
});
server.on("request", provider.callback());

const control = createPlainServer(async (request, response) => {
  if (request.method === "POST" && request.url === "/fault") {
    const wanted = await text(request);
    fault = JSON.parse(wanted);
  }
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(request.url === "/requests" ? requests : {}));
});
await new Promise((ready) => control.listen(0, "127.0.0.1", ready));

console.log(
  JSON.stringify({
    issuer,
    kid: signing.kid,
    public_key: await exportSPKI(pair.publicKey),
    person_client: personClient,
    control: `http://127.0.0.1:${control.address().port}`,
  }),
);
process.stdin.on("end", () => process.exit(0)).resume();
