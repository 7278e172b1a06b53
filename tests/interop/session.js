// What an application does with the SDK, in Node and in browsers alike.

// Gives the SDK's object for a server on this machine, over "websocket" or "http".
// What the SDK reports besides answers is collected in `events`; `given` are options of the SDK's.
function open(sdk, transport, port, events = [], given = {}) {
  const Protocol = transport === "http" ? sdk.Http : sdk.WebSocket;
  // A ping that is not answered before the next one is the end of a connection, also on a machine
  // that is only slow.
  const patient = { port, pingInterval: 30000, autoReconnect: false };
  const options = transport === "http" ? { port } : patient;
  const kuzzle = new sdk.Kuzzle(new Protocol("127.0.0.1", options), given);
  for (const name of ["networkError", "discarded", "tokenExpired", "queryError"]) {
    kuzzle.on(name, () => events.push(name));
  }
  return kuzzle;
}

// Connects, logs in, looks around, logs out, and gives what was seen.
async function session(sdk, transport, port, username, password) {
  const events = [];
  const kuzzle = open(sdk, transport, port, events);
  await kuzzle.connect();
  const before = await kuzzle.auth.checkToken();
  const token = await kuzzle.auth.login("local", { username, password }, "1h");
  const user = await kuzzle.auth.getCurrentUser();
  const seen = {
    before,
    token,
    user: { _id: user._id, profileIds: user.profileIds },
    check: await kuzzle.auth.checkToken(),
    isAuthenticated: await kuzzle.isAuthenticated(),
    rights: await kuzzle.auth.getMyRights(),
    strategies: await kuzzle.auth.getStrategies(),
  };
  await kuzzle.auth.logout();
  const nobody = await kuzzle.auth.getCurrentUser();
  seen.after = { _id: nobody._id, check: await kuzzle.auth.checkToken(token) };
  seen.events = events;
  kuzzle.disconnect();
  return seen;
}

if (typeof module === "object") {
  module.exports = { open, session };
}
