// An OpenID provider to test against: oidc-provider (certified by the OpenID Foundation), over
// HTTPS on a free loopback port, with one confidential client.
//
//   node provider.js CERTIFICATE KEY CLIENT_ID CLIENT_SECRET EMAIL
//
// Prints one line of JSON once it listens: {"issuer": …, "kid": …, "public_key": PEM}; other
// lines are the provider's own. It ends when its standard input does.
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { exportJWK, exportSPKI, generateKeyPair } from "jose";
import Provider from "oidc-provider";

const [certificate, key, clientId, clientSecret, email] = process.argv.slice(2);

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
  ],
  jwks: { keys: [signing] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
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
server.on("request", provider.callback());

console.log(JSON.stringify({ issuer, kid: signing.kid, public_key: await exportSPKI(pair.publicKey) }));
process.stdin.on("end", () => process.exit(0)).resume();
