// two_steps.cjs PORT USERNAME PASSWORD: logs in on another site, over one socket, and tries what it may not.
const sdk = require("kuzzle-sdk");
const { open } = require("./session.js");

const [port, username, password] = process.argv.slice(2);
const refusal = (error) => ({ id: error.id, status: error.status });

async function ask() {
  const kuzzle = open(sdk, "websocket", Number(port));
  const stranger = open(sdk, "websocket", Number(port));
  await Promise.all([kuzzle.connect(), stranger.connect()]);
  await kuzzle.auth.login("local", { username, password });
  await kuzzle.auth.createMyCredentials("away", { subject: "subject-5" });
  const strategies = await kuzzle.query({ controller: "auth", action: "getCurrentUser" });
  await kuzzle.auth.logout();

  const away = await kuzzle.auth.login("away").then(() => "nothing", (error) => error.name);
  const { result, status } = await kuzzle.query({ controller: "auth", action: "login", strategy: "away" });
  const url = new URL(result.headers.Location);
  const state = url.searchParams.get("state");
  const foreign = await stranger.auth.login("away", { state, code: "5" }).catch(refusal);
  const token = await kuzzle.auth.login("away", { state, code: "5" }, "1h");
  const user = await kuzzle.auth.getCurrentUser();
  const replayed = await kuzzle.auth.login("away", { state, code: "5" }).catch(refusal);

  kuzzle.disconnect();
  stranger.disconnect();
  return {
    strategies: strategies.result.strategies,
    away,
    status,
    statusCode: result.statusCode,
    site: url.origin + url.pathname,
    foreign,
    isToken: token.split(".").length === 3,
    user: user._id,
    replayed,
  };
}

ask().then((seen) => console.log(JSON.stringify(seen)));
