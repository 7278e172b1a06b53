// spent.cjs TRANSPORT PORT PASSWORD: the SDK's own scenario of a refreshed token, and two clients
// that share one token. The administrator logs in as `admin`; the server's grace is short.
const { Http, Kuzzle, WebSocket } = require("kuzzle-sdk");

const [transport, port, password] = process.argv.slice(2);

async function connected(jwt) {
  const Protocol = transport === "http" ? Http : WebSocket;
  const kuzzle = new Kuzzle(new Protocol("127.0.0.1", { port: Number(port) }));
  await kuzzle.connect();
  kuzzle.jwt = jwt;
  return kuzzle;
}

async function outcome(promise) {
  try {
    const found = await promise;
    return found._id ?? "ok";
  } catch (error) {
    return error.id;
  }
}

async function run() {
  const first = await connected();
  const shared = await first.auth.login("local", { username: "admin", password });
  const second = await connected(shared);
  const expired = [];
  first.on("tokenExpired", () => expired.push("first"));
  const seen = { before: await outcome(second.auth.getCurrentUser()) };
  await first.auth.refreshToken();
  const fresh = first.jwt;
  // Until the grace is over; each look at the old token changes nothing.
  const asking = await connected();
  while ((await asking.auth.checkToken(shared)).valid) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  seen.previousIsValid = (await asking.auth.checkToken(shared)).valid;
  seen.currentIsValid = (await asking.auth.checkToken(fresh)).valid;
  seen.second = await outcome(second.auth.getCurrentUser());
  seen.first = await outcome(first.auth.getCurrentUser());
  seen.expired = [...expired];
  second.jwt = shared; // the SDK forgets a token that was refused
  seen.secondRefreshes = await outcome(second.auth.refreshToken());
  seen.freshIsValid = (await asking.auth.checkToken(fresh)).valid;
  for (const kuzzle of [first, second, asking]) kuzzle.disconnect();
  return seen;
}

run().then((seen) => console.log(JSON.stringify(seen)));
