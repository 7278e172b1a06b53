// search.cjs TRANSPORT PORT PASSWORD: searches through the SDK, page by page, and mappings.
const sdk = require("kuzzle-sdk");
const { open } = require("./session.js");

const [transport, port, password] = process.argv.slice(2);

// Gives the ids of all hits, page by page, the way `next` of the SDK finds them.
async function pages(search) {
  const seen = [];
  let result = await search;
  const total = result.total;
  while (result !== null && result.hits.length > 0) {
    seen.push(result.hits.map((hit) => hit._id));
    result = await result.next();
  }
  return { total, seen };
}

async function run() {
  const kuzzle = open(sdk, transport, Number(port));
  await kuzzle.connect();
  await kuzzle.auth.login("local", { username: "admin", password });
  const { security } = kuzzle;
  for (let at = 0; at < 5; at++) {
    const content = { profileIds: ["default"], rank: at % 2, bio: `Writes number ${at}` };
    const credentials = { local: { username: `name${at}`, password } };
    await security.createUser(`u${at}`, { content, credentials });
  }
  const default_ = { query: { term: { profileIds: "default" } } };
  const sorted = { ...default_, sort: [{ rank: "desc" }, { _id: "asc" }] };
  const seen = {};
  seen.from = await pages(security.searchUsers(default_, { from: 0, size: 2 }));
  seen.after = await pages(security.searchUsers(structuredClone(sorted), { size: 2 }));
  seen.scroll = await pages(security.searchUsers(sorted, { size: 2, scroll: "10s" }));
  const user = (await security.searchUsers({ query: { term: { _id: "u3" } } })).hits[0];
  seen.user = { id: user._id, rank: user.content.rank, profileIds: user.profileIds };
  seen.profiles = await pages(security.searchProfiles({}, { size: 2, scroll: "10s" }));
  const byRole = await security.searchProfiles({ roles: ["admin"] });
  seen.byRole = byRole.hits.map((hit) => [hit._id, hit.policies[0].roleId]);
  const roles = await security.searchRoles({ controllers: ["server"] });
  seen.roles = roles.hits.map((hit) => hit._id);

  const bio = { query: { match: { bio: "writes" } } };
  seen.before = (await security.searchUsers(structuredClone(bio))).total;
  const change = { properties: { bio: { type: "text" }, rank: { type: "integer" } } };
  seen.changed = (await security.updateUserMapping(change)).properties.bio;
  seen.mapping = await security.getUserMapping();
  seen.profileMapping = Object.keys((await security.getProfileMapping()).mapping);
  seen.roleMapping = Object.keys((await security.getRoleMapping()).mapping);
  seen.refreshed = (await security.refresh("users")).result;
  seen.found = (await security.searchUsers(structuredClone(bio))).total;

  await kuzzle.auth.createApiKey("for searches", { _id: "key" });
  const keys = await kuzzle.auth.searchApiKeys({ match: { description: "searches" } });
  seen.keys = keys.hits.map((hit) => hit._id);
  const request = { controller: "security", action: "searchUsersByCredentials", strategy: "local" };
  const { result } = await kuzzle.query({
    ...request,
    body: { query: { term: { username: "name2" } } },
  });
  seen.credentials = result;
  seen.gone = await kuzzle
    .query({ controller: "security", action: "scrollUsers", scrollId: "nothing" })
    .catch((error) => ({ id: error.id, status: error.status }));

  kuzzle.disconnect();
  return seen;
}

run().then((seen) => console.log(JSON.stringify(seen)));
