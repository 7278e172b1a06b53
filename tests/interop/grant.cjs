// grant.cjs TRANSPORT PORT USERNAME PASSWORD: makes roles and profiles, gives and takes rights.
const sdk = require("kuzzle-sdk");
const { open } = require("./session.js");

const [transport, port, username, password] = process.argv.slice(2);

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

async function grant() {
  const kuzzle = open(sdk, transport, Number(port));
  const { security, auth } = kuzzle;
  await kuzzle.connect();
  await auth.login("local", { username, password });
  const seen = {};

  const rights = { controllers: { document: { actions: { get: true, delete: false } } } };
  const role = await security.createRole("reader", rights);
  seen.role = { _id: role._id, controllers: role.controllers };
  seen.again = await refusal(security.createRole("reader", rights));
  seen.unknown = await refusal(
    security.createRole("odd", { controllers: { odd: { actions: { "*": true } } } }),
  );
  const odd = { controllers: { odd: { actions: { "*": true } } } };
  seen.forced = (await security.createOrReplaceRole("odd", odd, { force: true }))._id;
  seen.updated = (await security.updateRole("odd", rights)).controllers;
  seen.roles = (await security.mGetRoles(["reader", "odd"])).map((one) => one._id);

  const policies = [{ roleId: "reader", restrictedTo: [{ index: "nyc", collections: ["taxi"] }] }];
  const profile = await security.createProfile("driver", { policies, rateLimit: 5 });
  seen.profile = { _id: profile._id, policies: profile.policies, rateLimit: profile.rateLimit };
  seen.merged = (await security.updateProfile("driver", { rateLimit: 9 })).policies;
  seen.read = (await security.getProfile("driver")).rateLimit;
  seen.profiles = (await security.mGetProfiles(["driver", "admin"])).map((one) => one._id);
  seen.rights = await security.getProfileRights("driver");
  seen.rolesOfProfile = (await profile.getRoles()).map((one) => one._id);

  const user = { content: { profileIds: ["driver"] }, credentials: {} };
  await security.createUser("ann", user);
  seen.roleInUse = await refusal(security.deleteRole("reader"));
  seen.profileInUse = await refusal(security.deleteProfile("driver"));
  seen.some = await refusal(security.mDeleteRoles(["odd", "reader", "nobody"]));
  seen.taken = await security.deleteProfile("driver", { onAssignedUsers: "remove" });
  seen.left = (await security.getUser("ann")).profileIds;
  seen.deleted = await security.mDeleteRoles(["reader"]);
  seen.gone = await refusal(security.getRole("reader"));

  kuzzle.disconnect();
  return seen;
}

grant().then((seen) => console.log(JSON.stringify(seen)));
