// second_factor.cjs PORT USERNAME PASSWORD: links an account of another site and an application for codes, then logs
// in with both, over one socket.
const { createHmac } = require("node:crypto");
const sdk = require("kuzzle-sdk");
const { open } = require("./session.js");

const [port, username, password] = process.argv.slice(2);
const refusal = (error) => ({ id: error.id, status: error.status });

// Does what somebody does on the site's page, and gives what he comes back with.
async function agree({ status, result }) {
  const body = new URLSearchParams({ sub: "ann" });
  const answer = await fetch(result.headers.Location, { method: "POST", body, redirect: "manual" });
  const back = new URL(answer.headers.get("location"));
  return { status, args: Object.fromEntries(back.searchParams) };
}

// Gives the code of now or of `later` steps on (RFC 6238), out of what the application is shown.
function codeOf(uri, later = 0) {
  const bits = [...new URL(uri).searchParams.get("secret")]
    .map((character) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(character).toString(2).padStart(5, "0"))
    .join("");
  const seed = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + later));
  const digest = createHmac("sha1", seed).update(step).digest();
  const number = digest.readUInt32BE(digest.at(-1) & 0xf) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}

async function ask() {
  const kuzzle = open(sdk, "websocket", Number(port));
  const stranger = open(sdk, "websocket", Number(port));
  await Promise.all([kuzzle.connect(), stranger.connect()]);
  const steps = (action, more) => kuzzle.query({ controller: "auth", action, strategy: "site", ...more });

  await kuzzle.auth.login("local", { username, password });
  const linking = await agree(await steps("createMyCredentials", { body: {} }));
  const linked = await kuzzle.auth.createMyCredentials("site", linking.args);
  const shown = await kuzzle.auth.createMyCredentials("totp", {});
  const { uri } = shown.challenge;
  const enrolled = await kuzzle.auth.createMyCredentials("totp", { state: shown.state, code: codeOf(uri) });
  await kuzzle.auth.logout();

  const thrown = await kuzzle.auth.login("local", { username, password }).then(() => "nothing", (error) => error.name);
  const away = await agree(await steps("login"));
  const first = await steps("login", { body: away.args, expiresIn: "1h" });
  const { challenge, state } = first.result;
  const withCode = (code) => ({ state, code });
  const anonymous = await kuzzle.auth.getCurrentUser();
  const code = codeOf(uri, 1);
  const foreign = await stranger.auth.login("totp", withCode(code)).catch(refusal);
  const wrong = await kuzzle.auth.login("totp", withCode("wrong")).catch(refusal);
  const token = await kuzzle.auth.login("totp", withCode(code));
  const user = await kuzzle.auth.getCurrentUser();
  const replayed = await stranger.auth.login("totp", withCode(code)).catch(refusal);

  kuzzle.disconnect();
  stranger.disconnect();
  return {
    thrown,
    away: [linking.status, away.status],
    linked,
    recoveryCodes: enrolled.recoveryCodes.length,
    first: { status: first.status, hasToken: "jwt" in first.result, challenge },
    anonymous: anonymous._id,
    foreign,
    wrong,
    isToken: token.split(".").length === 3,
    user: user._id,
    replayed,
  };
}

ask().then((seen) => console.log(JSON.stringify(seen)));
