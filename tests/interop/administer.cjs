// administer.cjs TRANSPORT PORT PASSWORD: makes the first administrator, and through him a user.
const sdk = require("kuzzle-sdk");
const { open } = require("./session.js");

const [transport, port, password] = process.argv.slice(2);

function show(user) {
  return { _id: user._id, ...user.content };
}

// Gives what a refused call says of itself.
function refusal(call) {
  return call.then(
    () => null,
    (error) => ({ id: error.id, status: error.status }),
  );
}

async function administer() {
  const kuzzle = open(sdk, transport, Number(port));
  await kuzzle.connect();
  const account = (username) => ({ local: { username, password } });
  const seen = {};

  seen.existed = await kuzzle.server.adminExists();
  const admin = { content: { team: "ops" }, credentials: account("boss") };
  seen.admin = show(await kuzzle.security.createFirstAdmin("boss", admin));
  await kuzzle.auth.login("local", { username: "boss", password });
  seen.second = await refusal(
    kuzzle.security.createFirstAdmin("other", { content: {}, credentials: account("other") }),
  );
  seen.exists = await kuzzle.server.adminExists();

  const user = { content: { profileIds: ["default"], team: "web" }, credentials: account("ann") };
  seen.created = show(await kuzzle.security.createUser("ann", user));
  seen.read = show(await kuzzle.security.getUser("ann"));
  seen.deleted = await kuzzle.security.deleteUser("ann");
  seen.gone = await refusal(kuzzle.security.getUser("ann"));
  seen.loginOfGone = await refusal(kuzzle.auth.login("local", { username: "ann", password }));

  kuzzle.disconnect();
  return seen;
}

administer().then((seen) => console.log(JSON.stringify(seen)));
