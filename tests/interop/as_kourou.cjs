// as_kourou.cjs TRANSPORT PORT USERNAME PASSWORD: asks as `kourou auth:login -a username=…` does.
const sdk = require("kuzzle-sdk");
const { open } = require("./session.js");

const [transport, port, username, password] = process.argv.slice(2);

async function ask() {
  const kuzzle = open(sdk, transport, Number(port));
  kuzzle.volatile = { client: "kourou@1.2.0" };
  await kuzzle.connect();
  const query = (controller, action, options) =>
    kuzzle.query({ controller, action, body: {}, ...options });

  const login = await query("auth", "login", { strategy: "local", username, password });
  kuzzle.jwt = login.result.jwt;
  const me = await query("auth", "getCurrentUser");
  const unknown = await query("index", "list").catch((error) => error);

  kuzzle.disconnect();
  return {
    login: login.result,
    me: { status: me.status, _id: me.result._id, volatile: me.volatile },
    unknown: { id: unknown.id, status: unknown.status },
  };
}

ask().then((seen) => console.log(JSON.stringify(seen)));
