// manage_users.cjs TRANSPORT PORT USERNAME PASSWORD: what an administrator does with users and
// their credentials.
const sdk = require("kuzzle-sdk");
const { open } = require("./session.js");

const [transport, port, username, password] = process.argv.slice(2);

function show(user) {
  const { _kuzzle_info, ...content } = user.content;
  return { _id: user._id, ...content };
}

// Gives what a refused call says of itself.
function refusal(call) {
  return call.then(
    () => null,
    (error) => ({
      id: error.id,
      status: error.status,
      errors: (error.errors || []).map((one) => ({ id: one.id, document: one.document })),
    }),
  );
}

async function manageUsers(kuzzle, seen) {
  const { security } = kuzzle;
  const content = { profileIds: ["default"], home: { town: "Kars" } };
  await security.createUser("ann", { content });
  const changes = { home: { zip: 1 }, profileIds: ["default", "anonymous"] };
  seen.updated = show(await security.updateUser("ann", changes));
  seen.replaced = show(await security.replaceUser("ann", { profileIds: ["default"], team: "web" }));
  // The SDK has no method of its own for this one, nor for the end of sessions.
  const upsert = (_id, team) =>
    kuzzle.query({
      controller: "security",
      action: "upsertUser",
      _id,
      body: { content: { profileIds: ["default"], team }, default: { level: 1 } },
    });
  seen.upserted = [];
  for (const [_id, team] of [["ann", "ops"], ["bob", "ops"]]) {
    const { result } = await upsert(_id, team);
    seen.upserted.push([result._id, result._source.team, result._source.level]);
  }
  seen.restricted = show(await security.createRestrictedUser({ content: {} }, "eve"));
  seen.several = (await security.mGetUsers(["bob", "nobody", "ann"])).map((user) => user._id);
  seen.rights = (await security.getUserRights("ann")).length > 0;
  const request = { controller: "security", action: "getUser" };
  seen.may = [];
  for (const kuid of ["ann", username]) {
    seen.may.push(await security.checkRights(kuid, request));
  }
}

async function manageCredentials(kuzzle, seen) {
  const { security } = kuzzle;
  const account = { username: "annie", password: "first" };
  seen.fields = await security.getCredentialFields("local");
  seen.allFields = await security.getAllCredentialFields();
  seen.valid = await security.validateCredentials("local", "ann", account);
  seen.before = await security.hasCredentials("local", "ann");
  seen.account = await security.createCredentials("local", "ann", account);
  seen.renamed = await security.updateCredentials("local", "ann", { username: "ann" });
  seen.shown = await security.getCredentials("local", "ann");
  seen.byId = await security.getCredentialsById("local", "ann");
  seen.after = await security.hasCredentials("local", "ann");
  seen.strategies = await security.getUserStrategies("ann");
}

async function endThings(kuzzle, seen) {
  const { security } = kuzzle;
  const user = open(sdk, transport, Number(port));
  await user.connect();
  await user.auth.login("local", { username: "ann", password: "first" });
  // The client forgets its token as soon as it hears that it has ended.
  const jwt = user.jwt;
  const { result } = await kuzzle.query({
    controller: "security",
    action: "revokeTokens",
    _id: "ann",
  });
  seen.revoked = result;
  const again = { controller: "auth", action: "getMyRights", jwt };
  seen.refused = await refusal(user.query(again));
  user.disconnect();
  seen.unlinked = await security.deleteCredentials("local", "ann");
  seen.none = await security.getUserStrategies("ann");
  seen.some = await refusal(security.mDeleteUsers(["ann", "nobody"]));
  seen.deleted = await security.mDeleteUsers(["bob", "eve"]);
  seen.gone = await refusal(security.updateUser("ann", { team: "x" }));
}

async function manage() {
  const kuzzle = open(sdk, transport, Number(port));
  await kuzzle.connect();
  await kuzzle.auth.login("local", { username, password });
  const seen = {};
  await manageUsers(kuzzle, seen);
  await manageCredentials(kuzzle, seen);
  await endThings(kuzzle, seen);
  kuzzle.disconnect();
  return seen;
}

manage().then((seen) => console.log(JSON.stringify(seen)));
