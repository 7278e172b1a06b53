// move.cjs TRANSPORT PORT USERNAME PASSWORD: asks for what Kourou's export and import commands, its
// `--as` and its `api-key:*` ask for, from command lines whose values are text.
const sdk = require("kuzzle-sdk");
const { open } = require("./session.js");

const [transport, port, username, password] = process.argv.slice(2);
const PAGE = { size: "2", scroll: "5s" };
const named = (items) => Object.fromEntries(items);

// Gives what each hit of a search and of its further pages is turned into.
async function exported(result, turn) {
  const items = [];
  for (let page = result; page; page = await page.next()) {
    items.push(...page.hits.map((hit) => [hit._id, turn(hit)]));
  }
  return named(items);
}

async function dump(security) {
  return {
    roles: await exported(await security.searchRoles({}, { size: 100 }), ({ controllers }) => ({
      controllers,
    })),
    profiles: await exported(await security.searchProfiles({}, PAGE), ({ policies }) => ({
      policies,
    })),
    users: await exported(await security.searchUsers({}, PAGE), ({ content }) => {
      const { _kuzzle_info: _, ...kept } = content;
      return kept;
    }),
    mapping: (await security.getUserMapping()).mapping,
  };
}

// Sends everything of a kind at once, and gives how each one went.
async function restored(items, restore) {
  const ends = Object.entries(items).map(async ([id, item]) => [
    id,
    await restore(id, item).then(
      () => "done",
      (error) => error.id,
    ),
  ]);
  return named(await Promise.all(ends));
}

async function run() {
  const kuzzle = open(sdk, transport, Number(port));
  kuzzle.volatile = { client: "kourou@1.2.0" };
  await kuzzle.connect();
  await kuzzle.auth.login("local", { username, password }, "90s");
  const { security } = kuzzle;
  const query = (controller, action, given) => kuzzle.query({ controller, action, ...given });
  const seen = {};

  await security.createRole("reader", { controllers: { elsewhere: { actions: { get: true } } } }, {
    force: true,
  });
  const policies = [{ roleId: "reader" }, { roleId: "default" }];
  await security.createProfile("driver", { policies });
  for (const name of ["ann", "bob"]) {
    await query("security", "createUser", {
      _id: name,
      body: { content: { profileIds: ["driver"], name } },
    });
  }
  await security.updateUserMapping({ properties: { name: { type: "keyword" } } });

  const kept = await dump(security);
  await security.mDeleteUsers(["ann", "bob"]);
  await security.deleteProfile("driver");
  await security.deleteRole("reader");
  const force = { force: true };
  seen.roles = await restored(kept.roles, (id, role) =>
    security.createOrReplaceRole(id, role, force),
  );
  seen.profiles = await restored(kept.profiles, (id, profile) =>
    security.createOrReplaceProfile(id, profile, force),
  );
  await security.updateUserMapping({ properties: kept.mapping });
  seen.users = await restored(kept.users, (id, content) => security.createUser(id, { content }));
  seen.same = JSON.stringify(await dump(security)) === JSON.stringify(kept);
  seen.mapping = kept.mapping;

  const own = kuzzle.jwt;
  const options = { _id: "key", expiresIn: "2h", refresh: false };
  const key = await security.createApiKey("ann", "Kourou impersonation token", options);
  kuzzle.jwt = key._source.token;
  seen.as = (await query("auth", "getCurrentUser", { body: {} })).result._id;
  kuzzle.jwt = own;
  const search = () => security.searchApiKeys("ann", { match: { description: "kourou" } }, PAGE);
  seen.keys = (await search()).hits.map((hit) => hit._id);
  await security.deleteApiKey("ann", key._id);
  seen.keysLeft = (await search()).total;
  seen.valid = (await kuzzle.auth.checkToken(key._source.token)).valid;

  kuzzle.disconnect();
  return seen;
}

run().then((seen) => console.log(JSON.stringify(seen)));
